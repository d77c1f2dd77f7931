"""A device beside the CPU, for tests of where tensors are: `torch.device("other")`, which computes on the CPU.

It keeps a GPU's rules, and is stricter in one: operands must be on one device, index tensors too (a GPU copies those
of the CPU each time, in silence); only numbers without dimensions may be the CPU's. What is on it becomes a NumPy array
by `.cpu()` alone, a CPU generator draws nothing there, and there are no integer matrix products. So code that passes
here runs on CUDA, as far as the place of tensors goes; what a GPU does about speed, memory and rounding is not shown.

PyTorch's own hook for backends in Python makes the device (`torch.utils.backend_registration`).
"""

# mypy: ignore-errors

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

NAME = "other"
aten = torch.ops.aten
_COPIES = {aten.copy_.default, aten._to_copy.default}
_PRODUCTS = {aten.mm.default, aten.bmm.default, aten.mv.default, aten.dot.default, aten.addmm.default}


class OtherTensor(torch.Tensor):
    """A tensor on the device; `held` has its values."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> "OtherTensor":
        dense = held.layout == torch.strided
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            **({"strides": held.stride(), "storage_offset": held.storage_offset()} if dense else {}),
            dtype=held.dtype,
            layout=held.layout,
            device=torch.device(NAME, 0),
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})

    def tolist(self) -> Any:
        """A GPU copies its values for this; PyTorch refuses it to subclasses."""
        return self.held.tolist()


class _Made(TorchDispatchMode):
    """Sees the operations that have no tensor to tell them where to compute."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


def _compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    here = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, OtherTensor)]
    asked = kwargs.get("device")
    goes_there = bool(here) if asked is None else torch.device(asked).type == NAME
    if func is aten.copy_.default:
        goes_there = isinstance(args[0], OtherTensor)
    elif here and func not in _COPIES:
        _check(func, args, kwargs)
    if goes_there and kwargs.get("generator") is not None:
        raise RuntimeError(f"{func}: a generator of the CPU cannot draw on another device")
    plain_args, plain = pytree.tree_map_only(OtherTensor, lambda tensor: tensor.held, (args, kwargs))
    if asked is not None:
        plain = plain | {"device": torch.device("cpu")}
    found = func(*plain_args, **plain)
    if not goes_there:
        return found
    found = pytree.tree_map_only(torch.Tensor, OtherTensor, found)
    return return_and_correct_aliasing(func, args, kwargs, found) if here else found


def _check(func: Any, args: Any, kwargs: dict[str, Any]) -> None:
    """Refuse what a GPU refuses. Raises: RuntimeError."""
    for tensor in pytree.tree_leaves((args, kwargs)):
        if isinstance(tensor, Tensor) and not isinstance(tensor, OtherTensor) and tensor.dim():
            raise RuntimeError(f"{func}: operands on {NAME} and on the CPU, of shape {tuple(tensor.shape)}")
    if func in _PRODUCTS and not args[0].dtype.is_floating_point:
        raise RuntimeError(f"{func}: no matrix products of {args[0].dtype} on a GPU")


class _Module:
    """What PyTorch asks of a device."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        pass

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


@contextmanager
def other_device() -> Iterator[torch.device]:
    """The device, while it lasts."""
    swapping = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)  # `parameter.data = ...` would not reach `held`
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(data, device=...) is made on the CPU and then sent
    try:
        with _Made():
            yield torch.device(NAME, 0)
    finally:
        torch._C._set_only_lift_cpu_tensors(False)
        torch.__future__.set_swap_module_params_on_conversion(swapping)


POSSIBLE = hasattr(backend_registration, "_setup_privateuseone_for_python_backend")
if POSSIBLE and not hasattr(torch, NAME):  # at the start: the first gradient of a process counts its devices
    backend_registration._setup_privateuseone_for_python_backend(NAME, _Module())
needs_other_device = pytest.mark.skipif(
    not POSSIBLE, reason=f"PyTorch {torch.__version__} has no devices made in Python"
)
