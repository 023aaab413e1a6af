"""The cross-entropy of a linear layer whose logits never exist as a whole."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import boltzmax.cuda.losses as cuda
from boltzmax.linear import cross_entropy as linear
from boltzmax.losses.reduction import checked_reduction
from boltzmax.torch.losses import OPTIONS
from boltzmax.torch.operators import (
    define,
    differentiate,
    floating,
    read,
    refuse_gradient,
    refuse_others,
    times,
)
from boltzmax.torch.operators import tensor as as_tensor


def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of the logits ``input @ linear_weight.T + linear_bias``, which are not built.

    As `torch.nn.functional.linear_cross_entropy`, with classes on the last dimension.

    Parameters
    ----------
    input : Tensor, shape (..., D)
        float16, bfloat16, float32 or float64.
    linear_weight : Tensor, shape (V, D)
        A row for each class, of the dtype of `input`.
    target : Tensor
        Class indices of shape (...), or class probabilities of shape (..., V), which must not
        require a gradient.
    linear_bias : Tensor, shape (V,), optional
        Added to the logits.
    weight : Tensor, shape (V,), optional
        A weight for each class.
    reduction, ignore_index, label_smoothing : see `cross_entropy`
        Without an `ignore_index`, rows of the target -100 are left out.

    Returns
    -------
    Tensor
        Of the dtype of `input`. The second derivative is a RuntimeError.

    Examples
    --------
    >>> import torch, boltzmax.torch
    >>> hidden, weight = torch.eye(2), torch.zeros(3, 2, requires_grad=True)
    >>> boltzmax.torch.linear_cross_entropy(hidden, weight, torch.tensor([0, 2])).backward()
    >>> weight.grad
    tensor([[-0.3333,  0.1667],
            [ 0.1667,  0.1667],
            [ 0.1667, -0.3333]])
    """
    x = floating(input, "linear_cross_entropy")
    refuse_others(linear_weight, "linear_weight")
    if linear_bias is not None:
        refuse_others(linear_bias, "linear_bias")
    checked_reduction(reduction)
    for name, other in (("linear_weight", linear_weight), ("linear_bias", linear_bias)):
        if (
            other is not None
            and other.dtype != x.dtype
            and not torch.is_autocast_enabled(x.device.type)
        ):
            raise TypeError(f"{name} must have the dtype of input, {x.dtype}, got {other.dtype}")
    for name, other in (("target", target), ("weight", weight)):
        refuse_gradient(other, name, "linear_cross_entropy")
    ignored = -100 if ignore_index is None else ignore_index
    arguments = x, linear_weight, target, linear_bias, weight, reduction, ignored
    trained = x.requires_grad or linear_weight.requires_grad
    trained |= linear_bias is not None and linear_bias.requires_grad
    result: Tensor
    if reduction != "none" and torch.is_grad_enabled() and trained:
        result = LINEAR_WITH_GRAD(*arguments, label_smoothing, None)[0]
    else:
        result = LINEAR(*arguments, label_smoothing)
    return result


# ---- kernels ----

Gradients = tuple[Tensor, Tensor, Tensor]


