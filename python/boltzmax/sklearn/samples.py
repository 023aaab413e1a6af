"""The training samples of the classifiers in `boltzmax.sklearn`, and standardised coordinates.

Training uses standardised coordinates, as if every feature had mean 0 and spread 1: with
v = w * scale and c = b + w . centre, the scores x . w + b are ((x - centre) / scale) . v + c. This
only changes variables: the data are not modified (sparse data stay sparse), nor is the objective,
whose penalty is that of w.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy import sparse
from sklearn.utils.sparsefuncs import min_max_axis

Array = NDArray[Any]
Doubles = NDArray[np.float64]

BLOCK = 1 << 22  # elements of a temporary
CONVERTED, ROWS = 1 << 16, 64  # elements, and least rows, of a temporary that is used once
_RANGE = 0.1  # a scale is at least this share of the largest distance from the centre
_ROUNDINGS = 32  # see `Features.noise`


@dataclass(frozen=True)
class Samples:
    """Rows, their classes and their weights, which are positive."""

    x: Any  # ndarray or CSR, (n, D)
    target: NDArray[np.intp]
    weight: Doubles

    def __len__(self) -> int:
        return len(self.target)

    def part(self, rows: Any) -> Samples:
        """Return some of the rows."""
        return Samples(self.x[rows], self.target[rows], self.weight[rows])


def row_blocks(n_rows: int, width: int, most: int | None = None) -> list[slice]:
    """Return slices of rows, such that a copy of a slice, `width` numbers per row, stays small."""
    step = max(1, (BLOCK if most is None else most) // max(width, 1))
    return [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]


def stored_blocks(x: Any) -> list[slice]:
    """Return slices of rows, such that a copy of the stored entries of a slice stays small."""
    stored = x.nnz if sparse.issparse(x) else x.size
    return row_blocks(x.shape[0], -(-stored // max(1, x.shape[0])))


def _converted(x: Any, dtype: DTypeLike) -> Iterator[tuple[slice, Any]]:
    """Yield blocks of rows, converted to a dtype."""
    if sparse.issparse(x):
        for rows in stored_blocks(x):
            first, last = x.indptr[rows.start], x.indptr[rows.stop]
            data, indices = x.data[first:last].astype(dtype), x.indices[first:last]
            indptr = x.indptr[rows.start : rows.stop + 1] - first
            shape = (rows.stop - rows.start, x.shape[1])
            yield rows, sparse.csr_array((data, indices, indptr), shape)
        return
    # Few enough for the cache, but enough that summing the results does not dominate.
    most = min(max(CONVERTED, ROWS * x.shape[1]), BLOCK)
    for rows in row_blocks(x.shape[0], x.shape[1], most):
        yield rows, x[rows].astype(dtype)


def scores_of(x: Any, coef: Array) -> Array:
    """Return x @ coef.T in the wider dtype of both, without a copy of `x`."""
    dtype = np.result_type(x.dtype, coef.dtype)
    if x.dtype == dtype:
        return np.asarray(x @ coef.T)
    scores = np.empty((x.shape[0], len(coef)), dtype)
    for rows, some in _converted(x, dtype):
        scores[rows] = some @ coef.T
    return scores


def weighted_sums(x: Any, weight: Array) -> Array:
    """Return weight.T @ x, (K, D), in the wider dtype of both, without a copy of `x`."""
    dtype = np.result_type(x.dtype, weight.dtype)
    if x.dtype == dtype:
        return np.asarray((x.T @ weight).T)
    sums = np.zeros((weight.shape[1], x.shape[1]), dtype)
    for rows, some in _converted(x, dtype):
        sums += (some.T @ weight[rows]).T
    return sums


# ---- features ----


@dataclass(frozen=True)
class Features:
    """Mean, standard deviation and range of each feature in the rows so far."""

    total: float  # of the weights
    mean: Doubles
    deviation: Doubles
    low: Doubles
    high: Doubles
    dtype: np.dtype[Any]  # of the rows; the least precise one, if there were several

    @classmethod
    def of(cls, samples: Samples) -> Features:
        """Compute the statistics of some rows."""
        x, total = samples.x, float(samples.weight.sum())
        low, high = _ends(x)
        # Squares of distances from the middle, in units of half the range, cannot overflow, and
        # rounding is relative to the range: the mean is accurate whatever the column's offset.
        middle, half = 0.5 * low + 0.5 * high, 0.5 * high - 0.5 * low
        unit = np.where(half > 0, half, 1.0)
        moments = _sparse_moments if sparse.issparse(x) else _dense_moments
        first, second = moments(x, samples.weight / total, middle, unit)
        mean = np.clip(middle + half * first, low, high)
        # Where this cancels, the deviation is small compared with the range, which sets the scale.
        deviation = half * np.sqrt(np.maximum(second - first**2, 0.0))
        return cls(total, mean, deviation, low, high, x.dtype)

    def merged(self, other: Features) -> Features:
        """Return the statistics of both sets of rows together (Chan, Golub & LeVeque, 1983)."""
        total = self.total + other.total
        mine, theirs = self.total / total, other.total / total
        step = other.mean - self.mean
        within = np.hypot(np.sqrt(mine) * self.deviation, np.sqrt(theirs) * other.deviation)
        return Features(
            total=total,
            mean=self.mean + step * theirs,
            deviation=np.hypot(within, np.sqrt(mine * theirs) * step),
            low=np.minimum(self.low, other.low),
            high=np.maximum(self.high, other.high),
            dtype=min(self.dtype, other.dtype, key=lambda dtype: dtype.itemsize),
        )

    def reach(self, centre: Doubles) -> Doubles:
        """Return the largest distance of a value from the centre."""
        return np.maximum(self.high - centre, centre - self.low)

    def varies(self, centre: Doubles) -> NDArray[np.bool_]:
        """Whether values differ from the centre by more than rounding can explain."""
        return np.asarray(self.reach(centre) > self.noise())

    def noise(self) -> Doubles:
        """Return how far rounding alone may have moved a constant feature's values from their mean.

        A value rounded by m operations is off by at most m / 2 eps of its size, and by about
        sqrt(m) / 2 eps if errors go up as often as down: 32 eps cover any 64 operations, and sums
        of a few thousand terms (probabilities that sum to 1, say). So narrow a feature would be of
        no use anyway, since a score x . w + b is itself rounded by about an eps of x . w. The bound
        is for the values and not for their spread, so it does not depend on the number of rows or
        their weights. `sklearn.preprocessing.StandardScaler` uses n eps |mean| for the spread, the
        error of a mean of n rows, which is not made here: that would lose a feature of 1e9 and
        1e9 + 1 in two million rows, and would not detect sums in float32.

        A feature within tiny / eps of 0 also counts as constant: its products with slopes would be
        subnormal, and its coefficient would overflow.
        """
        numbers = np.finfo(self.dtype)
        largest = np.maximum(np.abs(self.low), np.abs(self.high))
        least = float(numbers.tiny) / float(numbers.eps)
        return np.asarray(np.maximum(_ROUNDINGS * float(numbers.eps) * largest, least))


def _ends(x: Any) -> tuple[Doubles, Doubles]:
    """Return the smallest and the largest value of each feature."""
    if not sparse.issparse(x):
        return x.min(axis=0).astype(np.float64), x.max(axis=0).astype(np.float64)
    low, high = np.full((2, x.shape[1]), [[np.inf], [-np.inf]])
    for rows in stored_blocks(x):  # `min_max_axis` copies its input
        least, largest = min_max_axis(x[rows], axis=0)
        np.minimum(low, least, out=low)
        np.maximum(high, largest, out=high)
    return low, high


def _dense_moments(
    x: Array, share: Doubles, middle: Doubles, unit: Doubles
) -> tuple[Doubles, Doubles]:
    """Return the means of (x - middle) / unit and of its square; the shares of rows sum to 1."""
    first, second = np.zeros_like(middle), np.zeros_like(middle)
    for rows in stored_blocks(x):
        distance = x[rows] - middle
        distance /= unit
        first += share[rows] @ distance
        second += share[rows] @ np.square(distance, out=distance)
    return first, second


def _sparse_moments(
    x: Any, share: Doubles, middle: Doubles, unit: Doubles
) -> tuple[Doubles, Doubles]:
    """Return the same as `_dense_moments`; entries that are not stored are zeros."""
    first, second, stored = np.zeros((3, len(middle)))
    for rows in stored_blocks(x):
        some = x[rows]
        distance = (some.data - middle[some.indices]) / unit[some.indices]
        for sums, values in (
            (first, distance),
            (second, np.square(distance)),
            (stored, np.ones_like(distance)),
        ):
            sums += (
                sparse.csr_array((values, some.indices, some.indptr), some.shape).T @ share[rows]
            )
    # If 0 is out of the range, every entry is stored: the sum of shares differs by rounding only.
    zero = np.where(np.abs(middle) <= unit, -middle / unit, 0.0)
    rest = np.maximum(1.0 - stored, 0.0)
    return first + rest * zero, second + rest * zero**2


# ---- coordinates ----


@dataclass
class Affine:
    """Coordinates of coefficients of which the features are (x - centre) / scale."""

    centre: Doubles
    scale: Doubles

    def gradients(self, d_coef: Array, d_intercept: Array | None) -> tuple[Array, Array | None]:
        """Return the gradients with respect to these coefficients."""
        if d_intercept is not None:
            d_coef = d_coef - np.multiply.outer(d_intercept, self.centre)
        return d_coef / self.scale, d_intercept

    def plain(self, coef: Array, intercept: Array | None) -> tuple[Array, Array | None]:
        """Convert such coefficients, or steps of them, to those of the raw data."""
        coef = coef / self.scale
        return coef, None if intercept is None else intercept - coef @ self.centre


class Coordinates(Affine):
    """Standardised coordinates of the coefficients."""

    def __init__(self, features: Features, centred: bool, l2: float) -> None:
        # Without an intercept nothing can compensate for a shift.
        self.centre = features.mean if centred else np.zeros_like(features.mean)
        deviation = features.deviation if centred else np.hypot(features.deviation, features.mean)
        reach = features.reach(self.centre)
        # The deviation of a feature that is nearly always 0 says little about its nonzero values.
        # Curvature is the variance times p (1 - p), at most 1/4, plus the penalty.
        scale = np.maximum(np.hypot(deviation, 2.0 * np.sqrt(l2)), _RANGE * reach)
        # An infinite scale makes the coefficient and its slope 0: the feature is left out.
        self.scale = np.where(features.varies(self.centre), scale, np.inf)
