"""sparsemax and entmax of tensors, with gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from boltzmax.torch.functions import keep_result
from boltzmax.torch.operators import (
    define,
    destination,
    differentiate,
    floating,
    no_second_derivative,
    read,
    tensor,
)
from boltzmax.variants import sparse


def sparsemax(input: Tensor, dim: int = -1) -> Tensor:
    r"""Sparsemax of a tensor: :math:`\max(0, x_i - \tau)`, where :math:`\tau` makes the sum one.

    Parameters
    ----------
    input : Tensor
        float16, bfloat16, float32 or float64, on the CPU.
    dim : int, default -1
        The dimension that forms a row.

    Returns
    -------
    Tensor
        Of the shape and dtype of `input`.

    References
    ----------
    Martins & Astudillo, "From softmax to sparsemax", ICML 2016.

    Examples
    --------
    >>> import torch, boltzmax.torch
    >>> boltzmax.torch.sparsemax(torch.tensor([1.0, 0.5, -1.0]))
    tensor([0.7500, 0.2500, 0.0000])
    """
    result: Tensor = SPARSEMAX(floating(input, "sparsemax"), dim)
    return result


def entmax15(input: Tensor, dim: int = -1) -> Tensor:
    r"""1.5-entmax of a tensor, :math:`\max(0, x_i / 2 - \tau)^2`: between softmax and sparsemax.

    Parameters
    ----------
    input, dim : see `sparsemax`

    Returns
    -------
    Tensor
        Of the shape and dtype of `input`.

    Examples
    --------
    >>> import torch, boltzmax.torch
    >>> boltzmax.torch.entmax15(torch.tensor([1.0, 0.0, -3.0]))
    tensor([0.8307, 0.1693, 0.0000])
    """
    result: Tensor = ENTMAX15(floating(input, "entmax15"), dim)
    return result


def entmax(input: Tensor, alpha: float | Tensor = 1.5, dim: int = -1) -> Tensor:
    r"""Alpha-entmax of a tensor: :math:`\max(0, (\alpha - 1) x_i - \tau)^{1 / (\alpha - 1)}`.

    Parameters
    ----------
    input, dim : see `sparsemax`
    alpha : float or Tensor, default 1.5
        From 1 (softmax) to 50: one for all rows, or a tensor with one for each, of the shape of
        `input` without `dim` or with length 1 there. A tensor may require a gradient.

    Returns
    -------
    Tensor
        Of the shape and dtype of `input`. The second derivative by `alpha` is a RuntimeError.

    References
    ----------
    Peters, Niculae & Martins, "Sparse sequence-to-sequence models", ACL 2019; for the gradient by
    alpha: Correia, Niculae & Martins, "Adaptively sparse transformers", EMNLP 2019.

    Examples
    --------
    >>> import torch, boltzmax.torch
    >>> alpha = torch.tensor(1.5, requires_grad=True)
    >>> y = boltzmax.torch.entmax(torch.tensor([1.0, 0.0, -3.0]), alpha)
    >>> y[0].backward()
    >>> alpha.grad
    tensor(0.2485)
    """
    x = floating(input, "entmax")
    if not isinstance(alpha, Tensor):
        alpha = torch.tensor(alpha, dtype=torch.float64)
    result: Tensor = ENTMAX(x, alpha, dim)
    return result


# ---- kernels ----


def _sparsemax(x: Tensor, dim: int) -> Tensor:
    return tensor(sparse.sparsemax(read(x), dim, out=destination(x)))


def _sparsemax_backward(dy: Tensor, y: Tensor, dim: int) -> Tensor:
    return tensor(sparse.sparsemax_backward(read(dy), read(y), dim, out=destination(dy)))


def _entmax15(x: Tensor, dim: int) -> Tensor:
    return tensor(sparse.entmax15(read(x), dim, out=destination(x)))


def _entmax(x: Tensor, alpha: Tensor, dim: int) -> Tensor:
    return tensor(sparse.entmax(read(x), read(alpha), dim, out=destination(x)))


def _entmax_backward(dy: Tensor, y: Tensor, alpha: Tensor, dim: int) -> Tensor:
    out = destination(dy)
    return tensor(sparse.entmax_backward(read(dy), read(y), read(alpha), dim, out=out))


def _entmax_alpha_grad(dy: Tensor, y: Tensor, alpha: Tensor, dim: int) -> Tensor:
    """Return the gradient of each row in the shape of `alpha`."""
    rows = tensor(sparse.entmax_alpha_grad(read(dy), read(y), read(alpha), dim))
    rows = rows.reshape([n for d, n in enumerate(dy.shape) if d != dim % max(dy.ndim, 1)])
    if alpha.ndim == dy.ndim and dy.ndim:
        rows = rows.unsqueeze(dim)
    return rows.sum_to_size(alpha.shape).to(alpha.dtype).clone()


def _like(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


def _like_alpha(dy: Tensor, y: Tensor, alpha: Tensor, dim: int) -> Tensor:
    return torch.empty_like(alpha, memory_format=torch.contiguous_format)


SPARSEMAX = define("sparsemax(Tensor x, int dim) -> Tensor", _sparsemax, _like, in_float32=True)
SPARSEMAX_BACKWARD = define(
    "sparsemax_backward(Tensor dy, Tensor y, int dim) -> Tensor", _sparsemax_backward, _like
)
ENTMAX15 = define("entmax15(Tensor x, int dim) -> Tensor", _entmax15, _like, in_float32=True)
ENTMAX = define(
    "entmax(Tensor x, Tensor alpha, int dim) -> Tensor", _entmax, _like, in_float32=True
)
ENTMAX_BACKWARD = define(
    "entmax_backward(Tensor dy, Tensor y, Tensor alpha, int dim) -> Tensor",
    _entmax_backward,
    _like,
)
ENTMAX_ALPHA_GRAD = define(
    "entmax_alpha_grad(Tensor dy, Tensor y, Tensor alpha, int dim) -> Tensor",
    _entmax_alpha_grad,
    _like_alpha,
)


# ---- gradients ----


def _sparsemax_gradient(ctx: Any, dy: Tensor) -> Any:
    (y,) = ctx.saved_tensors
    return SPARSEMAX_BACKWARD(dy, y, ctx.dim), None


def _keep_support(ctx: Any, inputs: Any, output: Tensor) -> None:
    _, y, ctx.dim = inputs
    ctx.save_for_backward(y)


def _sparsemax_second(ctx: Any, g: Tensor) -> Any:
    """Differentiate a gradient that is linear in dy and depends on y by its support alone."""
    (y,) = ctx.saved_tensors
    return SPARSEMAX_BACKWARD(g, y, ctx.dim), None, None


def _entmax15_gradient(ctx: Any, dy: Tensor) -> Any:
    (y,) = ctx.saved_tensors
    return ENTMAX_BACKWARD(dy, y, torch.tensor(1.5, dtype=torch.float64), ctx.dim), None


def _keep_entmax(ctx: Any, inputs: Any, output: Tensor) -> None:
    _, alpha, ctx.dim = inputs
    ctx.save_for_backward(output, alpha)


def _entmax_gradient(ctx: Any, dy: Tensor) -> Any:
    y, alpha = ctx.saved_tensors
    _, by_x, by_alpha, _ = ctx.needs_input_grad
    return (
        ENTMAX_BACKWARD(dy, y, alpha, ctx.dim) if by_x else None,
        ENTMAX_ALPHA_GRAD(dy, y, alpha, ctx.dim) if by_alpha else None,
        None,
    )


def _keep_entmax_gradient(ctx: Any, inputs: Any, output: Tensor) -> None:
    dy, y, alpha, ctx.dim = inputs
    ctx.save_for_backward(dy, y, alpha)


def _entmax_second(ctx: Any, g: Tensor) -> Any:
    """With s = y^(2 - alpha), dx = s (dy - sum(s dy) / sum(s)), by dy and by y.

    With c = sum(s dy) / sum(s), dx_i = s_i (dy_i - c) has the derivative by s_k

        (dy_k - c) (g_k - sum(s g) / sum(s)).
    """
    if ctx.needs_input_grad[3]:
        raise RuntimeError("boltzmax.torch has no second derivative of entmax by alpha")
    dy, y, alpha = ctx.saved_tensors
    power = 2 - alpha.to(y.dtype)
    if 0 < alpha.ndim < y.ndim:
        power = power.unsqueeze(ctx.dim)
    inside = y > 0
    s = torch.where(inside, torch.where(inside, y, 1) ** power, 0)
    total = s.sum(ctx.dim, keepdim=True)
    by_s = (dy - (s * dy).sum(ctx.dim, keepdim=True) / total) * (
        g - (s * g).sum(ctx.dim, keepdim=True) / total
    )
    by_y = torch.where(inside, by_s * power * s / torch.where(inside, y, 1), 0)
    return ENTMAX_BACKWARD(g, y, alpha, ctx.dim), by_y, None, None


differentiate(SPARSEMAX, _sparsemax_gradient, keep_result)
differentiate(SPARSEMAX_BACKWARD, _sparsemax_second, _keep_support)
differentiate(ENTMAX15, _entmax15_gradient, keep_result)
differentiate(ENTMAX, _entmax_gradient, _keep_entmax)
differentiate(ENTMAX_BACKWARD, _entmax_second, _keep_entmax_gradient)
no_second_derivative(ENTMAX_ALPHA_GRAD, "entmax by alpha")
