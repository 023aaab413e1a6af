"""cross_entropy of tensors.

A loss that is reduced to a number has its gradient computed together with it, where one is needed:
the backward pass multiplies it by the gradient of the loss, in place, or does nothing if that is 1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import boltzmax.cuda.losses as cuda
from boltzmax._lib.numbers import check_label_smoothing
from boltzmax.losses import cross_entropy as losses
from boltzmax.losses.reduction import checked_reduction
from boltzmax.torch.functions import LOG_SOFTMAX
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


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    r"""Cross-entropy of logits: :math:`\log \sum_c e^{x_c} - x_t`.

    As `torch.nn.functional.cross_entropy`. The loss and its gradient are computed in one pair of
    passes over the logits; nothing else as large is stored.

    Parameters
    ----------
    input : Tensor, shape (C,), (N, C) or (N, C, d1, ...)
        Logits: float16, bfloat16, float32 or float64. Classes on the last dimension are fastest.
    target : Tensor
        Class indices, of the shape of `input` without the classes; or class probabilities, of the
        shape of `input`. (If these require a gradient, the loss takes the way of `log_softmax`.)
    weight : Tensor, shape (C,), optional
        A weight for each class.
    ignore_index : int, default -100
        Rows with this target are left out.
    reduction : {"mean", "sum", "none"}
        "mean" divides by the weights of the targets, or for probabilities by the number of rows.
    label_smoothing : float, default 0.0
        The share of the target that is spread over all classes.

    Returns
    -------
    Tensor
        Of the dtype of `input`. The second derivative is PyTorch's own.

    Raises
    ------
    IndexError
        For a target out of range; the message names the first.
    TypeError, ValueError
        For any other invalid argument. On CUDA devices class indices alone are taken, with
        `ignore_index`, but without weights and label smoothing.

    Examples
    --------
    >>> import torch, boltzmax.torch
    >>> x = torch.zeros(1, 2, requires_grad=True)
    >>> boltzmax.torch.cross_entropy(x, torch.tensor([1])).backward()
    >>> x.grad
    tensor([[ 0.5000, -0.5000]])
    """
    x = floating(input, "cross_entropy")
    refuse_others(target, "target")
    checked_reduction(reduction)
    refuse_gradient(weight, "weight", "cross_entropy")
    if target.requires_grad and torch.is_grad_enabled():
        return _of_trained_target(x, target, weight, reduction, label_smoothing)
    options = target, weight, reduction, ignore_index, label_smoothing
    result: Tensor
    if reduction == "none" or not x.requires_grad or not torch.is_grad_enabled():
        result = CROSS_ENTROPY(x, *options)
    elif x.dtype is torch.float16:
        # In float16, what a scaled loss is to keep would be lost before it is scaled.
        result = CROSS_ENTROPY_WITH_GRAD(x.float(), *options)[0].to(x.dtype)
    else:
        result, _ = CROSS_ENTROPY_WITH_GRAD(x, *options)
    return result


def _of_trained_target(
    x: Tensor, target: Tensor, weight: Tensor | None, reduction: str, label_smoothing: float
) -> Tensor:
    """Return the loss of probabilities whose gradient is needed, too."""
    axis = _class_axis(x)
    smoothing = check_label_smoothing(label_smoothing)
    if target.shape != x.shape:
        raise ValueError(
            f"target must have the shape of input, {tuple(x.shape)}, got {tuple(target.shape)}"
        )
    if x.shape[axis] == 0:
        raise ValueError(f"input must have classes, got shape {tuple(x.shape)}")
    terms = LOG_SOFTMAX(x, axis) * (target * (1 - smoothing) + smoothing / x.shape[axis])
    if weight is not None:
        terms = terms * weight.reshape([-1] + [1] * (x.ndim - 1 - axis))
    each: Tensor = -terms.sum(axis)
    return {"none": lambda: each, "sum": each.sum, "mean": each.mean}[reduction]()


# ---- kernels ----


def _class_axis(x: Tensor) -> int:
    return 1 if x.ndim > 1 else 0


def _read_classes(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None,
    reduction: str,
    ignore_index: int,
    label_smoothing: float,
) -> tuple[tuple[Any, Any], dict[str, Any]]:
    """Return the arguments of the functions of NumPy's arrays."""
    options = {
        "weight": read(weight),
        "ignore_index": ignore_index,
        "label_smoothing": label_smoothing,
        "reduction": reduction,
        "axis": _class_axis(x),
    }
    return (read(x), read(target)), options


def _cross_entropy_cpu(x: Tensor, *others: Any) -> Tensor:
    arrays, options = _read_classes(x, *others)
    return _in_dtype_of(x, losses.cross_entropy(*arrays, **options))


