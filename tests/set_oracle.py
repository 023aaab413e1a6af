"""Prediction sets in long double, by sorting every row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LAC, APS, SAPS = 0, 1, 2


def probabilities(logits: Array) -> Array:
    """Softmax of rows in long double."""
    z = logits.astype(np.longdouble)
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def all_scores(logits: Array, rule: tuple[int, float, float], u: Array) -> Array:
    """The score of every class in every row. Classes with equal logits stand together."""
    kind, weight, free_ranks = rule
    p, scores = probabilities(logits), np.empty(logits.shape, np.longdouble)
    for r, row in enumerate(logits):
        larger = row[None, :] > row[:, None]
        above, rank = (larger * p[r]).sum(axis=1), 1 + larger.sum(axis=1)
        if kind == LAC:
            scores[r] = 1 - p[r]
        elif kind == APS:
            ties = ((row[None, :] == row[:, None]) * p[r]).sum(axis=1)
            scores[r] = above + u[r] * ties + weight * np.maximum(0, rank - free_ranks)
        else:
            top = p[r].max()
            scores[r] = np.where(rank == 1, u[r] * top, top + (rank - 2 + u[r]) * weight)
    return scores
