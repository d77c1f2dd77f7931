"""The error tree. Every message is one line that says what is wrong, where, and how to mend it.

The command line prints the message and leaves with `exit_code`; nothing else decides exit codes. A message may hold
text from a received file or from another machine, so control characters are escaped where the error is made: it is
safe in a log, too.
"""

import difflib
import errno
from collections.abc import Iterable

from fedrec.plain_text import plain

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EIO)
"""Values of `errno` in an OSError that the user can fix: a full disk, a folder, permissions."""


class FedrecError(Exception):
    """Base of every error that fedrec raises on purpose."""

    exit_code = 2

    def __init__(self, message: object = "") -> None:
        super().__init__(plain(" ".join(str(message).split())))


class InputError(FedrecError):
    """A scenario, file, option or argument that cannot be used (exit code 2)."""


class PrivacyError(FedrecError):
    """A privacy setting that is invalid or whose guarantee cannot be proven (exit code 2)."""


class BudgetExhausted(FedrecError):
    """The next release would pass the privacy budget; everything up to there is saved (exit code 3)."""

    exit_code = 3


class VerificationError(FedrecError):
    """A record that does not verify (exit code 4)."""

    exit_code = 4


def first_line(error: Exception) -> str:
    """Return the first line of another library's error, or the name of its type if it has no text."""
    return plain((str(error).strip().splitlines() or [type(error).__name__])[0])


def nearest(name: str, known: Iterable[str]) -> str:
    """`" Did you mean 'x'?"` with the known name nearest to `name`, or the list of known names.

    >>> nearest("kernel_rank", ["als", "kernel-rank"])
    " Did you mean 'kernel-rank'?"
    """
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f" Did you mean '{close[0]}'?"
    return f" Known: {', '.join(sorted(known))}." if known else ""
