"""Precision of matrix products in users' own computation. It is a choice of the engine; no guarantee depends on it.

Half precision covers only the computation of a device. Norms, clips, sums and noise keep their precision, so the clip
bounds exactly the values that are summed, at any precision of the device.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal

import torch

Precision = Literal["float32", "tf32", "bfloat16"]


@contextmanager
def users_precision(precision: Precision, device: torch.device) -> Iterator[None]:
    """While it lasts, float32 matrix products on `device` run as `precision` says; float64 ones are left alone.

    tf32: products of inputs with 10 bits of mantissa, on GPUs that have them; no effect elsewhere. bfloat16: torch's
    autocast.
    """
    if precision == "bfloat16":
        with torch.autocast(device.type, dtype=torch.bfloat16):
            yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def full_precision(device: torch.device) -> AbstractContextManager[None]:
    """For what half precision would spoil: linear solves, and ranks, which would be ties."""
    return torch.autocast(device.type, enabled=False)
