"""The messages between server and nodes, by kind: questions, answers and refusals.

| question | answer | content of the answer |
|---|---|---|
| `hello`: which data the run is about | `presence` | how many users it declares, which shard, which catalogue |
| `sum`: one round, over a cohort of its users | `sums` | one clipped sum a query over the cohort, exact integers |
| five of a secure sum, or one with a helper, see `fedrec.run.masked` | `masks` | the node's message of that stage |
| each | `refusal` | one word from `REFUSALS`, never the text of an error |

A `sum` question of a deployment also carries proofs of the run's ledger (`LedgerProof`), and its answer a receipt.

The size of a message does not depend on the cohort: it travels as one bit a user of the node,
independent of who takes part.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fedrec.wire import Fact, Packet, WireError, digest, octets_of

if TYPE_CHECKING:
    from torch import Tensor

    from fedrec.federation.data_request import DataRequest

HELLO, PRESENCE, SUM, SUMS, REFUSAL = "hello", "presence", "sum", "sums", "refusal"
MASKS_KEY, MASKS_SIGNATURE = "masks", "masks_signature"
"""Facts of a presence: the node's Ed25519 key for masks (hex), and the node key's signature on it (hex)."""

REFUSALS = {
    "version": "it speaks another version of the protocol; install the same fedrec on server and nodes",
    "request": "it could not use what was asked; install the same fedrec on server and nodes",
    "fingerprint": "the description of the run and its fingerprint do not fit",
    "catalogue": "it holds another catalogue; give server and nodes the same file of items",
    "privacy": "it takes part in private runs alone, since its data are not a public dataset; set privacy.epsilon",
    "terms": "its policy does not accept the run's terms (clip, noise, cohort, epsilon, rounds); its log says which",
    "data": "it cannot use its data; its own log says why",
    "dataset": "it does not serve the dataset that the run names; start it with --dataset NAME",
    "plugin": "it runs no such algorithm or tower, which is not built in; its operator allows an installed one with "
    "--plugin NAME",
    "card": "it accepts no run without a valid run card; `fedrec audit card RUN` shows the run's",
    "key": "it has not pinned the key of the run's ledger; its operator can pin it",
    "witness": "no witness that it trusts has cosigned the run card; have one cosign the ledger before the first round",
    "expired": "the run card has expired; start a new run",
    "serial": "it knows a later run card of this ledger key, so this one is a replay; start a new run",
    "charge": "the round's charge is not in the run's ledger, or pays for another question",
    "head": "the run's ledger does not extend the one that it saw before; restore the newest ledger",
    "cohort": "the cohort names users that it does not host, or leaves out users of a run that asks everybody",
    "stage": "it is at another stage of the secure sum, or a message of it does not fit; it has dropped from the round",
    "stock": "it was started with --stock, which keeps no secret between stages of a secure sum; a helper needs none",
    "roster": "the list of the nodes' keys is not the one of the run card, or lacks this node",
    "helper": "its policy accepts no such helper for secure sums; its operator adds the helper's key to server.helpers",
    "missing": "it no longer holds what was not sent again",
    "error": "its computation failed; its own log says where",
}
"""Reasons of a refusal: the word in the message, and the server's text for it."""

RECEIPT, NONCE = "receipt", "nonce"
"""Facts of an answer: the node's receipt, and the nonce of its commitment (`fedrec.audit.card.receipt`)."""

NOISED = "noised"
"""Fact of an answer in which users add the noise: whether it is in the sums. No where one person runs all sides."""

SEEN = "seen"
"""Fact of a refusal `head`: how many records of the ledger the node saw."""

_SHARED = "shared."
_COHORT = "cohort"


def ask_hello(request: "DataRequest", *, masks: bool = False) -> Packet:
    """The first message to a node. masks: ask for its key for masks, too."""
    facts: dict[str, Fact] = {"data": request.text()}
    return Packet(HELLO, facts=facts | {MASKS_KEY: True} if masks else facts)


def masks_key_text(key: bytes) -> bytes:
    """Return what a node key signs to vouch for the key for masks."""
    return b"fedrec masks key v1\n" + key


@dataclass(frozen=True)
class LedgerProof:
    """What a question shows of the run's ledger (`fedrec.audit.card.question`).

    Attributes:
        run: id of the run.
        charge: proof of the record that charged the round.
        growth: proof of growth from the checkpoint that the node saw last.
        card: the run card; None for a node that has it.
    """

    run: str
    charge: str
    growth: str
    card: str | None = None

    @property
    def facts(self) -> dict[str, Fact]:
        """The proof as facts of a message."""
        made: dict[str, Fact] = {"run": self.run, "charge": self.charge, "growth": self.growth}
        return made if self.card is None else made | {"card": self.card}


