"""Laws: the distributions over classes that samplers draw from, before anything is excluded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from boltzmax import _core
from boltzmax.candidates.exclusion import Exclusion
from boltzmax.candidates.inclusion import Groups, Inclusion, expected_draws, group_classes

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
T = TypeVar("T")

_MOST_KEPT = 16


class Law(ABC):
    """A distribution over classes for each row of candidates."""

    rows: int | None = None  # None: the same distribution for any number of rows
    n_classes: int
    support: int  # how many classes have a probability above 0

    @abstractmethod
    def draw(
        self, key: int, first_row: int, n: int, unique: bool, excluded: Exclusion, shift: Floats
    ) -> tuple[Ints, Floats]:
        """Draw n classes for each row of `excluded`; log P plus the `shift` of the row.

        Random numbers are those of the key and of the rows from `first_row` on.
        """

    @abstractmethod
    def log_p(self, ids: Ints) -> Floats:
        """Return log P of classes, a row of them for each row."""

    @abstractmethod
    def every_log_p(self, row: int) -> Floats:
        """Return log P of every class."""

    @abstractmethod
    def groups(self, row: int) -> Groups:
        """Return the classes, those with about the same probability together."""

    @abstractmethod
    def inclusion(self, row: int, n: int) -> Inclusion:
        """Return the inclusion probabilities of n different classes."""

    @abstractmethod
    def draws_until(self, n: int) -> float:
        """Return about how many draws it takes until there are n different classes."""


class ProposalLaw(Law):
    """One distribution for all rows, drawn from by compiled code.

    Parameters
    ----------
    proposal : tuple
        Its kind and its numbers, as compiled code takes them.
    n_classes, support : int
        The number of classes, and of those that are ever drawn.
    groups : Groups, optional
        The groups of classes, if there is a formula for them.
    """

    def __init__(
        self, proposal: tuple[Any, ...], n_classes: int, support: int, groups: Groups | None = None
    ) -> None:
        self.n_classes, self.support = n_classes, support
        self._proposal, self._groups = proposal, groups
        self._inclusion: dict[int, Inclusion] = {}
        self._draws_until: dict[int, float] = {}

    def draw(
        self, key: int, first_row: int, n: int, unique: bool, excluded: Exclusion, shift: Floats
    ) -> tuple[Ints, Floats]:
        """Draw classes, the same for all rows."""
        ids, log_q = empty_draws(excluded.rows, n)
        given = (excluded.ids, excluded.indptr) if len(excluded.ids) else (None, None)
        _core.draw_candidates(self._proposal, key, first_row, unique, *given, shift, ids, log_q)
        return ids, log_q

    def log_p(self, ids: Ints) -> Floats:
        """Return log P of classes."""
        matrix = np.ascontiguousarray(ids)
        log_p = np.empty(matrix.shape)
        _core.candidate_log_p(self._proposal, matrix, log_p)
        return log_p

    def every_log_p(self, row: int) -> Floats:
        """Return log P of every class."""
        return self.log_p(np.arange(self.n_classes)[None]).reshape(-1)

    def groups(self, row: int) -> Groups:
        """Return the classes in groups, which are kept."""
        if self._groups is None:
            self._groups = group_classes(self.every_log_p(0))
        return self._groups

    def inclusion(self, row: int, n: int) -> Inclusion:
        """Return inclusion probabilities; those of the last few n are kept."""
        return _kept(self._inclusion, n, lambda: Inclusion(self.groups(0), n))

    def draws_until(self, n: int) -> float:
        """Return about how many draws it takes; the last few results are kept."""
        return _kept(self._draws_until, n, lambda: expected_draws(self.groups(0), n))


def empty_draws(rows: int, n: int) -> tuple[Ints, Floats]:
    """Return arrays for ids and logarithms, in memory that is used again and again."""
    ids = np.empty((rows, n), np.int64)  # its pages are never touched
    return _core.empty_like(ids, ids.dtype), _core.empty_like(ids, np.dtype(np.float64))


def _kept(results: dict[int, T], n: int, compute: Callable[[], T]) -> T:
    """Return the result for n; the last few are kept."""
    if n not in results:
        if len(results) >= _MOST_KEPT:
            results.pop(next(iter(results)))
        results[n] = compute()
    return results[n]
