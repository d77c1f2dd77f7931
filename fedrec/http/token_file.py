"""The token of an HTTP API: a file that the owner alone can read."""

import re
import secrets
from pathlib import Path

from fedrec import private_files
from fedrec.errors import InputError


def token_in(file: Path, *, new: bool = False) -> str:
    """Return the token of a file; make it where there is none.

    Args:
        file: of the token alone.
        new: replace it, so that programs with the old one are refused.

    Raises:
        InputError: for a file that others can read, a link, or a file without a token.
    """
    if new:
        private_files.exchange(file, _made())
    elif not file.exists() and not file.is_symlink():
        try:
            private_files.create(file, _made())
        except InputError:
            if not file.exists():  # another server made it in the meantime
                raise
    text = private_files.read(file, follow=False).decode("ascii", "replace").strip()
    if not re.fullmatch(r"[A-Za-z0-9_-]{43}", text):
        raise InputError(f"{file}: holds no token; make one by --new-token")
    return text


def _made() -> bytes:
    return secrets.token_urlsafe(32).encode() + b"\n"
