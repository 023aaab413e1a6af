"""Distributions over classes that need no table: uniform, and Zipf's law."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from boltzmax._lib.arguments import check_count
from boltzmax.candidates.base import MOST_CLASSES, FixedSampler
from boltzmax.candidates.inclusion import MOST_GROUPS, Groups
from boltzmax.candidates.law import ProposalLaw


class _Formula(FixedSampler):
    """A sampler that is known by its number of classes."""

    _kind: str

    def __init__(self, n_classes: int) -> None:
        self.n_classes = check_count(n_classes, "n_classes", 1, MOST_CLASSES)
        proposal = (self._kind, self.n_classes)
        self._law = ProposalLaw(proposal, self.n_classes, self.n_classes, self._groups())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.n_classes})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.n_classes,)

    @property
    def nbytes(self) -> int:
        """The memory that grows with the number of classes: none."""
        return 0

    def _groups(self) -> Groups:
        raise NotImplementedError


class UniformSampler(_Formula):
    """Every class is as likely as any other: q = 1 / n_classes.

    Parameters
    ----------
    n_classes : int
        The number of classes, from 1 to 2^32 - 1.

    Examples
    --------
    >>> from boltzmax.candidates import UniformSampler
    >>> ids, log_q = UniformSampler(1_000_000).sample(3, rng=1)
    >>> ids
    array([169968, 582882, 854185])
    >>> log_q.round(3)  # log(3 / 1,000,000)
    array([-12.717, -12.717, -12.717])
    """

    _kind = "uniform"

    def _groups(self) -> Groups:
        q = 1.0 / self.n_classes
        return Groups(np.array([q]), np.array([float(self.n_classes)]), q, q)


class LogUniformSampler(_Formula):
    r"""Zipf's law, for classes in order of their frequency, the most frequent one first.

    .. math:: q(k) = \frac{\log(k + 2) - \log(k + 1)}{\log(V + 1)}

    for k = 0 to V - 1. **The ids must be sorted by frequency**; if they are not, use
    `UnigramSampler`, which knows the counts.

    Parameters
    ----------
    n_classes : int
        The number of classes V, from 1 to 2^32 - 1.

    Notes
    -----
    A draw is the integer part of :math:`(V + 1)^u - 1` with a uniform number u of 64 bits, whose
    power is taken with a relative error of at most 2^-50. So the probability of a class k has a
    relative error of at most (k + 2) 2^-50: 1e-7 at k = 10^8.

    Examples
    --------
    >>> from boltzmax.candidates import LogUniformSampler
    >>> sampler = LogUniformSampler(1_000_000)
    >>> ids, log_q = sampler.sample(5, rng=1)
    >>> ids
    array([     9,   3141, 133386,     63, 333705])
    >>> sampler.log_expected_count([0, 1, 10], 5).round(3)
    array([-1.383, -1.919, -3.458])
    """

    _kind = "log_uniform"

    def _groups(self) -> Groups:
        # Single classes, then ranges whose ends have a constant ratio; sums over a range telescope.
        singles = min(self.n_classes, MOST_GROUPS // 2)
        ends = np.geomspace(singles, self.n_classes, MOST_GROUPS // 2 + 1).astype(np.int64)
        edges = np.unique(np.concatenate([np.arange(singles), ends])).astype(np.float64)
        size = np.diff(edges)
        log_v = math.log1p(self.n_classes)
        q = np.log1p(size / (edges[:-1] + 1.0)) / log_v / size
        low = math.log1p(1.0 / self.n_classes) / log_v
        return Groups(q, size, low, float(q[0]), bool(size.max() == 1.0))
