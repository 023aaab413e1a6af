"""What all samplers of candidates share: how they are called."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import as_flag, check_count, quietly
from boltzmax._lib.random import random_key
from boltzmax.candidates.draws import Draws
from boltzmax.candidates.exclusion import Exclusion, read_classes, read_exclude
from boltzmax.candidates.law import Law

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MOST_CLASSES = 2**32 - 1
MOST_CANDIDATES = 2**32 - 1


class Sampler:
    r"""The interface of samplers: draw candidates, and say how often each class is expected.

    A sampler has a distribution q over classes. `sample` draws from it; `log_expected_count` gives
    the logarithm of how many times a class is expected among the candidates, which losses need to
    correct for what is drawn more or less often.

    Attributes
    ----------
    n_classes : int
        The number of classes: ids are from 0 to n_classes - 1.

    Notes
    -----
    **Independent draws.** The expected count of a class among n is n q. **Different ones**
    (``unique=True``) are those of successive sampling: draw until there are n of them, and leave
    out what repeats another. A class is expected to be among them as often as it is one of them:
    :math:`\pi = \int_0^\infty q e^{-q t} P(N_t < n) dt`, where :math:`N_t` is how many of the
    others are drawn until the time t of a Poisson process. The integral is taken numerically, once
    for each n: in `log_q`, the maximum error is 1e-9 if at most 512 different probabilities occur,
    1e-6 if at most 4096, otherwise 1e-5. It takes some ten milliseconds, for each row that excludes
    other classes, too. (:math:`1 - (1 - q)^m` for a number m of draws would be wrong: m is random.)

    **Excluded classes** are never drawn, and expected counts are those of draws from what is left.
    If they have more than 15/16 of the probability, or most classes are wanted, the probabilities
    of all classes are listed for each row; otherwise the time does not depend on their number.

    The candidates depend on the key, the row, the sampler and what is asked, but not on the
    instruction set or the number of threads. They are exact to the 53 bits of a uniform number.

    Examples
    --------
    >>> from boltzmax.candidates import Sampler, UniformSampler
    >>> sampler = UniformSampler(10)
    >>> isinstance(sampler, Sampler)
    True
    >>> ids, log_q = sampler.sample(5, rng=1, exclude=([2, 3, 7], [0, 2, 2, 3]))
    >>> ids.shape  # three rows, which exclude 2 and 3, nothing, and 7
    (3, 5)
    >>> np.exp(log_q[:, 0]).round(3)
    array([0.625, 0.5  , 0.556])
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
        exclude : array_like of int, or tuple, optional
            Classes that are never drawn. A list of ids is for all candidates. A tuple
            ``(values, indptr)`` has a list for each row, ``values[indptr[r]:indptr[r + 1]]``, as
            for the positives of examples with several labels, and asks for a row of candidates for
            each.
        hidden : array_like, optional
            Feature vectors, for samplers whose distribution depends on them; others ignore it.

        Returns
        -------
        ids : ndarray of int64
            The candidates in the order in which they were drawn: (n,), or (rows, n) where `exclude`
            has rows.
        log_q : ndarray of float64
            The logarithms of their expected counts, in the same shape: of n q for independent
            draws, of the probability of being one of them if `unique`; given `exclude`.

        Raises
        ------
        IndexError
            If an excluded id is out of range.
        TypeError, ValueError
            If an argument does not fit: among others if `exclude` leaves no class, or fewer than n
            for `unique`.
        """
        draws, shape = self._draws(n, unique, exclude, hidden)
        ids, log_q = draws.draw(random_key(rng))
        whole = (*shape, ids.shape[1])
        return ids.reshape(whole), log_q.reshape(whole)

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
        """Return the logarithms of the expected counts of classes among n candidates.

        Parameters
        ----------
        ids : array_like of int
            The classes, in any shape; where there are rows of candidates, one or more for each:
            (rows,) or (rows, k).
        n, unique, exclude, hidden
            As for `sample`.

        Returns
        -------
        ndarray of float64
            In the shape of `ids`. It is -inf for classes that are never drawn.

        Raises
        ------
        IndexError
            If an id is out of range.
        TypeError, ValueError
            If an argument does not fit.
        """
        classes = read_classes(ids, self.n_classes)
        draws, shape = self._draws(n, unique, exclude, hidden)
        if shape and (classes.ndim not in (1, 2) or len(classes) != shape[0]):
            raise ValueError(
                f"ids must be (rows,) or (rows, k) for {shape[0]} rows of candidates, "
                f"got shape {classes.shape}"
            )
        if not classes.size:
            return np.empty(classes.shape)
        matrix = classes.reshape(shape[0] if shape else 1, -1)
        return draws.log_expected_count(matrix).reshape(classes.shape)

    def _draws(
        self, n: int, unique: bool, exclude: Any, hidden: ArrayLike | None
    ) -> tuple[Draws, tuple[int, ...]]:
        """Return what is to be drawn, and the shape of the rows."""
        count = check_count(n, "n", 0, MOST_CANDIDATES)
        is_unique = as_flag(unique, "unique")
        excluded = read_exclude(exclude, self.n_classes)
        law = self._law_of(hidden, excluded)
        shape = (excluded.rows,) if excluded.per_row else ()
        return Draws(law, count, is_unique, excluded), shape

    def _law_of(self, hidden: ArrayLike | None, excluded: Exclusion) -> Law:
        """Return the distribution, for as many rows as exclude something.

        A sampler without one has its own `sample` and `log_expected_count`.
        """
        raise NotImplementedError


class FixedSampler(Sampler):
    """A sampler whose distribution does not depend on features."""

    _law: Law

    def _law_of(self, hidden: ArrayLike | None, excluded: Exclusion) -> Law:
        return self._law