def _read(
    x: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    linear_bias: Tensor | None,
    weight: Tensor | None,
    reduction: str,
    ignore_index: int,
    label_smoothing: float,
    sample_weight: Tensor | None = None,
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of the functions of NumPy's arrays."""
    arrays = read(x), read(linear_weight), read(target), read(linear_bias)
    return arrays, {
        "class_weight": read(weight),
        "reduction": reduction,
        "ignore_index": ignore_index,
        "label_smoothing": label_smoothing,
        "sample_weight": read(sample_weight),
    }


def _linear_cpu(x: Tensor, *others: Any) -> Tensor:
    arrays, options = _read(x, *others)
    return as_tensor(linear.linear_cross_entropy(*arrays, **options)).to(x.dtype)


def _with_grad_cpu(x: Tensor, *others: Any) -> tuple[Tensor, *Gradients]:
    arrays, options = _read(x, *others)
    parts = linear.linear_cross_entropy_with_grad(*arrays, **options)
    return _delivered(x, [None if a is None else as_tensor(a) for a in parts])


def _delivered(x: Tensor, parts: Any) -> tuple[Tensor, *Gradients]:
    """Return the loss in the dtype of the input, and gradients; without a bias, an empty tensor."""
    dtype = _dtype_of_gradients(x)
    loss, by_x, by_weight, by_bias = (
        x.new_empty(0, dtype=dtype) if part is None else part.to(dtype) for part in parts
    )
    return loss.to(x.dtype), by_x, by_weight, by_bias


def _dtype_of_gradients(x: Tensor) -> torch.dtype:
    """Return in what gradients wait for that of the loss.

    Not float16, in which what a scaled loss is to keep would be lost before it is scaled.
    """
    return torch.float32 if x.dtype is torch.float16 else x.dtype


def _on_cuda(
    x: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    linear_bias: Tensor | None,
    weight: Tensor | None,
    reduction: str,
    ignore_index: int,
    label_smoothing: float,
    sample_weight: Tensor | None = None,
) -> tuple[tuple[Any, ...], str]:
    """Return the arguments of the functions of `boltzmax.cuda`."""
    if weight is not None or label_smoothing or target.is_floating_point() or sample_weight:
        raise TypeError(
            "on CUDA devices, linear_cross_entropy takes class indices, without weight and "
            "label_smoothing, and has gradients for the reductions 'mean' and 'sum'"
        )
    labels = target.masked_fill(target == ignore_index, -1).contiguous()
    arrays = x, linear_weight, labels, linear_bias
    return tuple(a if a is None else a.detach().contiguous() for a in arrays), reduction


def _linear_cuda(x: Tensor, *others: Any) -> Tensor:
    arrays, reduction = _on_cuda(x, *others)
    result: Tensor = cuda.linear_cross_entropy(*arrays, reduction=reduction)
    return result.to(x.dtype)


def _with_grad_cuda(x: Tensor, *others: Any) -> tuple[Tensor, *Gradients]:
    arrays, reduction = _on_cuda(x, *others)
    return _delivered(x, cuda.linear_cross_entropy_with_grad(*arrays, reduction=reduction))


def _loss_like(
    x: Tensor, linear_weight: Any, target: Any, bias: Any, weight: Any, reduction: str, *_: Any
) -> Tensor:
    return x.new_empty(x.shape[:-1] if reduction == "none" else ())


def _with_grad_like(
    x: Tensor, linear_weight: Tensor, target: Tensor, bias: Tensor | None, *others: Any
) -> tuple[Tensor, *Gradients]:
    dtype = _dtype_of_gradients(x)
    return (
        _loss_like(x, linear_weight, target, bias, *others),
        x.new_empty(x.shape, dtype=dtype),
        x.new_empty(linear_weight.shape, dtype=dtype),
        x.new_empty((0,) if bias is None else bias.shape, dtype=dtype),
    )


_ARRAYS = "Tensor x, Tensor linear_weight, Tensor target, Tensor? linear_bias"
LINEAR = define(
    f"linear_cross_entropy({_ARRAYS}, {OPTIONS}) -> Tensor",
    _linear_cpu,
    _loss_like,
    cuda=_linear_cuda,
    in_float32=True,
)
LINEAR_WITH_GRAD = define(
    f"linear_cross_entropy_with_grad({_ARRAYS}, {OPTIONS}, Tensor? sample_weight)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    _with_grad_cpu,
    _with_grad_like,
    cuda=_with_grad_cuda,
    in_float32=True,
)


# ---- gradients ----


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    x, linear_weight, target, bias, weight, *ctx.options = inputs
    ctx.save_for_backward(x, linear_weight, target, bias, weight)
    ctx.dtype = x.dtype
    ctx.has_bias = bias is not None


def _gradient(ctx: Any, g: Tensor) -> Any:
    """Compute loss and gradients again: one product more than `LINEAR_WITH_GRAD`."""
    _refuse_second()
    reduction, *options = ctx.options
    of_row, g = (g, g.new_ones(())) if reduction == "none" else (None, g)
    reduction = "sum" if reduction == "none" else reduction
    _, *gradients = LINEAR_WITH_GRAD(*ctx.saved_tensors, reduction, *options, of_row)
    return _in_places(ctx, [d * g for d in gradients], 8)


def _keep_with_grad(ctx: Any, inputs: Any, output: Any) -> None:
    _, *ctx.gradients = output
    ctx.dtype = inputs[0].dtype
    ctx.has_bias = inputs[3] is not None
    ctx.mark_non_differentiable(*ctx.gradients)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:5])
    ctx.options = inputs[5:-1]


def _given_gradients(ctx: Any, g: Tensor | None, *_: Any) -> Any:
    """Hand out the gradients that the forward pass has computed, once; later compute them again."""
    _refuse_second()
    if g is None:
        return (None,) * 9
    if ctx.gradients and type(ctx.gradients[0]) is not Tensor:  # being traced: nothing is in place
        return _in_places(ctx, [d * g for d in ctx.gradients], 9)
    gradients, ctx.gradients = ctx.gradients, ()
    if not gradients:
        return *_gradient(ctx, g), None
    return _in_places(ctx, [times(d, g) for d in gradients], 9)


def _in_places(ctx: Any, gradients: list[Tensor], count: int) -> Any:
    """Return gradients in the places of the arguments that they belong to."""
    by_x, by_weight, by_bias = (d.to(ctx.dtype) for d in gradients)
    return by_x, by_weight, None, by_bias if ctx.has_bias else None, *(None,) * (count - 4)


def _refuse_second() -> None:
    if torch.is_grad_enabled():
        raise RuntimeError(
            "boltzmax.torch has no second derivative of linear_cross_entropy: without "
            "create_graph=True, or with cross_entropy of the logits"
        )


differentiate(LINEAR, _gradient, _keep)
differentiate(LINEAR_WITH_GRAD, _given_gradients, _keep_with_grad)
