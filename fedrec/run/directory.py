"""The folder of one run: its files, and how they are written."""

import contextlib
import csv
import fcntl
import hashlib
import io
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save

from fedrec import __version__
from fedrec.algorithms.discover import items_text
from fedrec.audit.evidence import attack_results
from fedrec.audit.evidence.layout import Layout
from fedrec.durable import replace
from fedrec.errors import InputError
from fedrec.model import ReleasedModel
from fedrec.received_files import refuse_links

SECRET = 0o600
"""Permission bits of a file that follows from private data."""


class RunDirectory:
    """The files of one run.

    Attributes:
        path: the run's folder.
        release: the folder that the guarantee covers, and that may be handed on.
        private: the folder of everything else.
    """

    def __init__(self, path: Path) -> None:
        """path: the run's folder, which may not exist yet, or its `release/`."""
        self.layout = Layout.of(path)
        self.path, self.release, self.private = self.layout.root, self.layout.release, self.layout.private

    @property
    def scenario(self) -> Path:
        """The resolved scenario."""
        return self.release / "scenario.toml"

    @property
    def checkpoint(self) -> Path:
        """The state after the last finished round."""
        return self.private / "checkpoint.safetensors"

    @property
    def model(self) -> Path:
        """The folder of the released model."""
        return self.release / "model"

    @property
    def ledger(self) -> Path:
        """The ledger: one signed record a line. Its checkpoint is in the same folder."""
        return self.release / "privacy" / "ledger.jsonl"

    @property
    def report(self) -> Path:
        """The privacy statement as a page."""
        return self.release / "privacy" / "report.html"

    @property
    def public_key(self) -> Path:
        """The public key of the ledger, a copy for convenience. A copy in this folder proves nothing."""
        return self.release / "privacy" / "ledger.pub"

    @property
    def summary(self) -> Path:
        """The results of the run."""
        return self.private / "summary.json"

    @property
    def ended(self) -> Path:
        """The summary of a run whose `end` record is being written."""
        return self.private / ".summary.json.ended"

    @property
    def history(self) -> Path:
        """One row for each round."""
        return self.private / "history.csv"

    @property
    def attacks(self) -> Path:
        """The results of attacks on the run."""
        return self.private / attack_results.FILE

    @property
    def receipts(self) -> Path:
        """The receipts of a deployment's nodes, a JSON object for each round."""
        return self.private / "receipts.jsonl"

    @property
    def ranks(self) -> Path:
        """The rank of each user's held-out items: private data, kept only with `evaluation.keep_ranks`."""
        return self.private / "evaluation" / "ranks.npz"

    @property
    def plots(self) -> Path:
        """The folder of the plots."""
        return self.private / "plots"

    @property
    def holds_run(self) -> bool:
        """Whether the folder contains a run, finished or not."""
        return self.scenario.is_file()

    def check_free(self) -> None:
        """Check that the folder is free for a new run. Raises: InputError when it contains a file."""
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"--out {self.path}: is a file; choose a folder")
        if self.holds_run:
            raise InputError(f"--out {self.path}: holds another run; continue it with --resume or choose a new folder")
        if self.path.is_dir() and any(not path.is_dir() for path in self.path.rglob("*")):
            raise InputError(f"--out {self.path}: is not empty; choose a new folder")

    def begin(self) -> None:
        """Make the folders of a new run. Raises: InputError when there is a file in them."""
        self.check_free()
        for folder in (self.path, self.private):
            make_folder(folder, private=True)
        for folder in (self.ledger.parent, self.model):
            make_folder(folder)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Lock the run, so that no second process charges and releases at the same time.

        Raises:
            InputError: another process has the lock. It is free when that process ends.
            VerificationError: the folder contains a link, which may lead anywhere.
        """
        refuse_links(self.path)
        handle = os.open(self.path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InputError(f"--out {self.path}: another process continues this run; stop it first") from None
            yield
        finally:
            os.close(handle)

    def write_history(self, rows: Sequence[dict[str, Any]]) -> None:
        """Write `history.csv`, one row for each round. A cell without a value stays empty."""
        columns = list(dict.fromkeys(key for row in rows for key in row)) or ["round"]
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(rows)
        replace(self.history, text.getvalue().encode(), SECRET)

    def write_model(self, model: ReleasedModel, items: Sequence[str]) -> int:
        """Write `model/`: tensors, item ids, and a manifest with the hashes of both.

        Args:
            model: the released model.
            items: ids of the items, in catalogue order.
        Returns: the size of the tensors in bytes.
        """
        folder = self.model
        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.tensors().items()}
        content = save(tensors)
        replace(folder / "model.safetensors", content)
        ids = items_text(items)
        replace(folder / "items.json", ids)
        manifest = {
            "kind": model.kind,
            **({"made_by": model.made_by} if model.made_by else {}),
            "model": model.manifest(),
            "version": __version__,
            "sha256": hashlib.sha256(content).hexdigest(),
            "items": {"count": len(items), "sha256": hashlib.sha256(ids).hexdigest()},
        }
        write_json(folder / "manifest.json", manifest)
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def make_folder(path: Path, *, private: bool = False) -> None:
    """Make the folder `path` unless it exists.

    Args:
        path: the folder.
        private: set mode 0700, on an existing folder too.
    Raises: InputError when it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if private:
            path.chmod(0o700)
    except OSError as error:
        raise InputError(f"--out {path}: cannot be made ({error.strerror}); choose another folder") from None


def new_path(name: str) -> Path:
    """Return a path under `runs/` that does not exist yet, from the scenario's name and the time."""
    stem = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, count = Path("runs") / stem, 2
    while path.exists():
        path, count = Path("runs") / f"{stem}-{count}", count + 1
    return path


def handed_on(folder: RunDirectory) -> list[str]:
    """Return the last lines of a run on the terminal: its folders, and which of them may be handed on."""
    if folder.layout.flat:
        return [f"Written to {folder.path}, the flat folder of an older version: hand on its model/ and privacy/ alone"]
    return [
        f"Written to {folder.release}: model, ledger, privacy statement, scenario. Only this folder may be handed on.",
        f"Kept in {folder.private}: true metrics, counts, times, plots, checkpoint. No epsilon covers them.",
    ]


def write_json(path: Path, value: Any, mode: int = 0o666) -> None:
    """Write indented JSON.

    Args:
        path: the file, replaced atomically.
        value: a JSON-able value.
        mode: permission bits, masked by the umask.
    Raises: ValueError for NaN and infinity, which JSON lacks.
    """
    replace(path, json_text(value).encode(), mode)


def json_text(value: Any) -> str:
    """Return the text that `write_json` writes."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"
