"""The folders of a run: `release/`, which may be handed on, and `private/`, which stays where it was made.

| folder | content | covered by epsilon |
|---|---|---|
| `RUN/release` | `model/`, `privacy/` (ledger, statement, page), `scenario.toml` | yes |
| `RUN/private` | true metrics, counts, seconds, plots, checkpoint, results of attacks | no |

Runs of older versions are flat: `model/`, `privacy/` and everything else in one folder. They are read as they are.
"""

import os
from dataclasses import dataclass
from pathlib import Path

RELEASE, PRIVATE = "release", "private"
_FLAT = ("privacy/ledger.jsonl", "model/manifest.json", "scenario.toml", "summary.json")
"""Files that only the top of a flat run holds, or a `release/` that was renamed."""


@dataclass(frozen=True)
class Layout:
    """Where the files of one run are. root: the run's folder; release, private: both are `root` in a flat run."""

    root: Path
    release: Path
    private: Path

    @classmethod
    def of(cls, path: Path) -> "Layout":
        """The layout of a run.

        Args:
            path: the run's folder (it may not exist yet), its `release/`, or the `privacy/` of either.
        """
        if _name(path) == "privacy" and (path / "ledger.jsonl").is_file():
            path = path.parent
        if _name(path) == RELEASE and any((path / name).is_file() for name in _FLAT):
            path = path.parent
        if not (path / RELEASE).is_dir() and any((path / name).is_file() for name in _FLAT):
            return cls(path, path, path)
        return cls(path, path / RELEASE, path / PRIVATE)

    @property
    def flat(self) -> bool:
        """Whether everything lies in one folder: a run of an older version, or a `release/` under another name."""
        return self.release == self.root


def _name(path: Path) -> str:
    return os.path.basename(os.path.abspath(path))
