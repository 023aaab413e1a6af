"""Losses on CUDA devices: see boltzmax.cuda."""

from __future__ import annotations

from typing import Any, SupportsIndex

from boltzmax._lib.arguments import check_temperature
from boltzmax._lib.shared_docs import document_loss
from boltzmax.cuda.arrays import View, load_products
from boltzmax.cuda.calls import Call, Result
from boltzmax.linear.scores import check_layer
from boltzmax.losses.reduction import REDUCTIONS, checked_reduction

# The number of logits of a linear layer in memory at a time.
TILE = 2**24


def cross_entropy(
    logits: Any,
    target: Any,
    *,
    temperature: float = 1.0,
    reduction: str = "mean",
    axis: SupportsIndex = -1,
    empty: str = "nan",
    stream: Any = None,
) -> Any:
    """Cross-entropy of class indices: logsumexp(z) - z[target], with z = logits / T.

    Parameters
    ----------
    logits : array
        Scores; as `x` of `softmax`.
    target : array of int64 or int32
        The class of each row, contiguous, of the shape of `logits` without the class axis. A
        negative target leaves its row out. A target that is not a class makes its loss NaN: the
        call does not wait for the device to find out.
    temperature : float, default 1.0
        Divides the logits.
    reduction : {"mean", "sum", "none"}, default "mean"
        Over the rows that count; "none" returns the loss of each.
    {axis}
    {empty}
    stream : stream or int, optional
        A CUDA stream, or its address, instead of the caller's own.

    Returns
    -------
    array
        Of the kind of `logits`: float32 for 16-bit logits, else of their dtype.

    Raises
    ------
    RuntimeError, TypeError, ValueError, MemoryError
        As `softmax`; and for a target of another shape or dtype, or an unknown reduction.

    Examples
    --------
    >>> import numpy as np
    >>> import boltzmax.cuda
    >>> print(f"{boltzmax.cuda.cross_entropy(np.zeros((1, 2)), np.array([0])):.3f}")
    0.693
    """
    options = temperature, reduction, axis, empty, stream
    return _cross_entropy(logits, target, *options, with_grad=False)[0]


def cross_entropy_with_grad(
    logits: Any,
    target: Any,
    *,
    temperature: float = 1.0,
    reduction: str = "mean",
    axis: SupportsIndex = -1,
    empty: str = "nan",
    out: Any = None,
    stream: Any = None,
) -> tuple[Any, Any]:
    """Cross-entropy as in `cross_entropy`, and its gradient with respect to the logits.

    d/dz_j = (softmax(z)_j - [j = target]) / T, divided by the number of rows that count for
    "mean".

    {parameters}

    Returns
    -------
    {loss}
    d_logits : array
        The gradient, in the shape and dtype of the logits.

    {raises}

    Examples
    --------
    >>> import numpy as np
    >>> import boltzmax.cuda
    >>> loss, gradient = boltzmax.cuda.cross_entropy_with_grad(np.zeros((1, 2)), np.array([0]))
    >>> gradient
    array([[-0.5,  0.5]])
    """
    options = temperature, reduction, axis, empty, stream
    return _cross_entropy(logits, target, *options, with_grad=True, out=out)


def linear_cross_entropy(
    hidden: Any,
    weight: Any,
    target: Any,
    bias: Any = None,
    *,
    temperature: float = 1.0,
    reduction: str = "mean",
    empty: str = "nan",
    stream: Any = None,
) -> Any:
    """Cross-entropy of the logits ``hidden @ weight.T + bias``, computed one tile at a time.

    Parameters
    ----------
    hidden : array, shape (..., D)
        A row for each target. float16, bfloat16, float32 or float64, C-contiguous.
    weight : array, shape (V, D)
        A row for each class, of the dtype of `hidden`; contiguous.
    target : array of int64 or int32, shape (...)
        As for `cross_entropy`.
    bias : array, shape (V,), optional
        Added to the logits; of the dtype of `hidden`, contiguous.
    temperature, reduction, stream
        As for `cross_entropy`.
    {empty}

    Returns
    -------
    array
        Of the kind of `hidden`: float64 if that is, else float32.

    Raises
    ------
    RuntimeError
        Also if cuBLAS, which multiplies the matrices, cannot be loaded.
    TypeError, ValueError, MemoryError
        As `cross_entropy`.

    Notes
    -----
    Logits are computed and summed in float32 (float64 for float64). The call allocates a tile of
    2**24 logits, a few numbers per row, and 32 MB for cuBLAS; gradients of 16-bit arrays take half
    a tile more.

    Examples
    --------
    >>> import numpy as np
    >>> import boltzmax.cuda
    >>> loss = boltzmax.cuda.linear_cross_entropy(np.eye(2), np.eye(2), np.array([0, 1]))
    >>> print(f"{loss:.3f}")
    0.313
    """
    layer = _Linear(hidden, weight, target, bias, stream)
    return layer.run(temperature, reduction, empty, with_grad=False)[0]


