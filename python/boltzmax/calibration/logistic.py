"""Logistic regression on a few features, by Newton's method."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

_MOST_STEPS = 100
_CLOSE = 1e-12  # relative to the loss: what a last step may still gain


def smoothed_targets(happened: NDArray[np.bool_], weight: Doubles) -> Doubles:
    """Return Platt's targets, which keep the weights finite where the scores separate the events.

    They are (n + 1) / (n + 2) for the n rows where the event happened, 1 / (n + 2) for the others.
    """
    n = float(weight[happened].sum())
    others = float(weight.sum()) - n
    return np.where(happened, (n + 1) / (n + 2), 1 / (others + 2))


def fit_logistic(features: Doubles, target: Doubles, weight: Doubles) -> Doubles:
    """Return the coefficients with the least cross-entropy.

    Parameters
    ----------
    features : ndarray, shape (N, D)
        Finite features, of which one is usually 1.
    target : ndarray, shape (N,)
        Probabilities between 0 and 1.
    weight : ndarray, shape (N,)
        A weight for each row.
    """
    scale = np.sqrt(np.einsum("nd,nd,n->d", features, features, weight) / weight.sum())
    x = features / np.where(scale > 0, scale, 1.0)
    beta = np.zeros(x.shape[1])
    loss = _loss(x @ beta, target, weight)
    for _ in range(_MOST_STEPS):
        p = _sigmoid(x @ beta)
        gradient = x.T @ (weight * (p - target))
        hessian = (x.T * (weight * p * (1 - p))) @ x
        step = np.linalg.lstsq(hessian, -gradient, rcond=1e-14)[0]
        gain = -float(gradient @ step)
        for _ in range(50):
            new = _loss(x @ (beta + step), target, weight)
            if new <= loss - 1e-4 * gain or gain <= _CLOSE * loss:
                break
            step, gain = step / 2, gain / 2
        if not new < loss:
            break
        beta, loss = beta + step, new
        if gain <= _CLOSE * loss:
            break
    result: Doubles = beta / np.where(scale > 0, scale, 1.0)
    return result


def _sigmoid(x: Doubles) -> Doubles:
    return 1 / (1 + np.exp(-x))


def _loss(x: Doubles, target: Doubles, weight: Doubles) -> float:
    return float(weight @ (np.logaddexp(0.0, x) - target * x))
