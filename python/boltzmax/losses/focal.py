"""Focal loss: cross-entropy that gives less weight to examples that are already right."""

from __future__ import annotations

from functools import partial
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.numbers import check_number
from boltzmax.losses.registry import Loss, register
from boltzmax.losses.rows import Batch, RowOptions
from boltzmax.losses.terms import evaluate

Array = NDArray[Any]
Doubles = NDArray[np.float64]


def _focus(log_prob: Doubles, gamma: float) -> tuple[Doubles, Doubles]:
    """Return (1 - p)^gamma (-log p) and its derivative with respect to -log p, given log p."""
    p, miss = np.exp(log_prob), -np.expm1(log_prob)
    power = np.power(miss, gamma)
    slope = gamma * p * np.power(miss, gamma - 1) * -log_prob
    slope = np.where((miss > 0) & (p > 0), slope, 0.0)  # both ends tend to 0
    return np.where(power == 0, 0.0, -power * log_prob), power + slope


def _evaluate(
    logits: ArrayLike,
    target: ArrayLike,
    options: RowOptions,
    gamma: float,
    with_grad: bool = False,
    out: Array | None = None,
) -> Any:
    """Evaluate any call."""
    gamma = check_number(gamma, "gamma", 0, 1e6)
    return evaluate(
        partial(_focus, gamma=gamma),
        logits,
        target,
        options,
        with_grad=with_grad,
        out=out,
        weight_name="alpha",
        weight_counts=False,  # as in the paper, it balances the classes
        compiled=partial(_compiled, gamma),
    )


def _compiled(gamma: float, batch: Batch) -> Any:
    """Return the loss of a call that is ordinary once read, with the bits of the fast path.

    None if the call is not ordinary.
    """
    options = batch.options
    arguments = (
        *(batch.rows.logits, batch.rows.label, gamma, batch.class_weight, -1),
        *(options.reduction, None, -1, options.empty),
    )
    if batch.out is None:
        return batch.reduce.shaped(_core.focal_loss_call(*arguments))
    both = _core.focal_loss_with_grad_call(*arguments, batch.out)
    return None if both is None else both[0]


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

    Examples that the model gets right count little, so that the many easy ones of a frequent class
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
    {sample_weight}
    {axis}
    {empty}

    Returns
    -------
    float32 or float64 scalar, or array of shape (...) for "none"
        In nats.

    Raises
    ------
    IndexError
        For a target out of range; the message names the first.
    TypeError, ValueError
        For any other invalid argument.

    {see_gradient}

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
    options = RowOptions(alpha, ignore_index, reduction, sample_weight, axis, empty)
    return _evaluate(logits, target, options, gamma)


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
    """Focal loss and its gradient with respect to the logits.

    {parameters}

    Returns
    -------
    {loss}
    d_logits : ndarray
        Its gradient, in the shape and memory order of the logits: zero in ignored rows.

    {raises}

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
    options = RowOptions(alpha, ignore_index, reduction, sample_weight, axis, empty)
    answer: tuple[Any, Array] = _evaluate(logits, target, options, gamma, True, out)
    return answer


register(Loss(focal_loss, focal_loss_with_grad, class_weight="alpha"))
