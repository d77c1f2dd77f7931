"""State tokens: a person's fitted state, sealed, which the server returns and does not keep.

A token is base64 of a digest's start, a nonce, and AES-GCM of the state: JSON of its shapes, then raw numbers. The key
is the server's. So a token of anyone else, a changed one, and one of another model are refused before anything of it is
read. It hides the history from who finds it, but it stands for the history: with it, the server makes the list.
"""

import base64
import binascii
import json
import os
import secrets
from typing import Any

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fedrec.http.entrance import Refusal
from fedrec.ondevice.history import History, State

KEY_BYTES = 32
_FORMAT = b"fedrec-state/1 "
_NONCE, _MODEL = 12, 8
_STALE = 409, "stale_state", "the state is of another model; send the whole history again"
_BAD = 400, "bad_state", "the state is none of this server, or it restarted; send the whole history again"


class Tokens:
    """Tokens of one model under one key.

    Args:
        key: of `KEY_BYTES` bytes; None for a new one.
        digest: of the model, hex.
    """

    def __init__(self, key: bytes | None, digest: str) -> None:
        self._cipher = AESGCM(key or secrets.token_bytes(KEY_BYTES))
        self._about, self._model = _FORMAT + digest.encode(), bytes.fromhex(digest)[:_MODEL]

    def seal(self, state: State) -> str:
        """Return the token of a state."""
        arrays, history = {"items": state.history.items, "disliked": state.history.disliked}, state.history
        if history.ratings is not None:
            arrays["ratings"] = history.ratings
        named = [("history", arrays), ("sums", state.sums)]
        shapes = [[of, name, part.dtype.str, part.shape] for of, parts in named for name, part in parts.items()]
        head = json.dumps({"ordered": history.ordered, "key": history.key, "arrays": shapes}).encode() + b"\n"
        content = head + b"".join(np.ascontiguousarray(part).tobytes() for _, parts in named for part in parts.values())
        nonce = os.urandom(_NONCE)
        return base64.urlsafe_b64encode(
            self._model + nonce + self._cipher.encrypt(nonce, content, self._about)
        ).decode()

    def open(self, token: str) -> State:
        """Return the state of a token.

        Raises:
            Refusal: for a token of another model or server, or a changed one.
        """
        try:
            sealed = base64.b64decode(token.encode(), b"-_", validate=True)
        except (ValueError, binascii.Error):
            raise Refusal(*_BAD) from None
        if len(sealed) < _MODEL + _NONCE + 16:
            raise Refusal(*_BAD)
        if sealed[:_MODEL] != self._model:
            raise Refusal(*_STALE)
        nonce, rest = sealed[_MODEL : _MODEL + _NONCE], sealed[_MODEL + _NONCE :]
        try:
            content = self._cipher.decrypt(nonce, rest, self._about)
        except InvalidTag:
            raise Refusal(*_BAD) from None
        head, _, numbers = content.partition(b"\n")  # from here on, it is what this server sealed
        about, found, place = json.loads(head), dict[str, dict[str, np.ndarray]](history={}, sums={}), 0
        for of, name, kind, shape in about["arrays"]:
            dtype = np.dtype(kind)
            count = int(np.prod(shape, dtype=np.int64))
            found[of][name] = np.frombuffer(numbers, dtype, count, place).reshape(shape)
            place += count * dtype.itemsize
        past: dict[str, Any] = found["history"]
        return State(History(ordered=about["ordered"], key=about["key"], **past), found["sums"])
