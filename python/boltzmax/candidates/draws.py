"""Draw from what exclusions leave of a law, and say how often each class is expected."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from boltzmax import _core
from boltzmax.candidates.exclusion import Exclusion
from boltzmax.candidates.inclusion import Inclusion
from boltzmax.candidates.law import Floats, Ints, Law

# Excluded classes are drawn again, unless they have more than this share of the probability.
_MOST_EXCLUDED = 15 / 16


class Draws:
    """n candidates of each row, from a law without the excluded classes.

    Draws that are repeated until they fit are quick as long as most of them do. Otherwise the
    probabilities of all classes are listed, and draws are made from that list: in the same
    distribution, but in time proportional to the number of classes for each row.

    Parameters
    ----------
    law : Law
        The law.
    n : int
        The number of candidates.
    unique : bool
        Whether they are different classes.
    excluded : Exclusion
        As many rows as the law has.
    """

    def __init__(self, law: Law, n: int, unique: bool, excluded: Exclusion) -> None:
        self._law, self._n, self._unique, self._excluded = law, n, unique, excluded
        self._tables: dict[tuple[int, bytes], Inclusion] = {}
        self._excluded_p = np.empty(0)
        self._left = np.full(excluded.rows, law.support)
        self._log_rest = np.zeros(excluded.rows)
        self._is_crowded = np.zeros(excluded.rows, np.bool_)
        if len(excluded.ids):
            self._exclude()
        self._check_enough()
        for row in self._is_crowded.nonzero()[0].tolist():
            self._log_rest[row] = _log_sum(self._every_log_p(row))

    def draw(self, key: int) -> tuple[Ints, Floats]:
        """Return candidates and the logarithms of their expected counts."""
        is_listed = self._is_listed()
        ids, log_q = self._drawn(key, is_listed)
        if self._unique:
            log_q = self._log_inclusion(self._law.log_p(ids))
        elif is_listed.any():
            log_q[is_listed] = (self._law.log_p(ids) + self._shift()[:, None])[is_listed]
        return ids, log_q

    def draw_ids(self, key: int) -> Ints:
        """Return the candidates alone."""
        return self._drawn(key, self._is_listed())[0]

    def log_expected_count(self, ids: Ints) -> Floats:
        """Return the logarithms of the expected counts of classes, a row of them for each row."""
        log_p = self._law.log_p(ids)
        never = self._excluded.has(ids) | (log_p == -np.inf)
        if self._unique:
            log_p[never] = -1.0  # any number
            log_q = self._log_inclusion(log_p)
        else:
            log_q = log_p + self._shift()[:, None]
        log_q[never] = -np.inf
        return log_q

    def _exclude(self) -> None:
        """Take the excluded classes out of the law."""
        log_p = _excluded_log_p(self._law, self._excluded)
        drawn = log_p > -np.inf
        self._excluded_p = np.exp(log_p)
        self._left -= self._excluded.sums(drawn.astype(np.float64)).astype(np.int64)
        mass = self._excluded.sums(self._excluded_p)
        self._is_crowded = (mass > _MOST_EXCLUDED) & (self._left > 0)
        self._log_rest = np.log1p(-np.minimum(mass, _MOST_EXCLUDED))

    def _check_enough(self) -> None:
        least = self._n if self._unique else min(self._n, 1)
        bad = self._left < least
        if not bad.any():
            return
        row = int(bad.argmax())
        where = f" in row {row}" if self._excluded.per_row else ""
        left = int(self._left[row])
        if left == 0:
            raise ValueError(f"exclude leaves no class that could be drawn{where}")
        raise ValueError(
            f"n must be at most the number of classes that can be drawn{where}, {left}, for unique "
            f"candidates, got {self._n}"
        )

    def _shift(self) -> Floats:
        """Return log n less the logarithm of the probability that is left, for each row."""
        return (math.log(self._n) if self._n else -np.inf) - self._log_rest

    def _is_listed(self) -> NDArray[np.bool_]:
        """Return in which rows candidates are drawn from the list of all classes."""
        if not self._n:
            return np.zeros(self._excluded.rows, np.bool_)
        if not self._unique:
            return self._is_crowded
        listed = self._is_crowded.copy()
        # As many more different classes would take at least as many draws.
        wanted = self._n + np.diff(self._excluded.indptr)
        limit = max(self._law.n_classes, 4 * self._n)
        for n in np.unique(wanted).tolist():
            if n >= self._law.support or self._law.draws_until(n) > limit:
                listed[wanted == n] = True
        return listed

    def _drawn(self, key: int, is_listed: NDArray[np.bool_]) -> tuple[Ints, Floats]:
        """Return candidates; in rows that are not listed, also log P plus the shift."""
        excluded, shift = self._excluded, self._shift()
        if not is_listed.any():
            return self._law.draw(key, 0, self._n, self._unique, excluded, shift)
        ids = np.zeros((excluded.rows, self._n), np.int64)
        log_q = np.zeros(ids.shape)
        for row, listed in enumerate(is_listed.tolist()):
            if listed:
                ids[row] = self._listed(key, row)
                continue
            of_row = (excluded.row(row), shift[row : row + 1])
            drawn = self._law.draw(key, row, self._n, self._unique, *of_row)
            ids[row], log_q[row] = drawn[0][0], drawn[1][0]
        return ids, log_q

    def _listed(self, key: int, row: int) -> Ints:
        """Draw from the list of all classes."""
        log_p = self._every_log_p(row)
        ids = np.empty((1, self._n), np.int64)
        keys = np.empty(ids.shape) if self._unique else None
        _core.draw(log_p[None] - self._log_rest[row], None, key, row, ids, keys)
        return ids.reshape(-1)

    def _every_log_p(self, row: int) -> Floats:
        log_p = self._law.every_log_p(row)
        log_p[self._excluded.of(row)] = -np.inf
        return log_p

    def _log_inclusion(self, log_p: Floats) -> Floats:
        """Return the logarithms of inclusion probabilities, given those under the whole law."""
        out = np.empty(log_p.shape)
        for row in range(self._excluded.rows):
            if self._n == 0:
                out[row] = -np.inf
            elif self._n == self._left[row]:
                out[row] = 0.0
            else:
                table, rest = self._inclusion(row)
                out[row] = table.of(log_p[row] - rest)
        return out

    def _inclusion(self, row: int) -> tuple[Inclusion, float]:
        """Return the inclusion probabilities of a row, and log of what is left of the law.

        Rows that exclude the same probabilities share them.
        """
        begin, end = self._excluded.indptr[row : row + 2]
        p = self._excluded_p[begin:end]
        p = np.sort(p[p > 0.0])
        if not len(p):
            return self._law.inclusion(row, self._n), 0.0
        log_rest = float(self._log_rest[row])
        case = (row if self._law.rows else 0, p.tobytes())
        if case not in self._tables:
            left = self._law.groups(row).without(p, math.exp(log_rest))
            self._tables[case] = Inclusion(left, self._n)
        return self._tables[case], log_rest


def _excluded_log_p(law: Law, excluded: Exclusion) -> Floats:
    """Return log P of all excluded classes."""
    if law.rows is None:
        return law.log_p(excluded.ids[None]).reshape(-1)
    counts = np.diff(excluded.indptr)
    is_id = np.arange(counts.max()) < counts[:, None]
    ids = np.zeros(is_id.shape, np.int64)
    ids[is_id] = excluded.ids
    return np.asarray(law.log_p(ids)[is_id])


def _log_sum(log_p: Floats) -> float:
    """Return the logarithm of the sum of probabilities."""
    return float(_core.logsumexp(log_p))
