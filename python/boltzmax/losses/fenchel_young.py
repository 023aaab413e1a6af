"""Fenchel-Young losses: those whose gradient is a sparse map of the logits minus the target.

With p = entmax(z) and the entropy H(p) = sum(p - p^alpha) / (alpha (alpha - 1)), the loss of a row
with the target distribution y is::

    <z, p - y> + H(p) - H(y)

(Blondel, Martins & Niculae, JMLR 21(35), 2020). It is never negative, and 0 where p = y. The
formula is for targets whose sum t is one. For any other, it is continued as that of cross-entropy
is::

    t (<z, p> + H(p)) - <z, y> - H(y)

with the gradient t p - y: a constant that is added to all logits changes nothing, and a sum that
rounding has moved off one costs no digits.
"""

from __future__ import annotations

from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import quietly
from boltzmax._lib.numbers import check_number, row_blocks
from boltzmax._lib.same_kind import same_kind
from boltzmax.losses.registry import Loss, register
from boltzmax.losses.rows import RowOptions, Rows, read_batch
from boltzmax.variants.sparse import LARGEST_ALPHA, entmax

Array = NDArray[Any]
Doubles = NDArray[np.float64]


def _information(p: Doubles, alpha: float) -> Doubles:
    """Return (1 - p^(alpha - 1)) / (alpha (alpha - 1)), whose mean is the entropy; p is above 0."""
    b, log_p = alpha - 1.0, np.log(p)
    return -log_p if b == 0.0 else -np.expm1(b * log_p) / (alpha * b)


def _sums(p: Array, score: Array, reference: Array, alpha: float) -> Doubles:
    """Return sum_c p_c (score_c - reference + information of p_c) for each row, where p_c is not 0.

    Few classes have a probability above 0.
    """
    row, column = np.nonzero(p)
    weight = p[row, column].astype(np.float64)
    distance = score[row, column].astype(np.float64) - reference[row]
    terms = weight * (distance + _information(weight, alpha))
    return np.bincount(row, terms, minlength=len(p)).astype(np.float64)


def _block_losses(rows: Rows, alpha: float, gradient: Array | None) -> Doubles:
    """Return the losses of some rows; write the gradient, which may overwrite the logits."""
    scores = rows.logits
    p = entmax(scores, alpha)
    if rows.even:
        every, label = np.arange(len(p)), np.maximum(rows.label, 0)
        losses = _sums(p, scores, scores[every, label].astype(np.float64), alpha)
    else:
        largest = scores.max(axis=-1).astype(np.float64)
        target = np.asarray(rows.soft)
        losses = rows.mass * _sums(p, scores, largest, alpha) - _sums(
            target, scores, largest, alpha
        )
    if gradient is not None:
        slope = p * (rows.scale * rows.mass)[:, None].astype(p.dtype)
        if rows.even:
            slope[every, label] -= rows.scale
        else:
            slope -= rows.scale[:, None] * target
        gradient[...] = np.where((rows.label >= 0)[:, None], slope, 0.0)
    return losses


@same_kind
@quietly
def _evaluate(
    alpha: float,
    logits: ArrayLike,
    target: ArrayLike,
    options: RowOptions,
    with_grad: bool = False,
    out: Array | None = None,
) -> Any:
    """Evaluate any call."""
    alpha = check_number(alpha, "alpha", 1, LARGEST_ALPHA)
    batch = read_batch(logits, target, options, with_grad=with_grad, out=out, probabilities=True)
    rows = batch.rows.ignored() if batch.reduce.is_zero else batch.rows
    each = np.empty(len(rows.logits))
    wide = np.float64 if rows.logits.dtype == np.float64 else np.float32
    for at in row_blocks(*rows.logits.shape):
        part = rows.part(at, rows.logits[at].astype(wide, copy=False))
        each[at] = _block_losses(part, alpha, None if batch.out is None else batch.out[at])
    return batch.delivered(batch.reduce(each))


def sparsemax_loss(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
    axis: SupportsIndex = -1,
    empty: str = "nan",
) -> Any:
    """Sparsemax loss: the loss whose gradient is sparsemax(logits) minus the target.

    With p = sparsemax(z) and the target distribution y (of a class, 1 there and 0 elsewhere)::

        <z, p - y> + (|y|^2 - |p|^2) / 2

    It is 0 as soon as the target's logit leads all others by 1.

    Parameters
    ----------
    logits : array_like, shape (..., K)
        float16, float32, float64 or bfloat16; integers become float64.
    target : array_like
        Class indices of any integer dtype and shape (...), or probabilities (any floats) of shape
        (..., K), which should sum to one. With the sum t of a row, p counts t times in its loss and
        its gradient.
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
        float64 if the logits are, else float32. NaN in a row makes its loss NaN.

    Raises
    ------
    IndexError
        For a target out of range; the message names the first.
    TypeError, ValueError
        For any other invalid argument.

    {see_gradient}

    References
    ----------
    Martins & Astudillo, "From softmax to sparsemax", ICML 2016, equation 22.
    Blondel, Martins & Niculae, "Learning with Fenchel-Young losses", JMLR 21(35), 2020.

    Examples
    --------
    >>> import boltzmax
    >>> float(boltzmax.sparsemax_loss([[2.0, 0.0], [0.0, 0.5]], [0, 0], reduction="sum"))
    0.5625
    """
    options = RowOptions(None, ignore_index, reduction, sample_weight, axis, empty)
    return _evaluate(2.0, logits, target, options)


