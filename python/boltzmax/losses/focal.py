"""Focal loss: cross-entropy that looks away from what is already right."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import quietly
from boltzmax._lib.logits import gradient_of, read_logits
from boltzmax._lib.numbers import check_number, per_class
from boltzmax._lib.shared_docs import with_shared_paragraphs
from boltzmax.losses.cross_entropy import losses
from boltzmax.losses.reduction import REDUCTIONS, Reduction, check_scalar, product
from boltzmax.losses.rows import Rows, read_rows

Array = NDArray[Any]
Doubles = NDArray[np.float64]


def _focus(log_prob: Doubles, gamma: float) -> tuple[Doubles, Doubles]:
    """Return (1 - p)^gamma (-log p) and its derivative by -log p, given log p."""
    p, miss = np.exp(log_prob), -np.expm1(log_prob)
    power = np.power(miss, gamma)
    slope = gamma * p * np.power(miss, gamma - 1) * -log_prob
    slope = np.where((miss > 0) & (p > 0), slope, 0.0)  # both ends tend to 0
    return np.where(power == 0, 0.0, -power * log_prob), power + slope


@quietly
def _evaluate(
    function: str,
    logits: ArrayLike,
    target: ArrayLike,
    gamma: float,
    options: dict[str, Any],
    with_grad: bool = False,
    out: Array | None = None,
) -> tuple[Any, Array | None]:
    """Return the loss and the gradient, if that is wanted."""
    gamma = check_number("gamma", gamma, 0, 1e6)
    scores = read_logits(function, logits, options.pop("axis"))
    rows, reduce = read_rows(
        function, scores, target, label_smoothing=0.0, probabilities=False, **options
    )
    # The weight does not count in the mean: as in the paper, it balances the classes.
    reduce = replace(reduce, used=reduce.sample)
    gradient = None
    if with_grad:
        check_scalar(reduce.name, REDUCTIONS)
        gradient = gradient_of(scores, rows.logits, out)
    inside = None if gradient is None else gradient.rows
    loss = None
    if options["sample_weight"] is None:
        loss = _compiled(rows, reduce, gamma, options, inside)
    if loss is None:
        loss = _weighted(rows.ignored() if reduce.is_zero else rows, reduce, gamma, inside)
    return loss, None if gradient is None else gradient.deliver()


def _compiled(
    rows: Rows, reduce: Reduction, gamma: float, options: dict[str, Any], gradient: Array | None
) -> Any:
    """Return the loss of a call that is ordinary now, with the bits that it has if it was before.

    None if there is something else about it.
    """
    alpha = per_class(options["weight"], rows.logits.shape[-1])
    arguments = (
        *(rows.logits, rows.label, gamma, alpha, -1),
        *(reduce.name, None, -1, options["empty"]),
    )
    if gradient is None:
        return reduce.shaped(_core.focal_loss_call(*arguments))
    both = _core.focal_loss_with_grad_call(*arguments, gradient)
    return None if both is None else both[0]


def _weighted(rows: Rows, reduce: Reduction, gamma: float, gradient: Array | None) -> Any:
    """Return the loss of rows that have weights, and write the gradient."""
    alpha = rows.hard
    plain = replace(rows, hard=np.ones(len(alpha)), mass=np.ones(len(alpha)))
    each, slope = _focus(-losses(plain, 1.0, 0.0, None), gamma)
    if gradient is not None:
        losses(replace(plain, scale=reduce.scale() * alpha * slope), 1.0, 0.0, gradient)
    return reduce(product(alpha, each))


@with_shared_paragraphs
def focal_loss(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    gamma: float = 2.0,
    alpha: ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
    axis: SupportsIndex = -1,
    empty: str = "nan",
) -> Any:
    """Focal loss: -alpha_t (1 - p_t)^gamma log p_t with p = softmax(logits).

    Examples that the model has right count little, so that the many easy ones of a frequent class
    do not outweigh the few hard ones of a rare class. With gamma = 0 it is the cross-entropy.

    Parameters
    ----------
    logits : array_like, shape (..., K)
        float16, float32, float64 or bfloat16; integers become float64.
    target : array_like of int, shape (...)
        The classes.
    gamma : float, default 2.0
        At least 0.
    alpha : array_like, shape (K,), optional
        A weight for each class. The mean does not divide by it.
    ignore_index : int, default -100
        Rows with this target are left out.
    reduction : {"mean", "sum", "none"}
        "mean" divides by the sum of the sample weights of the rows that count.
    sample_weight : array_like, optional
        A weight for each row; broadcasts to shape (...).
    {axis}
    {empty}

    Returns
    -------
    float32 or float64 scalar, or array of shape (...) for "none"
        In nats.

    Raises
    ------
    IndexError
        For a target out of range; it names the first.
    TypeError, ValueError
        For what else does not make sense.

    References
    ----------
    Lin, Goyal, Girshick, He & Dollar, "Focal loss for dense object detection", ICCV 2017.

    Examples
    --------
    >>> import boltzmax
    >>> round(float(boltzmax.focal_loss([[2.0, 0.0], [0.0, 0.0]], [0, 1])), 6)
    0.087545
    """
    loss = _core.focal_loss_call(
        logits, target, gamma, alpha, ignore_index, reduction, sample_weight, axis, empty
    )
    if loss is not None:
        return loss
    options = {
        "weight": alpha,
        "ignore_index": ignore_index,
        "reduction": reduction,
        "sample_weight": sample_weight,
        "axis": axis,
        "empty": empty,
    }
    return _evaluate("focal_loss", logits, target, gamma, options)[0]


@with_shared_paragraphs
def focal_loss_with_grad(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    gamma: float = 2.0,
    alpha: ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
    axis: SupportsIndex = -1,
    empty: str = "nan",
    out: Array | None = None,
) -> tuple[Any, Array]:
    """Focal loss and its gradient by the logits.

    Parameters
    ----------
    logits, target, gamma, alpha, ignore_index, sample_weight : see `focal_loss`
    reduction : {"mean", "sum"}
        A gradient needs a scalar.
    {axis}
    {empty}
    out : ndarray, optional
        Where the gradient goes: of the shape and dtype of the logits, or the logits themselves.

    Returns
    -------
    loss : scalar
        As from `focal_loss`.
    d_logits : ndarray
        Its gradient, in the shape and memory order of the logits: zero in ignored rows.

    Raises
    ------
    IndexError, TypeError, ValueError
        As for `focal_loss`, before anything is written.

    Examples
    --------
    >>> import boltzmax
    >>> loss, d_logits = boltzmax.focal_loss_with_grad([[0.0, 0.0]], [1], gamma=0.0)
    >>> d_logits
    array([[ 0.5, -0.5]])
    """
    both: tuple[Any, Array] | None = _core.focal_loss_with_grad_call(
        logits, target, gamma, alpha, ignore_index, reduction, sample_weight, axis, empty, out
    )
    if both is not None:
        return both
    options = {
        "weight": alpha,
        "ignore_index": ignore_index,
        "reduction": reduction,
        "sample_weight": sample_weight,
        "axis": axis,
        "empty": empty,
    }
    arguments = "focal_loss_with_grad", logits, target, gamma, options, True, out
    loss, gradient = _evaluate(*arguments)
    assert gradient is not None
    return loss, gradient
