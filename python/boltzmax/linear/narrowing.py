"""Bounds of the log-partition that are as narrow as wanted."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from boltzmax import _core
from boltzmax._lib.output_layer import Array, Classes, Doubles
from boltzmax.linear.float_partition import FloatPartition
from boltzmax.screens.exact import ExactLinear, ExactWeights
from boltzmax.screens.reading import Floats
from boltzmax.screens.screen import Candidates, Levels, Screen, Split, outwards, running_total

# Classes from which a bar is estimated: so many runs of so many neighbours.
_RUNS, _RUN = 16, 128
_TRIES = 3
# A screen aims at this part of the width that is wanted, and at less when it tries again.
_SAFETY = 0.75
# The share of a row's classes from which on all of them cost less in one product than these one by
# one: 60 to 100 ns each, and 5 to 10 in a product of many rows.
_SHARE = 1 / 12
# One in so many doubtful rows is tried with the screen.
_PROBE = 32
# Exact logits that are in memory at once. Rows that want more have all their classes computed, in
# tiles.
MOST = 2**22


class Products(NamedTuple):
    """Makers of bounds that read all weights: from a product in float32, and in double."""

    in_float: Callable[[], FloatPartition]
    in_double: Callable[[], ExactLinear]


def narrow_partition(
    screen: Screen, exact: ExactWeights, products: Products, x: Floats, width: float
) -> tuple[Doubles, Doubles]:
    """Return bounds of each row's log-partition that are at most `width` apart.

    The exact logits of the classes above a bar replace their bounds. A sample of the classes says
    how low it must be; where that was not enough, it is lowered. Where too many classes would be
    above, all are computed in one product, of float32 if its rounding allows that.
    """
    result = np.full(len(x), -np.inf), np.full(len(x), np.inf)
    doubtful = _seems_spread(screen, x, width)
    probes, others = doubtful[::_PROBE], np.delete(doubtful, np.s_[::_PROBE])
    first = np.setdiff1d(np.arange(len(x)), others)
    left = _with_screen(screen, exact, x, width, first, result)
    # Rows of a call are alike: what the screen cannot do for the probes, it cannot for the others.
    if 2 * np.isin(probes, left).sum() < len(probes):
        others = _with_screen(screen, exact, x, width, others, result)
    left = np.union1d(left, others)
    if len(left):
        in_float = products.in_float()
        fine = left[2.0 * in_float.errors(x[left]) <= width * (1.0 - 2.0**-20)]
        _set(result, fine, in_float(x[fine]))
        left = left[_are_wide(result, left, width)]
    if len(left):
        _set(result, left, products.in_double().log_partition(x[left]))
    return result


_Bounds = tuple[Doubles, Doubles]


def _set(result: _Bounds, rows: Classes, bounds: _Bounds) -> None:
    for to, given in zip(result, bounds, strict=True):
        to[rows] = given


def _are_wide(result: _Bounds, rows: Classes, width: float) -> Array:
    return ~(result[1][rows] - result[0][rows] <= width)


def _seems_spread(screen: Screen, x: Floats, width: float) -> Classes:
    """Return the rows of which a sample says that too many classes would be above the bar.

    It may not have seen the likeliest classes.
    """
    levels, known = sample(screen, x, width * _SAFETY)
    return np.flatnonzero(levels.bar(known) == np.inf)


def _with_screen(
    screen: Screen, exact: ExactWeights, x: Floats, width: float, rows: Classes, result: _Bounds
) -> Classes:
    """Narrow the bounds of some rows, and return those that are left."""
    left: list[Classes] = []
    wide = rows
    for attempt in range(1, _TRIES + 1):
        if not len(wide):
            break
        levels, _ = sample(screen, x[wide], width * _SAFETY**attempt)
        parts = screen._split_at(x[wide], levels)
        counts = np.diff(parts.above.indptr)
        few = parts.above.indptr[1:] <= MOST
        narrowed, parts = wide[few], _rows_of(parts, few)
        _set(result, narrowed, with_exact(exact, x[narrowed], parts))
        too_wide = _are_wide(result, narrowed, width)
        # Where nothing was above the bar, a second look at the screen does not help.
        given_up = too_wide & (counts[few] == 0)
        left += [wide[~few], narrowed[given_up]]
        wide = narrowed[too_wide & ~given_up]
    return np.sort(np.concatenate([*left, wide]))


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


def sample(screen: Screen, x: Floats, width: float) -> tuple[Levels, Doubles]:
    """Return the levels at which the bounds of the log-partition are about `width` apart.

    And what the sample says about the lower bound of the log-partition. Classes are taken in runs
    of neighbours, spread evenly; each stands for many others.
    """
    runs = _runs(screen.n_classes)
    each = math.log(screen.n_classes / sum(last - first for first, last in runs))
    parts = [screen._bounds(x, first, last) for first, last in runs]
    lower, upper = (np.concatenate([part[i] for part in parts], axis=1) for i in (0, 1))
    order = np.argsort(upper, axis=1)
    lower, upper = (np.take_along_axis(a, order, axis=1) for a in (lower, upper))
    # log(exp(upper) - exp(lower)), added up from the least upper bound on
    gap = upper + np.log(-np.expm1(lower - upper))
    gaps = np.logaddexp.accumulate(gap, axis=1)
    budget = math.log(math.expm1(min(width, 1.0)))
    return Levels(upper, gaps, budget, budget - each, _SHARE), _core.logsumexp(lower, -1) + each


def _runs(n_classes: int) -> list[tuple[int, int]]:
    """Return runs of classes, spread evenly; all classes if there are few."""
    if n_classes <= _RUNS * _RUN:
        return [(0, n_classes)]
    starts = np.linspace(0, n_classes - _RUN, _RUNS).astype(int).tolist()
    return [(first, first + _RUN) for first in starts]
