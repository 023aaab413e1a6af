"""Bounds of the log-partition that are as narrow as wanted."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from boltzmax import _core
from boltzmax._lib.output_layer import Array, Classes, Doubles
from boltzmax.screens.exact import ExactLinear, ExactWeights
from boltzmax.screens.reading import Floats
from boltzmax.screens.screen import Candidates, Levels, Screen, Split, outwards, running_total

# Classes from which a bar is estimated: so many runs of so many neighbours.
_RUNS, _RUN = 16, 128
_TRIES = 3
# Exact logits that are in memory at once. Rows that want more have all their classes computed, in
# tiles.
MOST = 2**22


def narrow_partition(
    screen: Screen,
    exact: ExactWeights,
    everything: Callable[[], ExactLinear],
    x: Floats,
    width: float,
) -> tuple[Doubles, Doubles]:
    """Return bounds of each row's log-partition that are at most `width` apart.

    The exact logits of the classes above a bar replace their bounds. A sample of the classes says
    how low it must be; where that was not enough, it is lowered. Where too many classes would be
    above, all are computed in double.
    """
    lower, upper = np.full(len(x), -np.inf), np.full(len(x), np.inf)
    wide = np.arange(len(x))
    for attempt in range(1, _TRIES + 1):
        levels = sample(screen, x[wide], width * 0.75**attempt)
        parts = screen._split_at(x[wide], levels)
        few = parts.above.indptr[1:] <= MOST
        narrowed, parts = wide[few], _rows_of(parts, few)
        lower[narrowed], upper[narrowed] = with_exact(exact, x[narrowed], parts)
        wide = wide[few][~(upper[narrowed] - lower[narrowed] <= width)]
        if not len(wide):
            break
    left = np.flatnonzero(~(upper - lower <= width))
    if len(left):
        lower[left], upper[left] = everything().log_partition(x[left])
    return lower, upper


def with_exact(exact: ExactWeights, x: Floats, parts: Split) -> tuple[Doubles, Doubles]:
    """Return bounds of the log-partition, with exact logits of the classes above the bar."""
    indptr = parts.above.indptr
    scores, errors = exact.scores(x, indptr, parts.above.ids)
    lower = outwards([_sums(scores - errors, indptr), parts.lower], -1.0)
    upper = outwards([_sums(scores + errors, indptr), parts.upper], 1.0)
    return lower, upper


def _sums(scores: Doubles, indptr: Classes) -> Doubles:
    """Return the logsumexp of every compressed row."""
    rows = range(len(indptr) - 1)
    return np.array([_core.logsumexp(scores[indptr[r] : indptr[r + 1]]) for r in rows], np.float64)


def _rows_of(parts: Split, which: Array) -> Split:
    """Return some rows of a split."""
    if which.all():
        return parts
    above, counts = parts.above, np.diff(parts.above.indptr)
    entries = np.repeat(which, counts)
    kept = Candidates(
        running_total([counts[which]]),
        above.ids[entries],
        above.lower[entries],
        above.upper[entries],
    )
    return Split(kept, parts.lower[which], parts.upper[which])


def sample(screen: Screen, x: Floats, width: float) -> Levels:
    """Return the levels at which the bounds of the log-partition are about `width` apart.

    Classes are taken in runs of neighbours, spread evenly; each stands for many others.
    """
    runs = _runs(screen.n_classes)
    each = math.log(screen.n_classes / sum(last - first for first, last in runs))
    parts = [screen.intervals(x, first, last) for first, last in runs]
    lower, upper = (np.concatenate([part[i] for part in parts], axis=1) for i in (0, 1))
    order = np.argsort(upper, axis=1)
    lower, upper = (np.take_along_axis(a, order, axis=1) for a in (lower, upper))
    # log(exp(upper) - exp(lower)), added up from the least upper bound on
    gap = upper + np.log(-np.expm1(lower - upper))
    gaps = np.logaddexp.accumulate(gap, axis=1)
    budget = math.log(math.expm1(min(width, 1.0)))
    return Levels(upper, gaps, budget, budget - each)


def _runs(n_classes: int) -> list[tuple[int, int]]:
    """Return runs of classes, spread evenly; all classes if there are few."""
    if n_classes <= _RUNS * _RUN:
        return [(0, n_classes)]
    starts = np.linspace(0, n_classes - _RUN, _RUNS).astype(int).tolist()
    return [(first, first + _RUN) for first in starts]
