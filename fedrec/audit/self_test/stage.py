"""The stage of attacks: copies of a genuine run, and the installed commands in a process of their own.

A command that hangs, fills the memory or dies does not disturb the self-test: a worker runs it, and is replaced.
"""

import contextlib
import io
import multiprocessing
import os
import shutil
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from fedrec.audit.log.keys import SigningKey

CPU_SECONDS = 10.0
"""Limits of one command."""
WALL_SECONDS = 60.0
MEGABYTES = 1024.0
_SPACE = 16 << 30  # bytes of address space of the worker: libraries map much that they never touch


@dataclass(frozen=True)
class Answer:
    """The result of a command.

    Attributes:
        code: exit code; None if the command never ended.
        output: both streams.
        seconds: CPU seconds.
    """

    code: int | None
    output: str
    seconds: float
    megabytes: float

    def harm(self) -> str | None:
        """Return the harm that an input did; None for a command that ended in order."""
        if self.code is None:
            return self.output
        if "Traceback (most recent call last)" in self.output:
            return f"a traceback: {self.output.strip().splitlines()[-1]}"
        if any((ord(letter) < 32 and letter != "\n") or 127 <= ord(letter) < 160 for letter in self.output):
            return "control characters reached the terminal"
        if self.seconds > CPU_SECONDS:
            return f"{self.seconds:.0f} s of CPU"
        return f"{self.megabytes:,.0f} MB of memory" if self.megabytes > MEGABYTES else None


class Commands:
    """The installed `fedrec`, run in a worker with the environment variables `settings`."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self.settings = dict(settings)
        self._worker: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None

    def run(self, *arguments: object, settings: Mapping[str, str] | None = None) -> Answer:
        """Run one command line, with `settings` as further environment variables."""
        pipe = self._alive()
        try:
            pipe.send(([str(each) for each in arguments], self.settings | dict(settings or {})))
            if pipe.poll(WALL_SECONDS):
                answer: Answer = pipe.recv()
                if answer.megabytes > MEGABYTES:
                    self.close()
                return answer
            told = f"no end after {WALL_SECONDS:.0f} s"
        except (EOFError, OSError):
            told = "the process died"
        self.close()
        return Answer(None, told, 0.0, 0.0)

    def close(self) -> None:
        """End the worker."""
        if self._worker is not None:
            self._worker.kill()
            self._worker.join()
        if self._pipe is not None:
            self._pipe.close()
        self._worker = self._pipe = None

    def _alive(self) -> Connection:
        if self._pipe is None:
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._worker = context.Process(target=_work, args=(theirs,), daemon=True)
            self._worker.start()
            theirs.close()
        return self._pipe


@dataclass
class Stage:
    """The means of an attack.

    Attributes:
        plain: a genuine run, never changed.
        sampled: a genuine run with sampling, never changed.
        key: the key that signed them; `pub` is its public part.
        folder: place of copies.
        home: settings of the owner, with key and marks.
    """

    commands: Commands
    folder: Path
    plain: Path
    sampled: Path
    key: SigningKey
    home: Mapping[str, str]
    _copies: int = 0

    @property
    def pub(self) -> str:
        """The public key, as the auditor received it from its owner."""
        return self.key.public.text

    def copy(self, run: Path | None = None) -> Path:
        """Make a fresh copy of a genuine run: of the plain one, or of `run`."""
        self._copies += 1
        return Path(shutil.copytree(run or self.plain, self.folder / f"copy-{self._copies}"))

    def path(self, name: str) -> Path:
        """Return a path that does not exist yet."""
        self._copies += 1
        return self.folder / f"{self._copies}-{name}"

    def verified(self, run: Path, *more: object) -> Answer:
        """Return the answer of `fedrec audit verify` with the owner's key."""
        return self.commands.run("audit", "verify", run, "--key", self.pub, *more)


def refused(answer: Answer, codes: tuple[int, ...] = (4,)) -> str | None:
    """Return None if a command refused with one of the exit codes; else a description of what happened."""
    harm = answer.harm()
    if harm is not None:
        return harm
    return None if answer.code in codes else f"exit code {answer.code}"


def harmless(answer: Answer, absent: tuple[str, ...] = ()) -> str | None:
    """Return None if a command ended in order, with any verdict, and showed none of `absent`."""
    harm = answer.harm()
    if harm is not None:
        return harm
    if answer.code not in (0, 2, 4):
        return f"exit code {answer.code}"
    return next((f"'{text}' was shown" for text in absent if text in answer.output), None)


def peak_megabytes() -> float:
    """Return the most memory that this process has used, in MB, without what its parent had used before.

    Linux counts the parent's peak in `ru_maxrss` of a child, also after exec; VmHWM begins anew.
    """
    import resource

    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _work(pipe: Connection) -> None:
    """Answer command lines until the other end closes."""
    import resource
    from importlib.metadata import entry_points

    (installed,) = entry_points(group="console_scripts", name="fedrec")
    main = installed.load()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_SPACE if hard < 0 else min(_SPACE, hard), hard))
    while True:
        try:
            arguments, settings = pipe.recv()
        except EOFError:
            return
        os.environ.update(settings)
        out, began = io.StringIO(), time.process_time()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            try:
                sys.argv[1:] = arguments
                main()
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
            except BaseException:
                code = 1
                out.write(traceback.format_exc())
        pipe.send(Answer(code, out.getvalue(), time.process_time() - began, peak_megabytes()))
