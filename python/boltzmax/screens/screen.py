r"""Screens: output layers that cost less than the exact one, and say how far off they may be.

A screen gives an interval for every logit that contains the exact real number
:math:`h \cdot w_c + b_c`.  All else follows from these intervals: which classes may be among the
top k, which may win a draw, and between what numbers the log-partition is.  The methods here read
them in tiles, so that nothing of N x V is ever in memory; a screen with compiled passes of its own
overrides them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from boltzmax import _core
from boltzmax._lib.arguments import as_input, check_count, is_float, quietly
from boltzmax._lib.output_layer import Array, Classes, Doubles
from boltzmax._lib.random import check_first_row, check_key
from boltzmax.screens.reading import read_vectors

# Rows that are worked on together, and about as many intervals as are in memory at once.
ROWS, TILE = 64, 2**19
# The error of a logsumexp of doubles is far below this, relative to 1 + |its result|.
LOG_SUM_ERROR = 2.0**-46


class Candidates(NamedTuple):
    """Some classes of each row, in compressed rows: row r has entries ``indptr[r:r + 2]``.

    The ids of a row ascend. `lower` and `upper` are bounds of the exact logits.
    """

    indptr: Classes
    ids: Classes
    lower: Doubles
    upper: Doubles

    @property
    def row(self) -> Classes:
        """The row of each entry."""
        return np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))


class Split(NamedTuple):
    """The classes above a threshold, and an interval of the log-partition of all others."""

    above: Candidates
    lower: Doubles
    upper: Doubles


class Levels(NamedTuple):
    """How high a bar may be, by a sample of the classes, whose upper bounds ascend in each row.

    If the classes up to ``upper[:, i]`` keep their bounds, those of the partition are about
    ``exp(gap[:, i])`` apart. `budget` and `allowed` are the largest gaps of all classes and of the
    sample, less the log-partition. Where more than a `share` of the sample would be above the bar,
    all classes are cheaper to compute, and the bar is infinite.
    """

    upper: Doubles  # (N, S)
    gap: Doubles
    budget: float
    allowed: float
    share: float

    def bar(self, log_partition: Doubles) -> Doubles:
        """Return the highest bar for lower bounds of the log-partition; -inf for none."""
        fine = (self.gap <= (log_partition + self.allowed)[:, None]).sum(axis=1)
        level = np.take_along_axis(self.upper, np.maximum(fine - 1, 0)[:, None], axis=1)[:, 0]
        count = self.upper.shape[1]
        level = np.where(fine > 0, level, -np.inf)
        return np.where(count - fine > self.share * count, np.inf, level)


class Winners(NamedTuple):
    """The classes that may win a row's draw, with their noise, in compressed rows."""

    indptr: Classes
    ids: Classes
    noise: Doubles


