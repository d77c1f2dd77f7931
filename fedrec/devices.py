"""The PyTorch devices of this machine."""

import os
from typing import TYPE_CHECKING

from fedrec.errors import InputError

if TYPE_CHECKING:
    import torch


def check_device(device: str, setting: str) -> None:
    """Check that this machine has `device`.

    Args:
        device: `cpu`, `cuda` or `cuda:N`.
        setting: name of the setting or option, for the error.

    Raises:
        InputError: when the device is unknown or absent.
    """
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise InputError(f"{setting} {device}: must be cpu, cuda or cuda:N")
    if kind == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise InputError(f"{setting} {device}: this machine has no usable CUDA device; use cpu")
        if int(number or 0) >= torch.cuda.device_count():
            raise InputError(f"{setting} {device}: this machine has {torch.cuda.device_count()} CUDA device(s)")


def make_repeatable(device: str) -> None:
    """Have PyTorch use deterministic kernels on CUDA, for the same bits each time; the CPU's are so as they are.

    Where it has none for an operation it warns, naming the operation. Call it before CUDA starts.
    """
    if device.startswith("cuda"):
        import torch

        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
        torch.use_deterministic_algorithms(True, warn_only=True)


def wait_for(device: "torch.device") -> None:
    """Return when the device has done what it was asked: CUDA takes work and computes later, a clock must not."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)
