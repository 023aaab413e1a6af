"""Bins of probabilities: where their edges are, and what is in them.

Bins of equal width are closed on the right, (k/n, (k+1)/n], as scikit-learn's are; a probability of
0 belongs to the first, one of 1 to the last. Bins of equal mass end at quantiles; equal
probabilities are never split, so there may be fewer bins than were asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boltzmax import _core
from boltzmax._lib.arguments import check_count, one_of, quietly
from boltzmax.calibration.events import Events

Array = NDArray[Any]
Doubles = NDArray[np.float64]
Indices = NDArray[np.intp]

BINNINGS = ("equal_width", "equal_mass")
_MOST_BINS = 1 << 20
_CHUNK = 1 << 15  # of the rows that are counted together: what is computed stays in the cache


def check_bins(n_bins: Any, binning: Any) -> tuple[int, str]:
    """Return the number and the kind of bins if they are valid."""
    count = check_count(n_bins, "n_bins", 1, _MOST_BINS)
    return count, one_of(binning, "binning", BINNINGS)


@dataclass(frozen=True)
class Bins:
    """What is in the bins of probabilities; one element for each bin.

    Where the classes have bins of their own, there is a row of them for each class.

    Parameters
    ----------
    edges : ndarray, shape (n_bins + 1,)
        Where the bins begin and end; NaN after the last, where classes have fewer bins than others.
    count : ndarray of int64
        The number of rows.
    weight : ndarray
        The sum of their weights.
    confidence : ndarray
        The mean probability; NaN in a bin without weight.
    accuracy : ndarray
        How often the event happened; NaN in a bin without weight.
    effective_count : ndarray
        The square of the sum of the weights over the sum of their squares: the count, if all
        weights are 1.

    Examples
    --------
    >>> from boltzmax.calibration import ece
    >>> value, bins = ece([0.1, 0.2, 0.9], [0, 1, 1], from_probs=True, n_bins=2, return_bins=True)
    >>> bins.count, bins.accuracy
    (array([2, 1]), array([0.5, 1. ]))
    """

    edges: Doubles
    count: NDArray[np.int64]
    weight: Doubles
    confidence: Doubles
    accuracy: Doubles
    effective_count: Doubles

    @property
    def gap(self) -> Doubles:
        """The mean probability less how often the event happened."""
        return self.confidence - self.accuracy


@dataclass(frozen=True)
class Sums:
    """Sums over the rows of each bin, to which rows can be added."""

    count: Doubles
    weight: Doubles
    square: Doubles  # of the weights
    p: Doubles
    happened: Doubles

    def bins(self, edges: Doubles) -> Bins:
        """Return the means."""
        with np.errstate(all="ignore"):
            confidence, accuracy = self.p / self.weight, self.happened / self.weight
            effective = np.square(self.weight) / self.square
        return Bins(
            edges,
            self.count.astype(np.int64),
            self.weight,
            confidence,
            np.minimum(accuracy, 1.0),
            np.where(self.weight > 0, effective, 0.0),
        )


def equal_width_edges(n_bins: int) -> Doubles:
    """Return the edges k / n_bins."""
    return np.linspace(0.0, 1.0, n_bins + 1)


def equal_width_index(p: Array, edges: Doubles) -> Indices:
    """Return the bin of each probability; those of NaN are arbitrary."""
    n = len(edges) - 1
    p = p.astype(np.float64, copy=False)
    index = (p * n).astype(np.intp)
    np.minimum(index, n - 1, out=index)
    # At most one off, at an edge: rounded down to it, or above an edge by rounding.
    index -= (p <= edges[index]) & (index > 0)
    index += (p > edges[index + 1]) & (index < n - 1)
    return index


@quietly
def equal_width_sums(events: Events, edges: Doubles) -> Sums:
    """Return the sums of bins of equal width."""
    n = len(edges) - 1
    if events.weight is None:
        count, happened, p = sums = np.zeros((3, n))
        _core.add_to_bins(np.ascontiguousarray(events.p), events.happened, edges, sums)
        return Sums(count, count, count, p, happened)
    totals = np.zeros((5, n))  # in the order of Sums
    for start in range(0, len(events.p), _CHUNK):
        part = slice(start, start + _CHUNK)
        p, weight = events.p[part], events.weight[part]
        index = equal_width_index(p, edges)
        terms = (None, weight, np.square(weight), weight * p, weight * events.happened[part])
        for total, values in zip(totals, terms, strict=True):
            total += np.bincount(index, weights=values, minlength=n)
    return Sums(*totals)


def bins_of_plain_pairs(p: Any, happened: Any, n_bins: int) -> Bins | None:
    """Return the bins of equal width of an ordinary call, in one read; None for any other.

    That is one with contiguous vectors of valid probabilities and of bools.
    """
    plain = type(p) is type(happened) is np.ndarray and p.dtype in (np.float32, np.float64)
    if not (plain and happened.dtype == np.bool_ and p.ndim == 1 and p.shape == happened.shape):
        return None
    if not (len(p) and all(a.flags.c_contiguous and a.flags.aligned for a in (p, happened))):
        return None
    edges = equal_width_edges(n_bins)
    count, hits, total = sums = np.zeros((3, n_bins))
    if _core.add_to_bins(p, happened, edges, sums):
        return None
    return Sums(count, count, count, total, hits).bins(edges)


@quietly
def bins_of(events: Events, n_bins: int, binning: str) -> Bins:
    """Return the bins of events."""
    if binning == "equal_width":
        edges = equal_width_edges(n_bins)
        return equal_width_sums(events, edges).bins(edges)
    return _equal_mass_bins(events, n_bins)


# ---- equal mass ----


def _equal_mass_bins(events: Events, n_bins: int) -> Bins:
    if events.weight is not None:
        return _weighted_bins(events, events.weight, n_bins)
    # Rows where the event happened and where it did not are sorted apart: sorting numbers takes a
    # fraction of the time of sorting pairs.
    hit, miss = np.sort(events.p[events.happened]), np.sort(events.p[~events.happened])
    ends = _order_statistics((hit, miss), _ranks(len(events.p), n_bins))
    ends = np.unique(ends)
    of_hits, of_misses = (_segments(part, ends) for part in (hit, miss))
    count = (of_hits[0] + of_misses[0]).astype(np.float64)
    sums = Sums(count, count, count, of_hits[1] + of_misses[1], of_hits[0].astype(np.float64))
    return sums.bins(np.concatenate([[0.0], ends]))


def _ranks(n: int, n_bins: int) -> NDArray[np.int64]:
    """Return how many rows there are up to the end of each bin, the last being n."""
    bins = min(n, n_bins)
    return np.array([-(-n * b // bins) for b in range(1, bins + 1)], np.int64)


def _order_statistics(parts: tuple[Array, ...], ranks: NDArray[np.int64]) -> Doubles:
    """Return the numbers of these ranks, from 1 on, of the union of sorted parts.

    Numbers that are not negative are ordered as their bits are, which are bisected.
    """
    dtype = parts[0].dtype
    bits: Any = np.int32 if dtype.itemsize == 4 else np.int64
    low = np.full(ranks.shape, -1, bits)  # fewer than `ranks` numbers are at most this
    high = np.full(ranks.shape, dtype.type(np.inf).view(bits), bits)
    while (high - low > 1).any():
        middle = low + (high - low) // 2
        at_most = sum(np.searchsorted(part, middle.view(dtype), "right") for part in parts)
        enough = at_most >= ranks
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.asarray(high.view(dtype), np.float64)


def _segments(p: Array, ends: Doubles) -> tuple[Indices, Doubles]:
    """Return how many of sorted numbers are in each bin (..., end], and their sums."""
    stops = np.searchsorted(p, ends.astype(p.dtype), "right")
    starts = np.concatenate([[0], stops[:-1]])
    sums = [p[a:b].sum(dtype=np.float64) for a, b in zip(starts, stops, strict=True)]
    return stops - starts, np.array(sums)


def _weighted_bins(events: Events, weight: Doubles, n_bins: int) -> Bins:
    """Return bins of equal weight; rows of weight 0 do not count."""
    counted = weight > 0
    p, happened, w = events.p[counted], events.happened[counted], weight[counted]
    order = np.argsort(p, kind="stable")
    p, happened, w = p[order].astype(np.float64), happened[order], w[order]
    total = np.cumsum(w)
    wanted = total[-1] * np.arange(1, n_bins + 1) / n_bins
    # The first row at which the weight is reached, but for rounding; the last bin ends at the end.
    last = np.minimum(np.searchsorted(total, wanted * (1 - 1e-12)), len(p) - 1)
    last[-1] = len(p) - 1
    ends = np.unique(p[last])
    index = np.searchsorted(ends, p)
    n = len(ends)

    def sum_of(values: Array) -> Doubles:
        return np.asarray(np.bincount(index, weights=values, minlength=n), np.float64)

    count = np.bincount(index, minlength=n).astype(np.float64)
    sums = Sums(count, sum_of(w), sum_of(np.square(w)), sum_of(w * p), sum_of(w * happened))
    return sums.bins(np.concatenate([[0.0], ends]))
