"""The scores of candidates, and the gradients that go back to their weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from boltzmax import _core
from boltzmax._lib.output_layer import is_plain
from boltzmax.linear.draws import Classes, Draws, Floats, Hits, Layer, find_hits
from boltzmax.linear.scores import (
    FEW_ROWS,
    LARGEST_TILE,
    NO_SHARES,
    Products,
    Rows,
    Scores,
    Totals,
    recycled,
)

Array = NDArray[Any]


class SampledGradient(NamedTuple):
    """A loss and its gradients, with those of the weights for the classes that it has read.

    Attributes
    ----------
    loss : scalar
        The loss.
    d_hidden : ndarray, shape (..., D)
        The gradient with respect to `hidden`.
    unit_ids : ndarray of int64, shape (U,)
        The candidates and targets, in ascending order, each once.
    d_weight : ndarray, shape (U, D)
        The gradient with respect to the rows `unit_ids` of `weight`; it is zero in all others.
    d_bias : ndarray, shape (U,), or None
        The gradient with respect to these elements of `bias`, if there is one.
    """

    loss: Any
    d_hidden: Array
    unit_ids: Classes
    d_weight: Array
    d_bias: Array | None


class Gradients:
    """The gradients with respect to hidden vectors and to the weights and biases of units."""

    def __init__(self, layer: Layer, x: Array, ids: Classes, target: Classes) -> None:
        every = np.concatenate([ids.reshape(-1), target])
        self.unit_ids, place = np.unique(every, return_inverse=True)
        self.at_ids, self.at_target = place[: ids.size].reshape(ids.shape), place[ids.size :]
        self.hidden = recycled(x.shape, layer.dtype)
        self.weight = recycled((len(self.unit_ids), layer.width), layer.dtype)
        self.hidden.fill(0.0)
        self.weight.fill(0.0)
        self.bias = None if layer.bias is None else np.zeros(len(self.unit_ids))

    def add_targets(self, layer: Layer, x: Array, target: Classes, slope: Floats) -> None:
        """Add the gradients by the targets' scores, one for each row."""
        _core.add_rows(self.hidden, None, slope, *layer.unit_rows(target))
        _core.add_rows(self.weight, self.at_target, slope, x, None)
        self.add_biases(self.at_target, slope)

    def add_biases(self, at: Classes, slope: Floats) -> None:
        """Add derivatives by scores to those by biases."""
        if self.bias is not None:
            self.bias += np.bincount(at, slope, len(self.bias))


class Candidates(Protocol):
    """The scores of candidates in tiles, -inf where a hit is removed.

    A tile belongs to a block of rows and to a range of candidates.
    """

    tiles: list[slice]
    dtype: np.dtype[Any]
    last: Array  # the latest product

    def blocks(self) -> Iterator[tuple[Any, Array]]:
        """Yield the places of each block's rows, and the rows."""

    def product(self, x: Array, tile: slice) -> Array:
        """Return the logits of a block's rows, valid until the next call."""

    def scoring(self, tile: slice) -> tuple[Array | None, float, float]:
        """Return what turns a tile's logits into scores."""

    def read_tile(self, x: Array, tile: slice, first: int, shares: Any, totals: Totals) -> Array:
        """Add the scores of a tile to the totals of its rows, and return them."""

    def column_sums(self, tile: slice) -> Floats | None:
        """Return where the sums of slopes over rows are added up, if they are needed."""

    def add(self, gradients: Gradients, x: Array, tile: slice, s: Array) -> None:
        """Add the gradients by the scores of a tile."""

    def finish(self, gradients: Gradients) -> None:
        """Add what has been kept back."""


