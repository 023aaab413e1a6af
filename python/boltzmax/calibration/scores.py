"""Scores of probabilities: the log-likelihood, Brier's score, and sharpness."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import quietly
from boltzmax._lib.numbers import loss_dtype
from boltzmax._lib.scored import Scored, read_scores, read_scores_and_labels, read_weights
from boltzmax.calibration.events import class_probabilities
from boltzmax.losses.cross_entropy import cross_entropy, cross_entropy_with_grad

Array = NDArray[Any]
Doubles = NDArray[np.float64]


@quietly
def nll(
    logits: ArrayLike,
    y: ArrayLike,
    *,
    from_probs: bool = False,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Return the negative log-likelihood, the mean of -log p[y]; in nats.

    Parameters
    ----------
    logits, y, from_probs, sample_weight
        As for `ece`. Probabilities are divided by their sum.

    Returns
    -------
    float
        The mean over the rows; infinite if a label has the probability 0.

    Raises
    ------
    IndexError, TypeError, ValueError
        As from `ece`.

    References
    ----------
    Good, "Rational decisions", Journal of the Royal Statistical Society B 14, 1952.

    Examples
    --------
    >>> from boltzmax.calibration import nll
    >>> round(nll([[2.0, 0.0], [0.0, 1.0]], [0, 0]), 6)
    0.720095
    """
    rows = read_scores_and_labels(logits, y, from_probs=from_probs, sample_weight=sample_weight)
    return mean_over_rows(rows, lambda part: losses(rows, part))


def losses(rows: Scored, part: slice) -> Doubles:
    """Return -log p[y] of some rows."""
    assert rows.labels is not None
    z = rows.logits(part)
    found = cross_entropy(z, rows.labels[part], reduction="none")
    return np.asarray(found, np.float64)


@quietly
def brier_score(
    logits: ArrayLike,
    y: ArrayLike,
    *,
    from_probs: bool = False,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Return Brier's score, the mean of sum_c (p_c - [c = y])^2.

    For single numbers it is the mean of (p - y)^2, half as large, as scikit-learn's is.

    Parameters
    ----------
    logits, y, from_probs, sample_weight
        As for `ece`.

    Returns
    -------
    float
        The mean over the rows, from 0 to 2.

    Raises
    ------
    IndexError, TypeError, ValueError
        As from `ece`.

    References
    ----------
    Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78,
    1950.

    Examples
    --------
    >>> from boltzmax.calibration import brier_score
    >>> round(brier_score([[0.75, 0.25], [0.5, 0.5]], [0, 0], from_probs=True), 6)
    0.3125
    >>> brier_score([0.25, 0.5], [0, 0], from_probs=True)
    0.15625
    """
    rows = read_scores_and_labels(logits, y, from_probs=from_probs, sample_weight=sample_weight)
    factor = 0.5 if rows.is_binary else 1.0
    return factor * mean_over_rows(rows, lambda part: _square_distances(rows, part))


def _square_distances(rows: Scored, part: slice) -> Doubles:
    """Return the square of p - [c = y] for some rows.

    It is the gradient of the cross-entropy, whose kernel sums up 1 - p from the other classes.
    """
    assert rows.labels is not None
    if rows.from_probs and not rows.is_binary:
        distance = rows.probabilities(part).astype(np.float64)
        distance[np.arange(len(distance)), rows.labels[part]] -= 1.0
    else:
        z = rows.logits(part)
        z = z.astype(loss_dtype(z.dtype), copy=False)
        _, distance = cross_entropy_with_grad(z, rows.labels[part], reduction="sum")
    return _sum_of_squares(distance)


@quietly
def sharpness(
    logits: ArrayLike,
    *,
    from_probs: bool = False,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Return how concentrated the probabilities are, the mean of sum_c p_c^2.

    It depends on the forecasts alone: 1 / K if all are uniform, 1 if all are certain. Brier's score
    of a calibrated model is 1 - sharpness on average, so of two calibrated models the sharper is
    the better.

    Parameters
    ----------
    logits, from_probs, sample_weight
        As for `ece`.

    Returns
    -------
    float
        The mean over the rows.

    Raises
    ------
    TypeError, ValueError
        As from `ece`.

    References
    ----------
    Gneiting, Balabdaoui & Raftery, "Probabilistic forecasts, calibration and sharpness", Journal of
    the Royal Statistical Society B 69, 2007.

    Examples
    --------
    >>> from boltzmax.calibration import sharpness
    >>> sharpness([[0.5, 0.5], [1.0, 0.0]], from_probs=True)
    0.75
    """
    rows = read_scores(logits, from_probs=from_probs)
    if sample_weight is not None:
        weights = read_weights(sample_weight, rows.n_rows)
        rows = Scored(rows.array, rows.from_probs, None, weights)
    return mean_over_rows(rows, lambda part: _sum_of_squares(class_probabilities(rows, part)))


def _sum_of_squares(values: Array) -> Doubles:
    squares: Doubles = np.einsum("nc,nc->n", values, values, dtype=np.float64)
    return squares


def mean_over_rows(rows: Scored, values: Any) -> float:
    """Return the weighted mean of numbers of rows, from a function of slices; or raise for NaN."""
    total = 0.0
    for part in rows.blocks():
        found, weight = values(part), rows.weight(part)
        if np.isnan(found).any():
            rows.check_finite()
        counted = weight > 0  # a weight of 0 and an infinite loss are 0
        total += float(np.dot(weight[counted], found[counted]))
    return total / rows.total_weight
