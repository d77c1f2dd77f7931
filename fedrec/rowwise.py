"""Arithmetic in which a user's numbers do not depend on who else is in the batch.

A library chooses its kernel by the shape of a product, and processes the last rows of a matrix or the end of a vector
with other instructions than the rest. So a user's result can differ in its last bits with the size of the batch. When
one user leaves, the contributions of the others change too, and the sum moves by more than one contribution. Inside
`rowwise`, every operation gives a row the same bits in every batch:

| operation | on a CPU |
|---|---|
| a matrix product | sides are filled up with zeros to multiples of 16: no edge, and no other kernel for few rows |
| products of many matrices | so are theirs, and a batch of one is two: each matrix is aligned, and multiplied alone |
| sigmoid, softplus, powers | composed of operations that have one form for all elements |

Other operations (element by element, sums along a row, sorting, solves of one matrix each) have this property already.
Backward passes are covered, because the module works below autograd. Source of the idea: He et al. 2025, "Defeating
Nondeterminism in LLM Inference" (batch-invariant kernels). Differs in using the library's own kernels, in shapes that
leave it no choice.

On CUDA the library's choice is not known, and nothing is changed: see docs/simulate.md.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils._python_dispatch import TorchDispatchMode, _pop_mode_temporarily

LONGEST = 1 << 13
"""A product whose inner side is a larger multiple of this is a sum of parts."""

SIDE = 16
"""Products have sides of whole multiples of this; a caller who fills up sides while it makes them saves a copy."""

aten = torch.ops.aten


def _filled(tensor: Tensor) -> Tensor:
    """`tensor` with zeros up to whole multiples of `SIDE` in the last two dimensions."""
    rows, columns = -tensor.shape[-2] % SIDE, -tensor.shape[-1] % SIDE
    return pad(tensor, (0, columns, 0, rows)) if rows or columns else tensor


def _mm(left: Tensor, right: Tensor) -> Tensor:
    if left.layout != torch.strided or right.layout != torch.strided:
        return aten.mm(left, right)  # a row of a sparse matrix is multiplied alone
    product = aten.mm(_filled(left).contiguous(), _filled(right).contiguous())
    return product[: left.shape[0], : right.shape[1]].contiguous()


def bmm(left: Tensor, right: Tensor) -> Tensor:
    """`torch.bmm` in which each product depends on its own two matrices alone, under `rowwise` or not."""
    inner = left.shape[2]
    if inner > LONGEST and inner % LONGEST == 0:  # far faster in parts, and each keeps to the cache
        parts = bmm(left.mT.reshape(-1, LONGEST, left.shape[1]).mT, right.reshape(-1, LONGEST, right.shape[2]))
        return parts.unflatten(0, (len(left), -1)).sum(1)
    count, rows, columns = len(left), left.shape[1], right.shape[2]
    left, right = _filled(left), _filled(right)
    if count == 1:
        left, right = left.expand(2, -1, -1), right.expand(2, -1, -1)
    return aten.bmm(left, right)[:count, :rows, :columns].contiguous()


def _mv(left: Tensor, right: Tensor) -> Tensor:
    return _mm(left, right[:, None])[:, 0]


def _dot(left: Tensor, right: Tensor) -> Tensor:
    return _mm(left[None], right[:, None])[0, 0]


def _add(product: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def added(start: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
        found = product(left, right)
        found = found if alpha == 1 else found * alpha
        return found if beta == 0 else found + (start if beta == 1 else start * beta)

    return added


def _sigmoid(value: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-value))


def _softplus(value: Tensor, beta: float = 1, _threshold: float = 20) -> Tensor:
    scaled = value * beta
    return (torch.log1p(torch.exp(-scaled.abs())) + scaled.clamp(min=0)) / beta


def _softplus_backward(slope: Tensor, value: Tensor, beta: float, _threshold: float) -> Tensor:
    return slope * _sigmoid(value * beta)


def _sigmoid_backward(slope: Tensor, result: Tensor) -> Tensor:
    return slope * ((1 - result) * result)


def power(base: Tensor | float, exponent: Tensor | float) -> Tensor:
    """base ** exponent, through logarithms in float64; a few whole exponents and roots have one form already."""
    if isinstance(base, Tensor) and not isinstance(exponent, Tensor) and exponent in _PLAIN:
        return aten.pow.Tensor_Scalar(base, exponent)
    dtype = torch.result_type(base, exponent)
    if not dtype.is_floating_point:
        return torch.pow(torch.as_tensor(base), torch.as_tensor(exponent))
    base = torch.as_tensor(base, dtype=torch.float64)
    exponent = torch.as_tensor(exponent, dtype=torch.float64)
    size = torch.where(exponent == 0, 1.0, torch.exp(exponent * torch.log(base.abs())))
    odd = (exponent % 2).abs() == 1
    negative = torch.where(odd, -size, torch.where(exponent % 2 == 0, size, torch.nan))
    return torch.where(base < 0, negative, size).to(dtype)


_PLAIN = (-2, -1, -0.5, 0, 0.5, 1, 2, 3)
_COMPOSED: dict[Any, Callable[..., Tensor]] = {
    aten.mm.default: _mm,
    aten.bmm.default: bmm,
    aten.mv.default: _mv,
    aten.dot.default: _dot,
    aten.addmm.default: _add(_mm),
    aten.baddbmm.default: _add(bmm),
    aten.addmv.default: _add(_mv),
    aten.sigmoid.default: _sigmoid,
    aten.sigmoid_backward.default: _sigmoid_backward,
    aten.softplus.default: _softplus,
    aten.softplus_backward.default: _softplus_backward,
    aten.pow.Tensor_Scalar: power,
    aten.pow.Tensor_Tensor: power,
    aten.pow.Scalar: power,
}
_WITHOUT_FORM = frozenset(
    getattr(aten, name)
    for name in (
        "addmm_",
        "baddbmm_",
        "addmv_",
        "addbmm",
        "sigmoid_",
        "pow_",
        "silu",
        "gelu",
        "logaddexp",
        "log_sigmoid",
    )
    if hasattr(aten, name)
)
"""Operations that nobody uses here, and that the table does not cover: an error, not a silent exception."""

_active = threading.local()


class _Rowwise(TorchDispatchMode):
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No guard against compilation, which never happens here: it takes a second to import, and time a call."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        composed = _COMPOSED.get(func)
        if composed is None:
            if func.overloadpacket in _WITHOUT_FORM:
                raise NotImplementedError(f"{func}: it has no form in fedrec.rowwise; add one, or compose it of others")
            return func(*args, **(kwargs or {}))
        return composed(*args, **(kwargs or {}))


def active() -> bool:
    """Return whether this thread is inside `rowwise`."""
    return getattr(_active, "mode", False)


@contextmanager
def rowwise(device: torch.device) -> Iterator[None]:
    """Make operations on `device` give each row the same bits in every batch, inside this block; see the module."""
    if device.type != "cpu" or active():
        yield
        return
    _active.mode = True
    try:
        with _Rowwise():
            yield
    finally:
        _active.mode = False


@contextmanager
def as_written() -> Iterator[None]:
    """Pause `rowwise`, which costs microseconds an operation.

    For sums and products of integers below 2^53, which are exact in float64 whatever kernel makes them; and for code
    that calls `bmm` and `power` itself, and otherwise works element by element or along rows.
    """
    if not active():
        yield
        return
    _active.mode = False
    try:
        with _pop_mode_temporarily():
            yield
    finally:
        _active.mode = True
