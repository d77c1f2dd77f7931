"""Damage of a store: the error that its parts raise where a row, a key or a head is not what was written."""

from fedrec.errors import VerificationError


class Damage(VerificationError):
    """A part of a store was damaged or edited. `database.one_line` adds the file, and what to do."""
