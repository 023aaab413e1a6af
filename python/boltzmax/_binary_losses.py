"""The loss of labels that are each true or false on their own, with its gradient."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._targets import (
    REDUCTIONS,
    broadcast,
    check_scalar,
    checked_reduction,
    floating,
    numbers_of_shape,
    product,
    reduced,
    room_for,
    stored,
)

__all__ = ["binary_cross_entropy_with_logits", "binary_cross_entropy_with_logits_with_grad"]

Array = NDArray[Any]
Floats = NDArray[np.float64]


def binary_cross_entropy_with_logits(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    pos_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Any:
    r"""Compute the cross-entropy of labels that are each true or false on their own.

    Parameters
    ----------
    logits : array_like
        Scores; the probability of true is their sigmoid, :math:`\sigma(x) = 1 / (1 + e^{-x})`.
    target : array_like
        The labels :math:`z`, or their probabilities, in the shape of `logits`.
    weight : array_like, optional
        The weight of each element, in a shape that broadcasts to that of `logits`.
    pos_weight : array_like, optional
        The weight of what is true, :math:`v`, in a shape that broadcasts to that of `logits`.
    reduction : {"mean", "sum", "none"}, default "mean"
        Whether to return the sum of the elements over their number (whatever the weights), the
        sum, or every element.

    Returns
    -------
    ndarray or scalar
        Elements :math:`-w (v z \log \sigma(x) + (1 - z) \log \sigma(-x))`, or their sum or mean.
        The dtype is that of `logits`, but float32 for half precision.

    Raises
    ------
    TypeError
        If `logits` is not float16, float32, float64 or bfloat16, or another array is not real.
    ValueError
        If the shapes do not fit, or `reduction` is not one of the three.

    See Also
    --------
    binary_cross_entropy_with_logits_with_grad : the same, and its gradient.

    Notes
    -----
    As the function of this name in ``torch.nn.functional``, but that what has weight 0 adds
    nothing even if infinite.  With :math:`-\log \sigma(-x) = \max(x, 0) + \log(1 + e^{-|x|})` no
    term is ever the difference of larger ones.  All is computed in float64.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import binary_cross_entropy_with_logits
    >>> binary_cross_entropy_with_logits(np.array([0.0, 1e4, -1e4]), [1, 1, 1], reduction="none")
    array([6.93147181e-01, 0.00000000e+00, 1.00000000e+04])
    """
    checked_reduction(reduction)
    x, terms = _read_terms(logits, target, weight, pos_weight)
    return reduced(_bce(terms), reduction, x.size, x.dtype)


def binary_cross_entropy_with_logits_with_grad(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    pos_weight: ArrayLike | None = None,
    reduction: str = "mean",
    out: Array | None = None,
) -> tuple[Any, Array]:
    r"""Compute the binary cross-entropy and its gradient.

    Parameters
    ----------
    logits, target, weight, pos_weight : array_like
        As for `binary_cross_entropy_with_logits`.
    reduction : {"mean", "sum"}, default "mean"
        A gradient needs a scalar, so not "none".
    out : ndarray, optional
        Where to write the gradient; it may be `logits` itself.

    Returns
    -------
    loss : scalar
        As from `binary_cross_entropy_with_logits`.
    d_logits : ndarray
        The derivatives of the loss, :math:`w ((1 - z) \sigma(x) - v z \sigma(-x))`, over the
        number of elements for "mean", in the shape and dtype of `logits`.

    Raises
    ------
    TypeError, ValueError
        As from `binary_cross_entropy_with_logits`, if `reduction` is "none", and if `out` does
        not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import binary_cross_entropy_with_logits_with_grad
    >>> loss, gradient = binary_cross_entropy_with_logits_with_grad(np.zeros(2), [1, 0])
    >>> gradient
    array([-0.25,  0.25])
    """
    check_scalar(reduction, REDUCTIONS)
    x, terms = _read_terms(logits, target, weight, pos_weight)
    gradient = room_for(x, out)
    loss = reduced(_bce(terms), reduction, x.size, x.dtype)
    with np.errstate(all="ignore"):
        slope = terms.negative * _sigmoid(terms.x) - terms.positive * _sigmoid(-terms.x)
        if reduction == "mean":
            slope = slope / max(x.size, 1)
    return loss, stored(slope, gradient)


class _Terms(NamedTuple):
    """Logits, and what the logarithms of both probabilities are multiplied with."""

    x: Floats
    positive: Floats
    negative: Floats


def _read_terms(
    logits: ArrayLike, target: ArrayLike, weight: ArrayLike | None, pos_weight: ArrayLike | None
) -> tuple[Array, _Terms]:
    x = floating(logits, "logits")
    z = numbers_of_shape(target, x.shape, "target", "the shape of logits")
    positive, negative = z, 1.0 - z
    with np.errstate(all="ignore"):
        if pos_weight is not None:
            positive = positive * broadcast(pos_weight, x.shape, "pos_weight", "logits")
        if weight is not None:
            each = broadcast(weight, x.shape, "weight", "logits")
            positive, negative = positive * each, negative * each
    return x, _Terms(x.astype(np.float64, copy=False), positive, negative)


def _bce(terms: _Terms) -> Floats:
    x, positive, negative = terms
    with np.errstate(all="ignore"):
        least = np.log1p(np.exp(-np.abs(x)))
        on_true, on_false = np.maximum(-x, 0.0) + least, np.maximum(x, 0.0) + least
        return product(positive, on_true) + product(negative, on_false)


def _sigmoid(x: Floats) -> Floats:
    tail = np.exp(-np.abs(x))
    return np.where(x < 0.0, tail, 1.0) / (1.0 + tail)
