"""The classes of a batch as each other's candidates."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import as_flag, check_count, quietly
from boltzmax._lib.random import random_key
from boltzmax.candidates.base import MOST_CANDIDATES, MOST_CLASSES, Floats, Ints, Sampler
from boltzmax.candidates.exclusion import Exclusion, read_classes, read_exclude
from boltzmax.candidates.unigram import UnigramSampler


class InBatchSampler(Sampler):
    """The classes of a batch as candidates, as in two-tower models.

    A candidate is the class at a place of the batch that no other candidate has: among n of B
    places, all equally likely, a class that the batch has c times is expected n c / B times. All B
    of them are the batch itself, in random order.

    Parameters
    ----------
    ids : array_like of int, shape (B,)
        The classes of the batch.
    counts : array_like, optional
        How often each class, batch or not, occurs in the data that batches are drawn from; not 0
        for any of `ids`. With it, expected counts are those over all batches, n q with q
        proportional to `counts`, which is the correction of Yi et al. (RecSys 2019). Without it
        they are those of this batch.

    Notes
    -----
    With ``unique=True``, there are n different classes of the batch, in the order in which they
    occur when it is shuffled: so they are also the first n different ones of draws from `counts`,
    whose inclusion probabilities are the expected counts.

    Examples
    --------
    >>> from boltzmax.candidates import InBatchSampler
    >>> sampler = InBatchSampler([7, 2, 7, 5])
    >>> ids, log_q = sampler.sample(4, rng=1)
    >>> sorted(ids.tolist())
    [2, 5, 7, 7]
    >>> sampler.log_expected_count([7, 5, 0], 4).round(3)  # log of 2, 1 and 0
    array([0.693, 0.   ,  -inf])
    """

    def __init__(self, ids: ArrayLike, counts: ArrayLike | None = None) -> None:
        self._prior = None if counts is None else UnigramSampler(counts, 1.0)
        self.n_classes = MOST_CLASSES if self._prior is None else self._prior.n_classes
        self.update(ids)

    def update(self, ids: ArrayLike) -> None:
        """Take another batch, with the same `counts`.

        Parameters
        ----------
        ids : array_like of int, shape (B,)
            The classes of the batch.
        """
        batch = read_classes(ids, self.n_classes)
        if batch.ndim != 1 or not len(batch):
            raise ValueError(f"ids must be (B,) with B > 0, got shape {batch.shape}")
        if self._prior is not None:
            missing = self._prior.log_expected_count(batch, 1) == -np.inf
            if missing.any():
                first = int(missing.argmax())
                raise ValueError(f"counts of class {batch[first]}, ids[{first}], must not be 0")
        self._ids = batch.copy()
        self._classes, self._times = np.unique(batch, return_counts=True)
        self._frequencies = UnigramSampler(self._times, 1.0)

    @property
    def nbytes(self) -> int:
        """The memory of the batch and of the counts."""
        own = self._ids.nbytes + self._classes.nbytes + self._times.nbytes
        own += self._frequencies.nbytes
        return own + (0 if self._prior is None else self._prior.nbytes)

    def __repr__(self) -> str:
        return f"<InBatchSampler of {len(self._ids)} ids, {len(self._classes)} classes>"

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
        """Draw n candidates from the batch: see `Sampler.sample`.

        Parameters
        ----------
        n : int
            The number of candidates, at most as many as are not excluded.
        rng, unique, exclude, hidden
            As there.

        Returns
        -------
        ids : ndarray of int64
            The candidates.
        log_q : ndarray of float64
            The logarithms of their expected counts.
        """
        count = check_count(n, "n", 0, MOST_CANDIDATES)
        excluded = read_exclude(exclude, self.n_classes)
        key = random_key(rng)
        if as_flag(unique, "unique"):
            draws, shape = self._frequencies._draws(count, True, self._in_batch(excluded), None)
            ids = self._classes[draws.draw_ids(key)].reshape(*shape, count)
        else:
            self._check_enough(count, excluded)
            rows = [self._draw_row(key, row, count, excluded) for row in range(excluded.rows)]
            ids = np.array(rows, np.int64).reshape(len(rows), count)
            ids = ids if excluded.per_row else ids[0]
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
        """Return the logarithms of expected counts: see `Sampler.log_expected_count`.

        Parameters
        ----------
        ids : array_like of int
            The classes.
        n, unique, exclude, hidden
            As for `sample`.

        Returns
        -------
        ndarray of float64
            In the shape of `ids`; without `counts`, -inf for classes that are not in the batch.
        """
        excluded = read_exclude(exclude, self.n_classes)
        if not as_flag(unique, "unique"):
            self._check_enough(check_count(n, "n", 0, MOST_CANDIDATES), excluded)
        if self._prior is not None:
            return self._prior.log_expected_count(ids, n, unique=unique, exclude=exclude)
        classes = read_classes(ids, self.n_classes)
        place, found = self._places(classes)
        log_q = self._frequencies.log_expected_count(
            place, n, unique=unique, exclude=self._in_batch(excluded)
        )
        return np.where(found, log_q, -np.inf)

    def _check_enough(self, n: int, excluded: Exclusion) -> None:
        """Refuse more candidates than there are places."""
        place, found = self._places(excluded.ids)
        left = len(self._ids) - excluded.sums(np.where(found, self._times[place], 0.0))
        bad = n > left
        if bad.any():
            row = int(bad.argmax())
            where = f" in row {row}" if excluded.per_row else ""
            raise ValueError(
                f"n must be at most the number of ids in the batch that are not excluded{where}, "
                f"{left[row]:.0f}, got {n}"
            )

    def _draw_row(self, key: int, row: int, n: int, excluded: Exclusion) -> Ints:
        """Return the classes at n places that are not excluded."""
        if n == 0:
            return np.empty(0, np.int64)
        log_p = np.zeros((1, len(self._ids)))
        log_p[0, np.isin(self._ids, excluded.of(row))] = -np.inf
        places = np.empty((1, n), np.int64)
        _core.draw(log_p, None, key, row, places, np.empty(places.shape))
        return np.asarray(self._ids[places[0]])

    def _places(self, classes: Ints) -> tuple[Ints, NDArray[np.bool_]]:
        """Return where classes are among those of the batch, and whether they are."""
        place = np.minimum(np.searchsorted(self._classes, classes), len(self._classes) - 1)
        return place, self._classes[place] == classes

    def _in_batch(self, excluded: Exclusion) -> Any:
        """Return the places of excluded classes in the batch's, as `sample` takes them."""
        place, found = self._places(excluded.ids)
        if not excluded.per_row:
            return place[found]
        row = np.repeat(np.arange(excluded.rows), np.diff(excluded.indptr))
        counts = np.bincount(row[found], minlength=excluded.rows)
        return place[found], np.concatenate([[0], np.cumsum(counts)])
