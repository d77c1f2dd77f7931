"""The folders of a run: `release/`, which may be handed on, and `private/`, which stays with its owner.

| folder | content | covered by epsilon |
|---|---|---|
| `RUN/release` | `model/`, `privacy/` (ledger, statement, page), `scenario.toml` | yes |
| `RUN/private` | true metrics, counts, seconds, plots, checkpoint, results of attacks | no |

Runs of older versions are flat: `model/`, `privacy/` and everything else in one folder. They are still readable.
"""

import os
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

RELEASE, PRIVATE = "release", "private"
RELEASED = (
    "model/items.json",
    "model/manifest.json",
    "model/model.safetensors",
    "privacy/budget.json",
    "privacy/ledger.pub",
    "privacy/report.html",
    "privacy/statement.json",
    "privacy/statement.md",
    "scenario.toml",
)
"""The files of `release/` that the ledger fixes by their digests: all that a run writes there but `_UNFIXED`."""
SALT = "salt"
_UNFIXED = ("privacy/ledger.jsonl", "privacy/checkpoint", "privacy/budget.lock", "privacy/witness-*.note")
_UNFIXED_PRIVATE = (SALT, "tensorboard/*", "mlflow*")
_FLAT = ("privacy/ledger.jsonl", "model/manifest.json", "scenario.toml", "summary.json")
"""Files that only the top of a flat run holds, or a `release/` that was renamed."""


@dataclass(frozen=True)
class Layout:
    """The places of one run's files.

    Attributes:
        root: the run's folder.
        release: the released part; `root` in a flat run.
        private: the private part; `root` in a flat run.
    """

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
    def private_at_hand(self) -> Path | None:
        """The private folder, None if only `release/` was handed over."""
        here = not self.flat and any((self.private / name).is_file() for name in (SALT, "summary.json"))
        return self.private if here else None

    @property
    def flat(self) -> bool:
        """True if everything is in one folder: a run of an older version, or a `release/` under another name."""
        return self.release == self.root


def listing(folder: Path) -> list[str]:
    """Return the paths of all files and links in a folder and below; links are not followed."""
    found = []
    for place, folders, names in os.walk(folder):
        inside = os.path.relpath(place, folder)
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        found += [os.path.normpath(os.path.join(inside, name)) for name in [*names, *links]]
    return sorted(found)


def fixed(name: str) -> bool:
    """Return whether the ledger fixes a file of `release/`, or does not allow it there."""
    return not any(fnmatchcase(name, pattern) for pattern in _UNFIXED)


def fixed_private(name: str) -> bool:
    """Return whether the ledger fixes a file of `private/`, or does not allow it there."""
    return not any(fnmatchcase(name, pattern) for pattern in _UNFIXED_PRIVATE)


def _name(path: Path) -> str:
    return os.path.basename(os.path.abspath(path))
