"""Functions of PyTorch's CPU tensors, with their gradients."""

from __future__ import annotations

from typing import Any

import torch

from boltzmax import _core
from boltzmax.variants import gumbel

_NARROW = (torch.bfloat16, torch.float16)  # computed in float32


def softmax(x: Any) -> Any:
    """Return the softmax along the last axis."""
    return _Softmax.apply(_wide(x)).to(x.dtype)


def gumbel_softmax(x: Any, key: int, temperature: float, hard: bool) -> Any:
    """Return `boltzmax.gumbel_softmax` along the last axis, with the gradient of the soft one."""
    return _GumbelSoftmax.apply(_wide(x), key, temperature, hard).to(x.dtype)


def _wide(x: Any) -> Any:
    if x.device.type != "cpu":
        raise ValueError(f"boltzmax.keras takes CPU tensors, got one on {x.device}")
    return x.float() if x.dtype in _NARROW else x


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        y = torch.from_numpy(_core.softmax(x.detach().numpy()))
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Any) -> Any:
        (y,) = ctx.saved_tensors
        return torch.from_numpy(_core.softmax_backward(dy.numpy(), y.numpy()))


class _GumbelSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any, key: int, temperature: float, hard: bool) -> Any:
        y, soft = gumbel.gumbel_softmax(
            x.detach().numpy(), temperature=temperature, hard=hard, rng=key, return_soft=True
        )
        ctx.save_for_backward(torch.from_numpy(soft))
        ctx.temperature = temperature
        return torch.from_numpy(y)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Any) -> Any:
        (soft,) = ctx.saved_tensors
        dx = gumbel.gumbel_softmax_backward(dy.numpy(), soft.numpy(), temperature=ctx.temperature)
        return torch.from_numpy(dx), None, None, None
