"""Events from a CSV file or JSON lines, with the standard library alone.

| column | spellings | default |
|---|---|---|
| item | `item`, `item_id`, `movieId` | needed |
| kind | `kind`, `event` | `rating` where there is a rating, else `view` |
| time | `time`, `timestamp`: seconds (or ms, us, ns) since 1970, or ISO 8601; UTC | not known |
| weight | `weight`, `rating` | 1 |

A column of users must hold one user. Cells such as NA are missing values in CSV; JSON has null. What `export_lines`
writes is read again.
"""

import csv
import json
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from fedrec.data.spellings import MARKS, OF_IDS, likely
from fedrec.errors import InputError
from fedrec_client.store.event import Event

SPELLINGS = {
    "item": ("item", "item_id", "movieId"),
    "kind": ("kind", "event"),
    "time": ("time", "timestamp"),
    "weight": ("weight", "rating"),
    "user": ("user", "user_id", "userId"),
}
_USUAL = {"item": "item_id", "time": "timestamp", "weight": "rating", "user": "user_id"}
_UNITS = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6), (9e18, 1e9))
"""Upper bound of a number -> units a second; as the readers of logs decide it."""
_DATES = ((19700101, 21001231), (19700101 * 10**6, 21001232 * 10**6))
"""Numbers such as 20200131 and 20200131101112."""
Row = tuple[int, Mapping[str, object]]


def read_events(file: str | Path) -> list[Event]:
    """Read the events of one person, in the file's order.

    Args:
        file: `.csv` or `.tsv` with names in the first line, or `.jsonl`, `.ndjson`, `.json` with an object a line.

    Raises:
        InputError: with the file, the line and the remedy; never with a value.
    """
    path = Path(file)
    ending = path.suffix.lower()
    if ending not in (".csv", ".tsv", ".jsonl", ".ndjson", ".json"):
        raise InputError(f"{path}: format not recognised; give .csv, .tsv, or .jsonl with an object a line")
    table = ending in (".csv", ".tsv")
    read = _csv if table else _json
    try:
        rows = list(read(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no UTF-8; save it as UTF-8") from None
    columns = _columns(path, rows)
    unit = _unit(path, rows, columns.get("time"))
    users = {str(row[columns["user"]]).strip() for _, row in rows} if "user" in columns else set()
    if len(users) > 1:
        raise InputError(f"{path}: has events of {len(users):,} users; a store has one, keep the rows of its person")
    ids, numbers = (OF_IDS, MARKS) if table else ((), ())
    found = []
    for line, row in rows:
        cells = {
            ours: _cell(row.get(name), ids if ours in ("item", "kind") else numbers) for ours, name in columns.items()
        }
        try:
            found.append(_event(cells, columns.get("weight") == "rating", unit))
        except InputError as error:
            raise InputError(f"{path}, line {line}: {error}") from None
        except ValueError:
            raise InputError(f"{path}, line {line}: a time or a weight is not recognised; fix or drop it") from None
    return found


def _cell(value: object, marks: tuple[str, ...]) -> object:
    """Return a value of a table without space around it, None for a mark; a value of JSON as it is."""
    if not marks or not isinstance(value, str):
        return value
    value = value.strip()
    return None if value.lower() in marks else value


def _csv(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        try:
            names = [name.strip() for name in next(lines, [])]
            if len(set(names)) < len(names):
                raise InputError(f"{path}, line 1: two columns have one name; rename one")
            for cells in lines:
                if cells:
                    if len(cells) != len(names):
                        raise InputError(
                            f"{path}, line {lines.line_num}: has {len(cells)} cells, and line 1 has {len(names)}; "
                            "fix the line"
                        )
                    yield lines.line_num, dict(zip(names, cells, strict=True))
        except csv.Error as error:
            raise InputError(f"{path}, line {lines.line_num}: no CSV ({error}); fix the line") from None


def _json(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                found = None
            if not isinstance(found, dict):
                raise InputError(f"{path}, line {number}: no JSON object; write one object a line")
            if found.get("record", "event") == "event":
                yield number, found


def _columns(path: Path, rows: list[Row]) -> dict[str, str]:
    """Return our name -> the column's name, of those that are there."""
    if not rows:
        raise InputError(f"{path}: has no events; check the file")
    names = list(dict.fromkeys(name for _, row in rows for name in row))
    found = {}
    for ours, spellings in SPELLINGS.items():
        there = [name for name in spellings if name in names]
        if len(there) > 1:
            raise InputError(f"{path}: has the columns '{there[0]}' and '{there[1]}' for the {ours}; drop one")
        if there:
            found[ours] = there[0]
        elif ours in ("item", "time") and (other := likely(_USUAL[ours], [name for name in names if name != "record"])):
            raise InputError(f"{path}: has no column '{_USUAL[ours]}'. Is it '{other}'? Then rename that column")
    if "item" not in found:
        raise InputError(f"{path}: has no column 'item_id'; name it in the first line or in each object")
    return found


def _event(cells: Mapping[str, object], rated: bool, unit: float) -> Event:
    item, kind = cells.get("item"), cells.get("kind")
    moment, weight = _number(cells.get("time"), moments=True), _number(cells.get("weight"))
    usual = "rating" if rated and weight is not None else "view"
    return Event(
        item="" if item is None else item,  # type: ignore[arg-type]  # Event refuses other types
        kind=usual if kind is None else kind,  # type: ignore[arg-type]
        time=None if moment is None else moment / unit,
        weight=1.0 if weight is None else weight,
    )


def _unit(path: Path, rows: list[Row], column: str | None) -> float:
    """Return units a second of the times that are numbers, by the largest of them."""
    numbers = []
    for line, row in rows:
        value = row.get(column or "")
        if isinstance(value, str) and (not value.strip() or value.strip().lower() in MARKS):
            continue
        try:
            number = _number(value)
        except ValueError:
            number = None
        if number is not None and math.isfinite(number):
            numbers.append((line, abs(number)))
    if numbers and any(all(low <= number <= high for _, number in numbers) for low, high in _DATES):
        raise InputError(f"{path}, line {numbers[0][0]}: its time looks like a date; write 2020-01-31")
    largest = max((number for _, number in numbers), default=0.0)
    below, unit = next(((low, unit) for low, unit in _UNITS if largest < low), (0.0, 1.0))
    wrong = [line for line, number in numbers if unit > 1 and 0 < number < below / 1e3]
    if wrong:
        raise InputError(f"{path}, line {wrong[0]}: its time has another unit than others; write UTC seconds in all")
    return unit


def _number(value: object, *, moments: bool = False) -> float | None:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    if not isinstance(value, str):
        raise ValueError("type")
    try:
        return float(value)
    except ValueError:
        if not moments:
            raise
    when = datetime.fromisoformat(value)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