def proof_of(packet: Packet) -> LedgerProof:
    """Return the proof in a `sum` message. Raises: WireError `card` for a question without one."""
    found = [packet.facts.get(name, "") for name in ("run", "charge", "growth", "card")]
    run, charge, growth, card = (each if isinstance(each, str) else "" for each in found)
    if not (run and charge and growth):
        raise WireError("card", "a question without proofs of a ledger")
    return LedgerProof(run, charge, growth, card or None)


def ask_sum(
    spec: str,
    fingerprint: str,
    round_index: int,
    digests: Mapping[str, str],
    sent: "Mapping[str, Tensor | np.ndarray]",
    cohort: np.ndarray | None,
    users: int | None = None,
    proof: LedgerProof | None = None,
) -> Packet:
    """Make the server's message of one round to a node.

    Args:
        spec: text of the run's description.
        fingerprint: of that text.
        round_index: number of the round, from 0.
        digests: of every shared tensor, by name.
        sent: the tensors that the node does not have.
        cohort: (C,) int64, positions among the node's users, ascending; None where everybody takes part in every round.
        users: how many the node hosts, which sets the size of a cohort's bits; None for the smallest size that fits.
        proof: of the run's ledger; None in a simulation, where all sides are one person's.
    """
    tensors = {_SHARED + name: tensor for name, tensor in sent.items()}
    if cohort is not None:
        tensors[_COHORT] = _bits(np.asarray(cohort, dtype=np.int64), users)
    facts: dict[str, Fact] = {"spec": spec, "digests": json.dumps(dict(digests)), "everybody": cohort is None}
    return Packet(SUM, fingerprint, round_index, facts | (proof.facts if proof is not None else {}), tensors)


def shared_of(packet: Packet) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the digests and the tensors of a `sum` message. Raises: WireError."""
    try:
        digests = json.loads(packet.fact("digests", str))
    except (ValueError, RecursionError):
        raise WireError("facts", "a question without readable digests") from None
    if not isinstance(digests, dict) or not all(isinstance(value, str) for value in digests.values()):
        raise WireError("facts", "a question without usable digests")
    sent = {name.removeprefix(_SHARED): t for name, t in packet.tensors.items() if name.startswith(_SHARED)}
    return digests, sent


def cohort_of(packet: Packet, users: int) -> np.ndarray:
    """Return the positions of the cohort, (C,) int64 ascending, each below `users`. Raises: WireError."""
    if packet.fact("everybody", bool):
        return np.arange(users)
    bits = octets_of(packet.tensors.get(_COHORT))
    if bits is None or len(bits) > -(-users // 8):
        raise WireError("cohort", "a question without a cohort of this node's users")
    taking_part = np.flatnonzero(np.unpackbits(bits, bitorder="little"))
    if len(taking_part) and taking_part[-1] >= users:
        raise WireError("cohort", "a cohort that names users who are not hosted here")
    return taking_part


def cohort_digest(packet: Packet) -> str:
    """Return the SHA-256 (hex) of the cohort in a `sum` message. It decides an answer, and stays where it is made."""
    bits = packet.tensors.get(_COHORT)
    content = b"everybody" if bits is None else digest(bits).encode()
    return hashlib.sha256(content).hexdigest()


def _bits(cohort: np.ndarray, users: int | None) -> np.ndarray:
    """(ceil(users / 8),) uint8, a bit for each user of the node."""
    taking_part = np.zeros(int(cohort.max(initial=-1)) + 1 if users is None else users, dtype=bool)
    taking_part[cohort] = True
    return np.packbits(taking_part, bitorder="little")


def refusal(code: str, packet: Packet | None = None, seen: int | None = None) -> Packet:
    """Make a node's refusal.

    Args:
        code: one word of `REFUSALS`.
        packet: the refused question; None for an unreadable one.
        seen: how many records of the run's ledger the node saw, with the word `head`; else None.
    """
    fingerprint, round_index = (packet.fingerprint, packet.round) if packet is not None else ("", -1)
    facts: dict[str, Fact] = {"code": code if code in REFUSALS else "request"}
    return Packet(REFUSAL, fingerprint, round_index, facts if seen is None else facts | {SEEN: seen})
