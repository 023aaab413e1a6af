"""Classes drawn by their counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from boltzmax._lib.arguments import as_number
from boltzmax._lib.numbers import real_numbers
from boltzmax.candidates.base import Floats, Ints, Sampler


class UnigramSampler(Sampler):
    """Classes by their counts: q is proportional to counts ** power."""

    def __init__(self, counts: ArrayLike, power: float = 0.75) -> None:
        weights = real_numbers(counts, "counts") ** as_number(power, "power")
        self.n_classes = len(weights)
        self._q = weights / weights.sum()
        self._edges = np.cumsum(self._q)

    def _propose(self, first: Floats, second: Floats) -> Ints:
        k = np.searchsorted(self._edges, first * self._edges[-1], side="right")
        return np.minimum(k, self.n_classes - 1).astype(np.int64)

    def _log_prob(self, ids: Ints) -> Floats:
        return np.log(self._q[ids])