class Shared(Scores):
    """The scores of candidates that all rows share: a product with their weights."""

    def __init__(self, layer: Layer, x: Array, draws: Draws, removed: Classes | None) -> None:
        super().__init__(x, layer.units(draws.ids), None)
        bias = layer.biases(draws.ids) - draws.log_q
        self.bias = bias.astype(self.dtype) if bias.any() else None
        self._hits: Hits | None = None if removed is None else find_hits(draws.ids, removed)
        self._where = slice(0, 0)
        self._products = Products(self.dtype)
        self._sum: Array | None = None  # the gradient with respect to the candidates' weights
        self._of_bias = None if layer.bias is None else np.zeros(len(draws.ids))

    def plan(self, counted: Any = None) -> None:
        """Choose the tiles: with all candidates, if these are few enough."""
        if len(self.weight) * 2 * FEW_ROWS > LARGEST_TILE:
            return super().plan(counted)
        return self.divide(LARGEST_TILE // len(self.weight), len(self.weight))

    def blocks(self) -> Iterator[tuple[Rows, Array]]:
        """Yield the places of each block's rows, and the rows."""
        for where, x in super().blocks():
            assert isinstance(where, slice)
            self._where = where
            yield where, x

    def product(self, x: Array, tile: slice) -> Array:
        """Return the logits of a block's rows, -inf for removed hits."""
        logits = super().product(x, tile)
        if self._hits is not None:
            rows, columns = self._hits.of(self._where)
            inside = (columns >= tile.start) & (columns < tile.stop)
            logits[rows[inside], columns[inside] - tile.start] = -np.inf
        return logits

    def column_sums(self, tile: slice) -> Floats | None:
        """Return where the sums of slopes over rows are added up, if there is a bias."""
        return None if self._of_bias is None else self._of_bias[tile]

    def add(self, gradients: Gradients, x: Array, tile: slice, s: Array) -> None:
        """Add the gradients by the scores of a tile."""
        if self._sum is None:
            self._sum = recycled(self.weight.shape, self.dtype)
        d_x, first_rows = gradients.hidden[self._where], self._where.start == 0
        self._products.add(s, self.vectors(tile), d_x, first=tile.start == 0)
        self._products.add(s.T, x, self._sum[tile], first=first_rows)

    def finish(self, gradients: Gradients) -> None:
        """Add the gradients with respect to the candidates' weights."""
        if self._sum is not None:
            _core.add_rows(gradients.weight, gradients.at_ids, None, self._sum, None)
        if self._of_bias is not None:
            gradients.add_biases(gradients.at_ids, self._of_bias)


class OfRows:
    """The scores of candidates of which each row has its own: a dot product for each."""

    def __init__(self, layer: Layer, x: Array, draws: Draws, removed: Classes | None) -> None:
        self.dtype, self._layer, self._x, self._draws = layer.dtype, layer, x, draws
        self._shift = layer.biases(draws.ids) - draws.log_q
        self._hits = None if removed is None else draws.ids == removed[:, None]
        n = draws.ids.shape[1]
        self.tiles = [slice(0, n)]
        # Weights that must be converted are copied for each candidate of a block.
        copied = 1 if is_plain(layer.weight, layer.dtype) else max(1, layer.width)
        self._step = max(1, LARGEST_TILE // (n * copied))
        self._where = slice(0, 0)

    def blocks(self) -> Iterator[tuple[slice, Array]]:
        """Yield the places of each block's rows, and the rows."""
        for start in range(0, len(self._x), self._step):
            self._where = slice(start, min(start + self._step, len(self._x)))
            yield self._where, self._x[self._where]

    def product(self, x: Array, tile: slice) -> Array:
        """Return the scores of a block's rows."""
        ids = self._draws.ids[self._where]
        dots = np.empty(ids.size)
        _core.dot_rows(x, self._rows(), *self._layer.unit_rows(ids.reshape(-1)), dots)
        s = dots.reshape(ids.shape) + self._shift[self._where]
        if self._hits is not None:
            s[self._hits[self._where]] = -np.inf
        self.last = s.astype(self.dtype)
        return self.last

    def scoring(self, tile: slice) -> tuple[None, float, float]:
        """Return that scores need no more than the product."""
        return None, 1.0, 0.0

    def read_tile(self, x: Array, tile: slice, first: int, shares: Any, totals: Totals) -> Array:
        """Add the scores of a block's rows to their totals, and return them."""
        s = self.product(x, tile)
        _core.linear_add_tile(s, 0, *self.scoring(tile), shares, totals.columns, totals.top)
        return s

    def column_sums(self, tile: slice) -> None:
        """Return nothing: a column has the candidates of many classes."""

    def add(self, gradients: Gradients, x: Array, tile: slice, s: Array) -> None:
        """Add the gradients by the scores of a block's rows."""
        slopes, rows = s.reshape(-1).astype(np.float64), self._rows()
        ids, at = (
            self._draws.ids[self._where].reshape(-1),
            gradients.at_ids[self._where].reshape(-1),
        )
        d_x = gradients.hidden[self._where]
        _core.add_rows(d_x, rows, slopes, *self._layer.unit_rows(ids))
        _core.add_rows(gradients.weight, at, slopes, x, rows)
        gradients.add_biases(at, slopes)

    def finish(self, gradients: Gradients) -> None:
        """Do nothing: everything has been added."""

    def _rows(self) -> Classes:
        """Return the row of each candidate of a block."""
        count = self._where.stop - self._where.start
        return np.repeat(np.arange(count), self._draws.ids.shape[1])


def candidates_of(layer: Layer, x: Array, draws: Draws, removed: Classes | None) -> Candidates:
    """Return the scores of candidates for rows `x`, without the hits of the targets `removed`."""
    kind = Shared if draws.ids.ndim == 1 else OfRows
    return kind(layer, x, draws, removed)


def read_scores(candidates: Candidates, x: Array, totals: Totals) -> Iterator[Array]:
    """Add the scores of a block's rows to their totals; yield those of each tile."""
    for tile in candidates.tiles:
        shares = NO_SHARES.of((), tile, candidates.dtype)
        yield candidates.read_tile(x, tile, tile.start, shares, totals)
