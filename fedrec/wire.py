"""What travels between server and nodes, and the only place that knows how: record keys, versions, packing.

A message is a `Packet`: a few plain facts and named tensors. In Flower's records it is one ConfigRecord and, where it
has tensors, one ArrayRecord, each tensor as raw little-endian bytes with its type and shape spelled out. Nothing is
pickled, nothing of a sender's is evaluated, and whatever arrives is either a well-formed packet or a `WireError`.

Flower moves each record, tensor and chunk of a message in a request of its own, which costs the link some 5 ms of CPU.
So short bytes travel as facts.

Downloads may be coarser than what the server holds. Error of an entry x, at most:

| precision | which tensors | bound |
|---|---|---|
| float32 | all, as they are | 0 |
| float16 | float32 ones that fit its range | 2^-11 abs(x) + 2^-25 |
| int8 | float32 ones with rows: at least two dimensions | (1 + 2^-15) row_max / 254 + 2^-126 |

Where a tensor holds NaN or infinity, or the coarser form could not hold it, it travels as it is. Uploads are never made
coarser. Sums of clipped integers travel in the fewest bytes that hold any such sum (`Packet.octets`): nothing is lost,
and the length follows from public numbers alone.

A device without torch reads and sends numpy arrays of the same bytes. Only tensors of torch need torch here.
"""

import hashlib
import math
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from fedrec.errors import FedrecError

if TYPE_CHECKING:
    from torch import Tensor

VERSION = 4
"""Of the protocol. Both sides refuse any other."""
_DESCRIBED = 2
"""Version in a run's fingerprint, which is on run cards: it stays while descriptions do, so that old runs resume."""

Precision = Literal["float32", "float16", "int8"]
Fact = str | int | float | bool | bytes

FACTS, TENSORS = "fedrec", "tensors"
"""The two records of a message."""

RAW, HALF, ROWS, WHOLE = "fedrec.raw", "fedrec.half", "fedrec.rows", "fedrec.whole"
"""How a tensor's bytes are to be read: as they are; float16 of a float32; float32 scales of the rows, then int8; the
lowest bytes of each int64, as many for each."""

MOST_BYTES = 1 << 31
"""Of one tensor: Flower's own limit on a message is about that."""

Arrays = Literal["torch", "numpy"]
"""What the tensors of a message become."""

