r"""The scores of a linear layer for its classes, without its matrix of logits.

The logits ``hidden @ weight.T + bias`` have one row for each row of `hidden` and one column for
each class.  They are computed tile by tile in one buffer, which each tile reuses.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import (
    as_array,
    check_softcap,
    check_temperature,
    is_float,
    is_real,
    is_small_float,
    quietly,
)
from boltzmax._lib.numbers import per_class

Array = NDArray[Any]
Floats = NDArray[np.float64]
Rows = slice | NDArray[np.int64]

# Numbers in a tile of logits: this fraction of all logits, between these bounds.
# Between two products the pass over a tile wakes the threads, so that many small tiles cost more
# than a few large ones.
SMALLEST_TILE, LARGEST_TILE, _PART = 2**17, 2**21, 62
# One compiled function handles calls of at most this many logits.
SMALL = 2**17
# Matrix products are slow with fewer rows than this, and no faster with more classes than this; a
# quarter fewer are as fast.
FEW_ROWS, MANY_CLASSES = 64, 1024


class Scores:
    """The scores of a linear layer in tiles: blocks of rows, and within a block tiles of classes.

    A score is a logit, capped to ``softcap * tanh(logit / softcap)``, over the temperature.
    """

    def __init__(
        self,
        hidden: ArrayLike,
        weight: ArrayLike,
        bias: ArrayLike | None,
        temperature: float = 1.0,
        softcap: float | None = None,
        room: int | None = None,
    ) -> None:
        """Read the arguments; a tile has `room` logits, by default a share of all."""
        x, w = matrix(hidden, "hidden"), matrix(weight, "weight")
        check_layer(x.shape, w.shape)
        self.dtype = computed_dtype(x, w)
        self.shape, self.n_classes, self.width = x.shape[:-1], len(w), w.shape[1]
        self.hidden, self.weight = x.reshape(math.prod(self.shape), self.width), w
        self.bias: Array | None = None
        if bias is not None:
            self.bias = per_class(bias, self.n_classes, "bias").astype(self.dtype, copy=False)
        self.temperature = check_temperature(temperature)
        self.softcap = check_softcap(softcap)
        self.rows: NDArray[np.int64] | None = None
        self._room = room
        self.plan()

    def plan(self, counted: NDArray[np.bool_] | None = None) -> None:
        """Choose the tiles, which cover only rows that are `counted`."""
        if counted is not None and not counted.all():
            self.rows = np.flatnonzero(counted)
        self.n_rows = n = len(self.hidden if self.rows is None else self.rows)
        size = min(self.hidden.dtype.itemsize, self.weight.dtype.itemsize)
        part = n * self.n_classes * size // (_PART * self.dtype.itemsize)
        room = self._room or min(max(part, SMALLEST_TILE), LARGEST_TILE)
        # Each logit is computed once only, if that leaves enough rows for the products.
        enough = self._room or max(room // 2, SMALLEST_TILE)
        whole = self.n_classes * max(1, min(n, 2 * FEW_ROWS)) <= enough
        most = max(math.isqrt(room // 2), 4 * room // (3 * MANY_CLASSES))
        rows = room // self.n_classes if whole else most
        if self.rows is not None or self.hidden.dtype != self.dtype:  # rows are copied
            rows = min(rows, max(room // (4 * self.width + 1), FEW_ROWS))
        rows = _even(n, max(1, min(rows, n)))
        classes = room // rows
        if n > rows and not whole:
            classes = min(classes, MANY_CLASSES)
        if self.weight.dtype != self.dtype:  # classes are copied
            classes = min(classes, max(room // (2 * self.width + 1), FEW_ROWS))
        self.divide(rows, classes)

    def divide(self, rows: int, classes: int) -> None:
        """Use tiles of at most this size."""
        self.n_rows = n = len(self.hidden if self.rows is None else self.rows)
        self.block_rows = rows = _even(n, max(1, min(rows, n)))
        classes = _even(self.n_classes, min(classes, self.n_classes))
        self.tiles = [
            slice(start, min(start + classes, self.n_classes))
            for start in range(0, self.n_classes, classes)
        ]
        self._tile = self.last = np.empty(0, self.dtype)  # frees an earlier one
        self._tile = self.last = recycled((rows * classes,), self.dtype)

    def blocks(self) -> Iterator[tuple[Rows, Array]]:
        """Yield the indices of each block's rows, and these rows of `hidden`."""
        for start in range(0, self.n_rows, self.block_rows):
            end = min(start + self.block_rows, self.n_rows)
            where = slice(start, end) if self.rows is None else self.rows[start:end]
            yield where, self.hidden[where].astype(self.dtype, copy=False)

    def vectors(self, tile: slice) -> Array:
        """Return the rows of `weight` for the classes of a tile."""
        return self.weight[tile].astype(self.dtype, copy=False)

    def product(self, x: Array, tile: slice) -> Array:
        """Return the logits of rows `x` for the classes of a tile, valid until the next call."""
        columns = tile.stop - tile.start
        logits = self._tile[: len(x) * columns].reshape(len(x), columns)
        np.matmul(x, self.vectors(tile).T, out=logits)
        return logits

    def scoring(self, tile: slice) -> tuple[Array | None, float, float]:
        """Return what turns a tile's logits into scores: bias, temperature, softcap (0: none)."""
        bias = None if self.bias is None else self.bias[tile]
        return bias, self.temperature, self.softcap or 0.0

    def read(self, x: Array, totals: Totals, shares: Shares | None = None, where: Any = ()) -> None:
        """Add all scores of rows `x` to their `totals`."""
        for tile in self.tiles:
            of_tile = (shares or NO_SHARES).of(where, tile, self.dtype)
            self.last = self.read_tile(x, tile, tile.start, of_tile, totals)

    def read_tile(self, x: Array, tile: slice, first: int, shares: Any, totals: Totals) -> Array:
        """Add one tile to the totals; its `first` class is 0 at the start of a row."""
        s = self.product(x, tile)
        scoring = self.scoring(tile)
        _core.linear_add_tile(s, first, *scoring, shares, totals.columns, totals.top)
        return s


