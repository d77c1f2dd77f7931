"""Where to compute: which of PyTorch's devices this machine has."""

from fedrec.errors import InputError


def check_device(device: str, asked: str) -> None:
    """Raises: InputError when `device` is not one that this machine has. asked: the setting or option that names it."""
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise InputError(f"{asked} {device}: must be cpu, cuda or cuda:N")
    if kind == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise InputError(f"{asked} {device}: this machine has no usable CUDA device; use cpu")
        if int(number or 0) >= torch.cuda.device_count():
            raise InputError(f"{asked} {device}: this machine has {torch.cuda.device_count()} CUDA device(s)")
