"""Bounds of the log-partition that are as narrow as wanted."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from boltzmax import _core
from boltzmax._lib.output_layer import Array, Classes, Doubles
from boltzmax.screens.exact import ExactLinear, ExactWeights
from boltzmax.screens.reading import Floats
from boltzmax.screens.screen import Screen, outwards

# Classes from which thresholds are estimated: so many runs of so many neighbours.
_RUNS, _RUN = 16, 1024
_TRIES = 3


def narrow_partition(
    screen: Screen,
    exact: ExactWeights,
    everything: Callable[[], ExactLinear],
    x: Floats,
    width: float,
) -> tuple[Doubles, Doubles]:
    """Return bounds of each row's log-partition that are at most `width` apart.

    The exact logits of the classes above a threshold replace their bounds. A sample of the classes
    says how low it must be; where that was not enough, it is lowered, and in the end all classes
    are computed in double.
    """
    lower, upper = (np.array(bound) for bound in screen.log_partition(x))
    wide = np.flatnonzero(~(upper - lower <= width))
    sample = _Sample(screen, x[wide])
    for attempt in range(_TRIES):
        if not len(wide):
            return lower, upper
        bar = sample.threshold(lower[wide], width * 0.5 ** (attempt + 1))
        low, high = partition_above(screen, exact, x[wide], bar)
        lower[wide] = np.maximum(lower[wide], low)
        upper[wide] = np.minimum(upper[wide], high)
        left = ~(upper[wide] - lower[wide] <= width)
        wide, sample = wide[left], sample.of(left)
    if len(wide):
        lower[wide], upper[wide] = everything().log_partition(x[wide])
    return lower, upper


def partition_above(
    screen: Screen, exact: ExactWeights, x: Floats, bar: Doubles
) -> tuple[Doubles, Doubles]:
    """Return bounds of the log-partition, with exact logits of the classes above the bar."""
    above, rest_lower, rest_upper = screen.split(x, bar)
    scores, errors = exact.scores(x, above.indptr, above.ids)
    lower = outwards([_sums(scores - errors, above.indptr), rest_lower], -1.0)
    upper = outwards([_sums(scores + errors, above.indptr), rest_upper], 1.0)
    return lower, upper


def _sums(scores: Doubles, indptr: Classes) -> Doubles:
    """Return the logsumexp of every compressed row."""
    rows = range(len(indptr) - 1)
    return np.array([_core.logsumexp(scores[indptr[r] : indptr[r + 1]]) for r in rows], np.float64)


class _Sample:
    """How much wider the bounds of some classes make those of the sum, by their upper bounds."""

    def __init__(self, screen: Screen, x: Floats) -> None:
        runs = _runs(screen.n_classes)
        self._weight = math.log(screen.n_classes / sum(last - first for first, last in runs))
        parts = [screen.intervals(x, first, last) for first, last in runs]
        lower, upper = (np.concatenate([part[i] for part in parts], axis=1) for i in (0, 1))
        order = np.argsort(upper, axis=1)
        self._upper = np.take_along_axis(upper, order, axis=1)
        lower = np.take_along_axis(lower, order, axis=1)
        # log(exp(upper) - exp(lower)), added up from the least upper bound on
        gap = self._upper + np.log(-np.expm1(lower - self._upper))
        self._gap = np.logaddexp.accumulate(gap, axis=1)

    def of(self, rows: Array) -> _Sample:
        """Return the sample of some of its rows."""
        part = object.__new__(_Sample)
        part._weight, part._upper, part._gap = self._weight, self._upper[rows], self._gap[rows]
        return part

    def threshold(self, partition: Doubles, width: float) -> Doubles:
        """Return the upper bound up to which classes may stay as they are."""
        allowed = partition + math.log(math.expm1(min(width, 1.0))) - self._weight
        fine = (self._gap <= allowed[:, None]).sum(axis=1)
        lowest = self._upper[:, 0] - 1.0
        kept = np.take_along_axis(self._upper, np.maximum(fine - 1, 0)[:, None], axis=1)[:, 0]
        return np.where(fine > 0, kept, lowest)


def _runs(n_classes: int) -> list[tuple[int, int]]:
    """Return runs of classes, spread evenly; all classes if there are few."""
    if n_classes <= _RUNS * _RUN:
        return [(0, n_classes)]
    starts = np.linspace(0, n_classes - _RUN, _RUNS).astype(int).tolist()
    return [(first, first + _RUN) for first in starts]
