"""Checkpoints: the shared state and all that a resumed run needs, in ONE file that is replaced atomically.

Model and ledger head travel together, so a reader can never see a model whose spending is not in the ledger. The
file is safetensors: tensors, and one JSON text as metadata. Nothing is pickled. It holds no noise state, no cohort and
no user's data. The tensors are covered by the run's guarantee; the seconds of a round, and what a simulation adds to
`history` and `run` (true metrics, counts of its data), are not.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from fedrec.algorithms.base import Shared
from fedrec.durable import replace, sync
from fedrec.errors import InputError

VERSION = 1


@dataclass(frozen=True)
class TrainingCheckpoint:
    """The state after `round` finished rounds.

    Attributes:
        round: number of finished rounds.
        shared: the public state after them.
        ledger_entries: length of the ledger at that time. It has an entry for every release that the state contains.
        ledger_head: hash of the ledger at that time.
        history: one JSON-able row for each finished round.
        run: facts that identify the run (public seed, data). The caller compares them and refuses another run's.
    """

    round: int
    shared: Shared
    ledger_entries: int = 0
    ledger_head: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)
    run: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Replace the file at `path` atomically. After a crash it is the old checkpoint or the new one, whole."""
        state = {
            "version": VERSION,
            "round": self.round,
            "ledger_entries": self.ledger_entries,
            "ledger_head": self.ledger_head,
            "history": self.history,
            "run": self.run,
        }
        # A copy each: safetensors refuses tensors that share memory, which an algorithm's state may.
        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in self.shared.items()}
        replace(path, save(tensors, metadata={"fedrec": json.dumps(state)}), mode=0o600)
        sync(path.parent)


def digest(shared: Shared) -> str:
    """Return the SHA-256 (hex) of a shared state: names, types, shapes and bits. The ledger names states by it."""
    found = hashlib.sha256()
    for name in sorted(shared):
        tensor = shared[name].detach().cpu().contiguous()
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def load_checkpoint(path: Path, device: str = "cpu") -> TrainingCheckpoint:
    """Read the checkpoint at `path`, with its tensors on `device`.

    Raises: InputError when the file is not a checkpoint of this version.
    """
    try:
        with safe_open(path, framework="pt", device=device) as file:
            text = (file.metadata() or {}).get("fedrec")
            shared = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable checkpoint ({error}); start the run anew in another folder") from None
    state = json.loads(text) if text else {}
    if state.get("version") != VERSION:
        raise InputError(
            f"{path}: checkpoint version {state.get('version')}, this fedrec reads {VERSION}; start the run anew"
        )
    return TrainingCheckpoint(
        state["round"], shared, state["ledger_entries"], state["ledger_head"], state["history"], state["run"]
    )
