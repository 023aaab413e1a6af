"""Confidence intervals of the calibration error."""

from __future__ import annotations

from typing import Any, NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import as_flag, as_number, check_count, one_of, quietly
from boltzmax._lib.random import random_generator
from boltzmax._lib.scored import read_scores_and_labels
from boltzmax.calibration.binning import (
    Sums,
    bins_of,
    check_bins,
    equal_width_index,
)
from boltzmax.calibration.errors import check_norm, error_of_bins
from boltzmax.calibration.events import Events, top_label_events

Array = NDArray[Any]
Doubles = NDArray[np.float64]

_GROUPS = 2048  # of rows that are drawn together
_AT_ONCE = 128  # resamples


class Interval(NamedTuple):
    """A confidence interval: its ends."""

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
    debias: bool = False,
    sample_weight: ArrayLike | None = None,
    confidence: float = 0.95,
    method: str = "bootstrap",
    n_resamples: SupportsIndex = 1000,
    random_state: Any = 0,
) -> Interval:
    """Return a confidence interval of the expected calibration error of the likeliest class.

    Rows are drawn with replacement, the bins' edges kept. The estimate is too high on average, and
    those of the resamples are too high once more, by about as much: so the interval is the basic
    one, from 2 e - q_high to 2 e - q_low with the estimate e and the quantiles q of the resamples,
    cut at 0 and 1.

    Parameters
    ----------
    logits, y, from_probs, n_bins, binning, norm, debias, sample_weight
        As for `ece`.
    confidence : float, default 0.95
        How often such intervals contain the error of the binned probabilities, about: between 0
        and 1.
    method : {"bootstrap"}, default "bootstrap"
        How the interval is found.
    n_resamples : int, default 1000
        How many resamples; more than 2,048 rows are drawn in 2,048 random groups, which takes no
        longer for more rows and has the same distribution of means.
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
    Davison & Hinkley, "Bootstrap methods and their application", 1997, section 5.2.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax.calibration import ece_interval
    >>> rng = np.random.default_rng(0)
    >>> p = rng.uniform(size=10_000)
    >>> low, high = ece_interval(p, rng.uniform(size=10_000) < p**2, from_probs=True)
    >>> bool(low < 1 / 6 < high), bool(high - low < 0.03)
    (True, True)
    """
    level, exponent = check_confidence(confidence), check_norm(norm)
    one_of(method, "method", ("bootstrap",))
    resamples = check_count(n_resamples, "n_resamples", 1)
    corrected = as_flag(debias, "debias")
    if corrected and exponent != 2:
        raise ValueError(f"debias needs norm=2, got norm={norm!r}")
    n, how = check_bins(n_bins, binning)
    rng = random_generator(random_state, "random_state")
    rows = read_scores_and_labels(logits, y, from_probs=from_probs, sample_weight=sample_weight)
    events = top_label_events(rows)
    bins = bins_of(events, n, how)
    estimate = float(error_of_bins(bins, exponent, corrected))
    groups = _sums_of_groups(events, bins.edges, how, rng)
    errors = np.concatenate([
        error_of_bins(resampled, exponent, corrected)
        for resampled in _resamples(groups, bins.edges, resamples, rng)
    ])  # fmt: skip
    low, high = np.quantile(errors, [(1 - level) / 2, (1 + level) / 2])
    return Interval(*(float(min(max(2 * estimate - q, 0.0), 1.0)) for q in (high, low)))


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