def linear_cross_entropy_with_grad(
    hidden: Any,
    weight: Any,
    target: Any,
    bias: Any = None,
    *,
    temperature: float = 1.0,
    reduction: str = "mean",
    empty: str = "nan",
    stream: Any = None,
) -> tuple[Any, Any, Any, Any]:
    """`linear_cross_entropy` and its gradients, which recompute all tiles but the last.

    {parameters}

    Returns
    -------
    {loss}
    d_hidden, d_weight, d_bias : array
        Of the dtype of the loss, even if `hidden` has half precision, so that sums do not lose
        small terms. d_bias is None without a bias. (The terms p - 1 or p are rounded to half
        precision for the product.)

    {raises}

    Examples
    --------
    >>> import numpy as np
    >>> import boltzmax.cuda
    >>> loss, d_hidden, d_weight, d_bias = boltzmax.cuda.linear_cross_entropy_with_grad(
    ...     np.eye(2), np.eye(2), np.array([0, 1])
    ... )
    >>> d_hidden.round(3)
    array([[-0.134,  0.134],
           [ 0.134, -0.134]])
    """
    layer = _Linear(hidden, weight, target, bias, stream)
    loss, d_hidden, d_weight, d_bias = layer.run(temperature, reduction, empty, with_grad=True)
    return loss, d_hidden, d_weight, d_bias


_ERRORS = "RuntimeError, TypeError, ValueError, MemoryError"
document_loss(cross_entropy, cross_entropy_with_grad, REDUCTIONS, _ERRORS)
document_loss(linear_cross_entropy, linear_cross_entropy_with_grad, REDUCTIONS, _ERRORS)


# ---- how they are called ----


def _cross_entropy(
    logits: Any,
    target: Any,
    temperature: float,
    reduction: str,
    axis: SupportsIndex,
    empty: str,
    stream: Any,
    *,
    with_grad: bool,
    out: Any = None,
) -> tuple[Any, Any]:
    call = Call(logits, stream, name="logits")
    check_temperature(temperature)
    checked_reduction(reduction, with_grad=with_grad)
    joining, along = call.reduction(reduction, empty), call.class_axis(axis)
    rows, dtype = call.rows_without(along), call.computed
    labels = call.target(target, rows)
    joined = call.empty(rows if reduction == "none" else (), dtype)
    losses = joined.view if reduction == "none" else call.scratch(rows, dtype)
    gradient = call.result(out, labels) if with_grad else None
    y = None if gradient is None else gradient.view.place
    call.module.cross_entropy(
        call=call.task("CROSS_ENTROPY", (along,), y, None, temperature),
        target=labels.address,
        losses=losses.address,
        joined=joined.view.address,
        reduction=joining,
        device=call.device,
        stream=call.stream,
    )
    return joined.deliver(), None if gradient is None else gradient.deliver()


class _Linear:
    """A linear layer and rows for it."""

    def __init__(self, hidden: Any, weight: Any, target: Any, bias: Any, stream: Any) -> None:
        self.call = call = Call(hidden, stream, name="hidden")
        self.hidden = call.view
        if not self.hidden.shape or self.hidden.shape[-1] == 0:
            raise ValueError(
                f"hidden must have features on the last axis, got shape {self.hidden.shape}"
            )
        self.features = self.hidden.shape[-1]
        self.weight = call.operand(weight, "weight")
        check_layer(self.hidden.shape, self.weight.shape)
        self.classes = self.weight.shape[0]
        self.bias = None if bias is None else call.operand(bias, "bias")
        if self.bias is not None and self.bias.shape != (self.classes,):
            raise ValueError(
                f"bias must have one number per class, ({self.classes},), got shape "
                f"{self.bias.shape}"
            )
        self.target = call.target(target, self.hidden.shape[:-1])
        call.check_contiguous(self.hidden, "hidden")

    def run(
        self, temperature: float, reduction: str, empty: str, *, with_grad: bool
    ) -> tuple[Any, ...]:
        """Return the loss, and the gradients or None for each."""
        call = self.call
        check_temperature(temperature)
        checked_reduction(reduction, with_grad=with_grad)
        joining = call.reduction(reduction, empty)
        load_products()
        shape, dtype = self.hidden.shape, call.computed
        joined = call.empty(shape[:-1] if reduction == "none" else (), dtype)
        losses = joined.view if reduction == "none" else call.scratch(shape[:-1], dtype)
        gradients: list[Result | None] = [None, None, None]
        if with_grad:
            new = (
                call.empty if self.target.size else call.zeros
            )  # all of them is written, or nothing
            of_bias = None if self.bias is None else new((self.classes,), dtype)
            gradients = [new(shape, dtype), new(self.weight.shape, dtype), of_bias]
        call.module.linear_cross_entropy(
            storage=getattr(call.module.Storage, self.hidden.dtype.upper()),
            read=[_address(v) for v in (self.hidden, self.weight, self.bias, self.target)],
            sizes=[self.target.size, self.features, self.classes],
            written=[losses.address, joined.view.address, *(_place(g) for g in gradients)],
            temperature=float(temperature),
            reduction=joining,
            tile=TILE,
            device=call.device,
            stream=call.stream,
        )
        return joined.deliver(), *(None if g is None else g.deliver() for g in gradients)


def _address(view: View | None) -> int:
    return 0 if view is None else view.address


def _place(result: Result | None) -> int:
    return 0 if result is None else result.view.address
