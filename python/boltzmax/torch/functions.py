"""softmax, log_softmax and logsumexp of tensors, with gradients of any order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import boltzmax.cuda.functions as cuda
from boltzmax import _core
from boltzmax.torch.operators import (
    define,
    destination,
    differentiate,
    dims,
    floating,
    read,
    tensor,
)


def softmax(input: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    r"""Softmax of a tensor: :math:`e^{x_i} / \sum_j e^{x_j}` along a dimension.

    As `torch.nn.functional.softmax`.

    Parameters
    ----------
    input : Tensor
        float16, bfloat16, float32 or float64, of any strides.
    dim : int
        The dimension that forms a row.
    dtype : torch.dtype, optional
        Converts `input` before.

    Returns
    -------
    Tensor
        Of the shape and dtype of `input`. Rows with NaN, infinities: as `boltzmax.softmax`.

    Raises
    ------
    TypeError
        For another dtype.
    IndexError
        If there is no such dimension.

    Examples
    --------
    >>> import torch, boltzmax.torch
    >>> x = torch.tensor([0.0, 1.0], requires_grad=True)
    >>> y = boltzmax.torch.softmax(x, dim=0)
    >>> y[1].backward()
    >>> x.grad
    tensor([-0.1966,  0.1966])
    """
    result: Tensor = SOFTMAX(floating(input, "softmax", dtype), dim)
    return result


def log_softmax(input: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    r"""Logarithm of the softmax of a tensor: :math:`x_i - \log \sum_j e^{x_j}`.

    As `torch.nn.functional.log_softmax`.

    Parameters
    ----------
    input, dim, dtype : see `softmax`

    Returns
    -------
    Tensor
        Of the shape and dtype of `input`.

    Examples
    --------
    >>> import torch, boltzmax.torch
    >>> boltzmax.torch.log_softmax(torch.zeros(2), dim=0)
    tensor([-0.6931, -0.6931])
    """
    result: Tensor = LOG_SOFTMAX(floating(input, "log_softmax", dtype), dim)
    return result


def logsumexp(input: Tensor, dim: int | Sequence[int], keepdim: bool = False) -> Tensor:
    r"""Logarithm of the sum of exponentials of a tensor: :math:`\log \sum_j e^{x_j}`.

    As `torch.logsumexp`, for floating dtypes.

    Parameters
    ----------
    input : see `softmax`
    dim : int or sequence of int
        The dimensions that form a row; all if the sequence is empty.
    keepdim : bool, default False
        Whether they stay, with length 1.

    Returns
    -------
    Tensor
        Of the dtype of `input`. The gradient of a row without finite elements is NaN.

    Examples
    --------
    >>> import torch, boltzmax.torch
    >>> boltzmax.torch.logsumexp(torch.zeros(2, 2), dim=(0, 1))
    tensor(1.3863)
    """
    x = floating(input, "logsumexp")
    result: Tensor = LOGSUMEXP(x, dims(dim) or list(range(max(x.ndim, 1))), keepdim)
    return result


# ---- kernels ----


def _softmax_cpu(x: Tensor, dim: int) -> Tensor:
    return tensor(_core.softmax(read(x), dim, out=destination(x)))


def _softmax_cuda(x: Tensor, dim: int) -> Tensor:
    result: Tensor = cuda.softmax(x.detach(), dim)
    return result


def _softmax_backward_cpu(dy: Tensor, y: Tensor, dim: int) -> Tensor:
    return tensor(_core.softmax_backward(read(dy), read(y), dim, out=destination(dy)))


def _softmax_backward_cuda(dy: Tensor, y: Tensor, dim: int) -> Tensor:
    result: Tensor = cuda.softmax_backward(dy.detach(), y.detach(), dim)
    return result


def _log_softmax_cpu(x: Tensor, dim: int) -> Tensor:
    return tensor(_core.log_softmax(read(x), dim, out=destination(x)))


def _log_softmax_cuda(x: Tensor, dim: int) -> Tensor:
    result: Tensor = cuda.log_softmax(x.detach(), dim)
    return result


def _log_softmax_backward_cpu(dy: Tensor, y: Tensor, dim: int) -> Tensor:
    return tensor(_core.log_softmax_backward(read(dy), read(y), dim, out=destination(dy)))


def _log_softmax_backward_cuda(dy: Tensor, y: Tensor, dim: int) -> Tensor:
    result: Tensor = cuda.log_softmax_backward(dy.detach(), y.detach(), dim)
    return result


def _logsumexp_cpu(x: Tensor, dim: list[int], keepdim: bool) -> Tensor:
    # In C order, as PyTorch's reductions are, whatever the layout of x.
    shape = _without(x, dim, keepdim).shape
    return (
        tensor(_core.logsumexp(read(x), tuple(dim), keepdims=keepdim)).reshape(shape).contiguous()
    )


def _logsumexp_cuda(x: Tensor, dim: list[int], keepdim: bool) -> Tensor:
    result: Tensor = cuda.logsumexp(x.detach(), tuple(dim), keepdims=keepdim)
    return result


def _like(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


def _without(x: Tensor, dim: list[int], keepdim: bool) -> Tensor:
    """Return an empty tensor for one number per row."""
    rows = {d % max(x.ndim, 1) for d in dim}
    shape = [1 if d in rows else n for d, n in enumerate(x.shape) if keepdim or d not in rows]
    return x.new_empty(shape)


SOFTMAX = define(
    "softmax(Tensor x, int dim) -> Tensor",
    _softmax_cpu,
    _like,
    cuda=_softmax_cuda,
    in_float32=True,
)
SOFTMAX_BACKWARD = define(
    "softmax_backward(Tensor dy, Tensor y, int dim) -> Tensor",
    _softmax_backward_cpu,
    _like,
    cuda=_softmax_backward_cuda,
)
LOG_SOFTMAX = define(
    "log_softmax(Tensor x, int dim) -> Tensor",
    _log_softmax_cpu,
    _like,
    cuda=_log_softmax_cuda,
    in_float32=True,
)
LOG_SOFTMAX_BACKWARD = define(
    "log_softmax_backward(Tensor dy, Tensor y, int dim) -> Tensor",
    _log_softmax_backward_cpu,
    _like,
    cuda=_log_softmax_backward_cuda,
)
LOGSUMEXP = define(
    "logsumexp(Tensor x, int[] dim, bool keepdim) -> Tensor",
    _logsumexp_cpu,
    _without,
    cuda=_logsumexp_cuda,
    in_float32=True,
)


# ---- gradients ----


def keep_result(ctx: Any, inputs: Any, output: Tensor) -> None:
    """Save the result and the dimension, for the gradient of a map."""
    ctx.save_for_backward(output)
    ctx.dim = inputs[-1]


def _keep_gradient(ctx: Any, inputs: Any, output: Tensor) -> None:
    dy, y, ctx.dim = inputs
    ctx.save_for_backward(dy, y)


def _softmax_gradient(ctx: Any, dy: Tensor) -> Any:
    (y,) = ctx.saved_tensors
    return SOFTMAX_BACKWARD(dy, y, ctx.dim), None


def _softmax_second(ctx: Any, g: Tensor) -> Any:
    """Dx = y (dy - sum(dy y)), by dy and by y."""
    dy, y = ctx.saved_tensors
    by_y = g * (dy - _sum(dy * y, ctx.dim)) - dy * _sum(g * y, ctx.dim)
    return SOFTMAX_BACKWARD(g, y, ctx.dim), by_y, None


def _log_softmax_gradient(ctx: Any, dy: Tensor) -> Any:
    (y,) = ctx.saved_tensors
    return LOG_SOFTMAX_BACKWARD(dy, y, ctx.dim), None


def _log_softmax_second(ctx: Any, g: Tensor) -> Any:
    """Dx = dy - exp(y) sum(dy), by dy and by y."""
    dy, y = ctx.saved_tensors
    p = y.exp()
    return g - _sum(g * p, ctx.dim), -g * p * _sum(dy, ctx.dim), None


def _keep_input(ctx: Any, inputs: Any, output: Tensor) -> None:
    x, ctx.dim, ctx.keepdim = inputs
    ctx.save_for_backward(x)


def _logsumexp_gradient(ctx: Any, dy: Tensor) -> Any:
    (x,) = ctx.saved_tensors
    rows = sorted(d % max(x.ndim, 1) for d in ctx.dim)
    if not ctx.keepdim:
        for d in rows if x.ndim else ():
            dy = dy.unsqueeze(d)
    return dy * _softmax_of_rows(x, rows), None, None


def _softmax_of_rows(x: Tensor, rows: list[int]) -> Tensor:
    """Return the softmax over several dimensions."""
    if len(rows) == 1:
        p: Tensor = SOFTMAX(x, rows[0])
        return p
    last = list(range(-len(rows), 0))
    moved = x.movedim(rows, last)
    return SOFTMAX(moved.flatten(last[0]), -1).reshape(moved.shape).movedim(last, rows)


def _sum(x: Tensor, dim: int) -> Tensor:
    return x.sum(dim, keepdim=True)


differentiate(SOFTMAX, _softmax_gradient, keep_result)
differentiate(SOFTMAX_BACKWARD, _softmax_second, _keep_gradient)
differentiate(LOG_SOFTMAX, _log_softmax_gradient, keep_result)
differentiate(LOG_SOFTMAX_BACKWARD, _log_softmax_second, _keep_gradient)
differentiate(LOGSUMEXP, _logsumexp_gradient, _keep_input)
