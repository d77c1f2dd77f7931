"""Chain: an append-only file of hash-chained JSON lines, and a counter outside it that reveals an older copy.

A line is one JSON object with its number `n`, the SHA-256 of the line before (`prev`), the time and its own fields.
An append is acknowledged once the line is synced and then the counter is. So after a crash, at any byte:

| found | meaning | what follows |
|---|---|---|
| a torn last line that the counter does not count | nothing was released for it | it is dropped |
| whole lines beyond the counter | they were written, perhaps acknowledged | they count |
| the counter is ahead, or has another hash | an older copy, a lost or a rewritten ledger | a `gap` line |
| more than the first line, and no counter | nothing proves that these are all lines | a `gap` line |
| a line that does not fit the one before | the file was edited or damaged | VerificationError |

A person who restores ledger and counter together, or deletes both, leaves no trace: keep the counter out of backups.
Processes share the file under a lock (`flock`).
"""

import contextlib
import fcntl
import hashlib
import json
import os
import threading
import time
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fedrec.durable import replace, sync
from fedrec.errors import InputError, VerificationError

Fields = Mapping[str, Any]
"""A line's own fields, JSON-able; `kind` among them."""

GAP = "gap"
_OWN = ("n", "prev", "time")


@dataclass(frozen=True)
class Line:
    """A line as it was read. Attributes: n: its number; time: Unix seconds, never falling; fields: its own."""

    n: int
    time: int
    fields: Fields

    @property
    def kind(self) -> str:
        """What the line records."""
        return str(self.fields.get("kind", ""))


@dataclass(frozen=True)
class Counter:
    """What the counter's file states: the number and hash of the last acknowledged line, and its time."""

    n: int
    head: str
    time: int


