"""How rows are scored, and their sets: what a fit took from the parameters of a predictor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.random import check_first_row, uniform_numbers
from boltzmax._lib.scored import Scored, read_scores, read_scores_and_labels
from boltzmax.conformal.sets import PredictionSets, unchecked_sets

Doubles = NDArray[np.float64]
Rule = tuple[int, float, float]  # a score's kind, its weight, and the number of free ranks

LAC_SCORE, APS_SCORE, SAPS_SCORE = 0, 1, 2  # as in cpp/core/sets/rule.hpp
CALIBRATION, PREDICTION, SPLIT = 0, 1, 2  # which of a row's random numbers

_MOST_CLASSES = 2**31 - 1


def read_labelled(logits: ArrayLike, y: ArrayLike, from_probs: bool) -> Scored:
    """Return rows with their labels, of not too many classes."""
    return _few_classes(read_scores_and_labels(logits, y, from_probs=from_probs))


@dataclass(frozen=True)
class Scorer:
    """The score of a class in a row.

    A fitted predictor has one of its own, so that a parameter that changes has no effect before
    the next fit.
    """

    rule: Rule
    randomized: bool
    from_probs: bool
    key: int
    n_classes: int

    def uniform(self, stream: int, first_row: SupportsIndex, rows: int) -> Doubles:
        """Return a random number for each row; ones, if the scores do not depend on them."""
        first = check_first_row(first_row)
        if self.randomized and self.rule[0] != LAC_SCORE:
            return uniform_numbers(self.key, first, rows, stream)[:, 0]
        return np.ones(rows)

    def label_scores(self, rows: Scored, stream: int, first_row: SupportsIndex = 0) -> Doubles:
        """Return the score of each row's label."""
        assert rows.labels is not None
        u = self.uniform(stream, first_row, rows.n_rows)
        found = np.empty(rows.n_rows)
        for part in rows.blocks():
            label = np.ascontiguousarray(rows.labels[part])
            _core.label_scores(rows.logits(part), self.rule, label, u[part], found[part])
        if np.isnan(found).any():
            rows.check_finite()
        return found

    def scores_of(
        self, logits: ArrayLike, y: ArrayLike, first_row: SupportsIndex
    ) -> tuple[Doubles, NDArray[np.int64]]:
        """Return the scores of the labels of new rows, and the labels."""
        rows = read_labelled(logits, y, self.from_probs)
        self._check_classes(rows)
        assert rows.labels is not None
        return self.label_scores(rows, PREDICTION, first_row), rows.labels

    def sets(
        self,
        logits: ArrayLike,
        first_row: SupportsIndex,
        threshold: float,
        thresholds: Doubles | None = None,
    ) -> PredictionSets:
        """Return the sets for one threshold, or for one for each class."""
        rows = _few_classes(read_scores(logits, from_probs=self.from_probs, least=0))
        self._check_classes(rows)
        u = self.uniform(PREDICTION, first_row, rows.n_rows)
        indptr = np.zeros(rows.n_rows + 1, np.int64)
        ids, probs = _GrowingArray(np.int32), _GrowingArray(_dtype_of(rows))
        for part in rows.blocks():
            z = rows.logits(part)
            done = part.start / rows.n_rows
            room = ids.room(z.size, done), probs.room(z.size, done)
            count = _core.prediction_sets(
                z, self.rule, threshold, thresholds, u[part], indptr[1:][part], *room
            )
            ids.size += count
            probs.size += count
        np.cumsum(indptr, out=indptr)
        return unchecked_sets(indptr, ids.finished(), probs.finished(), rows.n_classes)

    def _check_classes(self, rows: Scored) -> None:
        if rows.n_classes != self.n_classes:
            raise ValueError(
                f"logits have {rows.n_classes} classes, but those of fit had {self.n_classes}"
            )


def _few_classes(rows: Scored) -> Scored:
    if rows.n_classes > _MOST_CLASSES:
        raise ValueError(f"there may be up to {_MOST_CLASSES} classes, got {rows.n_classes}")
    return rows


def _dtype_of(rows: Scored) -> type[np.floating[Any]]:
    return np.float64 if rows.array.dtype == np.float64 else np.float32


class _GrowingArray:
    """An array that grows at its end, by what the share of the work that is done suggests."""

    def __init__(self, dtype: Any) -> None:
        self._array = np.empty(0, dtype)
        self.size = 0

    def room(self, count: int, done: float) -> NDArray[Any]:
        """Return `count` elements beyond the end, where this share of the work is done."""
        needed = self.size + count
        if needed > len(self._array):
            # Memory that is never written costs nothing.
            total = int(1.1 * self.size / done) if done else 0
            larger = np.empty(count + total, self._array.dtype)
            larger[: self.size] = self._array[: self.size]
            self._array = larger
        return self._array[self.size : needed]

    def finished(self) -> NDArray[Any]:
        """Return the array, without room for more."""
        self._array.resize(self.size, refcheck=False)
        return self._array
