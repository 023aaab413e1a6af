"""Losses of log-probabilities, and of single logits, with their gradients."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._binary_losses import (
    binary_cross_entropy_with_logits,
    binary_cross_entropy_with_logits_with_grad,
)
from boltzmax._targets import (
    REDUCTIONS,
    broadcast,
    check_scalar,
    checked_reduction,
    checked_targets,
    floating,
    numbers_of_shape,
    product,
    reduce_loss,
    reduced,
    room_for,
    stored,
)

__all__ = [
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy_with_logits_with_grad",
    "kl_divergence",
    "kl_divergence_with_grad",
    "nll_loss",
    "nll_loss_with_grad",
]

Array = NDArray[Any]
Floats = NDArray[np.float64]

_KL_REDUCTIONS = ("batchmean", *REDUCTIONS)


# --- Negative log-likelihood ----------------------------------------------------------------------


def nll_loss(
    log_prob: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
) -> Any:
    r"""Compute the negative log-likelihood of the target classes.

    Parameters
    ----------
    log_prob : array_like
        Logarithms of probabilities, with the classes along the last axis.
    target : array_like of int
        The class of each row, in the shape of `log_prob` without its last axis.
    weight : array_like, optional
        The weight of each class.
    ignore_index : int, default -100
        Rows with this target do not count.
    reduction : {"mean", "sum", "none"}, default "mean"
        Whether to return the weighted mean of the rows, their sum, or one loss per row.
    sample_weight : array_like, optional
        The weight of each row, in the shape of `target`; it multiplies that of the class.

    Returns
    -------
    ndarray or scalar
        With :math:`w` the product of both weights of a row, :math:`-w \log p_t` for each row (0
        where ignored), or their sum, or that divided by the sum of :math:`w` (NaN if no row
        counts).  The dtype is that of `log_prob`, but float32 for half precision.

    Raises
    ------
    TypeError
        If `log_prob` is not float16, float32, float64 or bfloat16, or `target` not integer.
    ValueError
        If the shapes do not fit, or `reduction` is not one of the three.
    IndexError
        If a target is neither a class nor `ignore_index`.

    See Also
    --------
    nll_loss_with_grad : the same, and its gradient.

    Notes
    -----
    As ``torch.nn.functional.nll_loss`` (which has classes along axis 1), but that a row of weight
    0 adds nothing even if its log-probability is infinite.  Sums are taken in float64.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import nll_loss
    >>> log_prob = np.log([[0.5, 0.5], [0.25, 0.75]])
    >>> print(f"{nll_loss(log_prob, [0, 1]):.6f}")
    0.490415
    >>> nll_loss(log_prob, [0, -100], reduction="none").round(6)
    array([0.693147, 0.      ])
    """
    rows = _read_rows(log_prob, target, weight, ignore_index, sample_weight)
    return _nll(rows, checked_reduction(reduction))


def nll_loss_with_grad(
    log_prob: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
    out: Array | None = None,
) -> tuple[Any, Array]:
    r"""Compute the negative log-likelihood and its gradient.

    Parameters
    ----------
    log_prob, target, weight, ignore_index, sample_weight : array_like or int
        As for `nll_loss`.
    reduction : {"mean", "sum"}, default "mean"
        A gradient needs a scalar, so not "none".
    out : ndarray, optional
        Where to write the gradient; it may be `log_prob` itself.

    Returns
    -------
    loss : scalar
        As from `nll_loss`.
    d_log_prob : ndarray
        The derivatives of the loss, in the shape and dtype of `log_prob`: :math:`-w`, over the
        sum of all :math:`w` for "mean", at the target of a row that counts; 0 elsewhere.

    Raises
    ------
    TypeError, ValueError, IndexError
        As from `nll_loss`, if `reduction` is "none", and if `out` does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import nll_loss_with_grad
    >>> loss, gradient = nll_loss_with_grad(np.log([[0.5, 0.5], [0.25, 0.75]]), [0, 1])
    >>> gradient
    array([[-0.5,  0. ],
           [ 0. , -0.5]])
    """
    check_scalar(reduction, REDUCTIONS)
    rows = _read_rows(log_prob, target, weight, ignore_index, sample_weight)
    gradient = room_for(rows.log_prob, out)
    loss = _nll(rows, reduction)
    gradient[...] = 0
    if gradient.shape[-1]:
        with np.errstate(all="ignore"):
            total = np.sum(rows.weights) if reduction == "mean" else np.float64(1.0)
            values = np.where(rows.counted, -rows.weights / total, 0.0) + 0.0  # no -0.0
            np.put_along_axis(gradient, rows.places, values.reshape(rows.places.shape), axis=-1)
    return loss, gradient


class _Rows(NamedTuple):
    """Log-probabilities, and for each row in C order its class and weight, 0 if ignored."""

    log_prob: Array
    classes: NDArray[np.int64]
    counted: NDArray[np.bool_]
    weights: Floats

    @property
    def shape(self) -> tuple[int, ...]:
        return self.log_prob.shape[:-1]

    @property
    def places(self) -> NDArray[np.int64]:
        return self.classes.reshape(*self.shape, 1)


def _read_rows(
    log_prob: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None,
    ignore_index: int,
    sample_weight: ArrayLike | None,
) -> _Rows:
    x = floating(log_prob, "log_prob")
    if x.ndim == 0:
        raise ValueError("log_prob must have an axis of classes, got a single number")
    shape, n_classes = x.shape[:-1], x.shape[-1]
    classes, counted = checked_targets(target, shape, n_classes, ignore_index)
    used = counted.astype(np.float64)
    if weight is not None:
        per_class = numbers_of_shape(weight, (n_classes,), "weight", "one element per class")
        used[counted] = per_class[classes[counted]]
    if sample_weight is not None:
        per_row = numbers_of_shape(sample_weight, shape, "sample_weight", "the shape of target")
        used[counted] *= per_row.reshape(-1)[counted]
    return _Rows(x, classes, counted, used)


def _nll(rows: _Rows, reduction: str) -> Any:
    x, counted = rows.log_prob, rows.counted
    losses = np.zeros(counted.shape)
    if x.shape[-1]:
        losses -= np.take_along_axis(x, rows.places, axis=-1).reshape(-1).astype(np.float64)
    losses = product(rows.weights, losses)
    return reduce_loss(losses, rows.weights, counted, reduction, rows.shape, x.dtype)


# --- Kullback-Leibler divergence ------------------------------------------------------------------


def kl_divergence(
    log_q: ArrayLike, p: ArrayLike, *, log_target: bool = False, reduction: str = "batchmean"
) -> Any:
    r"""Compute the Kullback-Leibler divergence of `p` from `q`.

    Parameters
    ----------
    log_q : array_like
        Logarithms of the probabilities of the model.
    p : array_like
        True probabilities, in a shape that broadcasts to that of `log_q`.
    log_target : bool, default False
        Whether `p` holds logarithms, too.
    reduction : {"batchmean", "mean", "sum", "none"}, default "batchmean"
        Whether to divide the sum of all elements by the length of the first axis, by the number
        of elements or not at all, or to return every element.

    Returns
    -------
    ndarray or scalar
        Elements :math:`p (\log p - \log q)`, 0 where :math:`p = 0`, or their sum or mean.  The
        dtype is that of `log_q`, but float32 for half precision.

    Raises
    ------
    TypeError
        If `log_q` is not float16, float32, float64 or bfloat16, or `p` not real.
    ValueError
        If `p` does not broadcast to `log_q`, or `reduction` is not one of the four.

    See Also
    --------
    kl_divergence_with_grad : the same, and its gradient.

    Notes
    -----
    As ``torch.nn.functional.kl_div(log_q, p)`` (whose default is "mean"), but that :math:`p = 0`
    gives 0 even if :math:`q = 0`.  All is computed in float64.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import kl_divergence
    >>> print(f"{kl_divergence(np.log([[0.5, 0.5], [0.25, 0.75]]), [[1.0, 0.0], [0.5, 0.5]]):.6f}")
    0.418494
    """
    checked_reduction(reduction, _KL_REDUCTIONS)
    x, q, truth = _read_divergence(log_q, p)
    return reduced(_kl(q, truth, log_target), reduction, _divisor(x, reduction), x.dtype)


def kl_divergence_with_grad(
    log_q: ArrayLike,
    p: ArrayLike,
    *,
    log_target: bool = False,
    reduction: str = "batchmean",
    out: Array | None = None,
) -> tuple[Any, Array]:
    r"""Compute the Kullback-Leibler divergence and its gradient.

    Parameters
    ----------
    log_q, p, log_target : array_like or bool
        As for `kl_divergence`.
    reduction : {"batchmean", "mean", "sum"}, default "batchmean"
        A gradient needs a scalar, so not "none".
    out : ndarray, optional
        Where to write the gradient; it may be `log_q` itself.

    Returns
    -------
    loss : scalar
        As from `kl_divergence`.
    d_log_q : ndarray
        The derivatives of the loss by `log_q` (as if it were free, not normalized), in its shape
        and dtype: :math:`-p` over what a mean divides by.

    Raises
    ------
    TypeError, ValueError
        As from `kl_divergence`, if `reduction` is "none", and if `out` does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import kl_divergence_with_grad
    >>> loss, gradient = kl_divergence_with_grad(np.log([[0.5, 0.5]]), [[1.0, 0.0]])
    >>> gradient
    array([[-1.,  0.]])
    """
    check_scalar(reduction, _KL_REDUCTIONS)
    x, q, truth = _read_divergence(log_q, p)
    gradient = room_for(x, out)
    divisor = _divisor(x, reduction)
    loss = reduced(_kl(q, truth, log_target), reduction, divisor, x.dtype)
    with np.errstate(all="ignore"):
        values = 0.0 - (np.exp(truth) if log_target else truth) / max(divisor, 1)
    return loss, stored(values, gradient)


def _read_divergence(log_q: ArrayLike, p: ArrayLike) -> tuple[Array, Floats, Floats]:
    x = floating(log_q, "log_q")
    return x, x.astype(np.float64, copy=False), broadcast(p, x.shape, "p", "log_q")


def _kl(log_q: Floats, p: Floats, log_target: bool) -> Floats:
    with np.errstate(all="ignore"):
        share, log_p = (np.exp(p), p) if log_target else (p, np.log(p))
        nothing = (share == 0.0) & ~np.isnan(log_q)
        return np.where(nothing, 0.0, share * (log_p - log_q))


def _divisor(x: Array, reduction: str) -> int:
    if reduction == "batchmean":
        return x.shape[0] if x.ndim else 1
    return x.size if reduction == "mean" else 1