def _even(total: int, most: int) -> int:
    """Return the size of parts of equal size, at most `most`, that cover `total`."""
    return -(-total // -(-total // most)) if total else most


class Totals:
    """Running totals of some rows, in the terms of ``cpp/core/linear/linear_tiles.hpp``.

    Scores are stored as distances from a reference, one of the largest of the row.
    """

    def __init__(
        self,
        rows: int,
        label: NDArray[np.int64] | None = None,
        mass: Floats | None = None,
        top: int | None = None,
    ) -> None:
        self.reference, self.from_reference = np.empty(rows), np.empty(rows)
        self.label, self.mass = label, mass
        self.own: Any = None if label is None else np.empty(rows)
        self.shared: Any = None if mass is None else np.empty(rows)
        self.ids: Any = None if top is None else np.empty((rows, top), np.int64)
        self.scores: Any = None if top is None else np.empty((rows, top))

    @property
    def columns(self) -> tuple[Any, ...]:
        """The arguments for compiled functions."""
        distances = (self.reference, self.from_reference, self.own)
        return (self.label, *distances, self.shared, self.mass)

    @property
    def top(self) -> tuple[Any, Any]:
        """The largest scores, if requested."""
        return self.ids, self.scores

    def part(self, rows: slice) -> Totals:
        """Return the totals of some rows, without their largest scores; they share memory."""
        part = copy(self)
        for name in ("label", "mass", "reference", "from_reference", "own", "shared"):
            column = getattr(self, name)
            setattr(part, name, None if column is None else column[rows])
        return part

    @property
    def lse(self) -> Floats:
        """The logarithm of the sum of the exponentials."""
        return self.reference + self.from_reference


@dataclass(frozen=True)
class Shares:
    """The targets' shares of classes: a_c = (sharp q_c + even) w_c; a missing w is 1.

    `probabilities` q has a row for each row of scores, or is missing.
    """

    probabilities: Array | None
    class_weight: Floats | None
    sharp: float
    even: float

    def __bool__(self) -> bool:
        """Whether classes have a share."""
        return self.probabilities is not None or self.even != 0.0

    def of(self, where: Any, tile: slice, dtype: np.dtype[Any]) -> tuple[Any, ...]:
        """Return the shares for some rows and the classes of a tile."""
        q, w = self.probabilities, self.class_weight
        return (
            None if q is None else np.require(q[where][:, tile], dtype, ("C", "A")),
            None if w is None else w[tile].astype(dtype),
            self.sharp,
            self.even,
        )


NO_SHARES = Shares(None, None, 0.0, 0.0)


class Products:
    """Matrix products that are added to sums, by way of a small buffer."""

    ROOM = 2**19  # numbers in the buffer, at most

    def __init__(self, dtype: np.dtype[Any], room: int | None = None) -> None:
        """Use a buffer of up to `room` numbers, by default `ROOM`."""
        self._dtype, self._room, self._buffer = dtype, room or self.ROOM, np.empty(0, dtype)

    def add(self, a: Array, b: Array, out: Array, first: bool) -> None:
        """Add a product to `out`, or overwrite it if `first`."""
        if first:
            np.matmul(a, b, out=out)
            return
        columns = min(out.shape[1], max(1, self._room // max(1, len(out))))
        if len(self._buffer) < len(out) * columns:
            self._buffer = recycled((len(out) * columns,), self._dtype)
        for start in range(0, out.shape[1], columns):
            some = out[:, start : start + columns]
            product = self._buffer[: some.size].reshape(some.shape)
            some += np.matmul(a, b[:, start : start + columns], out=product)


def recycled(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return a new array, in the memory of an earlier one if it is large."""
    shaped: Array = np.ndarray(shape, dtype, np.empty(1, dtype), strides=(0,) * len(shape))
    return _core.empty_like(shaped, dtype)


@quietly
def multiply(a: Array, b: Array, out: Array) -> None:
    """Write the product of two matrices; the compiled functions for few logits call this."""
    np.matmul(a, b, out=out)


def check_layer(hidden: tuple[int, ...], weight: tuple[int, ...]) -> None:
    """Raise unless the shapes of hidden vectors and weights form a layer."""
    if not hidden or len(weight) != 2 or hidden[-1] != weight[1] or not weight[0]:
        raise ValueError(
            "hidden must have shape (..., D) and weight (V, D) with V > 0, "
            f"got {hidden} and {weight}"
        )


def matrix(x: ArrayLike, name: str) -> Array:
    """Return `x` as an ndarray; arrays and memory maps are not copied."""
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; pass its data")
    array = as_array(x, name)
    if not is_real(array.dtype) or array.dtype.char == "g":
        raise TypeError(
            f"{name} must be float16, float32, float64, bfloat16, integers or bool, "
            f"got dtype {array.dtype}"
        )
    return array


def computed_dtype(x: Array, w: Array) -> np.dtype[Any]:
    """Return the dtype to compute the scores of hidden vectors and weights in."""
    return np.result_type(_computed(x.dtype), _computed(w.dtype))


def _computed(dtype: np.dtype[Any]) -> np.dtype[Any]:
    short = is_small_float(dtype) or (is_float(dtype) and dtype.itemsize <= 4)
    return np.dtype(np.float32 if short else np.float64)
