"""Scores that tell rows of the training distribution from others, and how well they do.

Every score is larger for rows that look like the training data. They read the logits once, block by
block, and allocate nothing of their size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import check_count, check_temperature, quietly
from boltzmax._lib.numbers import check_number, real_numbers
from boltzmax._lib.public import show_in
from boltzmax._lib.rational import as_share
from boltzmax._lib.scored import read_scores
from boltzmax.arrays.row_stats import RowStats, row_stats

Array = NDArray[Any]
Doubles = NDArray[np.float64]

__all__ = [
    "auroc",
    "energy_score",
    "entropy",
    "fpr_at_tpr",
    "gen",
    "max_logit",
    "max_prob",
]


def _of_rows(
    logits: ArrayLike,
    from_probs: bool,
    of_stats: Callable[[RowStats], Array],
    **options: Any,
) -> Doubles:
    """Return a score of the statistics of each row, in double."""
    rows = read_scores(logits, from_probs=from_probs, least=0)
    found = np.empty(rows.n_rows)
    for part in rows.blocks():
        with np.errstate(all="ignore"):
            found[part] = of_stats(row_stats(rows.logits(part), **options))
    return found


def energy_score(logits: ArrayLike, temperature: float = 1.0) -> Doubles:
    """Return T logsumexp(logits / T) of each row: the negative energy.

    Parameters
    ----------
    logits : array_like, shape (N, K) or (N,)
        Logits of K classes, or of class 1 of two, where class 0 has the logit 0. Probabilities
        would not do: their energy is 0.
    temperature : float, default 1.0
        T.

    Returns
    -------
    ndarray of float64, shape (N,)

    Notes
    -----
    Liu, Wang, Owens & Li, "Energy-based Out-of-distribution Detection", NeurIPS 2020.

    Examples
    --------
    >>> from boltzmax.ood import energy_score
    >>> energy_score([[5.0, 0.0], [1.0, 0.0]]).round(3)
    array([5.007, 1.313])
    """
    t = check_temperature(temperature)
    return _of_rows(logits, False, lambda s: -s.energy, k=0, entropy=False, temperature=t)


def max_logit(logits: ArrayLike) -> Doubles:
    """Return the largest logit of each row.

    Parameters
    ----------
    logits : array_like, shape (N, K) or (N,)
        As for `energy_score`.

    Notes
    -----
    Hendrycks et al., "Scaling Out-of-Distribution Detection for Real-World Settings", ICML 2022.

    Examples
    --------
    >>> from boltzmax.ood import max_logit
    >>> max_logit([[5.0, 0.0], [1.0, 2.0]])
    array([5., 2.])
    """
    rows = read_scores(logits, least=0)
    found = np.empty(rows.n_rows)
    for part in rows.blocks():
        with np.errstate(all="ignore"):
            found[part] = rows.logits(part).max(axis=1)
    return found


def max_prob(logits: ArrayLike, *, from_probs: bool = False) -> Doubles:
    """Return the largest probability of each row.

    Parameters
    ----------
    logits : array_like, shape (N, K) or (N,)
        As for `energy_score`.
    from_probs : bool, default False
        Whether rows are probabilities instead of logits.

    Notes
    -----
    Hendrycks & Gimpel, "A Baseline for Detecting Misclassified and Out-of-Distribution Examples in
    Neural Networks", ICLR 2017.

    Examples
    --------
    >>> from boltzmax.ood import max_prob
    >>> max_prob([[5.0, 0.0], [1.0, 2.0]]).round(3)
    array([0.993, 0.731])
    """
    return _of_rows(
        logits, from_probs, lambda s: np.exp(_doubles(s.max_log_prob)), k=1, entropy=False
    )


def entropy(logits: ArrayLike, *, from_probs: bool = False) -> Doubles:
    """Return minus the entropy of each row, so that larger is surer: sum_c p_c log p_c, in nats.

    Parameters
    ----------
    logits, from_probs
        As for `max_prob`.

    Examples
    --------
    >>> from boltzmax.ood import entropy
    >>> entropy([[5.0, 0.0], [1.0, 1.0]]).round(3)
    array([-0.04 , -0.693])
    """
    return _of_rows(logits, from_probs, lambda s: -_doubles(s.entropy), k=0)


def gen(
    logits: ArrayLike,
    gamma: float = 0.1,
    m: SupportsIndex = 100,
    *,
    from_probs: bool = False,
) -> Doubles:
    """Return -sum_c (p_c (1 - p_c))^gamma over the m largest probabilities of each row.

    Parameters
    ----------
    logits, from_probs
        As for `max_prob`.
    gamma : float, default 0.1
        An exponent from 0 to 1.
    m : int, default 100
        How many classes count; at most all do.

    Notes
    -----
    Liu, Lochman & Zach, "GEN: Pushing the Limits of Softmax-Based Out-of-Distribution Detection",
    CVPR 2023.

    Examples
    --------
    >>> from boltzmax.ood import gen
    >>> gen([[5.0, 0.0], [1.0, 1.0]]).round(3)
    array([-1.211, -1.741])
    """
    exponent = check_number(gamma, "gamma", 0, 1)
    most = check_count(m, "m", 1)

    def score(stats: RowStats) -> Array:
        log_p = _doubles(stats.top_log_probs)
        terms: Array = (np.exp(log_p) * -np.expm1(log_p)) ** exponent
        return np.asarray(-terms.sum(axis=-1))

    return _of_rows(logits, from_probs, score, k=most, entropy=False)


def _doubles(values: Array | None) -> Doubles:
    assert values is not None
    return values.astype(np.float64)


@quietly
def auroc(in_scores: ArrayLike, out_scores: ArrayLike) -> float:
    """Return the probability that a score of an inner row exceeds that of an outer one.

    It is the area under the ROC curve; equal scores count half.

    Parameters
    ----------
    in_scores, out_scores : array_like, shape (N,), (M,)
        Scores of rows of the training distribution, and of others.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ValueError
        For NaN, or no scores.

    Examples
    --------
    >>> from boltzmax.ood import auroc
    >>> auroc([3.0, 2.0], [1.0, 2.0])
    0.875
    """
    inner, outer = _scores(in_scores, "in_scores"), np.sort(_scores(out_scores, "out_scores"))
    below = np.searchsorted(outer, inner, side="left")
    not_above = np.searchsorted(outer, inner, side="right")
    twice = int(below.sum()) + int(not_above.sum())  # in integers, so that nothing is rounded
    return twice / (2 * len(inner) * len(outer))


def fpr_at_tpr(in_scores: ArrayLike, out_scores: ArrayLike, tpr: float = 0.95) -> float:
    """Return the share of outer rows that pass where at least a share `tpr` of the inner ones do.

    The threshold is the highest one that enough inner rows reach, counted in integers.

    Parameters
    ----------
    in_scores, out_scores : array_like, shape (N,), (M,)
        Scores of rows of the training distribution, and of others.
    tpr : float, default 0.95
        Between 0 and 1.

    Examples
    --------
    >>> from boltzmax.ood import fpr_at_tpr
    >>> fpr_at_tpr([1.0, 2.0, 3.0, 4.0], [0.0, 1.5, 2.5, 9.0], tpr=0.75)
    0.5
    """
    share = as_share(tpr, "tpr")
    inner, outer = np.sort(_scores(in_scores, "in_scores")), _scores(out_scores, "out_scores")
    needed = -(-len(inner) * share.numerator // share.denominator)
    return float((outer >= inner[len(inner) - needed]).mean())


def _scores(x: ArrayLike, name: str) -> Doubles:
    """Return a vector of numbers, at least one and none of them NaN."""
    scores = real_numbers(x, name)
    if scores.ndim != 1 or not len(scores):
        raise ValueError(f"{name} must be one number per row, and some, got shape {scores.shape}")
    bad = np.isnan(scores)
    if bad.any():
        raise ValueError(f"{name} has NaN in row {int(bad.argmax())}")
    return scores


show_in(globals())
