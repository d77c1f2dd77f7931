"""A run's records, read and checked as one account: the beginning, the charges, the stop, the end."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from pydantic import ValidationError

from fedrec.audit.entries.records import (
    BeginRecord,
    Code,
    EndRecord,
    FilesRecord,
    NoteRecord,
    ReceiptsRecord,
    StoppedRecord,
)
from fedrec.charge import Charge
from fedrec.errors import VerificationError
from fedrec.record_parts import Record

_TYPES: Mapping[str, type[Record]] = {
    "begin": BeginRecord,
    "charge": Charge,
    "stopped": StoppedRecord,
    "end": EndRecord,
    "files": FilesRecord,
    "note": NoteRecord,
    "receipts": ReceiptsRecord,
}
Kind = TypeVar("Kind", bound=Record)


@dataclass(frozen=True)
class Account:
    """A run's records, read and checked.

    Attributes:
        begin: the first record.
        records: every record of the ledger by its place; None for a type that has no model here.
        entries: number of records up to the last that the statement rests on: a charge, a stop or an end.
        code: the program that wrote the last of them.
    """

    begin: BeginRecord
    records: tuple[Record | None, ...]
    entries: int
    code: Code

    def of(self, kind: type[Kind]) -> tuple[Kind, ...]:
        """Return the records of one type, oldest first."""
        return tuple(record for record in self.records if isinstance(record, kind))

    @cached_property
    def charges(self) -> tuple[Charge, ...]:
        """The charges, oldest first."""
        return self.of(Charge)

    @property
    def stopped(self) -> StoppedRecord | None:
        """The stop; None for a run that did not end early."""
        return next(iter(self.of(StoppedRecord)), None)

    @property
    def end(self) -> EndRecord | None:
        """The last end; None for a run without one."""
        return next(iter(self.of(EndRecord)[-1:]), None)

    @property
    def files(self) -> FilesRecord | None:
        """The digests of files that count, the last ones; None without."""
        return next(iter(self.of(FilesRecord)[-1:]), None)


def account(payloads: Sequence[Mapping[str, Any]]) -> Account:
    """Read a ledger's payloads.

    Args:
        payloads: of the whole ledger, oldest first.

    Raises:
        VerificationError: when there is no beginning, or a record does not have the fields of its type.
    """
    if not payloads or payloads[0].get("type") != "begin":
        raise VerificationError("record 0 does not say what the run promises (no `begin`)")
    read = tuple(record_of(payload, place) for place, payload in enumerate(payloads))
    entries = 1 + max(
        place
        for place, record in enumerate(read)
        if isinstance(record, BeginRecord | Charge | StoppedRecord | EndRecord)
    )
    first = read[0]
    assert isinstance(first, BeginRecord)
    if any(isinstance(record, BeginRecord) for record in read[1:]):
        raise VerificationError("there is a second beginning")
    notes = [record for record in read[:entries] if isinstance(record, NoteRecord)]
    code = next((note.code for note in reversed(notes) if note.code is not None), first.code)
    return Account(first, read, entries, code)


def placed(payloads: Iterable[Mapping[str, Any]], kind: type[Kind]) -> Iterator[tuple[int, Kind]]:
    """Read the payloads of one type, with their places; the others are not looked at.

    Args:
        payloads: of a ledger, oldest first.
        kind: the type.

    Raises:
        VerificationError: for a malformed one.
    """
    name = next(name for name, known in _TYPES.items() if known is kind)
    for place, payload in enumerate(payloads):
        if payload.get("type") == name and isinstance(record := record_of(payload, place), kind):
            yield place, record


def record_of(payload: Mapping[str, Any], place: int) -> Record | None:
    """Read one payload.

    Args:
        payload: of the record.
        place: of the record in its ledger, from 0.

    Returns:
        The record; None for a type that has no model here.

    Raises:
        VerificationError: that names the field at fault.
    """
    kind = _TYPES.get(str(payload.get("type")))
    if kind is None:
        return None
    try:
        return kind.model_validate(payload)
    except (ValidationError, RecursionError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": "nested too deep"}
        where = ".".join(map(str, first["loc"]))
        raise VerificationError(
            f"record {place} is no {payload['type']} record: {f'{where!r}: ' if where else ''}{first['msg']}"
        ) from None
