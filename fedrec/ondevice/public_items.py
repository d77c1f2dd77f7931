"""Public features of the items on a device: for filters, likeness, freshness, and the questions to a newcomer.

One safetensors file, made where the catalogue is (`fedrec.recommend.public_items`) and handed out with the model:
`category/NAME` (items, labels) bool with its labels in the metadata, and `number/NAME` (items,) float64, NaN where
unknown, e.g. a year or a date. Titles are one utf-8 text, `title/text`, with the end of each in `title/ends` (items,).
It holds nothing about users.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as dataclass_replace
from pathlib import Path

import numpy as np

from fedrec.durable import replace
from fedrec.errors import InputError, nearest
from fedrec.ondevice.tensor_file import TensorFile, header_of

_LABELS = "labels"


@dataclass(frozen=True)
class PublicItems:
    """Public features of the items, in catalogue order.

    Attributes:
        n_items: size of the catalogue.
        labels: block of categories -> its labels.
        members: block of categories -> (items, labels) bool.
        numbers: block of numbers -> (items,) float64, NaN where unknown.
        text: the titles one after the other, utf-8, (bytes,) uint8; empty without titles.
        ends: where each title ends in it, (items,) int64; empty without titles.
    """

    n_items: int
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    members: Mapping[str, np.ndarray] = field(default_factory=dict)
    numbers: Mapping[str, np.ndarray] = field(default_factory=dict)
    text: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint8))
    ends: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def titled(self, titles: Sequence[str]) -> "PublicItems":
        """Return these features with the titles of the items."""
        parts = [title.encode("utf-8", "replace") for title in titles]
        ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
        return dataclass_replace(self, text=np.frombuffer(b"".join(parts), np.uint8), ends=ends)

    def title(self, item: int) -> str | None:
        """Return the title of the item at a position; None where it has none."""
        if not len(self.ends):
            return None
        start = int(self.ends[item - 1]) if item else 0
        return self.text[start : int(self.ends[item])].tobytes().decode("utf-8", "replace") or None

    def facts(self, item: int) -> dict[str, str]:
        """Return what is public of an item: block -> its labels, or its number, as text."""
        found: dict[str, str] = {}
        for name, member in self.members.items():
            labels = [self.labels[name][place] for place in np.flatnonzero(member[item]).tolist()]
            found |= {name: ", ".join(labels)} if labels else {}
        known = {name: float(values[item]) for name, values in self.numbers.items()}
        return found | {name: f"{value:.10g}" for name, value in known.items() if np.isfinite(value)}

    def mask(
        self,
        having: Mapping[str, Collection[str]] | None = None,
        between: Mapping[str, tuple[float, float]] | None = None,
        without: Mapping[str, Collection[str]] | None = None,
    ) -> np.ndarray:
        """The items that pass a filter, (items,) bool.

        Args:
            having: block of categories -> labels; an item needs one of them, in each of the blocks.
            between: block of numbers -> smallest and largest value; an unknown value does not pass.
            without: block of categories -> labels; an item with one of them does not pass.

        Raises:
            InputError: for an unknown block or label.
        """
        found = np.ones(self.n_items, bool)
        for name, labels in (having or {}).items():
            found &= self._with(name, labels)
        for name, labels in (without or {}).items():
            found &= ~self._with(name, labels)
        for name, (least, most) in (between or {}).items():
            values = self.number(name)
            with np.errstate(invalid="ignore"):
                found &= (values >= least) & (values <= most)
        return found

    def number(self, name: str) -> np.ndarray:
        """The values of a block of numbers, (items,). Raises: InputError for an unknown one."""
        if name not in self.numbers:
            raise InputError(f"filter: the items have no number '{name}'.{nearest(name, self.numbers)}")
        return self.numbers[name]

    def rows(self, items: np.ndarray) -> np.ndarray | None:
        """Rows (n, labels of all blocks) of `items` (n,), whose cosine is the likeness of two items; rare labels count
        more. None without categories."""
        if not self.members:
            return None
        parts = [member[items] / np.sqrt(member.mean(0) + 1e-3) for member in self.members.values()]
        return np.concatenate(parts, 1)

    def write(self, path: Path) -> None:
        """Write the file at `path`, in the place of what was there."""
        arrays = {f"category/{name}": np.ascontiguousarray(value, bool) for name, value in self.members.items()}
        arrays |= {f"number/{name}": np.ascontiguousarray(value, "<f8") for name, value in self.numbers.items()}
        if len(self.ends):
            arrays |= {"title/text": self.text, "title/ends": np.ascontiguousarray(self.ends, "<i8")}
        about = {_LABELS: json.dumps({name: list(labels) for name, labels in self.labels.items()})}
        head = header_of([(name, value.dtype, value.shape) for name, value in arrays.items()], about)
        replace(path, head + b"".join(value.tobytes() for value in arrays.values()))

    @classmethod
    def read(cls, path: Path, n_items: int) -> "PublicItems":
        """Read the file at `path`, for a model of so many items.

        Raises:
            InputError: where it is none, or of another catalogue.
        """
        file = TensorFile(path)
        members, numbers, titles = (file.read_below(kind) for kind in ("category/", "number/", "title/"))
        try:
            labels = {str(name): tuple(map(str, of)) for name, of in json.loads(file.metadata[_LABELS]).items()}
            shapes = {name: (n_items, len(of)) for name, of in labels.items()}
            if {name: value.shape for name, value in members.items()} != shapes:
                raise ValueError("labels and columns differ, or another number of items")
            if any(value.shape != (n_items,) for value in numbers.values()):
                raise ValueError("another number of items")
            text, ends = titles.get("text", np.zeros(0, np.uint8)), titles.get("ends", np.zeros(0, np.int64))
            if titles and (text.dtype != np.uint8 or ends.dtype != np.int64 or ends.shape != (n_items,)):
                raise ValueError("titles of another number of items")
            if (np.diff(ends, prepend=0) < 0).any() or int(ends[-1] if len(ends) else 0) != text.size:
                raise ValueError("titles that do not fit their text")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: no public features of this model's items ({error}); fetch it again") from None
        return cls(n_items, labels, members, numbers, text, ends)

    def _with(self, name: str, labels: Collection[str]) -> np.ndarray:
        if name not in self.members:
            raise InputError(f"filter: the items have no categories '{name}'.{nearest(name, self.members)}")
        places = []
        for label in labels:
            if label not in self.labels[name]:
                raise InputError(f"filter: '{name}' has no label '{label}'.{nearest(label, self.labels[name])}")
            places.append(self.labels[name].index(label))
        found: np.ndarray = np.asarray(self.members[name][:, places].any(1))
        return found
