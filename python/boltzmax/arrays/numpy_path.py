r"""The softmax family in plain NumPy, for input that the compiled kernels do not support.

That is longdouble, real or complex, and, for `logsumexp` alone, complex rows with infinities or
NaN.  Sums keep their largest term separate (see `numpy_sums`), so tiny terms do not vanish:
``logsumexp([0, -40])`` is exp(-40); sums that cancel are recomputed exactly.  Work is done tile
by tile with temporaries that stay in the cache; half and single precision are computed in double
and rounded once at the end.  No function here warns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from boltzmax.arrays.numpy_rows import SHORT, TILE, Rows, boxes, kept_first, new_reduced
from boltzmax.arrays.numpy_sums import (
    exact_sum,
    log_abs,
    pairwise_sum,
    principal_angle,
    real_dtype,
    sign,
)

__all__ = ["log_softmax", "logsumexp", "sign_of_sum", "softmax"]

Array = NDArray[Any]

# Rows processed together even if long, as neighbours in memory may belong to different rows.
_LEAST_ROWS = 4


def softmax(
    x: Array,
    axes: tuple[int, ...],
    *,
    where: Array | None = None,
    temperature: Array | None = None,
) -> Array:
    r"""Softmax of a real array: :math:`e^{x_i - m} / \sum_j e^{x_j - m}`, :math:`m = \max_j x_j`.

    Parameters
    ----------
    x : ndarray
        float64 or longdouble.
    axes : tuple of int
        The axes that make up a row, normalised (non-negative, no repeats).
    where : ndarray of bool, optional
        Broadcasts to ``x.shape``; False entries are left out and get 0.
    temperature : ndarray, optional
        Divides `x`; its shape is that of `x` with length 1 along `axes`.

    Returns
    -------
    ndarray
        The shape and dtype of `x`.  A row with NaN or +inf, or of -inf alone, is NaN (masked
        entries excepted).

    Notes
    -----
    Equation (1.4) of Blanchard, Higham & Higham, IMA J. Numer. Anal. 41(4), 2021: the shifted
    formula with a division, which is the most accurate of those compared there.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax.arrays.numpy_path import softmax
    >>> softmax(np.log(np.array([1.0, 3.0], np.longdouble)), (0,)).astype(float).tolist()
    [0.25, 0.75]
    """
    out = np.empty_like(x, subok=False)
    with np.errstate(all="ignore"):
        for rows in _blocks(x, axes, where, temperature, out):
            m = rows.source.max(axis=rows.row_axes, keepdims=True)
            np.subtract(rows.source, m, out=rows.work)
            np.exp(rows.flat, out=rows.flat)
            total = pairwise_sum(rows.flat, rows.axis)
            np.divide(rows.work, total.reshape(m.shape), out=rows.target)
    return _masked(out, where, 0.0)


def log_softmax(
    x: Array,
    axes: tuple[int, ...],
    *,
    where: Array | None = None,
    temperature: Array | None = None,
) -> Array:
    r"""Logarithm of the softmax of a real array, :math:`(x_i - m) - \log \sum_j e^{x_j - m}`.

    The order of the two subtractions matters: adding :math:`m` and the logarithm first would lose
    digits of the latter.

    Parameters
    ----------
    x, axes, where, temperature
        As for `softmax`.

    Returns
    -------
    ndarray
        The shape and dtype of `x`; masked entries are -inf.  In a row with +inf, NaN at +inf and
        -inf elsewhere; a row with NaN, or of -inf alone, is NaN.

    Notes
    -----
    `x` minus equation (1.3) of Blanchard, Higham & Higham, IMA J. Numer. Anal. 41(4), 2021, with
    the logarithm as in their Algorithm 4.1.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax.arrays.numpy_path import log_softmax
    >>> y = log_softmax(np.array([0.0, 40.0], np.longdouble), (0,))
    >>> bool(y[1] == -np.log1p(np.exp(np.longdouble(-40))))
    True
    """
    out = np.empty_like(x, subok=False)
    with np.errstate(all="ignore"):
        for rows in _blocks(x, axes, where, temperature, out):
            m = rows.source.max(axis=rows.row_axes, keepdims=True)
            np.subtract(rows.source, np.where(np.isfinite(m), m, 0.0), out=rows.work)
            e = np.exp(rows.flat)
            largest = _largest(rows.flat, rows.axis)
            first = e.reshape(-1)[largest]  # 1, or the result of an infinity or NaN
            e.reshape(-1)[largest] = 0.0
            log_sum = np.log1p((first - 1.0) + pairwise_sum(e, rows.axis))
            np.subtract(rows.work, log_sum.reshape(m.shape), out=rows.target)
    return _masked(out, where, -np.inf)


def softmax_backward(dy: Array, y: Array, axes: tuple[int, ...]) -> Array:
    r"""Gradient through softmax, :math:`y_i (dy_i - \sum_j dy_j y_j)`."""
    dx: Array = y * (dy - np.sum(dy * y, axis=axes, keepdims=True))
    return dx


def log_softmax_backward(dy: Array, y: Array, axes: tuple[int, ...]) -> Array:
    r"""Gradient through log_softmax, :math:`dy_i - e^{y_i} \sum_j dy_j`."""
    dx: Array = dy - np.exp(y) * np.sum(dy, axis=axes, keepdims=True)
    return dx


def logsumexp(
    x: Array,
    axes: tuple[int, ...],
    *,
    b: Array | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
    where: Array | None = None,
    temperature: Array | None = None,
) -> Any:
    r"""Logarithm of a sum of exponentials, :math:`\log \sum_i b_i e^{x_i}`.

    Parameters
    ----------
    x : ndarray
        Real or complex floating dtype.
    axes : tuple of int
        The axes that are summed over, normalised (non-negative, no repeats).
    b : ndarray, optional
        Weights, broadcasting to ``x.shape``; any sign; complex ones make `x` complex.  An element
        of weight 0 adds nothing, even if it is infinite or NaN, as long as the rest of its row
        has a finite logarithm (SciPy's rule; otherwise the row is NaN).
    keepdims : bool
        Leave the summed axes in the result with length 1.
    return_sign : bool
        Return ``(log|sum|, sign)``; without it a negative sum gives NaN.
    where : ndarray of bool, optional
        Broadcasts to ``x.shape``; False entries are left out.
    temperature : ndarray, optional
        Divides `x`; its shape is that of `x` with length 1 along `axes`.

    Returns
    -------
    ndarray or tuple of two ndarrays
        The logarithm in the dtype of `x`; its imaginary part, if any, is in (-pi, pi].  With
        `return_sign` the logarithm is real and the sign, in the dtype of `x`, is -1, 0, 1 or a
        complex phase.  An empty sum is -inf, with sign 0.  0-d results are 0-d arrays.

    Notes
    -----
    Equation (1.3) and Algorithm 4.1 of Blanchard, Higham & Higham, IMA J. Numer. Anal. 41(4),
    2021, extended to weights.  Where weights span so many orders of magnitude that the largest `x`
    may not give the largest term, that term is found as the largest :math:`x_i + \log|b_i|`.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax.arrays.numpy_path import logsumexp
    >>> float(logsumexp(np.array([0.0, 0.0, -1.0]), (0,), b=np.array([1.0, -1.0, 1.0])))
    -1.0
    >>> x, b = np.array([1.0, 2.0]), np.array([1.0, -1.0])
    >>> log_size, sign = logsumexp(x, (0,), b=b, return_sign=True)
    >>> print(f"{log_size:.6f} {sign}")
    1.541325 -1.0
    """
    if b is not None and b.dtype.kind == "c" and x.dtype.kind != "c":
        x = x.astype(np.promote_types(x.dtype, np.complex64))
    rows = Rows(x, axes, b=b, where=where, temperature=temperature)
    magnitude = new_reduced(x, axes, real_dtype(rows.work), -np.inf)
    value = new_reduced(x, axes, rows.work, 0)
    cancelled = np.zeros(rows.kept_shape, bool)
    with np.errstate(all="ignore"):
        for box, total in rows.sums() if x.size else ():
            sums = total.value()
            shape = value[box].shape
            magnitude[box] = (total.m + log_abs(total, sums)).reshape(shape)
            value[box] = sums.reshape(shape)
            cancelled[box] = total.cancels(sums).reshape(shape)
        for at in map(tuple, np.argwhere(cancelled)):
            exact = exact_sum(*rows.terms(at))
            if exact is not None:
                magnitude[at], value[at] = exact
        if keepdims:
            shape = tuple(1 if k in axes else n for k, n in enumerate(x.shape))
            magnitude, value = magnitude.reshape(shape), value.reshape(shape)
        if return_sign:
            return magnitude.astype(real_dtype(x.dtype)), sign(value).astype(x.dtype)
        if value.dtype.kind == "c":
            result = np.empty_like(value, x.dtype)
            result.real, result.imag = magnitude, principal_angle(value)
            return result
        magnitude[value < 0] = np.nan
        return magnitude.astype(x.dtype)


def sign_of_sum(log_sum: Any) -> Any:
    """Sign of a sum of (unweighted) exponentials, given its logarithm.

    Parameters
    ----------
    log_sum : ndarray or NumPy scalar
        Result of a real `logsumexp`.

    Returns
    -------
    ndarray or NumPy scalar
        0 where `log_sum` is -inf, NaN where it is NaN, 1 elsewhere; shape and dtype of `log_sum`.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax.arrays.numpy_path import sign_of_sum
    >>> sign_of_sum(np.array([-np.inf, -3.0, np.inf, np.nan])).tolist()
    [0.0, 1.0, 1.0, nan]
    """
    signs = np.where(np.isnan(log_sum), log_sum, log_sum != -np.inf)
    return signs.astype(log_sum.dtype)[()]


class _Block(NamedTuple):
    """Some rows: x / temperature (-inf where masked), a work buffer, and the output.

    All have the same axes, those of a row last.  `flat` is `work` as a contiguous 2-d array with
    the rows along `axis`.
    """

    source: Array
    work: Array
    flat: Array
    target: Array
    row_axes: tuple[int, ...]
    axis: int


def _blocks(
    x: Array,
    axes: tuple[int, ...],
    where: Array | None,
    temperature: Array | None,
    out: Array,
) -> Iterator[_Block]:
    if x.size == 0:
        return
    n_kept = x.ndim - len(axes)
    order = [k for k in range(x.ndim) if k not in axes] + sorted(axes)
    source, target = x.transpose(order), out.transpose(order)
    mask, t = (None if a is None else kept_first(a, x.shape, axes) for a in (where, temperature))
    row_shape = source.shape[n_kept:]
    length = math.prod(row_shape)
    axis = 0 if length < SHORT else 1
    for box in boxes(source.shape[:n_kept], max(_LEAST_ROWS, TILE // length)):
        index: tuple[Any, ...] = (*box, ...)
        v = source[index]
        kept_shape = v.shape[:n_kept]
        if axis:
            work = np.empty(v.shape, out.dtype)
            flat = work.reshape(-1, length)
        else:
            across = np.empty(row_shape + kept_shape, out.dtype)
            flat = across.reshape(length, -1)
            work = across.transpose((*range(len(axes), x.ndim), *range(len(axes))))
        strided = axis == 1 and min(abs(k) for k in v.strides[n_kept:]) > v.itemsize
        if strided or t is not None or mask is not None:
            work[...] = v
            v = work
            if t is not None:
                np.divide(v, t[index], out=v)
            if mask is not None:
                np.copyto(v, -np.inf, where=~mask[index])
        yield _Block(v, work, flat, target[index], tuple(range(n_kept, x.ndim)), axis)


def _largest(shifted: Array, axis: int) -> Array:
    """Flat index of each row's first largest element, shifted to 0 (any index if there is none)."""
    if axis == 1:
        along: Array = shifted.argmax(axis=1) + np.arange(len(shifted)) * shifted.shape[1]
        return along
    rows = shifted.shape[1]
    first = np.arange(rows)
    zeros = np.flatnonzero(shifted == 0.0)[::-1]  # for repeated indices the last one wins
    first[zeros % rows] = zeros
    return first


def _masked(out: Array, where: Array | None, fill: float) -> Array:
    if where is not None:
        np.copyto(out, fill, where=~where)
    return out
