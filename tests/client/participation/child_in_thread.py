"""The computation of a device that needs torch in a thread of this process, for tests."""

import contextlib
import os
import threading
from typing import BinaryIO

from fedrec_client.participation import torch_child


class InThread:
    """In place of the process with torch: the same function over the same pipes, in this process."""

    def __init__(self, *_: object, **__: object) -> None:
        (given, self._in), (self._out, answers) = os.pipe(), os.pipe()
        self.stdin, self.stdout = os.fdopen(self._in, "wb"), os.fdopen(self._out, "rb")
        self._work = threading.Thread(target=self._main, args=(os.fdopen(given, "rb"), os.fdopen(answers, "wb")))
        self._work.start()

    @staticmethod
    def _main(given: BinaryIO, answers: BinaryIO) -> None:
        with given, answers, contextlib.suppress(EOFError, BrokenPipeError):
            torch_child.main(given, answers)

    def kill(self) -> None:
        self.stdin.close()
        self._work.join()

    def communicate(self) -> None:
        self.stdout.close()
