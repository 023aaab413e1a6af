"""What the classifiers of `boltzmax.sklearn` learn from, and coordinates that suit it.

Training walks in standardised coordinates, as if every feature had mean 0 and spread 1, whatever
the data are: with v = w * scale and c = b + w . centre, the scores x . w + b are
((x - centre) / scale) . v + c. It is a change of variables alone: data stay as they are (sparse
ones sparse), and so does the objective, whose penalty is that of w.
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
CONVERTED, ROWS = 1 << 16, 64  # elements, and at least so many rows, of one that is used at once
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
    """Return slices of rows, so many that a copy of them, `width` numbers each, stays small."""
    step = max(1, (BLOCK if most is None else most) // max(width, 1))
    return [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]


def stored_blocks(x: Any) -> list[slice]:
    """Return slices of rows, so many that a copy of what they store stays small."""
    stored = x.nnz if sparse.issparse(x) else x.size
    return row_blocks(x.shape[0], -(-stored // max(1, x.shape[0])))


def _converted(x: Any, dtype: DTypeLike) -> Iterator[tuple[slice, Any]]:
    """Yield some rows at a time, converted to a dtype."""
    if sparse.issparse(x):
        for rows in stored_blocks(x):
            first, last = x.indptr[rows.start], x.indptr[rows.stop]
            data, indices = x.data[first:last].astype(dtype), x.indices[first:last]
            indptr = x.indptr[rows.start : rows.stop + 1] - first
            shape = (rows.stop - rows.start, x.shape[1])
            yield rows, sparse.csr_array((data, indices, indptr), shape)
        return
    # Few enough for the cache, but not so few that to add up what they give takes long.
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
    dtype: np.dtype[Any]  # of the rows; the least precise, if there were several

    @classmethod
    def of(cls, samples: Samples) -> Features:
        """Look at some rows."""
        x, total = samples.x, float(samples.weight.sum())
        low, high = _ends(x)
        # Of distances from the middle, in units of half the range, no square overflows, and sums
        # are rounded relative to the range: the mean is that of the column whatever its offset.
        middle, half = 0.5 * low + 0.5 * high, 0.5 * high - 0.5 * low
        unit = np.where(half > 0, half, 1.0)
        moments = _sparse_moments if sparse.issparse(x) else _dense_moments
        first, second = moments(x, samples.weight / total, middle, unit)
        mean = np.clip(middle + half * first, low, high)
        # Where this cancels, the deviation is small beside the range, which then sets the scale.
        deviation = half * np.sqrt(np.maximum(second - first**2, 0.0))
        return cls(total, mean, deviation, low, high, x.dtype)

    def merged(self, other: Features) -> Features:
        """Return what is known after other rows as well (Chan, Golub & LeVeque, 1983)."""
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
        """Whether values differ from the centre by more than rounding explains."""
        return np.asarray(self.reach(centre) > self.noise())

    def noise(self) -> Doubles:
        """Return how far rounding alone may have taken values of a constant from their mean.

        A value that some m operations have rounded is off by m / 2 eps of its size at worst and by
        about sqrt(m) / 2 where errors are as often up as down: 32 eps are 64 operations whatever
        they are, and sums of a few thousand terms (probabilities that add up to 1, say). Nor could
        so narrow a feature be of use, since a score x . w + b is itself rounded by about an eps of
        x . w. It is a bound for the values and not for their spread, so that the number of rows
        and their weights do not matter. `sklearn.preprocessing.StandardScaler` has n eps |mean|
        for the spread, the error of a mean of n rows, which here is none: a feature of 1e9 and
        1e9 + 1 in two million rows would be lost, and sums in float32 would not be found out.

        A feature that is nearer to 0 than tiny / eps counts as constant, too: its products with
        slopes would be subnormal, and its coefficient would overflow.
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
    for rows in stored_blocks(x):  # `min_max_axis` copies what it looks at
        least, largest = min_max_axis(x[rows], axis=0)
        np.minimum(low, least, out=low)
        np.maximum(high, largest, out=high)
    return low, high


def _dense_moments(
    x: Array, share: Doubles, middle: Doubles, unit: Doubles
) -> tuple[Doubles, Doubles]:
    """Return the means of (x - middle) / unit and of its square; rows have shares of 1."""
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
    """As `_dense_moments`, where entries that are not stored are zeros."""
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
    # Where 0 is out of the range all is stored, and what the sum of shares lacks is rounding.
    zero = np.where(np.abs(middle) <= unit, -middle / unit, 0.0)
    rest = np.maximum(1.0 - stored, 0.0)
    return first + rest * zero, second + rest * zero**2


# ---- coordinates ----


class Coordinates:
    """Standardised coordinates of the coefficients."""

    def __init__(self, features: Features, centred: bool, l2: float) -> None:
        # Without an intercept nothing can make up for a shift.
        self.centre = features.mean if centred else np.zeros_like(features.mean)
        deviation = features.deviation if centred else np.hypot(features.deviation, features.mean)
        reach = features.reach(self.centre)
        # The deviation of a feature that is nearly always 0 says little of its size when it is not.
        # Curvature is the variance times p (1 - p), at most 1/4, plus the penalty.
        scale = np.maximum(np.hypot(deviation, 2.0 * np.sqrt(l2)), _RANGE * reach)
        # On an infinite scale a coefficient is 0 and has no slope: the feature is left out.
        self.scale = np.where(features.varies(self.centre), scale, np.inf)

    def gradients(self, d_coef: Array, d_intercept: Array | None) -> tuple[Array, Array | None]:
        """Return the gradients by the standardised coefficients."""
        if d_intercept is not None:
            d_coef = d_coef - np.multiply.outer(d_intercept, self.centre)
        return d_coef / self.scale, d_intercept

    def plain(self, coef: Array, intercept: Array | None) -> tuple[Array, Array | None]:
        """Return what standardised coefficients, or steps of them, are to the data as they are."""
        coef = coef / self.scale
        return coef, None if intercept is None else intercept - coef @ self.centre
