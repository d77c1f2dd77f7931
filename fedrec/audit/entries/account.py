"""A run's records, read and checked as one account: the beginning, the charges, the stop, the end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from fedrec.audit.entries.records import (
    BeginRecord,
    ChargeRecord,
    Code,
    EndRecord,
    FilesRecord,
    ReceiptsRecord,
    ResumedRecord,
    StoppedRecord,
)
from fedrec.errors import VerificationError

_TYPES: Mapping[str, type[BaseModel]] = {
    "begin": BeginRecord,
    "charge": ChargeRecord,
    "stopped": StoppedRecord,
    "end": EndRecord,
    "files": FilesRecord,
    "note": ResumedRecord,
    "receipts": ReceiptsRecord,
}


@dataclass(frozen=True)
class Account:
    """A run's records, read and checked, up to the last one that its statement uses.

    Attributes:
        entries: number of these records.
        code: the program that wrote the last of them.
    """

    begin: BeginRecord
    charges: tuple[ChargeRecord, ...]
    stopped: StoppedRecord | None
    end: EndRecord | None
    code: Code
    entries: int


def account(payloads: Sequence[Mapping[str, Any]]) -> Account:
    """Read the account of a run from a ledger's payloads, oldest first, up to the last charge, stop or end.

    Raises:
        VerificationError: when there is no beginning, or a record does not have the fields of its type.
    """
    if not payloads or payloads[0].get("type") != "begin":
        raise VerificationError("record 0 does not say what the run promises (no `begin`)")
    read = [_read(place, payload) for place, payload in enumerate(payloads)]
    entries = 1 + max(
        place
        for place, record in enumerate(read)
        if not isinstance(record, ResumedRecord | FilesRecord | ReceiptsRecord | None)
    )
    first, *rest = read[:entries]
    assert isinstance(first, BeginRecord)
    if any(isinstance(record, BeginRecord) for record in read[1:]):
        raise VerificationError("there is a second beginning")
    codes = [record.code for record in rest if isinstance(record, ResumedRecord) and record.code is not None]
    stops = [record for record in rest if isinstance(record, StoppedRecord)]
    ends = [record for record in rest if isinstance(record, EndRecord)]
    return Account(
        begin=first,
        charges=tuple(record for record in rest if isinstance(record, ChargeRecord)),
        stopped=stops[0] if stops else None,
        end=ends[-1] if ends else None,
        code=codes[-1] if codes else first.code,
        entries=entries,
    )


def _read(place: int, payload: Mapping[str, Any]) -> BaseModel | None:
    """Read a record of a known type; None for another type. Raises: VerificationError with the wrong field."""
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