def _with_grad_cpu(x: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    arrays, options = _read_classes(x, *others)
    loss, gradient = losses.cross_entropy_with_grad(*arrays, **options)
    return _in_dtype_of(x, loss), _in_layout_of(x, as_tensor(gradient))


def _backward_cpu(g: Tensor, x: Tensor, *others: Any) -> Tensor:
    arrays, options = _read_classes(x, *others)
    if options["reduction"] == "none":
        options |= {"reduction": "sum", "sample_weight": read(g)}
        gradient = losses.cross_entropy_with_grad(*arrays, **options)[1]
        return _in_layout_of(x, as_tensor(gradient))
    gradient = losses.cross_entropy_with_grad(*arrays, **options)[1]
    return times(_in_layout_of(x, as_tensor(gradient)), g.detach())


def _in_dtype_of(x: Tensor, loss: Any) -> Tensor:
    result = as_tensor(loss)
    return result if result.dtype is x.dtype else result.to(x.dtype)


def _in_layout_of(x: Tensor, y: Tensor) -> Tensor:
    """Return y in the layout of ``torch.empty_like(x)``, copied if it has another."""
    return y if x.is_contiguous() and y.is_contiguous() else torch.empty_like(x).copy_(y)


def _cuda_arguments(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None,
    reduction: str,
    ignore_index: int,
    label_smoothing: float,
) -> tuple[tuple[Tensor, Tensor], dict[str, Any]]:
    if weight is not None or label_smoothing != 0 or target.is_floating_point():
        raise TypeError(
            "on CUDA devices, cross_entropy takes class indices, without weight and "
            "label_smoothing; torch.nn.functional.cross_entropy takes the rest"
        )
    labels = target.masked_fill(target == ignore_index, -1).contiguous()
    return (x.detach(), labels), {"reduction": reduction, "axis": _class_axis(x)}


def _cross_entropy_cuda(x: Tensor, *others: Any) -> Tensor:
    arrays, options = _cuda_arguments(x, *others)
    result: Tensor = cuda.cross_entropy(*arrays, **options)
    return result.to(x.dtype)


def _with_grad_cuda(x: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    arrays, options = _cuda_arguments(x, *others)
    loss, gradient = cuda.cross_entropy_with_grad(*arrays, **options)
    return loss.to(x.dtype), _in_layout_of(x, gradient)


def _backward_cuda(g: Tensor, x: Tensor, *others: Any) -> Tensor:
    arrays, options = _cuda_arguments(x, *others)
    is_each, options["reduction"] = options["reduction"] == "none", "sum"
    if not is_each:
        options["reduction"] = others[2]
    gradient = _in_layout_of(x, cuda.cross_entropy_with_grad(*arrays, **options)[1])
    each: Tensor = g.detach().unsqueeze(_class_axis(x)) if is_each else g.detach()
    return gradient.mul_(each)


def _loss_like(x: Tensor, target: Tensor, weight: Any, reduction: str, *_: Any) -> Tensor:
    shape = list(x.shape)
    del shape[_class_axis(x)]
    return x.new_empty(shape if reduction == "none" else ())


def _loss_and_like(x: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    return _loss_like(x, *others), torch.empty_like(x)


def _gradient_like(g: Tensor, x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


OPTIONS = "Tensor? weight, str reduction, int ignore_index, float label_smoothing"
CROSS_ENTROPY = define(
    f"cross_entropy(Tensor x, Tensor target, {OPTIONS}) -> Tensor",
    _cross_entropy_cpu,
    _loss_like,
    cuda=_cross_entropy_cuda,
    in_float32=True,
)
CROSS_ENTROPY_WITH_GRAD = define(
    f"cross_entropy_with_grad(Tensor x, Tensor target, {OPTIONS}) -> (Tensor, Tensor)",
    _with_grad_cpu,
    _loss_and_like,
    cuda=_with_grad_cuda,
    in_float32=True,
)
CROSS_ENTROPY_BACKWARD = define(
    f"cross_entropy_backward(Tensor g, Tensor x, Tensor target, {OPTIONS}) -> Tensor",
    _backward_cpu,
    _gradient_like,
    cuda=_backward_cuda,
)


# ---- gradients ----


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    x, target, weight, *ctx.options = inputs
    ctx.save_for_backward(x, target, weight)


def _gradient(ctx: Any, g: Tensor) -> Any:
    by_x = CROSS_ENTROPY_BACKWARD(g, *ctx.saved_tensors, *ctx.options)
    return by_x, None, None, None, None, None


def _keep_with_grad(ctx: Any, inputs: Any, output: Any) -> None:
    _keep(ctx, inputs, output)
    ctx.gradient = output[1]
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # zeros for the gradient's gradient would be as large as it


def _given_gradient(ctx: Any, g: Tensor | None, _: Any) -> Any:
    """Hand out the gradient that the forward pass has computed, once; later compute it again."""
    nothing = (None,) * 5
    if g is None:
        return None, *nothing
    gradient = ctx.gradient
    if gradient is not None and type(gradient) is not Tensor:  # being traced: nothing is in place
        return g * gradient, *nothing
    ctx.gradient = None
    if gradient is None or torch.is_grad_enabled():
        return CROSS_ENTROPY_BACKWARD(g, *ctx.saved_tensors, *ctx.options), *nothing
    return times(gradient, g), *nothing


def _keep_backward(ctx: Any, inputs: Any, output: Any) -> None:
    g, x, target, weight, *ctx.options = inputs
    ctx.save_for_backward(g, x, target, weight)


def _second(ctx: Any, v: Tensor) -> Any:
    """Differentiate PyTorch's own formula of the gradient."""
    g, x, target, weight = ctx.saved_tensors
    reduction, ignore_index, label_smoothing = ctx.options
    with torch.enable_grad():
        g, x = (t if t.requires_grad else t.detach().requires_grad_() for t in (g, x))
        loss = torch.nn.functional.cross_entropy(
            x,
            target,
            weight,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
        )
        (first,) = torch.autograd.grad(loss, x, g, create_graph=True)
    by_g, by_x = torch.autograd.grad(first, (g, x), v, create_graph=torch.is_grad_enabled())
    return by_g, by_x, None, None, None, None, None


differentiate(CROSS_ENTROPY, _gradient, _keep)
differentiate(CROSS_ENTROPY_WITH_GRAD, _given_gradient, _keep_with_grad)
differentiate(CROSS_ENTROPY_BACKWARD, _second, _keep_backward)
