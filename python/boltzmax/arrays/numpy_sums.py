r"""Sums of exponentials along rows, in NumPy, in double precision or better.

Everything rests on one representation of the sum of a row,

.. math:: \sum_i b_i e^{x_i} = e^m (p u + s),

where :math:`m` is the largest real part, :math:`p u` its term (a weight, and for complex numbers a
unit phase; 1 and 1 in the plain case) and :math:`s` the sum of all other terms.  With the largest
term separate, :math:`\log(1 + s)` uses ``log1p`` and tiny terms survive: Algorithm 4.1 of
Blanchard, Higham & Higham, "Accurately computing the log-sum-exp and softmax functions", IMA J.
Numer. Anal. 41(4), 2021, https://doi.org/10.1093/imanum/draa038.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from boltzmax import _core

__all__ = [
    "Sum",
    "common_factor",
    "exact_sum",
    "fields",
    "log_abs",
    "merged",
    "pairwise_sum",
    "principal_angle",
    "real_dtype",
    "scaled",
    "sign",
    "spans_too_much",
    "sum_of_tile",
    "sum_of_wide_tile",
]

Array = NDArray[Any]

# Beyond every logarithm that could matter; four times as much is still finite.
_HUGE = 1e300
# A sum below this share of its terms' absolute values is recomputed exactly.
_CANCELLED = 1024


class Sum(NamedTuple):
    """Sums e^m (e + s), one per row: the largest element's term e = p u, and the sum s of others.

    Where the largest element is infinite, so is m; e and s are then relative to m = 0.
    """

    m: Array
    e: Array
    s: Array
    p: Array
    u: Array | None  # unit phase of e, complex numbers only
    size: Array  # sum of the absolute values of all terms, or of their real and imaginary parts
    nan_if_singular: Array | None  # rows with an infinity or NaN of weight 0; only with weights

    def value(self) -> Array:
        """Return the sum relative to e^m."""
        value = self.e + self.s
        if self.nan_if_singular is not None and self.nan_if_singular.any():
            singular = (value == 0) | ~np.isfinite(value)
            value[self.nan_if_singular & singular] = np.nan
        return value

    def cancels(self, value: Array) -> Array:
        """Return which rows have lost most digits of their value to cancellation."""
        cancels: Array = (self.size > _CANCELLED * np.abs(value)) & (self.size < np.inf)
        return cancels


def fields(function: Callable[..., Any], *sums: Sum) -> Sum:
    """Apply a function field by field."""
    fields: Any = (None if f[0] is None else function(*f) for f in zip(*sums, strict=True))
    return Sum(*fields)


def sum_of_tile(v: Array, w: Array | None, axis: int) -> Sum:
    """Sum of w exp(v) along an axis; v is overwritten."""
    kept, nan_if_singular = (None, None) if w is None else _drop_weightless(v, w, axis)
    shifted = v.real
    candidates = shifted
    if kept is not None:
        candidates = np.multiply(~kept, -4 * _HUGE, dtype=shifted.dtype)
        candidates += shifted
    largest = _first_largest(candidates, axis)
    m = candidates.reshape(-1)[largest]
    if kept is not None:
        m[m < -_HUGE] = -np.inf
    finite = np.isfinite(m)
    np.subtract(shifted, _along(np.where(finite, m, 0.0), axis), out=shifted)
    if kept is not None:
        np.multiply(v, kept, out=v)  # exp(0) is fast, and so it does not overflow
    np.exp(v, out=v)
    flat = v.reshape(-1)
    p, u = _split_phase(flat[largest], finite)
    if w is not None:
        np.multiply(v, w, out=v)
        p = p * w.reshape(-1)[largest]
    size = _sum_of_sizes(v, axis)
    e = flat[largest]
    flat[largest] = 0.0
    return Sum(m, e, pairwise_sum(v, axis), p, u, size, nan_if_singular)


def sum_of_wide_tile(v: Array, w: Array, axis: int) -> Sum:
    """Sum of w exp(v) for weights of very different sizes, shifted by the largest v + log|w|.

    Row by row, weights are scaled by the power of two that brings the weight of the largest term
    into [0.5, 1).
    """
    kept, nan_if_singular = _drop_weightless(v, w, axis)
    if kept is not None:
        np.putmask(v, ~kept, -np.inf)
    log_w = np.log(np.abs(w))
    largest = _first_largest(v.real + log_w, axis)
    m = v.real.reshape(-1)[largest]
    finite = np.isfinite(m)
    shifted = v.real
    np.subtract(shifted, _along(np.where(finite, m, 0.0), axis), out=shifted)
    exponent = np.frexp(np.abs(w.reshape(-1)[largest]))[1]
    log_scale = exponent * np.log(real_dtype(v.dtype).type(2))
    scaled = w.copy()
    for part in (scaled.real, scaled.imag) if w.dtype.kind == "c" else (scaled,):
        np.ldexp(part, -_along(exponent, axis), out=part)
    # exp or weight alone may be out of range: multiply inside the exponential.
    log_ratio = log_w - _along(log_scale, axis)
    extreme = np.abs(log_ratio) > 100
    scaled[extreme] = np.sign(w[extreme])
    shifted[extreme] += log_ratio[extreme]
    np.exp(v, out=v)
    flat = v.reshape(-1)
    p, u = _split_phase(flat[largest], finite)
    p = p * scaled.reshape(-1)[largest]
    np.multiply(v, scaled, out=v)
    size = _sum_of_sizes(v, axis)
    e = flat[largest]
    flat[largest] = 0.0
    return Sum(m + log_scale, e, pairwise_sum(v, axis), p, u, size, nan_if_singular)


def _sum_of_sizes(v: Array, axis: int) -> Array:
    size = np.abs(v.real)
    if v.dtype.kind == "c":
        size += np.abs(v.imag)
    total: Array = np.add.reduce(size, axis=axis)
    return total


def _along(per_row: Array, axis: int) -> Array:
    """Insert the axis of length 1 along the row that broadcasting needs."""
    return per_row[:, None] if axis else per_row


def _drop_weightless(v: Array, w: Array, axis: int) -> tuple[Array | None, Array]:
    """Leave out elements of weight 0; return which rows have one that is not finite.

    In such a row SciPy leaves the element out if the logarithm of the rest is finite; if not, the
    row is NaN.  For moderate numbers a mask of those to keep is returned, to multiply by: NumPy is
    slow to assign to scattered elements.  Otherwise v becomes -inf where w is 0.
    """
    kept = w != 0
    if kept.all():
        return None, np.zeros(v.shape[1 - axis], bool)
    finite = np.isfinite(v)
    if finite.all() and _largest_size(v.real) < _HUGE:
        return kept, np.zeros(v.shape[1 - axis], bool)
    singular = (~kept & ~finite & (v.real != -np.inf)).any(axis=axis)
    np.putmask(v, ~kept, -np.inf)
    return None, singular


def _first_largest(a: Array, axis: int) -> Array:
    """Flat index of the first largest element along an axis (of any, where there are NaN)."""
    if axis == 1:
        along: Array = a.argmax(axis=1) + np.arange(len(a)) * a.shape[1]
        return along
    # argmax across rows is slow in NumPy; for repeated indices the last one wins
    rows = a.shape[1]
    first = np.arange(rows)
    ties = np.flatnonzero(a == a.max(axis=0))[::-1]
    first[ties % rows] = ties
    return first


def pairwise_sum(v: Array, axis: int) -> Array:
    """Sum along an axis of a contiguous 2-d array; bits do not depend on the number of sums."""
    if axis == 1:
        total: Array = np.add.reduce(v, axis=1)  # NumPy adds in pairs along contiguous rows
        return total
    while (n := len(v)) > 1:
        half = n // 2
        odd, v = v[2 * half :], v[:half] + v[half : 2 * half]
        if len(odd):
            v[0] += odd[0]
    first: Array = v[0]
    return first


def _split_phase(largest: Array, finite: Array) -> tuple[Array, Array | None]:
    """Weight and unit phase of the exponential of the largest (already shifted) element."""
    if largest.dtype.kind != "c":
        return largest, None
    return np.where(finite, 1.0, largest), np.where(finite, largest, 1.0)


def spans_too_much(w: Array, pivot: Array) -> bool:
    """Whether a term could exceed that of the largest element by more than exp can represent."""
    limit = _span(w.dtype)
    largest = _largest_size(w)
    pivot = np.abs(pivot)
    return bool(limit < largest < np.inf or ((pivot > 0) & (pivot * limit < 1)).any())


@functools.cache
def _span(dtype: np.dtype[Any]) -> Any:
    info = np.finfo(dtype)
    return np.ldexp(info.dtype.type(1), info.maxexp * 7 // 16)


def _largest_size(a: Array) -> Any:
    return np.abs(a).max() if a.dtype.kind == "c" else max(a.max(), -a.min())


def common_factor(b: Array | None, work: np.dtype[Any]) -> Any:
    """Return the weight that all elements share, if it can multiply the sum instead."""
    if b is None or b.size != 1:
        return None
    factor = b.reshape(1).astype(work)
    if not 0 < abs(factor[0]) < np.inf or spans_too_much(factor, factor):
        return None
    return factor[0]


def scaled(total: Sum, factor: Any) -> Sum:
    """Return a sum times a factor."""
    size = total.size * np.abs(factor)
    return total._replace(e=total.e * factor, s=total.s * factor, p=total.p * factor, size=size)


def merged(segments: Sum) -> Sum:
    """Sum along the first axis of sums."""
    rows = segments.m.shape[1]
    largest = segments.m.argmax(axis=0) * rows + np.arange(rows)
    pivot = fields(lambda a: a.reshape(-1)[largest], segments)
    gap = np.where(segments.m == pivot.m, 0.0, segments.m - pivot.m)  # inf - inf
    unit = np.exp(gap)
    terms = (segments.e + segments.s) * unit
    terms.reshape(-1)[largest] = 0.0
    flags: Any = segments.nan_if_singular
    flags = None if flags is None else flags.any(axis=0)
    return pivot._replace(
        s=pivot.s + pairwise_sum(terms, 0),
        size=np.add.reduce(segments.size * unit, axis=0),
        nan_if_singular=flags,
    )


def log_abs(total: Sum, value: Array) -> Array:
    """Logarithm of the absolute sum, given its value relative to e^m; accurate near 1."""
    size = np.abs(value)
    if total.u is None:
        by_excess = size >= 0.5
        signs = np.sign(value)
        log_size: Array = np.log1p((signs * total.p - 1.0) + signs * total.s)
    else:
        # |p + q|^2 - 1 with q = s / u, each part without cancellation where p is 1
        by_excess = (size >= 0.5) & (size <= 2.0)
        p, q = total.p, total.s * np.conj(total.u)
        of_p = (np.abs(p.real) - 1.0) * (np.abs(p.real) + 1.0) + p.imag**2
        of_q = 2.0 * (p.real * q.real + p.imag * q.imag) + (q.real**2 + q.imag**2)
        log_size = np.log1p(of_p + of_q) / 2.0
    if by_excess.all():
        return log_size
    result: Array = np.where(by_excess, log_size, np.log(size))
    return result


def exact_sum(x: Array, w: Array) -> tuple[Any, Any] | None:
    """Logarithm of the absolute value of sum(w exp(x)), and the sum up to a positive factor.

    Equal terms cancel exactly, others leave as many digits as the result has.  None where x or w is
    out of the range of float64, since both are split into float64 parts.
    """
    parts = [_in_parts(a) for v in (x, w) for a in (v.real, v.imag)]
    if not all(np.isfinite(part).all() for part in parts):
        return None
    re, im, w_re, w_im = parts
    # One term per part of a weight.
    re, im = np.tile(re, (3, 1)), np.tile(im, (3, 1))
    pairs = _core.exact_sum(re, im, w_re.T.ravel(), w_im.T.ravel())
    real = real_dtype(x.dtype).type
    log_size, re_sum, im_sum = (real(high) + real(low) for high, low in pairs)
    return log_size, re_sum + x.dtype.type(1j) * im_sum if x.dtype.kind == "c" else re_sum


def _in_parts(v: Array) -> NDArray[np.float64]:
    """Split numbers into sums of three doubles, one in each row."""
    parts = np.empty((len(v), 3))
    for part in parts.T:
        part[:] = v
        v = v - part
    return parts


def principal_angle(value: Array) -> Array:
    """Argument of complex numbers, in (-pi, pi]."""
    angle: Array = np.arctan2(value.imag, value.real)
    return np.where(angle == -np.arctan2(angle.dtype.type(0), angle.dtype.type(-1)), -angle, angle)


def sign(value: Array) -> Array:
    """Sign, or phase, of a number: NaN for an infinite complex one, as in SciPy."""
    if value.dtype.kind != "c":
        return np.sign(value)
    phase: Array = value / np.abs(value)
    return np.where(value == 0, 0, phase).astype(value.dtype)


def real_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Dtype of the real part."""
    return np.empty(0, dtype).real.dtype
