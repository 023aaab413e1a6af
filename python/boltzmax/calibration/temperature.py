"""Temperature scaling: one number for all logits."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from boltzmax._lib.arguments import as_number
from boltzmax._lib.numbers import loss_dtype
from boltzmax._lib.scored import Scored
from boltzmax.calibration.base import CalibrationMap
from boltzmax.calibration.estimator import ConvergenceWarning
from boltzmax.calibration.moments import Derivatives, derivatives

Array = NDArray[Any]

LEAST, LARGEST = 1e-6, 1e6  # temperatures
_SAMPLE = 10_000  # rows on which the search begins
_CLOSE = 1e-6  # a last Newton step of log T of this size leaves an error of about its square
_MOST_STEPS = 100


class TemperatureScaling(CalibrationMap):
    r"""Divide all logits by one temperature, which minimises the log-likelihood's loss.

    The likeliest class stays the same, and so does the order of the classes. With
    :math:`b = 1 / T`, the loss :math:`\sum_i w_i (\text{lse}(b z_i) - b z_i[y_i])` is convex, and
    its derivatives are the mean and the variance of the logits under softmax. Newton's method,
    within a bracket, finds where the first is 0: first on at most 10,000 of the rows, then in three
    or four reads of all.

    Parameters
    ----------
    from_probs : bool, default False
        Whether rows are probabilities. It is never guessed.
    bounds : (float, float), default (1e-6, 1e6)
        The least and the largest temperature, within these. Logits that are right in all rows, or
        have nothing to do with the classes, have no best temperature: then it is the bound, and
        there is a `ConvergenceWarning`.

    Attributes
    ----------
    temperature_ : float
        The temperature T. Its relative error is some 1e-7 for float32, 1e-12 for float64.
    n_iter_ : int
        How often all rows were read.
    n_classes_, n_features_in_ : int
        The number of classes, and of the columns.
    is_binary_ : bool
        Whether the rows are single numbers.

    References
    ----------
    Guo, Pleiss, Sun & Weinberger, "On calibration of modern neural networks", ICML 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax.calibration import TemperatureScaling
    >>> rng = np.random.default_rng(0)
    >>> honest = rng.normal(size=(20_000, 5))
    >>> y = (honest + rng.gumbel(size=honest.shape)).argmax(axis=1)
    >>> scaling = TemperatureScaling().fit(3 * honest, y)
    >>> bool(abs(scaling.temperature_ - 3) < 0.1)
    True
    """

    _learned: ClassVar[tuple[str, ...]] = ("temperature_", "n_iter_")

    temperature_: float
    n_iter_: int

    def __init__(
        self, from_probs: bool = False, bounds: tuple[float, float] = (LEAST, LARGEST)
    ) -> None:
        self.from_probs = from_probs
        self.bounds = bounds

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_bounds(self.bounds)

    def _fit(self, rows: Scored) -> None:
        self.temperature_, self.n_iter_ = best_temperature(rows, check_bounds(self.bounds))

    def _map(self, rows: Scored, part: slice) -> Array:
        z = rows.logits(part)
        return scaled(z, self.temperature_)

    def _check_learned(self) -> None:
        if not LEAST <= self.temperature_ <= LARGEST:
            raise ValueError(f"the temperature {self.temperature_} is out of range")


def scaled(z: Array, temperature: float) -> Array:
    """Return logits divided by a temperature, at least in float32."""
    wide = z.astype(loss_dtype(z.dtype), copy=False)
    result: Array = wide / wide.dtype.type(temperature)
    return result


def check_bounds(bounds: Any) -> tuple[float, float]:
    """Return the least and the largest temperature if they are valid."""
    try:
        low, high = bounds
    except (TypeError, ValueError):
        raise TypeError(f"bounds must be two numbers, got {bounds!r}") from None
    low, high = as_number(low, "bounds"), as_number(high, "bounds")
    if not LEAST <= low < high <= LARGEST:
        raise ValueError(f"bounds must be increasing, within {LEAST:g} to {LARGEST:g}: {bounds!r}")
    return low, high


def best_temperature(rows: Scored, bounds: tuple[float, float]) -> tuple[float, int]:
    """Return the temperature with the least loss, and how often all rows were read."""
    if rows.n_classes == 1:
        return 1.0, 0  # any is as good
    start = 0.0
    sample = _sample(rows)
    if sample is not None:
        start = _solve(lambda u: derivatives(sample, math.exp(u)), bounds, start).log_inverse
    found = _solve(lambda u: derivatives(rows, math.exp(u)), bounds, start)
    if found.bound is not None:
        warnings.warn(
            f"no temperature is best: the loss falls up to the bound, {found.bound:g}; "
            + ("the rows are all right" if found.bound == bounds[0] else "the logits tell nothing"),
            ConvergenceWarning,
            stacklevel=4,
        )
        return found.bound, found.reads
    return math.exp(-found.log_inverse), found.reads


def _sample(rows: Scored) -> Scored | None:
    """Return some of the rows, spread evenly; None if that is most of them."""
    step = rows.n_rows // _SAMPLE
    if step < 4:
        return None
    assert rows.labels is not None
    weights = None if rows.weights is None else rows.weights[::step].copy()
    if weights is not None and not weights.any():
        return None
    array, labels = np.array(rows.array[::step]), rows.labels[::step].copy()
    return Scored(array, rows.from_probs, labels, weights)


class _Solution:
    """Where the search ended: log(1/T), or the bound of T that it met."""

    def __init__(self, log_inverse: float, reads: int, bound: float | None = None) -> None:
        self.log_inverse, self.reads, self.bound = log_inverse, reads, bound


def _solve(
    evaluate: Callable[[float], Derivatives], bounds: tuple[float, float], start: float
) -> _Solution:
    """Return the u = log(1/T) at which the first derivative by 1/T, which rises, is 0.

    Newton's steps are taken within a bracket. A step that would leave it, or is not half as long
    as the one before it, bisects the bracket if both of its ends are known, and else doubles the
    step towards the bound.
    """
    low, high = -math.log(bounds[1]), -math.log(bounds[0])
    at_low = at_high = False  # whether the derivative there has been found to have its sign
    u, last = min(max(start, low), high), math.inf
    for reads in range(1, _MOST_STEPS + 1):
        found = evaluate(u)
        slope = found.second * math.exp(u)  # by u
        # Where all terms have vanished, the loss has nothing left to gain, and T goes to its bound.
        falls = found.first < 0 or (found.first == 0 and slope == 0)
        if falls:
            if u == high:
                return _Solution(u, reads, bounds[0])
            low, at_low = u, True
        else:
            if u == low and found.first > 0:
                return _Solution(u, reads, bounds[1])
            high, at_high = u, True
        step = -found.first / slope if slope > 0 else math.copysign(math.inf, falls - 0.5)
        if abs(step) <= _CLOSE:
            return _Solution(min(max(u + step, low), high), reads)
        wanted = u + step
        if not low < wanted < high or abs(step) > abs(last) / 2:
            if at_low and at_high:
                wanted = (low + high) / 2
            else:
                far = max(2 * abs(last), 1.0) if math.isfinite(last) else math.inf
                wanted = min(u + far, high) if falls else max(u - far, low)
        last, u = wanted - u, wanted
        if high - low < 1e-15:
            break
    return _Solution(u, reads)
