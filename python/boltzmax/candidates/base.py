"""What all samplers of candidates share: how they are called."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import as_flag, check_count, quietly
from boltzmax._lib.ragged import integers, read_indptr
from boltzmax._lib.random import random_key

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MOST_CLASSES = 2**32 - 1


class Sampler:
    """The interface of samplers: draw candidates, and say how often each class is expected.

    A sampler has a distribution q over classes. `sample` draws from it, and `log_expected_count`
    gives the logarithm of how many times a class is expected among the candidates.
    """

    n_classes: int

    @quietly
    def sample(
        self,
        n: int,
        *,
        rng: Any = None,
        unique: bool = False,
        exclude: Any = None,
        hidden: ArrayLike | None = None,
    ) -> tuple[Ints, Floats]:
        """Draw n candidates.

        Parameters
        ----------
        n : int
            The number of candidates, at least 0.
        rng : int, numpy.random.Generator or None
            An int is the key of the random numbers: the same key gives the same candidates. A
            generator yields a new key for each call, and None takes one from the system.
        unique : bool, default False
            Draw until there are n different classes. Otherwise draws are independent.
        exclude : array_like of int, or tuple of two, optional
            Classes that are never drawn: one list of ids, or ``(values, indptr)`` with a list for
            each row, ``values[indptr[r]:indptr[r + 1]]``, and candidates for each row.
        hidden : array_like, optional
            Features, for samplers whose distribution depends on them; others ignore it.

        Returns
        -------
        ids : ndarray of int64
            The candidates, (n,), or (rows, n) if there are rows.
        log_q : ndarray of float64
            The logarithm of each candidate's expected count, in the shape of `ids`: n q for
            independent draws, the probability of being among the n if `unique`; conditional on
            `exclude`.
        """
        count = check_count(n, "n", 0, 2**32 - 1)
        excluded = read_exclude(exclude, self.n_classes)
        key = random_key(rng)
        rows = [
            self._draw_row(np.random.default_rng([key, r]), count, row, as_flag(unique, "unique"))
            for r, row in enumerate(excluded or [np.empty(0, np.int64)])
        ]
        ids = np.array(rows, np.int64).reshape(len(rows), count)
        ids = ids if isinstance(exclude, tuple) else ids[0]
        return ids, self.log_expected_count(ids, count, unique=unique, exclude=exclude)

    @quietly
    def log_expected_count(
        self,
        ids: ArrayLike,
        n: int,
        *,
        unique: bool = False,
        exclude: Any = None,
        hidden: ArrayLike | None = None,
    ) -> Floats:
        """Return the logarithm of the expected counts of classes among n candidates.

        Parameters
        ----------
        ids : array_like of int
            The classes; if there are rows, (rows,) or (rows, k).
        n, unique, exclude, hidden
            As for `sample`.

        Returns
        -------
        ndarray of float64
            In the shape of `ids`; -inf for classes that are never drawn.
        """
        classes = np.asarray(ids)
        excluded = read_exclude(exclude, self.n_classes) or [np.empty(0, np.int64)]
        per_row = (
            classes.reshape(len(excluded), -1) if isinstance(exclude, tuple) else classes[None]
        )
        out = np.empty(per_row.shape)
        for r, row in enumerate(excluded):
            rest = math.log1p(-math.fsum(np.exp(self._log_prob(row))))
            log_p = self._log_prob(per_row[r]) - rest
            out[r] = self._log_inclusion(log_p, n, row) if unique else log_p + math.log(max(n, 1))
            out[r][np.isin(per_row[r], row)] = -np.inf
        return out.reshape(classes.shape)

    def _draw_row(self, rng: np.random.Generator, n: int, excluded: Ints, unique: bool) -> Ints:
        if n > self.n_classes - len(excluded) and (unique or n * (self.n_classes == len(excluded))):
            raise ValueError(f"n must be at most {self.n_classes - len(excluded)}, got {n}")
        found = np.empty(0, np.int64)
        while len(found) < n:
            ids = self._propose(rng.random(2 * n + 64), rng.random(2 * n + 64))
            found = np.concatenate([found, ids[~np.isin(ids, excluded)]])
            if unique:
                found = found[np.sort(np.unique(found, return_index=True)[1])]
        return found[:n]

    def _log_inclusion(self, log_p: Floats, n: int, excluded: Ints) -> Floats:
        every = np.exp(self._log_prob(np.arange(self.n_classes)))
        every[excluded] = 0.0
        every /= every.sum()
        low, high = 0.0, 1.0
        while -np.expm1(-every * high).sum() < n - 0.5 / n and high < 1e300:
            high *= 2.0
        for _ in range(200):
            t = (low + high) / 2
            low, high = (t, high) if -np.expm1(-every * t).sum() < n else (low, t)
        return np.log(-np.expm1(-np.exp(log_p) * low))

    def _propose(self, first: Floats, second: Floats) -> Ints:
        raise NotImplementedError

    def _log_prob(self, ids: Ints) -> Floats:
        raise NotImplementedError


def read_exclude(exclude: Any, n_classes: int) -> list[Ints] | None:
    """Return the sorted ids that each row excludes."""
    if exclude is None:
        return None
    if isinstance(exclude, tuple):
        values = integers(exclude[0], "exclude values")
        indptr = read_indptr(exclude[1], len(values))
        return [np.unique(values[a:b]) for a, b in zip(indptr, indptr[1:], strict=False)]
    return [np.unique(integers(exclude, "exclude"))]
