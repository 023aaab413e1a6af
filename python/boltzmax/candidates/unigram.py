"""Classes drawn by their counts: the alias method."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import as_number, quietly
from boltzmax._lib.numbers import real_array
from boltzmax.candidates.base import MOST_CLASSES, FixedSampler
from boltzmax.candidates.law import Floats, ProposalLaw

_SLOT = [("threshold", np.float64), ("alias", np.uint32), ("unused", np.uint32)]
SLOT = np.dtype(_SLOT)
TABLE_SLOT = np.dtype([*_SLOT, ("log_p", np.float64), ("alias_log_p", np.float64)])


class UnigramSampler(FixedSampler):
    """Classes by their counts: q is proportional to counts ** power.

    Parameters
    ----------
    counts : array_like
        A number for each class, finite and not negative; classes of count 0 are never drawn.
    power : float, default 0.75
        At least 0: 1 for the counts themselves, 0 for all classes with a count alike. 3/4 is
        word2vec's (Mikolov et al., NIPS 2013).

    Notes
    -----
    A draw takes constant time, by the alias method (Walker, ACM Trans. Math. Software 3(3), 1977):
    32 bytes for each class, in double precision. The probability of each class is exact to 2^-53.

    Examples
    --------
    >>> from boltzmax.candidates import UnigramSampler
    >>> sampler = UnigramSampler([1, 16, 0, 81], power=0.5)
    >>> sampler.log_expected_count([0, 1, 2, 3], 28).round(3)  # log of 2, 8, 0 and 18
    array([0.693, 2.079,  -inf, 2.89 ])
    >>> ids, log_q = sampler.sample(2, rng=1, exclude=[3])
    >>> ids
    array([0, 1])
    """

    @quietly
    def __init__(self, counts: ArrayLike, power: float = 0.75) -> None:
        self.power = as_number(power, "power")
        if not 0.0 <= self.power < math.inf:
            raise ValueError(f"power must be finite and not negative, got {power!r}")
        self._set_weights(_powers(read_counts(counts), self.power))

    def _set_weights(self, weights: Floats) -> None:
        """Build the table; the array of weights is used up."""
        weights /= weights.sum()
        log_p = np.log(weights)
        weights *= len(weights)
        slots = _aligned(len(weights))
        _core.build_alias(weights, log_p, slots)
        self._use(slots)

    def _use(self, slots: NDArray[Any]) -> None:
        """Draw from a table."""
        self.n_classes = len(slots)
        self._slots = slots
        support = int(np.count_nonzero(slots["log_p"] > -np.inf))
        self._law = ProposalLaw(("table", self._slots), self.n_classes, support)

    def __repr__(self) -> str:
        return f"<UnigramSampler of {self.n_classes} classes, power={self.power:g}>"

    def __getstate__(self) -> dict[str, Any]:
        return {"power": self.power, "slots": self._slots}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.power = state["power"]
        slots = _aligned(len(state["slots"]))
        slots[:] = state["slots"]
        self._use(slots)

    @property
    def nbytes(self) -> int:
        """The memory of the table."""
        return self._slots.nbytes


def read_counts(counts: ArrayLike, name: str = "counts") -> NDArray[Any]:
    """Return one number for each class, finite, not negative, and not all zero."""
    array = real_array(counts, name)
    if array.ndim != 1 or not 0 < len(array) <= MOST_CLASSES:
        raise ValueError(f"{name} must have one number for each class, got shape {array.shape}")
    bad = ~((array >= 0) & (array < np.inf))
    if bad.any():
        first = int(bad.argmax())
        raise ValueError(
            f"{name} must be finite and not negative, got {array[first]} for class {first}"
        )
    if not array.any():
        raise ValueError(f"{name} must not all be 0")
    return array


def alias_table(weights: Floats) -> NDArray[Any]:
    """Return the slots of the alias method for weights whose sum is 1."""
    slots = np.empty(len(weights), SLOT)
    _core.build_alias(weights * len(weights), None, slots)
    return slots


def _aligned(classes: int) -> NDArray[Any]:
    """Return a table of which each slot is in one cache line."""
    size = TABLE_SLOT.itemsize
    room = np.empty((classes + 1) * size, np.uint8)
    start = -room.ctypes.data % size
    return room[start : start + classes * size].view(TABLE_SLOT)


def _powers(counts: NDArray[Any], power: float) -> Floats:
    """Return counts ** power, over that of the largest; 0 stays 0."""
    weights = counts.astype(np.float64)
    is_zero = weights == 0.0
    weights /= weights.max()
    np.power(weights, power, out=weights)
    if power == 0.0:
        weights[is_zero] = 0.0
    return weights
