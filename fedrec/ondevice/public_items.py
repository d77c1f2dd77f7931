"""Public features of the items on a device: for filters, likeness, freshness, and the questions to a newcomer.

One safetensors file, made where the catalogue is (`fedrec.recommend.public_items`) and handed out with the model:
`category/NAME` (items, labels) bool with its labels in the metadata, and `number/NAME` (items,) float64, NaN where
unknown, e.g. a year or a date. It holds nothing about users.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
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
    """

    n_items: int
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    members: Mapping[str, np.ndarray] = field(default_factory=dict)
    numbers: Mapping[str, np.ndarray] = field(default_factory=dict)

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
        members, numbers = file.read_below("category/"), file.read_below("number/")
        try:
            labels = {str(name): tuple(map(str, of)) for name, of in json.loads(file.metadata[_LABELS]).items()}
            shapes = {name: (n_items, len(of)) for name, of in labels.items()}
            if {name: value.shape for name, value in members.items()} != shapes:
                raise ValueError("labels and columns differ, or another number of items")
            if any(value.shape != (n_items,) for value in numbers.values()):
                raise ValueError("another number of items")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: no public features of this model's items ({error}); fetch it again") from None
        return cls(n_items, labels, members, numbers)

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
