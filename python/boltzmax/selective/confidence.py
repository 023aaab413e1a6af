"""Scores of how sure a row is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import ood
from boltzmax._core import softmax
from boltzmax._lib.arguments import one_of
from boltzmax._lib.scored import read_scores
from boltzmax.arrays.row_stats import row_stats

Doubles = NDArray[np.float64]

SCORES = ("max_prob", "margin", "entropy", "energy", "max_logit", "doctor")


def confidence(logits: ArrayLike, score: str = "max_prob", *, from_probs: bool = False) -> Doubles:
    """Return how sure each row is; larger is surer.

    Parameters
    ----------
    logits : array_like, shape (N, K) or (N,)
        Logits of K classes, or of class 1 of two, where class 0 has the logit 0.
    score : str, default "max_prob"
        - "max_prob": the largest probability
        - "margin": the difference of the two largest probabilities
        - "entropy": minus the entropy, in nats
        - "energy": logsumexp
        - "max_logit": the largest logit
        - "doctor": sum_c p_c^2, from which DOCTOR's alpha score is made
    from_probs : bool, default False
        Whether rows are probabilities instead of logits; "energy" and "max_logit" need logits.

    Returns
    -------
    ndarray of float64, shape (N,)
        NaN for a row with NaN or without a finite maximum.

    Notes
    -----
    "doctor": Granese, Romanelli, Gorla, Palamidessi & Piantanida, "DOCTOR: A Simple Method for
    Detecting Misclassification Errors", NeurIPS 2021: (1 - g) / g falls with this g.

    Examples
    --------
    >>> from boltzmax.selective import confidence
    >>> confidence([[0.6, 0.3, 0.1]], "margin", from_probs=True).round(6)
    array([0.3])
    """
    one_of(score, "score", SCORES)
    if from_probs and score in ("energy", "max_logit"):
        raise ValueError(f"score={score!r} needs logits, not probabilities")
    of_logits = {"energy": ood.energy_score, "max_logit": ood.max_logit}
    if score in of_logits:
        found = of_logits[score](logits)
        found[~np.isfinite(found)] = np.nan
        return found
    if score == "entropy":
        return ood.entropy(logits, from_probs=from_probs)
    if score == "max_prob":
        return ood.max_prob(logits, from_probs=from_probs)
    return _of_blocks(logits, _margin if score == "margin" else _sum_of_squares, from_probs)


def _of_blocks(logits: ArrayLike, of_block: Any, from_probs: bool) -> Doubles:
    rows = read_scores(logits, from_probs=from_probs, least=0)
    found = np.empty(rows.n_rows)
    for part in rows.blocks():
        with np.errstate(all="ignore"):
            found[part] = of_block(rows.logits(part))
    return found


def _margin(z: NDArray[Any]) -> Doubles:
    top = row_stats(z, k=2, entropy=False).top_log_probs
    assert top is not None
    first = top[:, 0].astype(np.float64)
    if top.shape[1] == 1:
        return np.exp(first)
    margin: Doubles = np.exp(first) * -np.expm1(top[:, 1] - first)
    return margin


def _sum_of_squares(z: NDArray[Any]) -> Doubles:
    p = softmax(z.astype(np.float32) if z.dtype.itemsize < 4 else z)
    squares: Doubles = np.einsum("ij,ij->i", p, p, dtype=np.float64)
    return squares