class Chain:
    """The file `path` and its counter. Use it inside `locked`, which reads what other processes appended."""

    def __init__(self, path: Path, counter: Path) -> None:
        self.path, self.counter_path = path, counter
        self.lost: Counter | None = None
        """What the counter states where the ledger does not fit it; its `n` is -1 where the counter is missing."""
        self._forget()
        self.restarts = 0
        """How often the file was read from its start."""
        self._end, self._file, self._mutex = 0, -1, threading.RLock()

    def _forget(self) -> None:
        self._new: list[Line] = []
        self._numbers, self._digests, self._time = array("q"), bytearray(), 0

    @property
    def n(self) -> int:
        """Number of the last line; -1 for none."""
        return self._numbers[-1] if self._numbers else -1

    @property
    def head(self) -> str:
        """Hash of the last line, hex; "" for none."""
        return self._digests[-32:].hex()

    def taken(self) -> list[Line]:
        """Return the lines that were read or appended since the last call, and let go of them."""
        new, self._new = self._new, []
        return new

    def _hash(self, n: int) -> str | None:
        """Return the hash of line `n`, hex; None where there is none."""
        place = bisect_left(self._numbers, n)
        found = place < len(self._numbers) and self._numbers[place] == n
        return self._digests[32 * place : 32 * place + 32].hex() if found else None

    @contextlib.contextmanager
    def locked(self, *, write: bool = True) -> Iterator[None]:
        """Lock the file and read what is new in it.

        Args:
            write: False for reading alone: a missing file is an error, and nothing is mended.
        Raises: VerificationError for a damaged chain; InputError for a file that cannot be used.
        """
        with self._mutex, self._opened(write) as file:
            fcntl.flock(file, fcntl.LOCK_EX if write else fcntl.LOCK_SH)
            self._restart_if_replaced(file)
            self._read(file, write)
            self._compare()
            if write and self.n == 0 and self._counter() is None:  # the first line was written, and not counted
                os.fsync(file.fileno())
                self._count()
            yield

    def append(self, entries: Sequence[Fields], *, acknowledged: bool = True) -> None:
        """Write lines in one go, inside `locked`.

        Args:
            entries: their own fields. The number of a `gap` line is above the counter's.
            acknowledged: whether they, and all before, are synced and counted when this returns.
        """
        when, counter = self.now(), self._counter()
        text = b""
        for fields in entries:
            n = self.n + 1
            if fields["kind"] == GAP and counter is not None:
                n = max(n, counter.n + 1)
            line = {"n": n, "prev": self.head, "time": when, **fields}
            content = json.dumps(line, separators=(",", ":"), allow_nan=False).encode()
            text += content + b"\n"
            self._take(line, content)
        try:
            self._write(text, acknowledged)
            self._end += len(text)
            if acknowledged:
                self._count()
        except OSError as error:
            self._file = -1  # memory may be ahead of the file: read it all again
            raise InputError(f"{self.path}: the device ledger cannot be written ({error.strerror})") from None

    def _write(self, text: bytes, acknowledged: bool) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            while text:
                text = text[os.write(handle, text) :]
            if acknowledged:
                os.fsync(handle)
        finally:
            os.close(handle)

    def now(self) -> int:
        """Return Unix seconds, never below a time in the ledger or its counter: a clock set back changes nothing."""
        counter = self._counter()
        return max(int(time.time()), self._time, counter.time if counter else 0)

    def _count(self) -> None:
        stated = {"n": self.n, "head": self.head, "time": self._time}
        self.counter_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace(self.counter_path, json.dumps(stated).encode(), mode=0o600)
        sync(self.counter_path.parent)
        self.lost = None

    def _counter(self) -> Counter | None:
        try:
            stated = json.loads(self.counter_path.read_bytes())
            return Counter(int(stated["n"]), str(stated["head"]), int(stated["time"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            raise VerificationError(
                f"{self.counter_path}: no counter of a device ledger; see docs/device-ledger.md"
            ) from None

    @contextlib.contextmanager
    def _opened(self, write: bool) -> Iterator[IO[bytes]]:
        try:
            if write and not self.path.exists():
                self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600))
                sync(self.path.parent)
            file = self.path.open("r+b" if write else "rb")
        except OSError as error:
            raise InputError(f"{self.path}: the device ledger cannot be used ({error.strerror})") from None
        with file:
            yield file

    def _restart_if_replaced(self, file: IO[bytes]) -> None:
        """Read from the start where the file is another one, or shorter, than it was."""
        status = os.fstat(file.fileno())
        if status.st_ino != self._file or status.st_size < self._end:
            self._forget()
            self._end, self._file = 0, status.st_ino
            self.restarts += 1

    def _read(self, file: IO[bytes], write: bool) -> None:
        file.seek(self._end)
        content = file.read()
        start = 0
        while start < len(content):
            stop = content.find(b"\n", start)
            fault = "it has no end" if stop < 0 else self._fault(content[start:stop])
            if fault:
                last = stop < 0 or stop == len(content) - 1
                counter = self._counter()
                if not last or (counter is not None and counter.n > self.n and stop >= 0):
                    raise VerificationError(
                        f"{self.path}: line {len(self._numbers) + 1}: {fault}; it was edited or damaged"
                    )
                if write:
                    file.truncate(self._end)
                    os.fsync(file.fileno())
                return
            self._end += stop + 1 - start
            start = stop + 1

    def _fault(self, content: bytes) -> str | None:
        """Take a line, or return what is wrong with it."""
        try:
            line = json.loads(content)
        except (ValueError, RecursionError):
            return "no JSON"
        if not isinstance(line, dict) or not all(type(line.get(key)) is int for key in ("n", "time")):
            return "no line of a device ledger"
        gap = line.get("kind") == GAP
        if not (line["n"] == self.n + 1 or (gap and self.n < line["n"] < 2**62)):
            return f"number {line['n']} after {self.n}"
        if line.get("prev") != self.head:
            return "its hash of the line before does not fit"
        if line["time"] < self._time:
            return "its time is before that of the line before"
        self._take(line, content)
        return None

    def _take(self, line: dict[str, Any], content: bytes) -> None:
        own = {key: value for key, value in line.items() if key not in _OWN}
        self._new.append(Line(line["n"], line["time"], own))
        self._numbers.append(line["n"])
        self._digests += hashlib.sha256(content).digest()
        self._time = line["time"]

    def _compare(self) -> None:
        counter = self._counter()
        if counter is None:
            self.lost = Counter(-1, "", self.now()) if self.n > 0 else None
        elif counter.n < 0 or self._hash(counter.n) == counter.head:
            self.lost = None
        else:
            self.lost = counter
