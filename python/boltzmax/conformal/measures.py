"""How often sets contain the right class, and how large they are."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.rational import as_share
from boltzmax.conformal.sets import PredictionSets, check_sets, read_labels

Doubles = NDArray[np.float64]
Ids = NDArray[np.int64]


def coverage(sets: PredictionSets, y: ArrayLike) -> float:
    """Return the share of the rows whose set contains the right class; NaN without rows.

    Parameters
    ----------
    sets : PredictionSets
        A set for each row.
    y : array_like of int, shape (N,)
        The right classes.

    Examples
    --------
    >>> from boltzmax.conformal import PredictionSets, coverage
    >>> coverage(PredictionSets([0, 1, 3], [1, 0, 1], [0.9, 0.5, 0.5], 2), [0, 1])
    0.5
    """
    hit = read_hits(sets, y)
    return float(hit.mean()) if len(hit) else np.nan


def mean_set_size(sets: PredictionSets) -> float:
    """Return the mean number of classes in a set; NaN without rows.

    Examples
    --------
    >>> from boltzmax.conformal import PredictionSets, mean_set_size
    >>> mean_set_size(PredictionSets([0, 1, 3], [1, 0, 1], [0.9, 0.5, 0.5], 2))
    1.5
    """
    check_sets(sets)
    return len(sets.ids) / len(sets) if len(sets) else np.nan


@dataclass(frozen=True, eq=False)
class SizeStrata:
    """The result of `size_stratified_coverage`: one element for each range of sizes.

    Attributes
    ----------
    low, high : ndarray of int64
        Sizes from `low` to `high`, both included.
    count : ndarray of int64
        How many sets have such a size.
    coverage : ndarray of float64
        The share of them that contain the right class; NaN where there are none.

    Examples
    --------
    >>> from boltzmax.conformal import PredictionSets, size_stratified_coverage
    >>> sets = PredictionSets([0, 1, 3], [1, 0, 1], [0.9, 0.5, 0.5], 2)
    >>> strata = size_stratified_coverage(sets, [0, 1], sizes=[0, 2])
    >>> strata.low, strata.high, strata.worst
    (array([0, 2]), array([1, 2]), 0.0)
    """

    low: Ids
    high: Ids
    count: Ids
    coverage: Doubles

    @property
    def worst(self) -> float:
        """The least coverage of a range; NaN without rows."""
        some = self.coverage[self.count > 0]
        return float(some.min()) if len(some) else np.nan


def size_stratified_coverage(
    sets: PredictionSets, y: ArrayLike, sizes: ArrayLike = (0, 2, 4, 11, 101, 1001)
) -> SizeStrata:
    """Return the coverage of small and of large sets by themselves.

    Sets that adapt to how hard a row is have about the same coverage whatever their size.

    Parameters
    ----------
    sets : PredictionSets
        A set for each row.
    y : array_like of int, shape (N,)
        The right classes.
    sizes : array_like of int, default (0, 2, 4, 11, 101, 1001)
        The least size of each range, rising from 0; the last one has no end.

    Notes
    -----
    Angelopoulos, Bates, Malik & Jordan, ICLR 2021, section 4, whose ranges are the default.

    Examples
    --------
    >>> from boltzmax.conformal import PredictionSets, size_stratified_coverage
    >>> sets = PredictionSets([0, 1, 3], [1, 0, 1], [0.9, 0.5, 0.5], 2)
    >>> size_stratified_coverage(sets, [0, 1], sizes=[0, 2]).coverage
    array([0., 1.])
    """
    hit = read_hits(sets, y)
    edges = np.asarray(sizes)
    rising = edges.ndim == 1 and len(edges) and edges.dtype.kind in "iu" and edges[0] == 0
    if not rising or any(a >= b for a, b in pairwise(edges.tolist())):
        raise ValueError(f"sizes must be integers that rise from 0, got {sizes!r}")
    stratum = np.searchsorted(edges, sets.sizes, side="right") - 1
    count = np.bincount(stratum, minlength=len(edges))
    hits = np.bincount(stratum, hit, len(edges))
    share = np.divide(hits, count, out=np.full(len(edges), np.nan), where=count > 0)
    high = np.append(edges[1:] - 1, max(sets.n_classes, int(edges[-1])))
    return SizeStrata(edges.astype(np.int64), high.astype(np.int64), count, share)


def read_hits(sets: PredictionSets, y: ArrayLike) -> NDArray[np.bool_]:
    """Return whether each set contains the right class."""
    read_labels(sets, y)
    return sets.contain(y)


def covgap(sets: PredictionSets, y: ArrayLike, alpha: float) -> float:
    """Return how far the coverage of a class is from 1 - alpha, on average, in percentage points.

    The mean is over the classes that occur in `y`.

    Parameters
    ----------
    sets : PredictionSets
        A set for each row.
    y : array_like of int, shape (N,)
        The right classes.
    alpha : float
        How often the right class was allowed to be missing.

    Notes
    -----
    Ding, Angelopoulos, Bates, Jordan & Tibshirani, NeurIPS 2023, section 3.

    Examples
    --------
    >>> from boltzmax.conformal import PredictionSets, covgap
    >>> covgap(PredictionSets([0, 1, 3], [1, 0, 1], [0.9, 0.5, 0.5], 2), [0, 1], alpha=0.25)
    50.0
    """
    share = as_share(alpha, "alpha")
    labels, hit = read_labels(sets, y), read_hits(sets, y)
    count = np.bincount(labels, minlength=sets.n_classes)
    hits = np.bincount(labels, hit, sets.n_classes)
    occurs = count > 0
    if not occurs.any():
        return np.nan
    return float(100 * np.abs(hits[occurs] / count[occurs] - float(1 - share)).mean())


def plot_set_sizes(sets: PredictionSets, ax: Any = None) -> Any:
    """Draw how many sets have each size with matplotlib, and return the axes.

    Parameters
    ----------
    sets : PredictionSets
        A set for each row.
    ax : matplotlib axes, optional
        Where to draw; by default in a new figure.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> from boltzmax.conformal import PredictionSets, plot_set_sizes
    >>> axes = plot_set_sizes(PredictionSets([0, 1, 3], [1, 0, 1], [0.9, 0.5, 0.5], 2))
    >>> axes.get_xlabel()
    'classes in a set'
    """
    import matplotlib.pyplot as plt

    check_sets(sets)
    if ax is None:
        ax = plt.figure(layout="constrained").add_subplot()
    sizes = sets.sizes
    most = int(sizes.max()) if len(sizes) else 0
    if most <= 30:
        ax.bar(np.arange(most + 1), np.bincount(sizes, minlength=most + 1), color="#4c6ef5")
    else:
        edges = np.unique(np.geomspace(1, most + 1, 31).astype(int))
        ax.hist(sizes, np.concatenate([[0], edges]), color="#4c6ef5")
        ax.set_xscale("symlog", linthresh=1)
    ax.set(xlabel="classes in a set", ylabel="rows")
    return ax
