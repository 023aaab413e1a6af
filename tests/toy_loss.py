"""An example of a new loss: the generalized cross-entropy, (1 - p^q) / q."""

from __future__ import annotations

from functools import partial
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.numbers import check_number
from boltzmax.losses.registry import Loss, register
from boltzmax.losses.rows import RowOptions
from boltzmax.losses.terms import evaluate

Array = NDArray[Any]
Doubles = NDArray[np.float64]


def _term(log_prob: Doubles, q: float) -> tuple[Doubles, Doubles]:
    """Return (1 - p^q) / q and its derivative with respect to -log p, given log p."""
    return -np.expm1(q * log_prob) / q, np.exp(q * log_prob)


def toy_loss(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    q: float = 0.7,
    weight: ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
    axis: SupportsIndex = -1,
    empty: str = "nan",
) -> Any:
    """Generalized cross-entropy: (1 - p_t^q) / q with p = softmax(logits).

    Parameters
    ----------
    logits : array_like, shape (..., K)
        float16, float32, float64 or bfloat16; integers become float64.
    target : array_like of int, shape (...)
        The classes.
    q : float, default 0.7
        From 1e-3 (nearly the cross-entropy) to 1 (the absolute error of p_t).
    weight : array_like, shape (K,), optional
        A weight for each class.
    ignore_index : int, default -100
        Rows with this target are left out.
    reduction : {"mean", "sum", "none"}
        "mean" divides by the sum of the weights used.
    {sample_weight}
    {axis}
    {empty}

    Returns
    -------
    float32 or float64 scalar, or array of shape (...) for "none"

    Raises
    ------
    IndexError
        For a target out of range; the message names the first.
    TypeError, ValueError
        For any other invalid argument.

    {see_gradient}

    References
    ----------
    Zhang & Sabuncu, "Generalized cross entropy loss for training deep neural networks with noisy
    labels", NeurIPS 2018.

    Examples
    --------
    >>> round(float(toy_loss([[0.0, 0.0]], [0], q=1.0)), 6)
    0.5
    """
    options = RowOptions(weight, ignore_index, reduction, sample_weight, axis, empty)
    return evaluate(partial(_term, q=check_number(q, "q", 1e-3, 1)), logits, target, options)


def toy_loss_with_grad(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    q: float = 0.7,
    weight: ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
    axis: SupportsIndex = -1,
    empty: str = "nan",
    out: Array | None = None,
) -> tuple[Any, Array]:
    """Generalized cross-entropy and its gradient with respect to the logits.

    {parameters}

    Returns
    -------
    {loss}
    d_logits : ndarray
        Its gradient, in the shape and memory order of the logits: zero in ignored rows.

    {raises}

    Examples
    --------
    >>> toy_loss_with_grad([[0.0, 0.0]], [0], q=1.0)[1]
    array([[-0.25,  0.25]])
    """
    options = RowOptions(weight, ignore_index, reduction, sample_weight, axis, empty)
    term = partial(_term, q=check_number(q, "q", 1e-3, 1))
    answer: tuple[Any, Array] = evaluate(term, logits, target, options, with_grad=True, out=out)
    return answer


register(Loss(toy_loss, toy_loss_with_grad, class_weight="weight"))
