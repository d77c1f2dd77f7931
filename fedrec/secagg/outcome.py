"""How an aggregation ends, and the errors of one that is attacked or damaged."""

from dataclasses import dataclass

from numpy.typing import NDArray

from fedrec.errors import InputError, VerificationError


class Malformed(InputError):
    """Bytes that are no message of this protocol. The sender counts as dropped."""


class Refused(VerificationError):
    """A request that a client or a helper does not answer. Nothing was revealed, and its state of the round is gone."""


@dataclass(frozen=True, eq=False)
class Total:
    """A finished aggregation.

    Attributes:
        vector: sum of the survivors' vectors modulo 2**bits, shape (length,), uint32 or uint64.
        survivors: their places in the roster, ascending.
    """

    vector: NDArray
    survivors: tuple[int, ...]


@dataclass(frozen=True)
class Void:
    """An aggregation without a result: no vector and no sum was revealed, and the round is never tried again.

    Attributes:
        reason: one line for the operator.
    """

    reason: str