_SIZES = {
    **{"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2},
    **{"int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1, "bool": 1},
}
"""Bytes of a number of each type; numpy has no bfloat16."""
_MOST_IN_ROWS = 1e38  # beyond, 127 scales may be more than a float32 holds
_KEYS = {"version": int, "kind": str, "fingerprint": str, "round": int}
_OWN = "fact."


class WireError(FedrecError):
    """A message that is none of ours, or of another version or run. `code`: one word for the other side and for counts.

    The text is for the log of the side that found it: it never quotes what a message holds.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Packet:
    """One message. round: -1 outside rounds. fingerprint: of the run (empty before there is one).

    tensors: of torch, or on a device without it numpy arrays. octets: bytes that hold every number of an int64 tensor,
    by its name; 8 for the others.
    """

    kind: str
    fingerprint: str = ""
    round: int = -1
    facts: Mapping[str, Fact] = field(default_factory=dict)
    tensors: Mapping[str, Any] = field(default_factory=dict)
    version: int = VERSION
    octets: Mapping[str, int] = field(default_factory=dict)

    def expect(self, kind: str, fingerprint: str | None = None, round_index: int | None = None) -> "Packet":
        """This packet, if it is of our version and of this kind, run and round.

        Raises:
            WireError: in one line.
        """
        if self.version != VERSION:
            raise WireError(
                "version", f"the other side speaks protocol version {self.version}, this one {VERSION}; install the "
                "same fedrec on server and nodes"
            )  # fmt: skip
        if self.kind != kind:
            raise WireError("kind", f"expected a message of kind '{kind}'")
        if fingerprint is not None and self.fingerprint != fingerprint:
            raise WireError("fingerprint", "a message of another run, or of other settings; start both sides anew")
        if round_index is not None and self.round != round_index:
            raise WireError("round", f"a message of another round than {round_index}")
        return self

    def fact(self, name: str, kind: type[Any]) -> Any:
        """The fact `name`, which must be a `kind` exactly. Raises: WireError."""
        value = self.facts.get(name)
        if type(value) is not kind:
            raise WireError("facts", f"a message of kind '{self.kind}' without a usable '{name}'")
        return value


def fingerprint(text: str) -> str:
    """Return the id of a run on the wire: SHA-256 (hex) of a version and of the run's description."""
    return hashlib.sha256(f"fedrec wire {_DESCRIBED}\n{text}".encode()).hexdigest()


def digest(tensor: "Tensor | np.ndarray") -> str:
    """Return the SHA-256 (hex, 32 digits) of the type, shape and bits of a tensor or array."""
    head = f"{_name(tensor.dtype)} {tuple(tensor.shape)}\n".encode()
    return hashlib.sha256(head + _bytes(tensor)).hexdigest()[:32]


def to_record(packet: Packet, precision: Precision = "float32", keep: Collection[str] = ()) -> Any:
    """Convert the packet to Flower's RecordDict.

    Args:
        packet: the packet.
        precision: precision of its float32 tensors.
        keep: names of tensors that keep their precision.
    """
    from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

    facts: dict[str, Any] = {key: getattr(packet, key) for key in _KEYS}
    facts |= {_OWN + name: value for name, value in packet.facts.items()}
    arrays = {
        name: Array(*_pack(tensor, "float32" if name in keep else precision, packet.octets.get(name, 8)))
        for name, tensor in packet.tensors.items()
    }
    records = {FACTS: ConfigRecord(facts)} | ({TENSORS: ArrayRecord(arrays)} if arrays else {})
    return RecordDict(records)


def numpy_of(tensor: "Tensor | np.ndarray") -> np.ndarray:
    """Return a tensor or array as an array on the CPU."""
    return tensor if isinstance(tensor, np.ndarray) else tensor.cpu().numpy()


def octets_of(tensor: "Tensor | np.ndarray | None") -> np.ndarray | None:
    """Return bytes that travelled as a tensor, (n,) uint8; None for anything else."""
    if tensor is None or _name(tensor.dtype) != "uint8" or len(tensor.shape) != 1:
        return None
    return numpy_of(tensor)


def from_record(record: Any, kind: Arrays = "torch") -> Packet:
    """The packet in Flower's RecordDict; its tensors are on the CPU, and no change of the record changes them.

    Args:
        record: as received.
        kind: what its tensors become.

    Raises:
        WireError: for anything else.
    """
    try:
        configs, arrays = record.config_records, record.array_records
        if not {FACTS} <= set(record) <= {FACTS, TENSORS} or FACTS not in configs or TENSORS in configs:
            raise WireError("records", "a message of other records than the protocol's")
        facts = dict(configs[FACTS])
        if any(type(facts.get(key)) is not known for key, known in _KEYS.items()):
            raise WireError("records", "a message without version, kind, fingerprint and round")
        if facts["version"] != VERSION:  # its neighbours may mean something else there
            return Packet(facts["kind"], facts["fingerprint"], facts["round"], version=facts["version"])
        own = {name.removeprefix(_OWN): value for name, value in facts.items() if name not in _KEYS}
        if any(type(value) not in get_args(Fact) for value in own.values()):
            raise WireError("records", "a message with a fact that is neither text, number nor bytes")
        given = arrays[TENSORS].items() if TENSORS in arrays else ()
        tensors = {name: _unpack(array.dtype, array.shape, array.stype, array.data, kind) for name, array in given}
    except (AttributeError, TypeError, KeyError, ValueError, OverflowError, RuntimeError):
        raise WireError("records", "a message that is not one of the protocol") from None
    return Packet(facts["kind"], facts["fingerprint"], facts["round"], own, tensors)


def size(record: Any) -> int:
    """Bytes of the tensors' data, and of facts that are bytes, in a RecordDict: nearly all that travels."""
    facts = (fact for config in record.config_records.values() for fact in config.values())
    arrays = sum(len(array.data) for arrays in record.array_records.values() for array in arrays.values())
    return arrays + sum(len(fact) for fact in facts if isinstance(fact, bytes))


def coarse(tensor: "Tensor", precision: Precision) -> "Tensor":
    """Return `tensor` as the other side receives it."""
    found: Tensor = _unpack(*_pack(tensor, precision), "torch")
    return found


def _pack(
    tensor: "Tensor | np.ndarray", precision: Precision, octets: int = 8
) -> tuple[str, tuple[int, ...], str, bytes]:
    _little_endian()
    dtype, shape = _name(tensor.dtype), tuple(tensor.shape)
    if octets < 8 and dtype == "int64":
        return dtype, shape, WHOLE, _lowest(numpy_of(tensor), octets)
    if isinstance(tensor, np.ndarray):  # a device's, which is never made coarser
        return dtype, shape, RAW, _bytes(tensor)
    import torch

    tensor = tensor.detach().cpu().contiguous()
    if precision != "float32" and tensor.dtype == torch.float32 and bool(tensor.isfinite().all()):
        if precision == "float16":
            half = tensor.half()
            if bool(half.isfinite().all()):
                return dtype, shape, HALF, _bytes(half)
        elif tensor.dim() >= 2 and tensor.numel() and float(tensor.abs().max()) < _MOST_IN_ROWS:
            rows = tensor.flatten(1)
            scales = rows.abs().amax(1) / 127
            levels = (rows / torch.where(scales > 0, scales, 1)[:, None]).round().clamp(-127, 127)
            return dtype, shape, ROWS, _bytes(scales) + _bytes(levels.to(torch.int8))
    return dtype, shape, RAW, _bytes(tensor)


def _unpack(dtype: str, shape: tuple[int, ...], stype: str, data: bytes, arrays: Arrays) -> Any:
    _little_endian()
    if dtype not in _SIZES or not isinstance(data, bytes) or not isinstance(shape, tuple) or len(shape) > 8:
        raise WireError("tensor", "a tensor of an unknown type or form")
    if any(type(side) is not int or not 0 <= side <= MOST_BYTES for side in shape):
        raise WireError("tensor", "a tensor with an impossible shape")
    count = math.prod(shape)
    if stype == WHOLE:
        return _read_whole(dtype, shape, data, arrays)
    packed = {RAW: _SIZES[dtype] * count, HALF: 2 * count, ROWS: count + 4 * (shape[0] if shape else 0)}
    if stype not in packed or (stype != RAW and dtype != "float32") or (stype == ROWS and len(shape) < 2):
        raise WireError("tensor", "a tensor in an unknown packing")
    if len(data) != packed[stype] or len(data) > MOST_BYTES:
        raise WireError("tensor", "a tensor whose bytes do not fit its shape")
    if dtype == "bool" and max(data, default=0) > 1:  # torch has no meaning for such a bool
        raise WireError("tensor", "a truth value that is neither 0 nor 1")
    read: Callable[[bytes, str, tuple[int, ...]], Any] = _read_torch if arrays == "torch" else _read_numpy
    if stype == RAW:
        return read(data, dtype, shape)
    if stype == HALF:
        return _as_float(read(data, "float16", shape))
    scales = read(data[: 4 * shape[0]], "float32", shape[:1])
    levels = read(data[4 * shape[0] :], "int8", (shape[0], count // shape[0] if shape[0] else 0))
    return (_as_float(levels) * scales[:, None]).reshape(shape)


def _lowest(numbers: np.ndarray, octets: int) -> bytes:
    """Return the lowest bytes of each number. Raises: ValueError where they do not hold one of them."""
    if numbers.size and not -(1 << 8 * octets - 1) <= int(numbers.min()) <= int(numbers.max()) < 1 << 8 * octets - 1:
        raise ValueError(f"a sum that {octets} bytes do not hold")
    whole = np.ascontiguousarray(numbers).reshape(-1, 1).view(np.uint8)
    return whole.reshape(-1, 8)[:, :octets].tobytes()


def _read_whole(dtype: str, shape: tuple[int, ...], data: bytes, arrays: Arrays) -> Any:
    count = math.prod(shape)
    octets = len(data) // count if count else 1
    if dtype != "int64" or len(data) != octets * count or not 1 <= octets <= 7 or len(data) > MOST_BYTES:
        raise WireError("tensor", "a tensor whose bytes do not fit its shape")
    whole = np.zeros((count, 8), np.uint8)
    whole[:, 8 - octets :] = np.frombuffer(data, np.uint8).reshape(count, octets)
    numbers = whole.view(np.int64).reshape(shape) >> 8 * (8 - octets)
    if arrays == "numpy":
        return numbers
    import torch

    return torch.from_numpy(numbers)


def _read_torch(data: bytes, dtype: str, shape: tuple[int, ...]) -> "Tensor":
    import torch

    kind = getattr(torch, dtype)
    if not data:
        return torch.empty(shape, dtype=kind)
    return torch.frombuffer(bytearray(data), dtype=kind).reshape(shape)


def _read_numpy(data: bytes, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    if dtype == "bfloat16":
        raise WireError("tensor", "a tensor of bfloat16, which a device without torch cannot read")
    return np.frombuffer(data, dtype=dtype).reshape(shape)


def _as_float(tensor: Any) -> Any:
    return tensor.astype(np.float32) if isinstance(tensor, np.ndarray) else tensor.float()


def _bytes(tensor: "Tensor | np.ndarray") -> bytes:
    if isinstance(tensor, np.ndarray):
        return tensor.tobytes()
    import torch

    tensor = tensor.detach().cpu().contiguous()
    return tensor.flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def _name(dtype: Any) -> str:
    name = str(dtype).removeprefix("torch.")
    if name not in _SIZES:
        raise ValueError(f"tensors of type {dtype} do not travel")
    return name


def _little_endian() -> None:
    if sys.byteorder != "little":
        raise WireError("endian", "this machine stores numbers big-endian; run server and nodes on little-endian ones")
