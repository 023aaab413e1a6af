"""Imbalanced classes: weights, logit adjustment and resampling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._core import softmax
from boltzmax._lib.arguments import (
    as_input,
    as_number,
    class_axis,
    is_bfloat16,
    is_float,
    one_of,
    quietly,
    working_dtype,
)
from boltzmax._lib.random import random_generator
from boltzmax._lib.same_kind import same_kind

__all__ = ["balanced_softmax", "class_weights", "logit_adjustment", "resample_indices"]

Array = NDArray[Any]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

_WEIGHTS = ("balanced", "effective_number", "sqrt")
_SAMPLINGS = ("balanced", "over", "under")


@same_kind
@quietly
def class_weights(counts: ArrayLike, method: str = "balanced", *, beta: float = 0.999) -> Floats:
    r"""Weigh classes by how rare they are.

    Parameters
    ----------
    counts : array_like
        How many samples each class has, :math:`n_k`; 1-d, not negative.
    method : {"balanced", "effective_number", "sqrt"}, default "balanced"
        ``"balanced"``: :math:`\sum_j n_j / (K n_k)` with :math:`K` classes that have samples, as
        in scikit-learn, so that each class has the same total weight.
        ``"effective_number"``: :math:`(1 - \beta) / (1 - \beta^{n_k})`, scaled to the sum
        :math:`K`.
        ``"sqrt"``: the square root of the balanced weights, scaled to
        :math:`\sum_k n_k w_k = \sum_k n_k`.
    beta : float, default 0.999
        For ``"effective_number"``: from 0 (all classes weigh the same) to below 1 (close to 1, the
        weights are those of ``"balanced"`` up to a factor).

    Returns
    -------
    ndarray of float64
        One weight per class; 0 for a class without samples.

    Raises
    ------
    TypeError
        If `counts` is not made of real numbers.
    ValueError
        If `counts` is empty, not 1-d, negative, not finite or all 0, if `beta` is not in [0, 1),
        or if there is no such method.

    See Also
    --------
    logit_adjustment : shift the logits instead of weighting the loss.

    References
    ----------
    Cui, Jia, Lin, Song & Belongie, "Class-balanced loss based on effective number of samples",
    CVPR 2019, https://arxiv.org/abs/1901.05555.

    Examples
    --------
    >>> from boltzmax import class_weights
    >>> class_weights([90, 9, 1]).round(3)
    array([ 0.37 ,  3.704, 33.333])
    >>> class_weights([90, 9, 1], "effective_number", beta=0.99).round(3)
    array([0.045, 0.306, 2.649])
    >>> class_weights([90, 9, 1], "sqrt").round(3)
    array([0.782, 2.472, 7.415])
    """
    one_of(method, "method", _WEIGHTS)
    if not 0.0 <= as_number(beta, "beta") < 1.0:
        raise ValueError(f"beta must be at least 0 and less than 1, got {beta!r}")
    n = _checked_counts(counts)
    present = n > 0.0
    weights = np.zeros_like(n)
    if method == "effective_number":
        weights[present] = _effective_number_weights(n[present], float(beta))
    else:
        weights[present] = _balanced_weights(n[present], root=method == "sqrt")
    return weights


@same_kind
@quietly
def logit_adjustment(counts: ArrayLike, tau: float = 1.0) -> Floats:
    r"""Compute the adjustment to add to the logits in training so that rare classes are predicted.

    Parameters
    ----------
    counts : array_like
        How many samples each class has, :math:`n_k`; 1-d, positive.
    tau : float, default 1.0
        Scales the adjustment.

    Returns
    -------
    ndarray of float64
        :math:`\tau \log(n_k / \sum_j n_j)`, one number per class.  Add it to the logits in the
        loss and predict from the plain logits; or train without it, and subtract it to predict.

    Raises
    ------
    TypeError
        If `counts` is not made of real numbers.
    ValueError
        If a class has no samples, if `counts` is empty, not 1-d, negative or not finite, or if
        `tau` is not finite.

    See Also
    --------
    balanced_softmax : the probabilities with ``tau=1``.

    References
    ----------
    Menon, Jayasumana, Rawat, Jain, Veit & Kumar, "Long-tail learning via logit adjustment",
    ICLR 2021, https://arxiv.org/abs/2007.07314.

    Examples
    --------
    >>> from boltzmax import logit_adjustment
    >>> logit_adjustment([90, 9, 1]).round(3)
    array([-0.105, -2.408, -4.605])
    """
    n = _checked_counts(counts)
    factor = as_number(tau, "tau")
    if not math.isfinite(factor):
        raise ValueError(f"tau must be finite, got {tau!r}")
    if not n.all():
        raise ValueError(f"class {int(n.argmin())} has no samples; every count must be positive")
    adjustment: Floats = factor * _log_shares(n, float(n.sum())) + 0.0  # no -0.0
    return adjustment


@same_kind
@quietly
def balanced_softmax(logits: ArrayLike, counts: ArrayLike, axis: int = -1) -> Array:
    r"""Compute the softmax of logits shifted by the logarithms of the class sizes.

    Parameters
    ----------
    logits : array_like
        Scores.
    counts : array_like
        How many samples each class has, :math:`n_k`; 1-d, not negative.
    axis : int, default -1
        The class axis.

    Returns
    -------
    ndarray
        :math:`n_k e^{x_k} / \sum_j n_j e^{x_j}` in the shape and dtype of `logits` (float64 for
        integers).  A class without samples has probability 0.

    Raises
    ------
    TypeError
        If `logits` or `counts` is not made of real numbers, or `axis` is not an integer.
    ValueError
        If there is not one count per class, or `counts` is negative, not finite or all 0.
    numpy.exceptions.AxisError
        If `axis` is out of bounds.

    See Also
    --------
    logit_adjustment : the shift alone, scaled.

    Notes
    -----
    For any dtype, the sum and the softmax are computed in at least float64: logarithms of counts
    would lose too much in half precision.

    References
    ----------
    Ren, Yu, Sheng, Ma, Zhao, Yi & Li, "Balanced meta-softmax for long-tailed visual recognition",
    NeurIPS 2020, https://arxiv.org/abs/2007.10740.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import balanced_softmax
    >>> balanced_softmax(np.zeros(3), [90, 9, 1]).round(12)
    array([0.9 , 0.09, 0.01])
    """
    x = as_input(logits, "logits")
    dtype = working_dtype(x, None, "balanced_softmax")
    k = class_axis(axis, x.ndim)
    n = _checked_counts(counts)
    if n.size != x.shape[k]:
        raise ValueError(f"counts has {n.size} classes, but axis {axis} of logits {x.shape[k]}")
    shift = _log_shares(n, float(n.max())).reshape(-1, *(1,) * (x.ndim - k - 1))
    wide = np.float64 if is_bfloat16(dtype) else np.result_type(dtype, np.float64)
    return softmax(x.astype(wide) + shift, k).astype(dtype, copy=False)


def resample_indices(
    labels: ArrayLike, method: str = "balanced", rng: int | np.random.Generator | None = None
) -> Indices:
    """Resample so that all classes have the same size.

    Parameters
    ----------
    labels : array_like
        The class of each sample: a 1-d array of anything that can be sorted.
    method : {"balanced", "over", "under"}, default "balanced"
        ``"over"``: as many of each class as the largest has.
        ``"under"``: as many of each class as the smallest has.
        ``"balanced"``: as many as there are `labels` in total.  A remainder goes to the largest
        classes.
    rng : int or numpy.random.Generator, optional
        A seed, for reproducible results, or a generator to draw from.

    Returns
    -------
    ndarray of int64
        Indices of `labels` in random order.  A class that has to shrink is sampled without
        replacement; one that has to grow keeps each sample, and the others are drawn with
        replacement.

    Raises
    ------
    ValueError
        If `labels` is not 1-d, or there is no such method.

    See Also
    --------
    class_weights : weight the classes, and keep the samples as they are.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import resample_indices
    >>> labels = np.array(["cat"] * 7 + ["dog"] * 2)
    >>> drawn = resample_indices(labels, rng=0)
    >>> np.unique(labels[drawn], return_counts=True)
    (array(['cat', 'dog'], dtype='<U3'), array([5, 4]))
    """
    one_of(method, "method", _SAMPLINGS)
    array = np.asarray(labels)
    if array.ndim != 1:
        raise ValueError(f"labels must be 1-d, got shape {array.shape}")
    generator = random_generator(rng)
    if array.size == 0:
        return np.empty(0, np.int64)
    _, inverse, sizes = np.unique(array, return_inverse=True, return_counts=True)
    members = np.split(np.argsort(inverse, kind="stable"), np.cumsum(sizes)[:-1])
    wanted = _wanted_sizes(sizes, method)
    drawn = [_draw(m, int(size), generator) for m, size in zip(members, wanted, strict=True)]
    return generator.permutation(np.concatenate(drawn)).astype(np.int64, copy=False)


def _checked_counts(counts: ArrayLike) -> Floats:
    """Return `counts` in float64."""
    array = as_input(counts, "counts")
    if array.dtype.kind not in "iu" and not is_float(array.dtype):
        raise TypeError(f"counts must be real numbers, got dtype {array.dtype}")
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"counts must be 1-d, one per class and not empty, got {array.shape}")
    n = array.astype(np.float64)
    good = np.isfinite(n) & (n >= 0.0)
    if not good.all():
        k = int(good.argmin())
        raise ValueError(f"counts must be finite and not negative, got {array[k]} for class {k}")
    if not n.any():
        raise ValueError(f"counts must not be all 0, got {n.size} classes without samples")
    return n


def _log_shares(n: Floats, whole: float) -> Floats:
    return np.log(n / whole)


def _balanced_weights(n: Floats, *, root: bool) -> Floats:
    weights: Floats = n.sum() / (n.size * n)
    if not root:
        return weights
    weights = np.sqrt(weights)
    weights *= n.sum() / (n * weights).sum()
    return weights


def _effective_number_weights(n: Floats, beta: float) -> Floats:
    weights: Floats = (1.0 - beta) / -np.expm1(n * np.log1p(beta - 1.0))
    weights *= n.size / weights.sum()
    return weights


def _wanted_sizes(sizes: NDArray[np.intp], method: str) -> NDArray[np.intp]:
    if method == "over":
        return np.full_like(sizes, sizes.max())
    if method == "under":
        return np.full_like(sizes, sizes.min())
    share, rest = divmod(int(sizes.sum()), sizes.size)
    wanted = np.full_like(sizes, share)
    wanted[np.argsort(-sizes, kind="stable")[:rest]] += 1
    return wanted


def _draw(members: NDArray[np.intp], size: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw `size` of the samples of one class, with as few repetitions as possible."""
    if size <= members.size:
        return rng.choice(members, size, replace=False)
    return np.concatenate([members, rng.choice(members, size - members.size)])
