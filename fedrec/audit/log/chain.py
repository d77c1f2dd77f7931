"""A ledger's lines as a chain: each record names the root of all before it, and a key hands over to the next."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from fedrec.audit.log.envelope import SignedRecord, parsed
from fedrec.audit.log.keys import PREFIX, PublicKey, public_key
from fedrec.audit.log.merkle import Frontier
from fedrec.errors import InputError


@dataclass
class Chain:
    """The records of a ledger's content.

    Attributes:
        records: up to the first that does not follow from those before it.
        leaves: hash of each record.
        roots: the root (32 bytes) over the first n records, for each n from 0.
        fault: why reading stopped after the last record here; None at the end of the file.
        torn: bytes after the last newline, which a crash cut short. `append` never returned, so nothing was released
            on them.
        size_bytes: of the whole lines.
    """

    records: list[SignedRecord] = field(default_factory=list)
    leaves: list[bytes] = field(default_factory=list)
    roots: list[bytes] = field(default_factory=list)
    fault: str | None = None
    torn: int = 0
    size_bytes: int = 0

    @property
    def head(self) -> str:
        """The root (hex) over all records."""
        return self.roots[-1].hex()

    def add(self, record: SignedRecord, root: bytes) -> None:
        """Add a record that follows from all others.

        Args:
            record: the record.
            root: the root over all records with it, 32 bytes.
        """
        self.records.append(record)
        self.leaves.append(record.leaf)
        self.roots.append(root)


def read(content: bytes) -> Chain:
    """Read the chain in a ledger's content, up to the first record that does not follow from those before it."""
    end = content.rfind(b"\n") + 1
    chain, frontier = Chain(torn=len(content) - end, size_bytes=end), Frontier()
    chain.roots.append(frontier.root())
    run = None
    for number, line in enumerate(content[:end].split(b"\n")[:-1]):
        try:
            record = parsed(line)
        except ValueError as error:
            chain.fault = f"record {number} is {error}"
            return chain
        run = run or record.run
        if record.index != number or record.previous != chain.head:
            chain.fault = f"record {number} does not follow from the records before it"
        elif record.run != run:
            chain.fault = f"record {number} belongs to the run {record.run}, not to {run}"
        if chain.fault:
            return chain
        chain.records.append(record)
        chain.leaves.append(record.leaf)
        frontier.append(chain.leaves[-1])
        chain.roots.append(frontier.root())
    return chain


def parted(one: Sequence[str], other: Sequence[str]) -> int | None:
    """Find the first record that differs between two ledgers; None where one is a beginning of the other.

    Args:
        one: the roots after 0, 1, ... records.
        other: those of the other ledger.
    """
    size = min(len(one), len(other)) - 1
    if one[size] == other[size]:
        return None
    return next(number for number in range(size) if one[number + 1] != other[number + 1])


def keys(found: Sequence[SignedRecord], first: PublicKey) -> list[PublicKey]:
    """List the key in force for each record and after the last: `first`, until a record hands over to another.

    The result has one entry more than there are records; entry n signs record n and the checkpoint of n records.

    Raises:
        ValueError: when a key that is not in force hands over.
    """
    in_force = [first]
    for record in found:
        key = in_force[-1]
        if record.payload.get("type") == "key":
            if record.payload.get("old") != key.text:
                raise ValueError(f"record {record.index} replaces a key that is not the ledger's")
            key = _key(record, "new")
        in_force.append(key)
    return in_force


def first_key(found: Sequence[SignedRecord], last: PublicKey) -> PublicKey:
    """Return the key that began a ledger which ends with `last` in force.

    Raises:
        ValueError: for a damaged record.
    """
    for record in found:
        if record.payload.get("type") == "key":
            return _key(record, "old")
    return last


def _key(record: SignedRecord, which: str) -> PublicKey:
    text = record.payload.get(which)
    try:
        if isinstance(text, str) and text.startswith(PREFIX):
            return public_key(text)
    except InputError:
        pass
    raise ValueError(f"record {record.index} replaces a key and names none")
