r"""Screens whose bounds are products: how far off a row is, times how far off a class is.

With an approximate logit :math:`\tilde s_c(h)`, the exact one is within

.. math:: \sum_j \alpha_j(h)\, \beta_{jc}

of it, by the inequality of Cauchy and Schwarz; the rounding of the approximate logit itself is one
of these terms.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from boltzmax import _core
from boltzmax._lib.arguments import check_count, quietly
from boltzmax._lib.output_layer import Array, Classes, Doubles, read_target
from boltzmax.screens.bounds import underflow
from boltzmax.screens.reading import Floats
from boltzmax.screens.screen import Screen, blocks, ranked, survivors


class Rows(NamedTuple):
    """What a product needs of some rows, and their factors of the bound, (N, J)."""

    vectors: Array
    factors: Doubles


class LinearScreen(Screen):
    """A screen of approximate logits, with the queries of a linear layer on them.

    `logits`, `logsumexp`, `topk` and `log_prob` answer for the approximate layer, without proof;
    `intervals` and `error_bound` say how far that is from the exact one.
    """

    def __init__(self, n_features: int, bias: Floats | None, factors: Floats) -> None:
        self.n_features, self.n_classes = n_features, factors.shape[1]
        self.bias = bias
        self._factors = factors  # (J, V), of the classes

    @abstractmethod
    def _read_rows(self, x: Floats) -> Rows:
        """Prepare rows for products, and bound what that costs."""

    @abstractmethod
    def _product(self, vectors: Array, first: int, last: int) -> Array:
        """Return approximate logits without bias of prepared rows, in float32 or float64."""

    @abstractmethod
    def _stored(self) -> list[Array]:
        """Return the arrays that hold the approximate weights."""

    @property
    def nbytes(self) -> int:
        """The bytes of the approximate weights, the bounds and the bias."""
        arrays: list[Any] = [*self._stored(), self._factors, self.bias]
        return sum(array.nbytes for array in arrays if array is not None)

    # ---- bounds ----

    @quietly
    def intervals(
        self, hidden: ArrayLike, first: int = 0, last: int | None = None
    ) -> tuple[Doubles, Doubles]:
        """Return bounds of the exact logits of the classes from `first` up to `last`.

        See `Screen.intervals`.
        """
        end = self._last(first, last)
        rows = self._read_rows(self._vectors(hidden))
        middle, radius = self._middle_and_radius(rows, first, end)
        lower, upper = middle - radius, middle + radius
        unknown = ~(np.isfinite(lower) & np.isfinite(upper))
        lower[unknown], upper[unknown] = -np.inf, np.inf
        return lower, upper

    @quietly
    def error_bound(self, hidden: ArrayLike) -> Doubles:
        """Return how far any approximate logit of a row may be from the exact one, (N,).

        `intervals` are narrower for most classes.
        """
        x = self._vectors(hidden)
        bound = np.zeros(len(x))
        for block in blocks(len(x)):
            rows = self._read_rows(x[block])
            for tile in self._tiles(len(rows.factors)):
                middle, radius = self._middle_and_radius(rows, tile.start, tile.stop)
                radius += 2.0**-23 * np.abs(middle)  # logits are rounded to float32
                bound[block] = np.maximum(bound[block], radius.max(axis=1))
        bound[~np.isfinite(bound)] = np.inf
        return bound

    def _middle_and_radius(self, rows: Rows, first: int, last: int) -> tuple[Doubles, Doubles]:
        middle = self._scores(rows, first, last)
        # The last term is the rounding of the bias's addition, and of the bounds.
        return middle, self._radius(rows, first, last) + 2.0**-50 * np.abs(middle)

    def _last(self, first: int, last: int | None) -> int:
        end = self.n_classes if last is None else check_count(last, "last", 0, self.n_classes)
        check_count(first, "first", 0, end)
        return end

    def _scores(self, rows: Rows, first: int, last: int) -> Doubles:
        scores = self._product(rows.vectors, first, last).astype(np.float64)
        if self.bias is not None:
            scores += self.bias[first:last]
        return scores

    def _radius(self, rows: Rows, first: int, last: int) -> Doubles:
        radius: Doubles = rows.factors @ self._factors[:, first:last].astype(np.float64)
        radius *= 1.0 + 2.0**-40
        radius += underflow(self.n_features)
        return radius

    # ---- the approximate layer ----

    @quietly
    def logits(self, hidden: ArrayLike) -> Floats:
        """Return the approximate logits, (N, n_classes)."""
        rows = self._read_rows(self._vectors(hidden))
        return self._scores(rows, 0, self.n_classes).astype(np.float32)

    @quietly
    def logsumexp(self, hidden: ArrayLike) -> Floats:
        """Return the logsumexp of each row's approximate logits, (N,)."""
        x = self._vectors(hidden)
        return self._totals(x, np.zeros(len(x), np.int64))[0].astype(np.float32)

    @quietly
    def log_prob(self, hidden: ArrayLike, target: ArrayLike) -> Floats:
        """Return the logarithm of the approximate probability of a class per row, (N,)."""
        x = self._vectors(hidden)
        total, own = self._totals(x, read_target(target, len(x), self.n_classes))
        return (own - total).astype(np.float32)

    def _totals(self, x: Floats, classes: Classes) -> tuple[Doubles, Doubles]:
        """Return each row's logsumexp, and the score of one class."""
        total, own = np.empty(len(x)), np.empty(len(x))
        for block in blocks(len(x)):
            rows, wanted = self._read_rows(x[block]), classes[block]
            sums, scores = [], np.empty(len(wanted))
            for tile in self._tiles(len(wanted)):
                of_tile = self._scores(rows, tile.start, tile.stop)
                here = np.flatnonzero((tile.start <= wanted) & (wanted < tile.stop))
                scores[here] = of_tile[here, wanted[here] - tile.start]
                sums.append(_core.logsumexp(of_tile, -1))
            total[block], own[block] = _core.logsumexp(np.stack(sums, axis=1), -1), scores
        return total, own

    @quietly
    def topk(self, hidden: ArrayLike, k: int) -> tuple[Classes, Floats]:
        """Return the k likeliest classes of the approximate layer, and their log-probabilities.

        Parameters
        ----------
        hidden : array_like, shape (N, D)
        k : int

        Returns
        -------
        ids : ndarray of int64, shape (N, k)
            The likeliest first, ties in favour of the lower class.
        log_probs : ndarray of float32, shape (N, k)
        """
        x, count = self._vectors(hidden), check_count(k, "k", 1, self.n_classes)
        ids, scores = np.empty((len(x), count), np.int64), np.empty((len(x), count))
        for block in blocks(len(x)):
            rows = self._read_rows(x[block])
            n = len(rows.factors)
            tiles = ((t.start, self._scores(rows, t.start, t.stop)) for t in self._tiles(n))
            found = survivors(((first, s, s) for first, s in tiles), n, count)
            best = ranked(found.indptr, found.ids, found.lower, count)
            ids[block], scores[block] = found.ids[best], found.lower[best]
        total = self._totals(x, np.zeros(len(x), np.int64))[0]
        return ids, (scores - total[:, None]).astype(np.float32)
