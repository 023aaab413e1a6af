"""Confidence intervals of the calibration error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import as_number, check_count, one_of, quietly
from boltzmax._lib.random import random_generator
from boltzmax._lib.scored import read_scores_and_labels
from boltzmax.calibration.binning import (
    Sums,
    bins_of,
    check_bins,
    equal_width_index,
)
from boltzmax.calibration.errors import check_norm, gaps_and_shares, mean_gap
from boltzmax.calibration.events import Events, top_label_events

Array = NDArray[Any]
Doubles = NDArray[np.float64]

_GROUPS = 1024  # of rows that are drawn together
_AT_ONCE = 128  # resamples


class Interval(NamedTuple):
    """A confidence interval: its ends.

    Examples
    --------
    >>> from boltzmax.calibration import ece_interval
    >>> ece_interval([1.0, 1.0], [1, 1], from_probs=True)
    Interval(low=0.0, high=0.0)
    """

    low: float
    high: float


def check_confidence(confidence: Any) -> float:
    """Return a level of confidence, between 0 and 1."""
    level = as_number(confidence, "confidence")
    if not 0.0 < level < 1.0:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence!r}")
    return level


@quietly
def ece_interval(
    logits: ArrayLike,
    y: ArrayLike,
    *,
    from_probs: bool = False,
    n_bins: SupportsIndex = 15,
    binning: str = "equal_width",
    norm: int | str = 1,
    sample_weight: ArrayLike | None = None,
    confidence: float = 0.95,
    method: str = "bootstrap",
    n_resamples: SupportsIndex = 1000,
    random_state: Any = 0,
) -> Interval:
    r"""Return a confidence interval of the expected calibration error of the likeliest class.

    The estimate is too high on average, and most so where the error is 0, so quantiles of resampled
    errors are no interval. Instead, errors are tested. If the gaps of the bins were :math:`\lambda`
    times what they seem, errors like

    .. math::
        \sum_b w_b^* |\lambda g_b + (g_b^* - g_b)|

    would be found, with the gaps :math:`g_b^*` of rows drawn with replacement. The interval has the
    errors, for :math:`\lambda \ge 0`, among whose quantiles the estimate is.

    Parameters
    ----------
    logits, y, from_probs, n_bins, binning, norm, sample_weight
        As for `ece`. Bins keep their edges when rows are drawn.
    confidence : float, default 0.95
        How often such intervals contain the error of the binned probabilities, about: between 0
        and 1.
    method : {"bootstrap"}, default "bootstrap"
        How the interval is found.
    n_resamples : int, default 1000
        How often rows are drawn. More than 1,024 rows are drawn in 1,024 random groups, so that
        it takes no longer for more rows.
    random_state : int or numpy.random.Generator, default 0
        The seed or generator of the draws; None seeds from the system.

    Returns
    -------
    Interval
        A tuple ``(low, high)``.

    Raises
    ------
    IndexError, TypeError, ValueError
        As from `ece`.

    References
    ----------
    Davison & Hinkley, "Bootstrap methods and their application", 1997, section 5.5, on intervals
    from tests.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax.calibration import ece_interval
    >>> rng = np.random.default_rng(2)
    >>> p = rng.uniform(size=10_000)
    >>> low, high = ece_interval(p, rng.uniform(size=10_000) < p**2, from_probs=True)
    >>> bool(low < 1 / 6 < high), bool(high - low < 0.03)
    (True, True)
    """
    level, exponent = check_confidence(confidence), check_norm(norm)
    one_of(method, "method", ("bootstrap",))
    resamples = check_count(n_resamples, "n_resamples", 1)
    n, how = check_bins(n_bins, binning)
    rng = random_generator(random_state, "random_state")
    rows = read_scores_and_labels(logits, y, from_probs=from_probs, sample_weight=sample_weight)
    events = top_label_events(rows)
    bins = bins_of(events, n, how)
    gap, share = gaps_and_shares(bins)
    estimate = float(mean_gap(gap, share, exponent))
    groups = _sums_of_groups(events, bins.edges, how, rng)
    drawn = [gaps_and_shares(b) for b in _resamples(groups, bins.edges, resamples, rng)]
    noise = np.concatenate([gaps for gaps, _ in drawn]) - gap
    shares = np.concatenate([part for _, part in drawn])

    def quantile(factor: float, q: float) -> float:
        return float(np.quantile(mean_gap(factor * gap + noise, shares, exponent), q))

    tail = (1 - level) / 2
    low = _first(lambda factor: quantile(factor, 1 - tail) >= estimate)
    high = _first(lambda factor: quantile(factor, tail) > estimate)
    # An estimate that is small by luck is an upper bound still.
    return Interval(min(low * estimate, 1.0), min(max(high, float(high == 0.0)) * estimate, 1.0))


def _first(holds: Callable[[float], bool]) -> float:
    """Return the least factor from 0 on at which it holds, within 1e-4; at most 1,000."""
    if holds(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while not holds(high) and high < 1000:
        low, high = high, 2 * high
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _sums_of_groups(
    events: Events, edges: Doubles, binning: str, rng: np.random.Generator
) -> Doubles:
    """Return the sums of each bin in each group of rows: (5, groups, bins)."""
    n, rows = len(edges) - 1, len(events.p)
    groups = min(rows, _GROUPS)
    group = np.arange(rows) if rows == groups else rng.integers(0, groups, rows)
    if binning == "equal_width":
        index = equal_width_index(events.p, edges)
    else:
        index = np.minimum(np.searchsorted(edges[1:], events.p), n - 1)
    cell = group * n + index

    def sums(values: Array | None) -> Doubles:
        return np.bincount(cell, weights=values, minlength=groups * n).astype(np.float64)

    w = events.weight
    if w is None:
        count = sums(None)
        parts = [count, count, count, sums(events.p), sums(events.happened)]
    else:
        parts = [
            sums(None),
            sums(w),
            sums(np.square(w)),
            sums(w * events.p),
            sums(w * events.happened),
        ]
    return np.stack(parts).reshape(5, groups, n)


def _resamples(groups: Doubles, edges: Doubles, resamples: int, rng: np.random.Generator) -> Any:
    """Yield the bins of resamples, a row of them for each."""
    n = groups.shape[1]
    for start in range(0, resamples, _AT_ONCE):
        size = min(_AT_ONCE, resamples - start)
        drawn = rng.integers(0, n, (size, n)) + n * np.arange(size)[:, None]
        times = np.bincount(drawn.reshape(-1), minlength=size * n).reshape(size, n)
        yield Sums(*(times.astype(np.float64) @ groups)).bins(edges)