def sparsemax_loss_with_grad(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
    axis: SupportsIndex = -1,
    empty: str = "nan",
    out: Array | None = None,
) -> tuple[Any, Array]:
    """Sparsemax loss and its gradient with respect to the logits.

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
    >>> boltzmax.sparsemax_loss_with_grad([[0.0, 0.5, -3.0]], [0])[1]
    array([[-0.75,  0.75,  0.  ]])
    """
    options = RowOptions(None, ignore_index, reduction, sample_weight, axis, empty)
    answer: tuple[Any, Array] = _evaluate(2.0, logits, target, options, True, out)
    return answer


def entmax15_loss(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
    axis: SupportsIndex = -1,
    empty: str = "nan",
) -> Any:
    """1.5-entmax loss: the loss whose gradient is entmax15(logits) minus the target.

    With p = entmax15(z), the target distribution y (of a class, 1 there and 0 elsewhere) and
    H(p) = 4/3 sum(p - p^1.5)::

        <z, p - y> + H(p) - H(y)

    It is 0 as soon as the target's logit leads all others by 2.

    Parameters
    ----------
    logits : array_like, shape (..., K)
        float16, float32, float64 or bfloat16; integers become float64.
    target : array_like
        Class indices of any integer dtype and shape (...), or probabilities (any floats) of shape
        (..., K), which should sum to one. With the sum t of a row, p counts t times in its loss and
        its gradient.
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
        float64 if the logits are, else float32. NaN in a row makes its loss NaN.

    Raises
    ------
    IndexError
        For a target out of range; the message names the first.
    TypeError, ValueError
        For any other invalid argument.

    {see_gradient}

    References
    ----------
    Peters, Niculae & Martins, "Sparse sequence-to-sequence models", ACL 2019.
    Blondel, Martins & Niculae, "Learning with Fenchel-Young losses", JMLR 21(35), 2020.

    Examples
    --------
    >>> import boltzmax
    >>> round(float(boltzmax.entmax15_loss([[2.0, 0.0], [0.0, 0.5]], [0, 0])), 6)
    0.342186
    """
    options = RowOptions(None, ignore_index, reduction, sample_weight, axis, empty)
    return _evaluate(1.5, logits, target, options)


def entmax15_loss_with_grad(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
    axis: SupportsIndex = -1,
    empty: str = "nan",
    out: Array | None = None,
) -> tuple[Any, Array]:
    """1.5-entmax loss and its gradient with respect to the logits.

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
    >>> boltzmax.entmax15_loss_with_grad([[0.0, 0.0, -3.0]], [0])[1].round(12)
    array([[-0.5,  0.5,  0. ]])
    """
    options = RowOptions(None, ignore_index, reduction, sample_weight, axis, empty)
    answer: tuple[Any, Array] = _evaluate(1.5, logits, target, options, True, out)
    return answer


def entmax_loss(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    alpha: float = 1.5,
    ignore_index: int = -100,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
    axis: SupportsIndex = -1,
    empty: str = "nan",
) -> Any:
    """Alpha-entmax loss: the loss whose gradient is entmax(logits, alpha) minus the target.

    With p = entmax(z, alpha), the target distribution y (of a class, 1 there and 0 elsewhere) and
    H(p) = sum(p - p^alpha) / (alpha (alpha - 1))::

        <z, p - y> + H(p) - H(y)

    It is the cross-entropy less the entropy of the target for alpha = 1, and `sparsemax_loss` for
    alpha = 2.

    Parameters
    ----------
    logits : array_like, shape (..., K)
        float16, float32, float64 or bfloat16; integers become float64.
    target : array_like
        Class indices of any integer dtype and shape (...), or probabilities (any floats) of shape
        (..., K), which should sum to one. With the sum t of a row, p counts t times in its loss and
        its gradient.
    alpha : float, default 1.5
        From 1 to 50.
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
        float64 if the logits are, else float32. NaN in a row makes its loss NaN.

    Raises
    ------
    IndexError
        For a target out of range; the message names the first.
    TypeError, ValueError
        For any other invalid argument.

    {see_gradient}

    References
    ----------
    Peters, Niculae & Martins, "Sparse sequence-to-sequence models", ACL 2019.
    Blondel, Martins & Niculae, "Learning with Fenchel-Young losses", JMLR 21(35), 2020.

    Examples
    --------
    >>> import boltzmax
    >>> round(float(boltzmax.entmax_loss([[2.0, 0.0], [0.0, 0.5]], [0, 0], alpha=1.2)), 6)
    0.430533
    """
    options = RowOptions(None, ignore_index, reduction, sample_weight, axis, empty)
    return _evaluate(alpha, logits, target, options)


def entmax_loss_with_grad(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    alpha: float = 1.5,
    ignore_index: int = -100,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
    axis: SupportsIndex = -1,
    empty: str = "nan",
    out: Array | None = None,
) -> tuple[Any, Array]:
    """Alpha-entmax loss and its gradient with respect to the logits.

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
    >>> boltzmax.entmax_loss_with_grad([[0.0, 0.5, -3.0]], [0], alpha=2.0)[1]
    array([[-0.75,  0.75,  0.  ]])
    """
    options = RowOptions(None, ignore_index, reduction, sample_weight, axis, empty)
    answer: tuple[Any, Array] = _evaluate(alpha, logits, target, options, True, out)
    return answer


register(Loss(sparsemax_loss, sparsemax_loss_with_grad, soft=True))
register(Loss(entmax15_loss, entmax15_loss_with_grad, soft=True))
register(Loss(entmax_loss, entmax_loss_with_grad, soft=True))
