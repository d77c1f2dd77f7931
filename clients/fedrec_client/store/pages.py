"""Rows of an SQLite file read page by page, without SQLite: what is left of a damaged one.

Source: https://www.sqlite.org/fileformat2.html. Different from SQLite: no index from page to page is needed, so each
leaf page counts by itself, and no checksum of the write-ahead log is, since each sealed row proves itself.
"""

from collections.abc import Iterator
from pathlib import Path

from fedrec.errors import InputError
from fedrec_client.store.database import PAGE

Row = tuple[int, list[bytes | None]]
"""A row's id, and its columns: None for NULL, else the bytes of a blob or a text."""
_LEAF = 0x0D


def rows(path: Path) -> Iterator[Row]:
    """Yield each row that the pages of a store hold, in no order, those of its write-ahead log included.

    Raises:
        InputError: for a file that cannot be read.
    """
    pages = _pages(path)
    for number, page in pages.items():
        start = 100 if number == 1 else 0
        if page[start] != _LEAF:
            continue
        for n in range(_integer(page, start + 3, 2)):
            try:
                yield _cell(pages, page, _integer(page, start + 8 + 2 * n, 2))
            except (IndexError, KeyError, ValueError):
                continue  # a damaged cell


def version_of(path: Path) -> int:
    """Return the layout's version in a store's header; 0 where it is cut off."""
    return _integer(_content(path)[:100].ljust(100, b"\0"), 60, 4)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def _pages(path: Path) -> dict[int, bytes]:
    """Return page number, from 1, -> (PAGE,) bytes; the last ones that were committed."""
    content, log = _content(path), path.with_name(f"{path.name}-wal")
    pages = {at // PAGE + 1: content[at : at + PAGE].ljust(PAGE, b"\0") for at in range(0, len(content), PAGE)}
    if log.is_file():
        pages |= _committed(_content(log))
    return pages


def _committed(log: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    waiting: dict[int, bytes] = {}
    for at in range(32, len(log) - PAGE - 23, PAGE + 24):
        if log[at + 8 : at + 16] != log[16:24]:  # of an older round of the log
            break
        waiting[_integer(log, at, 4)] = log[at + 24 : at + 24 + PAGE]
        if _integer(log, at + 4, 4):
            found |= waiting
            waiting = {}
    return found


def _cell(pages: dict[int, bytes], page: bytes, at: int) -> Row:
    size, at = _varint(page, at)
    row, at = _varint(page, at)
    row -= 1 << 64 if row >> 63 else 0
    if not 0 < size <= 1 << 26:
        raise ValueError("size")
    local = size
    if size > PAGE - 35:
        least = (PAGE - 12) * 32 // 255 - 23
        local = least + (size - least) % (PAGE - 4)
        local = local if local <= PAGE - 35 else least
    payload = page[at : at + local]
    following = _integer(page, at + local, 4) if local < size else 0
    parts, seen = [payload], local
    while following and seen < size:
        parts.append(pages[following][4:])
        seen += PAGE - 4
        following = _integer(pages[following], 0, 4)
    return row, _columns(b"".join(parts)[:size])


def _columns(payload: bytes) -> list[bytes | None]:
    end, at = _varint(payload, 0)
    kinds = []
    while at < end:
        kind, at = _varint(payload, at)
        kinds.append(kind)
    found: list[bytes | None] = []
    for kind in kinds:
        if 0 < kind < 12:
            raise ValueError("a number")  # no table of a store has one but for the id
        size = 0 if kind == 0 else (kind - 12) // 2
        if at + size > len(payload):
            raise ValueError("cut off")
        found.append(None if kind == 0 else payload[at : at + size])
        at += size
    return found


def _integer(content: bytes, at: int, size: int) -> int:
    return int.from_bytes(content[at : at + size], "big")


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for n in range(8):
        byte = content[at + n]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + n + 1
    return (value << 8 | content[at + 8]) & (1 << 64) - 1, at + 9