class Screen(ABC):
    """What every screen can do, given `intervals`.

    A screen of your own sets `n_classes` and `n_features` and has `intervals`. Hidden vectors are
    (N, D); a row that is not finite is a ValueError that names it.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import Screen, TwoStageClassifier
    >>> class Crude(Screen):
    ...     # A logit is at most the product of the norms, to either side.
    ...     def __init__(self, weight, bias=None):
    ...         self.n_classes, self.n_features = weight.shape
    ...         self.norms = 1.001 * np.linalg.norm(weight.astype(float), axis=1)
    ...     def intervals(self, hidden, first=0, last=None):
    ...         norms = np.linalg.norm(np.asarray(hidden, float), axis=1, keepdims=True)
    ...         upper = norms * self.norms[first:last]
    ...         return -upper, upper
    >>> weight = np.diag([1.0, 5.0, 2.0, 0.1]).astype(np.float32)
    >>> top = TwoStageClassifier(weight, screen=Crude).topk([[1.0, 1.0, 1.0, 1.0]], 1)
    >>> top.ids, top.certified
    (array([[1]]), array([ True]))
    """

    n_classes: int
    n_features: int

    @abstractmethod
    def intervals(
        self, hidden: ArrayLike, first: int = 0, last: int | None = None
    ) -> tuple[Doubles, Doubles]:
        """Return bounds of the logits of the classes from `first` up to `last`.

        Parameters
        ----------
        hidden : array_like, shape (N, D)
        first, last : int, optional
            All classes by default.

        Returns
        -------
        lower, upper : ndarray of float64, shape (N, last - first)
            The exact real number ``hidden @ weight.T + bias`` of the float32 vectors and the exact
            weights is between them. Where the screen overflows they are -inf and inf.
        """

    def candidates(self, hidden: ArrayLike, k: int) -> Candidates:
        """Return every class that may be among a row's k largest logits.

        Those whose upper bound reaches the k-th largest lower bound: the true top k, and any class
        that is as large as the k-th, are among them.
        """
        x, count = self._vectors(hidden), check_count(k, "k", 1, self.n_classes)
        return joined([self._candidates(x[rows], count) for rows in blocks(len(x))])

    def log_partition(self, hidden: ArrayLike) -> tuple[Doubles, Doubles]:
        """Return bounds of the logsumexp of each row's exact logits, (N,) each."""
        x = self._vectors(hidden)
        return self.split(x, np.full(len(x), np.inf))[1:]

    def split(self, hidden: ArrayLike, threshold: ArrayLike) -> Split:
        """Return the classes whose upper bound exceeds a row's threshold, and sum up the rest.

        Parameters
        ----------
        hidden : array_like, shape (N, D)
        threshold : array_like, shape (N,), or float

        Returns
        -------
        above : Candidates
        lower, upper : ndarray of float64, shape (N,)
            Bounds of the logsumexp of the exact logits of all other classes.
        """
        x = self._vectors(hidden)
        bar = read_threshold(threshold, len(x))
        parts = [self._split(x[rows], bar[rows]) for rows in blocks(len(x))]
        lower, upper = (np.concatenate([[], *(part[i] for part in parts)]) for i in (1, 2))
        return Split(joined([part.above for part in parts]), lower, upper)

    def _split_at(self, x: Array, levels: Levels) -> Split:
        """Split the classes of each row at a level, which a lower bound of the partition gives."""
        return self.split(x, levels.bar(self.log_partition(x)[0]))

    def winners(self, hidden: ArrayLike, key: int, first_row: int = 0) -> Winners:
        """Return every class that may have a row's largest sum of logit and Gumbel noise.

        The noise of a class depends on the key, the number of its row and the class; it is that of
        `boltzmax.gumbel_topk`.
        """
        x, noise, first = self._vectors(hidden), check_key(key, "key"), check_first_row(first_row)
        found = [self._winners(x[rows], noise, first + rows.start) for rows in blocks(len(x))]
        indptr = running_total([np.diff(part.indptr) for part in found])
        ids = np.concatenate([np.empty(0, np.int64), *(part.ids for part in found)])
        return Winners(indptr, ids, np.concatenate([[], *(part.noise for part in found)]))

    # ---- one block of rows ----

    def _vectors(self, hidden: ArrayLike) -> Array:
        return read_vectors(hidden, self.n_features)

    def _tiles(self, rows: int) -> Iterator[slice]:
        """Yield the classes of tiles, which begin at multiples of 4, as blocks of noise do."""
        step = max(4, TILE // max(rows, 1) // 4 * 4)
        for first in range(0, self.n_classes, step):
            yield slice(first, min(first + step, self.n_classes))

    def _bounds(self, x: Array, first: int, last: int) -> tuple[Doubles, Doubles]:
        """Return the intervals in float64, whatever a screen of the user's own gives."""
        lower, upper = (np.asarray(bound, np.float64) for bound in self.intervals(x, first, last))
        shape = len(x), last - first
        if lower.shape != shape or upper.shape != shape:
            raise ValueError(
                f"intervals of {type(self).__name__} must be two arrays of shape {shape}, got "
                f"{lower.shape} and {upper.shape}"
            )
        is_wrong = ~(lower <= upper)
        if is_wrong.any():
            row, c = np.argwhere(is_wrong)[0]
            raise ValueError(
                f"intervals of {type(self).__name__} must have lower <= upper, got "
                f"{lower[row, c]} and {upper[row, c]} for class {first + c}"
            )
        return lower, upper

    def _candidates(self, x: Array, k: int) -> Candidates:
        tiles = self._tiles(len(x))
        bounds = ((t.start, *self._bounds(x, t.start, t.stop)) for t in tiles)
        return survivors(bounds, len(x), k)

    @quietly
    def _split(self, x: Array, bar: Doubles) -> Split:
        kept, low, high = Kept(len(x)), [], []
        for tile in self._tiles(len(x)):
            lower, upper = self._bounds(x, tile.start, tile.stop)
            is_above = upper > bar[:, None]
            if is_above.any():
                kept.add(is_above, tile.start, lower, upper)
                # Copies, as a screen may keep its arrays.
                lower, upper = (np.where(is_above, -np.inf, bound) for bound in (lower, upper))
            low.append(_core.logsumexp(lower, -1))
            high.append(_core.logsumexp(upper, -1))
        return Split(kept.candidates(), outwards(low, -1.0), outwards(high, 1.0))

    @quietly
    def _winners(self, x: Array, key: int, first_row: int) -> Winners:
        best = np.full(len(x), -np.inf)
        found = []
        for tile in self._tiles(len(x)):
            bounds = self._bounds(x, tile.start, tile.stop)
            lower, upper = map(np.ascontiguousarray, bounds)
            found.append(_core.linear_winners(lower, upper, tile.start, key, first_row, best))
        row, ids, noise, bound = map(np.concatenate, zip(*found, strict=True))
        left = bound >= best[row]
        row, ids, noise = row[left], ids[left], noise[left]
        order = np.lexsort((ids, row))
        counts = np.bincount(row, minlength=len(x))
        return Winners(running_total([counts]), ids[order], noise[order])


def read_threshold(threshold: ArrayLike, rows: int) -> Doubles:
    """Return a threshold for each row."""
    bar = as_input(threshold, "threshold", "pass its data")
    if bar.dtype.kind not in "iub" and not is_float(bar.dtype):
        raise TypeError(f"threshold must be real numbers, got dtype {bar.dtype}")
    if bar.shape not in ((), (rows,)):
        raise ValueError(f"threshold must be (N,), here ({rows},), got shape {bar.shape}")
    bar = np.broadcast_to(bar.astype(np.float64), rows)
    if np.isnan(bar).any():
        raise ValueError(f"threshold must not be NaN, but row {int(np.isnan(bar).argmax())} is")
    return np.ascontiguousarray(bar)


def survivors(tiles: Iterable[tuple[int, Doubles, Doubles]], rows: int, k: int) -> Candidates:
    """Return the classes whose upper bound reaches the k-th largest lower bound of their row.

    A tile is its first class, and its lower and upper bounds.
    """
    best, kept = np.empty((rows, 0)), Kept(rows)
    for first, lower, upper in tiles:
        best = largest(np.concatenate([best, largest(lower, k)], axis=1), k)
        bar = best.min(axis=1) if best.shape[1] == k else np.full(rows, -np.inf)
        kept.raise_to(bar)
        kept.add(upper >= bar[:, None], first, lower, upper)
    return kept.candidates()


def ranked(indptr: Classes, ids: Classes, scores: Doubles, k: int) -> Classes:
    """Return the entries with the k largest scores of each row, in order, ties by id, (N, k).

    Every row has at least k.
    """
    row = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    order = np.lexsort((ids, -scores, row))
    top: Classes = order[indptr[:-1, None] + np.arange(k)]
    return top


class Kept:
    """Classes of some rows that are kept while tiles pass by."""

    _MANY = 2**20  # entries from which on it pays to look which of them are still wanted

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._parts: list[tuple[Classes, Classes, Doubles, Doubles]] = []
        self._bar = np.full(rows, -np.inf)
        self._unsifted = 0

    def add(self, which: Array, first: int, lower: Doubles, upper: Doubles) -> None:
        """Keep the marked classes of a tile that begins with class `first`."""
        row, column = np.nonzero(which)
        self._parts.append((row, column + first, lower[row, column], upper[row, column]))
        self._unsifted += len(row)
        if self._unsifted > self._MANY:
            self._sift()

    def raise_to(self, bar: Doubles) -> None:
        """Keep only classes whose upper bounds reach `bar`, which never falls."""
        self._bar = bar

    def _sift(self) -> None:
        row, ids, lower, upper = map(np.concatenate, zip(*self._parts, strict=True))
        left = upper >= self._bar[row]
        self._parts = [(row[left], ids[left], lower[left], upper[left])]
        self._unsifted = 0

    def candidates(self) -> Candidates:
        """Return what is left."""
        if not self._parts:
            nothing = np.empty(0, np.int64)
            return Candidates(np.zeros(self._rows + 1, np.int64), nothing, np.empty(0), np.empty(0))
        self._sift()
        row, ids, lower, upper = self._parts[0]
        order = np.argsort(row, kind="stable")
        indptr = running_total([np.bincount(row, minlength=self._rows)])
        return Candidates(indptr, ids[order], lower[order], upper[order])


def blocks(rows: int) -> Iterator[slice]:
    """Yield the slices of rows that are worked on together."""
    for start in range(0, rows, ROWS):
        yield slice(start, min(start + ROWS, rows))


def running_total(counts: list[Classes]) -> Classes:
    """Return where each row of compressed rows begins, and where the last one ends."""
    return np.cumsum(np.concatenate([[0], *counts]), dtype=np.int64)


def joined(parts: list[Candidates]) -> Candidates:
    """Return the candidates of neighbouring blocks of rows as one."""
    if len(parts) == 1:
        return parts[0]
    indptr = running_total([np.diff(part.indptr) for part in parts])
    ids = np.concatenate([np.empty(0, np.int64), *(part.ids for part in parts)])
    lower = np.concatenate([[], *(part.lower for part in parts)])
    return Candidates(indptr, ids, lower, np.concatenate([[], *(part.upper for part in parts)]))


def largest(x: Doubles, k: int) -> Doubles:
    """Return the k largest numbers of each row, in any order; all if there are fewer."""
    return x if x.shape[1] <= k else np.partition(x, -k, axis=1)[:, -k:]


def outwards(sums: list[Doubles], sign: float) -> Doubles:
    """Add up logarithms of sums, (N,) each; move the result by more than its rounding error."""
    total: Doubles = _core.logsumexp(np.stack(sums, axis=1), -1)
    finite = np.isfinite(total)
    total[finite] += sign * LOG_SUM_ERROR * (1.0 + np.abs(total[finite]))
    return total
