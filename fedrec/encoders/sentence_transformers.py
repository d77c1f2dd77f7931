"""`sentence-transformers`: a model that you have, for texts, and for pictures where it is a CLIP or SigLIP model.

It needs the package sentence-transformers, which is yours to install, and a model's folder or its name where the model
is already in the cache of Hugging Face. Nothing is downloaded here, and no code of a model is run
(`trust_remote_code` is off). Models with a prompt for documents get it ("passage: " of e5). The SHA-256 is that of
the loaded weights.
"""

import hashlib
import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fedrec.encoders.base import Encoder, Identity, Kind
from fedrec.encoders.weights import version_of
from fedrec.errors import InputError, first_line

PACKAGE = "sentence_transformers"


class SentenceTransformers(Encoder):
    """The user's own model."""

    name: ClassVar[str] = "sentence-transformers"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"text", "image"})
    needs_model: ClassVar[bool] = True

    def __init__(self, model: str = "", sha256: str = "") -> None:
        super().__init__(model, sha256)
        if lacking := self.lacking():
            raise InputError(f"encoder '{self.name}' {lacking}")
        place = str(Path(model).expanduser())
        try:
            made = importlib.import_module(PACKAGE).SentenceTransformer
            self._model = made(place, device="cpu", local_files_only=True, trust_remote_code=False)
        except Exception as error:  # a folder of another kind may raise anything in the library
            raise InputError(
                f"--encoder {self.name}={model}: cannot be loaded ({type(error).__name__}: {first_line(error)}); give "
                "a model's folder, or the name of one that this machine has"
            ) from None
        self._model.eval()
        self._digest = _digest(self._model)
        if sha256 and sha256.lower() != self._digest:
            raise InputError(
                f"--encoder {self.name}={model}: the SHA-256 of its weights is {self._digest}, and the one that you "
                f"gave is {sha256}"
            )
        self._width = int(self.encode(["a text"], "text").shape[1])

    @classmethod
    def lacking(cls) -> str:
        return "" if importlib.util.find_spec(PACKAGE) else f"needs the package {PACKAGE} (pip install {PACKAGE})"

    @property
    def identity(self) -> Identity:
        return Identity(self.name, f"{Path(self.model).name}, {version_of('sentence-transformers')}", self._digest)

    @property
    def width(self) -> int:
        return self._width

    def encode(self, inputs: Sequence[Any], kind: Kind) -> np.ndarray:
        encode = getattr(self._model, "encode_document", self._model.encode) if kind == "text" else self._model.encode
        try:
            found = encode(  # one at a time, since padding changes the rounding of a batch's shorter texts
                list(inputs), batch_size=1, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
            )
        except Exception as error:  # e.g. pictures for a model of texts
            raise InputError(
                f"--encoder {self.name}={self.model}: does not encode {kind} ({type(error).__name__}: "
                f"{first_line(error)})"
            ) from None
        return np.asarray(found, np.float32)


def _digest(model: Any) -> str:
    """Return the SHA-256 (hex) of a model's tensors by name."""
    import torch

    whole = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        whole.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        whole.update(values.flatten().view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()
