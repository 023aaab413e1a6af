"""Rows of an array of any layout, cut into segments and tiles that fit the cache.

Partial sums of exponentials can be merged.  So long rows are cut into segments, and for any memory
layout a few segments at a time are copied into a tile and summed.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from boltzmax import _core
from boltzmax.arrays.numpy_sums import (
    Sum,
    common_factor,
    fields,
    merged,
    scaled,
    spans_too_much,
    sum_of_tile,
    sum_of_wide_tile,
)

__all__ = ["SHORT", "TILE", "Box", "Rows", "boxes", "kept_first", "new_reduced"]

Array = NDArray[Any]
Box = tuple[Any, ...]

# Elements of a tile (512 KiB of float64), and elements of a row that share one maximum.
TILE = 1 << 16
_SEGMENT = 1 << 11
# Shorter rows or segments become columns, so that NumPy's inner loops run across them.
SHORT = 64


class _Parts(NamedTuple):
    """The operands of the terms of the sums, all of the same shape."""

    x: Array
    b: Array | None
    where: Array | None
    temperature: Array | None

    def map(self, function: Callable[[Array], Array]) -> _Parts:
        x, b, where, temperature = self
        return _Parts(
            function(x),
            None if b is None else function(b),
            None if where is None else function(where),
            None if temperature is None else function(temperature),
        )


class Rows:
    """An array, its weights, mask and temperature, seen as rows along the reduced axes.

    The bits of a row's sum do not depend on the batch that it is in or on its memory layout.
    """

    def __init__(
        self,
        x: Array,
        axes: tuple[int, ...],
        *,
        b: Array | None = None,
        where: Array | None = None,
        temperature: Array | None = None,
    ) -> None:
        self.work: np.dtype[Any] = np.promote_types(x.dtype, np.float64)
        self._factor = common_factor(b, self.work)
        parts = _Parts(x, b if self._factor is None else None, where, temperature)
        self._parts = parts.map(lambda a: kept_first(a, x.shape, axes))
        n_kept, shape = x.ndim - len(axes), self._parts.x.shape
        self.kept_shape, self._row_shape = shape[:n_kept], shape[n_kept:]

    def sums(self) -> Iterator[tuple[Box, Sum]]:
        """Sum exponentials: yield boxes of rows with their sums, in C order."""
        row_length = math.prod(self._row_shape)
        if row_length <= _SEGMENT and self._parts.x.size <= TILE:
            yield (...,), self._scaled(_Tiles(self._parts, len(self._row_shape), self.work).total())
            return
        for box in boxes(self.kept_shape, max(TILE // _SEGMENT, TILE // row_length)):
            yield box, self._scaled(self._total(box))

    def terms(self, index: tuple[int, ...]) -> tuple[Array, Array]:
        """Load the elements of a row that count, and their weights."""
        x, b, where, temperature = self._parts.map(lambda a: a[index].reshape(-1))
        weights = np.broadcast_to(np.asarray(1, self.work) if b is None else b, x.shape)
        x, weights = x.astype(self.work), weights.astype(self.work)
        if temperature is not None:
            x = x.real / temperature if x.dtype.kind != "c" else x / temperature
        if self._factor is not None:
            weights = weights * self._factor
        counts = (weights != 0) & (x.real != -np.inf)
        if where is not None:
            counts &= where
        return x[counts], weights[counts]

    def _total(self, box: Box) -> Sum:
        index: tuple[Any, ...] = (*box, ...)
        parts = self._parts.map(lambda a: a[index])
        pieces = list(_pieces(parts, len(self.kept_shape), self._row_shape))
        sums = [_Tiles(piece, n_row_axes, self.work).total() for piece, n_row_axes in pieces]
        if len(pieces) == 1 and pieces[0][0] is parts:
            return sums[0]
        rows = math.prod(parts.x.shape[: len(self.kept_shape)])
        segments = [fields(lambda a: a.reshape(-1, rows), s) for s in sums]
        return merged(fields(lambda *a: np.concatenate(a), *segments))

    def _scaled(self, total: Sum) -> Sum:
        return total if self._factor is None else scaled(total, self._factor)


class _Tiles:
    """Segments (in the last axes of some arrays) to be loaded into fresh 2-d arrays.

    In a tile the segments lie along `axis`, which depends on their length alone.
    """

    def __init__(self, parts: _Parts, n_row_axes: int, work: np.dtype[Any]) -> None:
        x, b = parts.x, parts.b
        self._n_row_axes, self._work = n_row_axes, work
        n = x.ndim - n_row_axes
        self._shape, self._length = x.shape[:n], math.prod(x.shape[n:])
        self.axis = 1 if self._length >= SHORT else 0
        if self.axis == 0 and n > 0:
            order = (*range(n, x.ndim), *range(n))
            parts = parts.map(lambda a: a.transpose(order))
        self._parts = parts
        self._may_span_much = b is not None and b.dtype.kind in "fc" and b.real.itemsize >= 8

    def total(self) -> Sum:
        """Sum all segments; the sums are in C order."""
        if self._parts.x.size <= TILE:
            return self._total_of_tile(self._parts)
        limit = max(1, TILE // self._length)
        sums = [self._total_of_tile(self._tile(box)) for box in boxes(self._shape, limit)]
        return fields(lambda *a: np.concatenate(a), *sums)

    def _tile(self, box: Box) -> _Parts:
        whole = (slice(None),) * self._n_row_axes
        index = (*box, ...) if self.axis else (*whole, *box, ...)
        return self._parts.map(lambda a: a[index])

    def _total_of_tile(self, tile: _Parts) -> Sum:
        w = self._weights(tile)
        total = sum_of_tile(self._load(tile), w, self.axis)
        if w is not None and self._may_span_much and spans_too_much(w, total.p):
            total = sum_of_wide_tile(self._load(tile), w, self.axis)
        return total

    def _load(self, tile: _Parts) -> Array:
        """Load x / temperature, -inf where masked."""
        x, _, where, temperature = tile
        v = np.empty(x.shape, self._work)
        v[...] = x
        if temperature is not None:
            for part in (v.real, v.imag) if v.dtype.kind == "c" else (v,):
                np.divide(part, temperature, out=part)
        if where is not None:
            np.putmask(v, ~where, -np.inf)
        return self._as_2d(v)

    def _weights(self, tile: _Parts) -> Array | None:
        """Load the weights, 0 where masked."""
        if tile.b is None:
            return None
        w = np.empty(tile.b.shape, self._work)
        w[...] = tile.b
        if tile.where is not None:
            np.putmask(w, ~tile.where, 0)
        return self._as_2d(w)

    def _as_2d(self, v: Array) -> Array:
        return v.reshape((-1, self._length) if self.axis else (self._length, -1))


def kept_first(a: Array, shape: tuple[int, ...], axes: tuple[int, ...]) -> Array:
    """View an array, broadcast to a shape, with the given axes last (in rising order)."""
    if a.shape != shape:
        a = np.broadcast_to(a, shape)
    kept = [k for k in range(len(shape)) if k not in axes]
    return a.transpose(kept + sorted(axes)) if kept else a


def new_reduced(x: Array, axes: tuple[int, ...], dtype: np.dtype[Any], values: Any) -> Array:
    """Put a value for each row of `x` in a new array; the kept axes keep their order in memory."""
    order = [k for k in range(x.ndim) if k not in axes] + sorted(axes)
    new = _core.empty_like(x.transpose(order), dtype, len(axes))
    new[...] = values
    return new


def boxes(shape: tuple[int, ...], limit: int) -> Iterator[Box]:
    """Cut an index space into boxes of at most `limit` points, each contiguous in C order."""
    axis, step = _cut_position(shape, limit)
    whole = (slice(None),) * (len(shape) - axis - 1)
    if step == 0:
        yield (slice(None), *whole)[: len(shape)]
        return
    for index in itertools.product(*(range(n) for n in shape[:axis])):
        outer = tuple(slice(i, i + 1) for i in index)
        for start in range(0, shape[axis], step):
            yield (*outer, slice(start, start + step), *whole)


def _cut_position(shape: tuple[int, ...], limit: int) -> tuple[int, int]:
    """Return the axis to cut, and the length of its steps (0 if all is within the limit)."""
    inner = 1
    for axis in reversed(range(len(shape))):
        if inner * shape[axis] > limit:
            steps = math.ceil(shape[axis] / max(1, limit // inner))
            return axis, math.ceil(shape[axis] / steps)
        inner *= shape[axis]
    return 0, 0


def _pieces(parts: _Parts, n_kept: int, row_shape: tuple[int, ...]) -> Iterator[tuple[_Parts, int]]:
    """Cut rows into pieces whose segments have one shape; yield each with the segments' ndim."""
    axis, step = _cut_position(row_shape, _SEGMENT)
    if step == 0:
        yield parts, len(row_shape)
        return
    length = row_shape[axis]
    whole = length // step * step
    for part, width in ((slice(whole), step), (slice(whole, None), length - whole)):
        if width:
            cut = functools.partial(_cut, n_kept=n_kept, axis=axis, part=part, width=width)
            yield parts.map(cut), len(row_shape) - axis


def _cut(a: Array, n_kept: int, axis: int, part: slice, width: int) -> Array:
    """Split an axis of the rows into segments, and move the axes that index segments first."""
    k = n_kept + axis
    a = a[(slice(None),) * k + (part,)]
    a = a.reshape((*a.shape[:k], a.shape[k] // width, width, *a.shape[k + 1 :]))
    return a.transpose((*range(n_kept, k + 1), *range(n_kept), *range(k + 1, a.ndim)))
