"""Classes drawn as often as they have been observed so far."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import as_number, check_count
from boltzmax.candidates.base import MOST_CLASSES, FixedSampler
from boltzmax.candidates.exclusion import Ints, read_classes
from boltzmax.candidates.law import ProposalLaw
from boltzmax.candidates.unigram import alias_table


class LearnedSampler(FixedSampler):
    r"""Classes by the counts of what `update` has been given, the targets of training for instance.

    .. math:: q(i) = \frac{c_i + s}{\sum_j c_j + s V}

    with the smoothing s, so that at first all classes are alike, and none is ever left out.

    Parameters
    ----------
    n_classes : int
        The number of classes V, from 1 to 2^32 - 1.
    smoothing : float, default 1.0
        What every count begins with, above 0.

    Notes
    -----
    Every draw is from the counts of that moment, in constant time. The counts up to some moment
    are in a table, as for `UnigramSampler`, and what was observed since then is in a list; a draw
    is from the table or from the list, as their shares of the sum have it. The table is made anew
    once the list is longer than the number of classes, so that the work for an observation is
    constant, too, on average. At most 40 bytes for each class.

    Examples
    --------
    >>> from boltzmax.candidates import LearnedSampler
    >>> sampler = LearnedSampler(4)
    >>> sampler.update([2, 2, 1, 2])
    >>> sampler.counts
    array([0, 1, 3, 0])
    >>> sampler.log_expected_count([0, 1, 2, 3], 8).round(3)  # log of 1, 2, 4 and 1
    array([0.   , 0.693, 1.386, 0.   ])
    """

    def __init__(self, n_classes: int, *, smoothing: float = 1.0) -> None:
        self.n_classes = check_count(n_classes, "n_classes", 1, MOST_CLASSES)
        self.smoothing = as_number(smoothing, "smoothing")
        if not 0.0 < self.smoothing < math.inf:
            raise ValueError(f"smoothing must be finite and above 0, got {smoothing!r}")
        if self.smoothing * self.n_classes == math.inf:
            raise ValueError(
                f"smoothing times {self.n_classes} classes must be finite, got {smoothing!r}"
            )
        self._counts = np.zeros(self.n_classes, np.int64)
        self._slots: NDArray[Any] | None = None  # a table of the counts at some moment
        self._recent = np.empty(0, np.int64)  # room for what has been observed since then
        self._recent_count = 0
        self._observed = 0
        self._use_counts()

    @property
    def counts(self) -> Ints:
        """How often each class has been observed, without the smoothing: a copy."""
        return self._counts.copy()

    @property
    def nbytes(self) -> int:
        """The memory of counts, table and list."""
        table = 0 if self._slots is None else self._slots.nbytes
        return self._counts.nbytes + table + self._recent.nbytes

    def update(self, ids: ArrayLike) -> None:
        """Count observed classes.

        Parameters
        ----------
        ids : array_like of int
            The classes, in any shape; one that occurs several times counts as often.

        Raises
        ------
        IndexError
            If an id is out of range.
        TypeError
            If ids are not integers.
        """
        observed = read_classes(ids, self.n_classes).reshape(-1)
        classes, times = np.unique(observed, return_counts=True)
        self._counts[classes] += times
        self._observed += len(observed)
        if self._recent_count + len(observed) > self.n_classes:
            weights = np.asarray((self._counts + self.smoothing) / self._total)
            self._slots = alias_table(weights)
            self._recent_count = 0
        else:
            self._append(observed)
        self._use_counts()

    def __repr__(self) -> str:
        return f"<LearnedSampler of {self.n_classes} classes, {self._observed} observed>"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_law"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._use_counts()

    @property
    def _total(self) -> float:
        return self._observed + self.smoothing * self.n_classes

    def _append(self, observed: Ints) -> None:
        end = self._recent_count + len(observed)
        if end > len(self._recent):
            room = np.empty(min(max(2 * end, 64), self.n_classes), np.int64)
            room[: self._recent_count] = self._recent[: self._recent_count]
            self._recent = room
        self._recent[self._recent_count : end] = observed
        self._recent_count = end

    def _use_counts(self) -> None:
        recent = self._recent[: self._recent_count]
        parts = (self._slots, recent, self._counts, self.smoothing, self._total)
        self._law = ProposalLaw(("counted", *parts), self.n_classes, self.n_classes)
