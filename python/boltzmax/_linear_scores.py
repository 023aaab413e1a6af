r"""The scores of a linear layer for its classes, without its matrix of logits.

The logits ``hidden @ weight.T + bias`` have one row for each row of `hidden` and one column for
each class.  They are computed tile by tile in one buffer that is used again for the next tile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._arguments import is_bfloat16
from boltzmax._targets import real_numbers

Array = NDArray[Any]
Floats = NDArray[np.float64]
Rows = slice | NDArray[np.int64]

# Numbers in a tile of logits: between these, and otherwise this part of all logits.
_SMALLEST_TILE, _LARGEST_TILE, _PART = 2**17, 2**19, 256
# Fewer rows or classes than this make slow matrix products.
FEW_ROWS, _MANY_CLASSES = 64, 2048


class Scores:
    """The scores of a linear layer, by tiles: blocks of rows, and in each block tiles of classes.

    A score is a logit, capped to ``softcap * tanh(logit / softcap)``, over the temperature.
    """

    def __init__(
        self,
        hidden: ArrayLike,
        weight: ArrayLike,
        bias: ArrayLike | None,
        temperature: float = 1.0,
        softcap: float | None = None,
    ) -> None:
        x, w = _matrix(hidden, "hidden"), _matrix(weight, "weight")
        if x.ndim < 1 or w.ndim != 2 or x.shape[-1] != w.shape[1] or not w.shape[0]:
            raise ValueError(
                "hidden must have shape (..., D) and weight (V, D) with V > 0, "
                f"got {x.shape} and {w.shape}"
            )
        self.dtype = np.result_type(_computed(x.dtype), _computed(w.dtype))
        self.shape, self.n_classes, self.width = x.shape[:-1], len(w), w.shape[1]
        self.hidden, self.weight = x.reshape(math.prod(self.shape), self.width), w
        self.bias: Array | None = None
        if bias is not None:
            self.bias = real_numbers(bias, "bias").astype(self.dtype, copy=False)
            if self.bias.shape != (self.n_classes,):
                raise ValueError(f"bias must have shape ({self.n_classes},), got {self.bias.shape}")
        self.temperature = positive(temperature, "temperature")
        self.softcap = None if softcap is None else positive(softcap, "softcap")
        self.rows: NDArray[np.int64] | None = None
        self.plan()

    def plan(self, counted: NDArray[np.bool_] | None = None, least_classes: int = 1) -> None:
        """Choose the tiles: only rows that are `counted`, and this many classes at least."""
        if counted is not None and not counted.all():
            self.rows = np.flatnonzero(counted)
        self.n_rows = n = len(self.hidden if self.rows is None else self.rows)
        size = min(self.hidden.dtype.itemsize, self.weight.dtype.itemsize)
        part = n * self.n_classes * size // (_PART * self.dtype.itemsize)
        room = min(max(part, _SMALLEST_TILE), _LARGEST_TILE)
        whole = self.n_classes * 2 * FEW_ROWS <= room  # the logits are needed once only
        rows = room // self.n_classes if whole else math.isqrt(room // 2)
        if self.rows is not None or self.hidden.dtype != self.dtype:  # rows are copied
            rows = min(rows, max(room // (4 * self.width + 1), FEW_ROWS))
        rows = max(1, min(rows, n, room // least_classes))
        classes = room // rows
        if n > rows and not whole:
            classes = min(classes, _MANY_CLASSES)
        if self.weight.dtype != self.dtype:  # classes are copied
            classes = min(classes, max(room // (2 * self.width + 1), FEW_ROWS))
        self.block_rows = rows
        classes = min(max(classes, least_classes), self.n_classes)
        self.tiles = [
            slice(start, min(start + classes, self.n_classes))
            for start in range(0, self.n_classes, classes)
        ]
        self._tile = self.last = np.empty(rows * classes, self.dtype)

    def blocks(self) -> Iterator[tuple[Rows, Array]]:
        """Yield where the rows of each block are, and these rows of `hidden`."""
        for start in range(0, self.n_rows, self.block_rows):
            end = min(start + self.block_rows, self.n_rows)
            where = slice(start, end) if self.rows is None else self.rows[start:end]
            yield where, self.hidden[where].astype(self.dtype, copy=False)

    def vectors(self, tile: slice) -> Array:
        """Return the rows of `weight` that belong to the classes of a tile."""
        return self.weight[tile].astype(self.dtype, copy=False)

    def tile(self, x: Array, tile: slice) -> Array:
        """Return the scores of rows `x` for the classes of a tile, until the next call."""
        columns = tile.stop - tile.start
        scores = self._tile[: len(x) * columns].reshape(len(x), columns)
        np.matmul(x, self.vectors(tile).T, out=scores)
        if self.bias is not None:
            scores += self.bias[tile]
        factor = 1.0 / self.temperature
        if self.softcap is not None:
            scores *= 1.0 / self.softcap
            np.tanh(scores, out=scores)
            factor *= self.softcap
        if factor != 1.0:
            scores *= factor
        self.last = scores
        return scores

    def logsumexp(self, x: Array) -> Floats:
        """Return the logarithm of the sum of the exponentials of the scores of rows `x`."""
        total = np.full(len(x), -np.inf)
        for tile in self.tiles:
            total = merged(total, self.tile(x, tile))
        return total


def merged(total: Floats, scores: Array) -> Floats:
    """Return the logsumexp of more scores."""
    more = _core.logsumexp(scores, -1, dtype=np.float64)
    return np.asarray(np.logaddexp(total, more))


def at_targets(scores: Array, tile: slice, target: NDArray[np.int64]) -> tuple[Any, Any]:
    """Return an index of those elements of a tile that are scores of the targets."""
    rows = np.flatnonzero((tile.start <= target) & (target < tile.stop))
    return rows, target[rows] - tile.start


def positive(value: float, name: str) -> float:
    """Return `value` as a float if it is positive and finite."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a real number, got {value!r}") from None
    if not 1e-30 <= number <= 1e30:
        raise ValueError(f"{name} must be > 0 (from 1e-30 to 1e+30), got {number:g}")
    return number


def _matrix(x: ArrayLike, name: str) -> Array:
    """Return `x` as an ndarray, without a copy where it is one (or a memory map)."""
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; pass its data")
    array = np.asarray(x)
    supported = array.dtype.kind in "biuf" and array.dtype.char != "g"
    if not (supported or is_bfloat16(array.dtype)):
        raise TypeError(
            f"{name} must be float16, float32, float64, bfloat16, integers or bool, "
            f"got dtype {array.dtype}"
        )
    return array


def _computed(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype to compute in."""
    half = is_bfloat16(dtype) or (dtype.kind == "f" and dtype.itemsize <= 4)
    return np.dtype(np.float32 if half else np.float64)
