"""Conformal predictors with one threshold for each class, or for each cluster of classes."""

from __future__ import annotations

import warnings
from fractions import Fraction
from itertools import pairwise
from typing import Any, Self, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import check_count
from boltzmax._lib.parameters import Parameters
from boltzmax._lib.random import uniform_numbers
from boltzmax._lib.rational import as_share
from boltzmax.conformal.base import SetPredictor, p_values_of, threshold_of
from boltzmax.conformal.scorer import CALIBRATION, SPLIT, Scorer, read_labelled
from boltzmax.conformal.sets import PredictionSets

Doubles = NDArray[np.float64]
Ids = NDArray[np.int64]


class _GroupConditional(Parameters):
    """Groups of classes, each with a threshold of its own."""

    base: SetPredictor
    thresholds_: Doubles
    group_: Ids
    _scoring: Scorer
    _sorted: list[Doubles]

    def _check_base(self) -> Fraction:
        if not isinstance(self.base, SetPredictor):
            raise TypeError(f"base must be LAC, APS, RAPS or SAPS, got {self.base!r}")
        return as_share(self.base.alpha, "alpha")

    def _score_labels(self, logits: ArrayLike, y: ArrayLike) -> tuple[Scorer, Doubles, Ids]:
        """Return how rows are scored, the scores of the labels, and the labels."""
        rows = read_labelled(logits, y, self.base.from_probs)
        scorer = self.base._scorer(rows.n_classes)
        assert rows.labels is not None
        return scorer, scorer.label_scores(rows, CALIBRATION), rows.labels

    def _set_thresholds(self, scores: Doubles, groups: Ids, n_groups: int, share: Fraction) -> None:
        """Find the threshold of each group; `group_` is known."""
        order = np.lexsort((scores, groups))
        edges = np.searchsorted(groups[order], np.arange(n_groups + 1))
        parts = [scores[order[a:b]] for a, b in pairwise(edges.tolist())]
        self._sorted = parts
        found = np.array([threshold_of(part, share) for part in parts])
        self.thresholds_ = found[self.group_]
        few = int(np.isinf(self.thresholds_).sum())
        if few:
            needed = -(-share.denominator // share.numerator) - 1
            warnings.warn(
                f"{few} of {len(self.group_)} classes have too few rows for alpha="
                f"{self.base.alpha}, and are in every set; it takes {needed} rows each",
                stacklevel=3,
            )

    def predict(self, logits: ArrayLike, *, first_row: SupportsIndex = 0) -> PredictionSets:
        """Return the set of each row, as `LAC.predict` does."""
        self._check_is_fitted("thresholds_")
        return self._scoring.sets(logits, first_row, np.inf, self.thresholds_)

    def p_values(self, logits: ArrayLike, y: ArrayLike, *, first_row: SupportsIndex = 0) -> Doubles:
        """Return the p-value of each row's class in `y`, among the scores of its group."""
        self._check_is_fitted("thresholds_")
        scores, labels = self._scoring.scores_of(logits, y, first_row)
        groups, found = self.group_[labels], np.empty(len(labels))
        for g in np.unique(groups):
            some = groups == g
            found[some] = p_values_of(self._sorted[g], scores[some])
        return found


class ClassConditional(_GroupConditional):
    """Sets that contain the right class with probability 1 - alpha for every class by itself.

    Each class has a threshold, from the rows of that class. A class with fewer than 1/alpha - 1
    rows is in every set.

    Parameters
    ----------
    base : LAC, APS, RAPS or SAPS
        The score, alpha and the other options.

    Attributes
    ----------
    thresholds_ : ndarray of float64, shape (K,)
        The threshold of each class.

    Notes
    -----
    Vovk, "Conditional Validity of Inductive Conformal Predictors", ACML 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax.conformal import LAC, ClassConditional
    >>> logits = np.log([[0.6, 0.4], [0.7, 0.3], [0.2, 0.8], [0.1, 0.9]])
    >>> predictor = ClassConditional(LAC(alpha=0.5)).fit(logits, [0, 0, 1, 1])
    >>> predictor.thresholds_.round(6)
    array([0.4, 0.2])
    """

    def __init__(self, base: SetPredictor) -> None:
        self.base = base

    def fit(self, logits: ArrayLike, y: ArrayLike) -> Self:
        """Find the threshold of each class; the arguments are those of `LAC.fit`."""
        share = self._check_base()
        scorer, scores, labels = self._score_labels(logits, y)
        self._scoring, self.group_ = scorer, np.arange(scorer.n_classes)
        self._set_thresholds(scores, labels, scorer.n_classes, share)
        return self


class ClusterConditional(_GroupConditional):
    """Thresholds of clusters of classes whose scores are distributed alike.

    Some of the rows serve to find the clusters: k-means on quantiles of the scores of each class.
    The others give each cluster its threshold. Classes with too few rows to have quantiles, below
    1/alpha - 1, are in a cluster of their own, whose threshold is that of all rows.

    The guarantee is that of a cluster: among rows of its classes, the right class is in the set
    with probability 1 - alpha.

    Parameters
    ----------
    base : LAC, APS, RAPS or SAPS
        The score, alpha and the other options. Its random_state also splits the rows.
    n_clusters : int
        The number of clusters.
    clustering_share : float, default 0.3
        The share of the rows that serve to find the clusters, between 0 and 1.

    Attributes
    ----------
    group_ : ndarray of int64, shape (K,)
        The cluster of each class, from 0 on; `n_clusters` for classes with too few rows.
    thresholds_ : ndarray of float64, shape (K,)
        The threshold of each class.

    Notes
    -----
    Ding, Angelopoulos, Bates, Jordan & Tibshirani, "Class-Conditional Conformal Prediction with
    Many Classes", NeurIPS 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax.conformal import LAC, ClusterConditional
    >>> rng = np.random.default_rng(0)
    >>> logits = 2 * rng.normal(size=(4000, 6))
    >>> y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    >>> logits[:, :3] -= 3  # the model underrates three classes
    >>> ClusterConditional(LAC(alpha=0.1), n_clusters=2).fit(logits, y).group_
    array([1, 1, 1, 0, 0, 0])
    """

    def __init__(
        self, base: SetPredictor, n_clusters: int, *, clustering_share: float = 0.3
    ) -> None:
        self.base = base
        self.n_clusters = n_clusters
        self.clustering_share = clustering_share

    def fit(self, logits: ArrayLike, y: ArrayLike) -> Self:
        """Find the clusters and their thresholds; the arguments are those of `LAC.fit`."""
        share = self._check_base()
        n_clusters = check_count(self.n_clusters, "n_clusters", 1)
        part = float(as_share(self.clustering_share, "clustering_share"))
        scorer, scores, labels = self._score_labels(logits, y)
        is_first = uniform_numbers(scorer.key, 0, len(scores), SPLIT)[:, 0] < part
        self._scoring = scorer
        self.group_ = _clusters(
            scores[is_first], labels[is_first], scorer.n_classes, n_clusters, share
        )
        rest, groups = scores[~is_first], self.group_[labels[~is_first]]
        # The threshold of the classes without a cluster comes from all rows.
        everything = np.concatenate([groups[groups < n_clusters], np.full(len(rest), n_clusters)])
        self._set_thresholds(
            np.concatenate([rest[groups < n_clusters], rest]), everything, n_clusters + 1, share
        )
        return self


def _clusters(
    scores: Doubles, labels: Ids, n_classes: int, n_clusters: int, share: Fraction
) -> Ids:
    """Return the cluster of each class, `n_clusters` for those with too few rows."""
    levels = np.unique([0.5, 0.6, 0.7, 0.8, 0.9, 1 - float(share)])
    least = -(-share.denominator // share.numerator) - 1
    counts = np.bincount(labels, minlength=n_classes)
    classes = np.flatnonzero(counts >= least)
    group = np.full(n_classes, n_clusters, np.int64)
    if not len(classes):
        return group
    order = np.argsort(labels, kind="stable")
    edges = np.searchsorted(labels[order], np.arange(n_classes + 1))
    points = np.array(
        [np.quantile(scores[order[edges[c] : edges[c + 1]]], levels) for c in classes]
    )
    group[classes] = _k_means(points, np.sqrt(counts[classes]), n_clusters)
    return group


def _k_means(points: Doubles, weights: Doubles, k: int) -> Ids:
    """Return the cluster of each point: Lloyd's algorithm from the farthest points on."""
    centers = points[[int(weights.argmax())]]
    while len(centers) < min(k, len(points)):
        distance = _squared_distances(points, centers).min(axis=1)
        if not distance.any():
            break
        centers = np.vstack([centers, points[int((weights * distance).argmax())]])
    nearest = _squared_distances(points, centers).argmin(axis=1)
    for _ in range(100):
        total = np.bincount(nearest, weights, len(centers))
        for d in range(points.shape[1]):
            sums = np.bincount(nearest, weights * points[:, d], len(centers))
            centers[:, d] = np.where(total > 0, sums / np.maximum(total, 1e-300), centers[:, d])
        moved = _squared_distances(points, centers).argmin(axis=1)
        if np.array_equal(moved, nearest):
            break
        nearest = moved
    found: Ids = nearest.astype(np.int64)
    return found


def _squared_distances(points: Doubles, centers: Doubles) -> Any:
    return ((points[:, None, :] - centers[None, :, :]) ** 2).sum(axis=2)
