"""What all conformal predictors share: scores, thresholds in integers, sets block by block."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from fractions import Fraction
from typing import Any, Self, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import as_flag
from boltzmax._lib.parameters import Parameters
from boltzmax._lib.random import check_first_row, random_key, uniform_rows
from boltzmax._lib.rational import as_share, conformal_rank
from boltzmax._lib.scored import Scored, read_scores, read_scores_and_labels
from boltzmax.conformal.sets import PredictionSets

Doubles = NDArray[np.float64]
Rule = tuple[int, float, float]

LAC_SCORE, APS_SCORE, SAPS_SCORE = 0, 1, 2  # as in cpp/core/sets/rule.hpp
CALIBRATION, PREDICTION, SPLIT = 0, 1, 2  # streams of random numbers

_MOST_CLASSES = 2**31 - 1


class SetPredictor(Parameters, ABC):
    """A score of a class in a row, and the threshold up to which classes belong to the set.

    The arguments are those of `LAC`.
    """

    alpha: Any
    randomized: Any
    random_state: Any
    from_probs: Any

    threshold_: float
    scores_: Doubles
    n_classes_: int
    key_: int

    def __init__(
        self,
        alpha: float = 0.1,
        *,
        randomized: bool = True,
        random_state: Any = 0,
        from_probs: bool = False,
    ) -> None:
        self.alpha = alpha
        self.randomized = randomized
        self.random_state = random_state
        self.from_probs = from_probs

    @abstractmethod
    def _rule(self) -> Rule:
        """Return the score's kind, its weight, and the number of free ranks."""

    def fit(self, logits: ArrayLike, y: ArrayLike) -> Self:
        """Find the threshold, from rows that the model was not trained on.

        Parameters
        ----------
        logits : array_like, shape (N, K) or (N,)
            Logits of K classes, or of class 1 of two; probabilities if `from_probs`. A memory map
            is read block by block.
        y : array_like of int, shape (N,)
            The classes.

        Raises
        ------
        ValueError
            For a row with NaN or without a finite maximum; it names the first.
        IndexError
            For a class out of range.

        Warns
        -----
        UserWarning
            If N is too small for `alpha`: then the threshold is infinite, and all sets are full.
        """
        share = as_share(self.alpha, "alpha")
        rows = self._read_labelled(logits, y)
        key = random_key(self.random_state, "random_state")
        u = self._uniform(key, CALIBRATION, 0, rows.n_rows)
        scores = np.sort(self._label_scores(rows, u))
        # Nothing is stored before all of it is known: a call that raises changes nothing.
        self.key_, self.scores_, self.n_classes_ = key, scores, rows.n_classes
        self.threshold_ = threshold_of(self.scores_, share)
        if self.threshold_ == np.inf:
            needed = -(-share.denominator // share.numerator) - 1
            warnings.warn(
                f"{rows.n_rows} rows are too few for alpha={self.alpha}: all sets will be full; "
                f"it takes {needed} rows",
                stacklevel=2,
            )
        return self

    def predict(self, logits: ArrayLike, *, first_row: SupportsIndex = 0) -> PredictionSets:
        """Return the set of each row.

        Parameters
        ----------
        logits : array_like, shape (N, K) or (N,)
            As for `fit`. A row with NaN or without a finite maximum gets all classes, with NaN
            for probabilities.
        first_row : int, default 0
            The number of the first row. Random numbers depend on `random_state` and the number of
            a row, so that parts of an array have the sets of the whole if they are numbered
            alike; rows that are predicted one by one need different numbers.

        Returns
        -------
        PredictionSets
            In compressed rows; nothing of the size of the logits is allocated.
        """
        self._check_is_fitted("threshold_")
        return self._sets_of(logits, first_row, self.threshold_, None)

    def p_values(self, logits: ArrayLike, y: ArrayLike, *, first_row: SupportsIndex = 0) -> Doubles:
        """Return the p-value of each row's class in `y`: small if it is an unlikely label.

        It is (1 + the number of scores in `fit` that are at least as large) / (1 + their number);
        a class is in the set of `predict` if its p-value exceeds alpha. For exchangeable rows,
        P(p <= t) <= t for every t.
        """
        self._check_is_fitted("threshold_")
        rows = self._read_labelled(logits, y, self.n_classes_)
        u = self._uniform(self.key_, PREDICTION, first_row, rows.n_rows)
        scores = self._label_scores(rows, u)
        return p_values_of(self.scores_, scores)

    def _label_scores(self, rows: Scored, u: Doubles) -> Doubles:
        """Return the score of each row's label, from a number of `_uniform` for each row."""
        rule = self._rule()
        found = np.empty(rows.n_rows)
        for part in rows.blocks():
            label = np.ascontiguousarray(rows.labels[part])  # type: ignore[index]
            _core.label_scores(rows.logits(part), rule, label, u[part], found[part])
        bad = np.isnan(found)
        if bad.any():
            rows.check_finite()
        return found

    def _sets_of(
        self,
        logits: ArrayLike,
        first_row: SupportsIndex,
        threshold: float,
        thresholds: Doubles | None,
    ) -> PredictionSets:
        """Return the sets for one threshold, or for one for each class."""
        rows = self._read(read_scores(logits, from_probs=self.from_probs, least=0))
        self._check_classes(rows, self.n_classes_)
        rule = self._rule()
        u = self._uniform(self.key_, PREDICTION, first_row, rows.n_rows)
        indptr = np.zeros(rows.n_rows + 1, np.int64)
        ids, probs = _GrowingArray(np.int32), _GrowingArray(_dtype_of(rows))
        for part in rows.blocks():
            z = rows.logits(part)
            done = part.start / rows.n_rows
            room = ids.room(z.size, done), probs.room(z.size, done)
            count = _core.prediction_sets(
                z, rule, threshold, thresholds, u[part], indptr[1:][part], *room
            )
            ids.size += count
            probs.size += count
        np.cumsum(indptr, out=indptr)
        return PredictionSets(indptr, ids.finished(), probs.finished(), rows.n_classes)

    def _uniform(self, key: int, stream: int, first_row: SupportsIndex, rows: int) -> Doubles:
        """Return a random number for each row; ones, if the scores do not depend on them."""
        first = check_first_row(first_row)
        if as_flag(self.randomized, "randomized") and self._rule()[0] != LAC_SCORE:
            return uniform_rows(key, stream, first, rows)
        return np.ones(rows)

    def _read_labelled(self, logits: ArrayLike, y: ArrayLike, classes: int | None = None) -> Scored:
        rows = read_scores_and_labels(logits, y, from_probs=self.from_probs)
        if classes is not None:
            self._check_classes(rows, classes)
        return self._read(rows)

    def _read(self, rows: Scored) -> Scored:
        if rows.n_classes > _MOST_CLASSES:
            raise ValueError(f"there may be up to {_MOST_CLASSES} classes, got {rows.n_classes}")
        return rows

    def _check_classes(self, rows: Scored, classes: int) -> None:
        if rows.n_classes != classes:
            raise ValueError(
                f"logits have {rows.n_classes} classes, but those of fit had {classes}"
            )


def threshold_of(sorted_scores: Doubles, alpha: Fraction) -> float:
    """Return the ceil((n + 1)(1 - alpha))-th smallest of n scores, or +inf if n is too small."""
    rank = conformal_rank(len(sorted_scores), alpha)
    return float(sorted_scores[rank - 1]) if rank <= len(sorted_scores) else np.inf


def p_values_of(sorted_scores: Doubles, scores: Doubles) -> Doubles:
    """Return (1 + the number of sorted scores that are at least as large) / (1 + their number)."""
    n = len(sorted_scores)
    found: Doubles = (1 + n - np.searchsorted(sorted_scores, scores, side="left")) / (n + 1)
    return found


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
