"""What all conformal predictors share: parameters, and thresholds in integers."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from fractions import Fraction
from typing import Any, Self, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import as_flag
from boltzmax._lib.parameters import Parameters
from boltzmax._lib.random import random_key
from boltzmax._lib.rational import as_share, conformal_rank
from boltzmax.conformal.scorer import CALIBRATION, Rule, Scorer, read_labelled
from boltzmax.conformal.sets import PredictionSets

Doubles = NDArray[np.float64]


class SetPredictor(Parameters, ABC):
    """A score of a class in a row, and the threshold up to which classes belong to the set.

    The arguments are those of `LAC`. After a change of one, `predict` and `p_values` go on as the
    last `fit` began.
    """

    alpha: Any
    randomized: Any
    random_state: Any
    from_probs: Any

    threshold_: float
    scores_: Doubles
    _scoring: Scorer

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
        rows = read_labelled(logits, y, self.from_probs)
        scorer = self._scorer(rows.n_classes)
        scores = scorer.label_scores(rows, CALIBRATION)
        scores.sort()
        # Nothing is stored before all of it is known: a call that raises changes nothing.
        self._scoring, self.scores_ = scorer, scores
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
        return self._scoring.sets(logits, first_row, self.threshold_)

    def p_values(self, logits: ArrayLike, y: ArrayLike, *, first_row: SupportsIndex = 0) -> Doubles:
        """Return the p-value of each row's class in `y`: small if it is an unlikely label.

        It is (1 + the number of scores in `fit` that are at least as large) / (1 + their number);
        a class is in the set of `predict` if its p-value exceeds alpha. For exchangeable rows,
        P(p <= t) <= t for every t.
        """
        self._check_is_fitted("threshold_")
        return p_values_of(self.scores_, self._scoring.scores_of(logits, y, first_row)[0])

    def _scorer(self, n_classes: int) -> Scorer:
        """Return how rows are scored, with the parameters as they are now."""
        return Scorer(
            self._rule(),
            as_flag(self.randomized, "randomized"),
            as_flag(self.from_probs, "from_probs"),
            random_key(self.random_state, "random_state"),
            n_classes,
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
