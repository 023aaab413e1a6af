"""Distributions over classes that need no table."""

from __future__ import annotations

import math

import numpy as np

from boltzmax._lib.arguments import check_count
from boltzmax.candidates.base import MOST_CLASSES, Floats, Ints, Sampler


class UniformSampler(Sampler):
    """Every class is as likely as any other: q = 1 / n_classes."""

    def __init__(self, n_classes: int) -> None:
        self.n_classes = check_count(n_classes, "n_classes", 1, MOST_CLASSES)

    def _propose(self, first: Floats, second: Floats) -> Ints:
        return (first * self.n_classes).astype(np.int64)

    def _log_prob(self, ids: Ints) -> Floats:
        return np.full(np.shape(ids), -math.log(self.n_classes))


class LogUniformSampler(Sampler):
    """Classes in order of frequency, the most frequent one first: Zipf's law.

    q(k) = log((k + 2) / (k + 1)) / log(n_classes + 1)
    """

    def __init__(self, n_classes: int) -> None:
        self.n_classes = check_count(n_classes, "n_classes", 1, MOST_CLASSES)

    def _propose(self, first: Floats, second: Floats) -> Ints:
        k = np.exp(first * math.log1p(self.n_classes)).astype(np.int64) - 1
        return np.clip(k, 0, self.n_classes - 1)

    def _log_prob(self, ids: Ints) -> Floats:
        return np.log(np.log1p(1.0 / (ids + 1.0)) / math.log1p(self.n_classes))
