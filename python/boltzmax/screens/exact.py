"""Exact logits: with error bounds for many classes, and without any error for a few.

Products of float32 numbers are exact in double, and `math.fsum` rounds the exact sum of doubles
once.  So the order of two logits can always be decided: by their rounded values if these differ
(rounding is monotonic), else by the sign of the rounded difference, which is 0 only for a tie.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np

from boltzmax import _core
from boltzmax._lib.output_layer import Array, Classes, Doubles
from boltzmax.screens.bounds import U64, above, gamma, norms_above
from boltzmax.screens.linear_screen import LinearScreen, Rows
from boltzmax.screens.reading import Floats
from boltzmax.screens.screen import Candidates

_ROWS = 4096  # rows of the weights whose norms are taken at a time
# Classes within rounding of each other that are compared exactly; 10 microseconds each.
MOST_COMPARED = 1024


class Top(NamedTuple):
    """The k largest logits of each row: (N, k) each, and (N,) each."""

    ids: Classes
    scores: Doubles
    errors: Doubles
    proven: Array
    rescored: Classes


class ExactWeights(NamedTuple):
    """The float32 weights and bias of a layer, in memory or in a memory map."""

    weight: Floats
    bias: Floats | None

    def scores(self, x: Floats, indptr: Classes, ids: Classes) -> tuple[Doubles, Doubles]:
        """Return the logits of some classes of each row in double, and bounds of their errors."""
        scores, errors = np.empty(len(ids)), np.empty(len(ids))
        _core.linear_rescore(x, *self, indptr, ids, scores, errors)
        return scores, errors

    def top(self, x: Floats, found: Candidates, k: int, most: int) -> Top:
        """Return the k largest logits among the candidates.

        At most `most` candidates of a row are rescored besides the k with the largest lower bounds.
        """
        n = len(x)
        top = np.empty((n, k), np.int64), np.empty((n, k)), np.empty((n, k))
        proven, rescored = np.empty(n, np.uint8), np.empty(n, np.int64)
        indptr, ids, lower, upper = found
        _core.linear_rescored_top(x, *self, indptr, ids, lower, upper, most, top, proven, rescored)
        return Top(*top, proven.astype(np.bool_), rescored)

    def terms(self, x: Floats, c: int) -> list[float]:
        """Return doubles whose exact sum is the logit of one class."""
        products: list[float] = (x.astype(np.float64) * self.weight[c].astype(np.float64)).tolist()
        return products if self.bias is None else [*products, float(self.bias[c])]

    def in_order(self, x: Floats, ids: Classes, more: Doubles | None = None) -> Classes | None:
        """Return classes by decreasing exact logit of one row, ties by id; None if too many.

        `more` is added to the logit of each class. Classes with the same weights and bias, bit for
        bit, count as one.
        """
        twins: dict[tuple[bytes, ...], list[int]] = {}
        for i, c in enumerate(ids.tolist()):
            own = (self.weight[c].tobytes(), b"" if self.bias is None else self.bias[c].tobytes())
            twins.setdefault(own if more is None else (*own, more[i].tobytes()), []).append(i)
        if len(twins) > MOST_COMPARED:
            return None
        ordered = []
        for same in twins.values():
            noise = [] if more is None else [float(more[same[0]])]
            terms = [*self.terms(x, int(ids[same[0]])), *noise]
            ordered.append((math.fsum(terms), terms, sorted(int(ids[i]) for i in same)))
        ordered.sort(key=functools.cmp_to_key(_compare))
        return _with_twins(ordered)


_Ranked = tuple[float, list[float], list[int]]


def _compare(a: _Ranked, b: _Ranked) -> int:
    """Return the order of two classes: the larger sum first, equal ones by id."""
    if a[0] != b[0]:
        return -1 if a[0] > b[0] else 1
    difference = math.fsum([*a[1], *(-term for term in b[1])])
    if difference != 0.0:
        return -1 if difference > 0.0 else 1
    return -1 if a[2] < b[2] else 1


def _with_twins(ordered: list[_Ranked]) -> Classes:
    """Return all ids in order; those of neighbours with equal sums are merged."""
    result: list[int] = []
    tied: list[int] = []
    for i, (_, terms, ids) in enumerate(ordered):
        tied += ids
        following = ordered[i + 1] if i + 1 < len(ordered) else None
        if following is None or math.fsum([*terms, *(-term for term in following[1])]) != 0.0:
            result += sorted(tied)
            tied = []
    return np.array(result, np.int64)


class ExactLinear(LinearScreen):
    """All logits in double: a screen for rows that nothing cheaper can decide."""

    def __init__(self, exact: ExactWeights) -> None:
        w, bias = exact
        self._weight = w
        factors = np.empty((1, len(w)), np.float32)
        for start in range(0, len(w), _ROWS):
            some = slice(start, start + _ROWS)
            factors[0, some] = above(norms_above(w[some]) * gamma(w.shape[1] + 2, U64))
        super().__init__(w.shape[1], bias, factors)

    def _stored(self) -> list[Array]:
        return [self._weight]

    def _read_rows(self, x: Floats) -> Rows:
        return Rows(x.astype(np.float64), norms_above(x)[:, None])

    def _product(self, vectors: Array, first: int, last: int) -> Array:
        return vectors @ self._weight[first:last].T.astype(np.float64)
