"""Functions of chunks, and what chunks of a row tell each other.

A row may have chunks along the class axis. Each is read for what must be known of it
(`boltzmax.losses.parts`), these records are merged as a tree, and a second pass maps the chunks. It
must not begin before the first has ended, or the scheduler would hold chunks for it: so it has a
copy of the tasks that make the chunks, which wait for the records.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, SupportsIndex

import dask.array as da
import numpy as np
from dask.graph_manipulation import bind
from dask.utils import funcname
from numpy.typing import NDArray

from boltzmax._lib.arguments import as_integer, is_native_float, quietly, refuse_masked
from boltzmax._lib.numbers import unmasked
from boltzmax.losses.parts import PART, merge_parts, parts_of
from boltzmax.variants.exact_totals import check_n_classes

Array = NDArray[Any]
Merge = Callable[[Array, Array], None]


class Logits:
    """A Dask array of logits, and its class axis.

    `letters` are the indices of its axes, as `dask.array.blockwise` takes them.
    """

    def __init__(self, array: Any, axis: SupportsIndex = -1, name: str = "logits") -> None:
        if not isinstance(array, da.Array):
            raise TypeError(
                f"{name} must be a dask array, got {type(array).__name__}; make one with "
                f"dask.array.from_array({name}, chunks=...), or call the function of boltzmax"
            )
        check_chunks(array, name)
        check_kind(array, name)
        if array.dtype.kind in "biu":
            array = array.astype(np.float64)
        if not is_native_float(array.dtype):
            raise TypeError(
                f"{name} must be float16, float32, float64, bfloat16 or integers, "
                f"got dtype {array.dtype}"
            )
        number = as_integer(axis, "axis")
        if not -array.ndim <= number < array.ndim:
            raise ValueError(f"axis {number} is out of range for {name} of shape {array.shape}")
        self.array, self.axis = array, number % array.ndim
        self.n_classes = check_n_classes(int(array.shape[self.axis]))
        self.letters = tuple(range(array.ndim))
        self.row_letters = tuple(d for d in self.letters if d != self.axis)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the rows."""
        return tuple(n for d, n in enumerate(self.array.shape) if d != self.axis)

    @property
    def row_chunks(self) -> tuple[tuple[int, ...], ...]:
        """The chunks of the rows."""
        return tuple(c for d, c in enumerate(self.array.chunks) if d != self.axis)

    @property
    def first(self) -> Any:
        """The first class of each chunk along the class axis: an array of chunks of one number."""
        return starts(self.array.chunks[self.axis])

    def again(self, *known: Any) -> Any:
        """Return the array for another pass, whose chunks are made once `known` is known."""
        return bind(self.array, list(known), seed="-".join(array.name for array in known))

    def rows(self, array: Any, name: str) -> Any:
        """Return one number for each row, chunked as the rows are."""
        array = array if isinstance(array, da.Array) else da.asarray(unmasked(array, name))
        check_chunks(array, name)
        check_kind(array, name)
        if array.shape != self.shape:
            raise ValueError(
                f"{name} must have one number for each row, shape {self.shape}, got shape "
                f"{array.shape}"
            )
        return array.rechunk(self.row_chunks) if self.shape else array

    def reduced(
        self, function: Any, merge: Merge, dtype: np.dtype[Any], *columns: Any, source: Any = None
    ) -> Any:
        """Return ``function(matrix, first, *columns)`` of each chunk, merged along the class axis.

        Parameters
        ----------
        function : callable
            Returns a record for each row of a matrix whose first column is class `first`.
        merge : callable
            ``merge(mine, other)`` adds other records to mine.
        dtype : dtype
            The dtype of records.
        *columns : dask.array.Array
            Numbers for each row, which the function gets, too.
        source : dask.array.Array, optional
            Takes the place of the array in a second pass.
        """
        pairs = [pair for column in columns for pair in (column, self.row_letters)]
        records = da.blockwise(
            _OfChunk(function, self.axis), self.letters,
            self.array if source is None else source, self.letters,
            self.first, (self.axis,), *pairs,
            dtype=dtype, meta=np.empty((0,) * self.array.ndim, dtype),
            adjust_chunks={self.axis: 1}, align_arrays=False,
        )  # fmt: skip
        return merged(records, merge, self.axis)

    def mapped(self, function: Any, source: Any, known: Any, *columns: Any, dtype: Any) -> Any:
        """Return ``function(matrix, first, records, *columns)`` for each chunk of a second pass."""
        records = da.squeeze(known, self.axis)
        pairs = [pair for column in (records, *columns) for pair in (column, self.row_letters)]
        return da.blockwise(
            _MapOfChunk(function, self.axis), self.letters,
            source, self.letters, self.first, (self.axis,), *pairs,
            dtype=dtype, meta=np.empty((0,) * self.array.ndim, dtype), align_arrays=False,
        )  # fmt: skip

    def whole(self, function: Any, *, dtype: Any) -> Any:
        """Return ``function(matrix, first)`` for each chunk, where chunks have whole rows."""
        return da.blockwise(
            _MapOfChunk(function, self.axis), self.letters,
            self.array, self.letters, self.first, (self.axis,),
            dtype=dtype, meta=np.empty((0,) * self.array.ndim, dtype), align_arrays=False,
        )  # fmt: skip

    def of_rows(self, function: Any, known: Any, *columns: Any, dtype: Any, extra: int = 0) -> Any:
        """Return ``function(records, *columns)`` of whole rows.

        With `extra`, the function returns that many numbers for each row, on a last axis.
        """
        records = da.squeeze(known, self.axis)
        pairs = [pair for column in (records, *columns) for pair in (column, self.row_letters)]
        letters = (*self.row_letters, self.array.ndim) if extra else self.row_letters
        return da.blockwise(
            _OfRows(function), letters, *pairs,
            dtype=dtype, meta=np.empty((0,) * len(letters), dtype), align_arrays=False,
            new_axes={self.array.ndim: extra} if extra else None,
        )  # fmt: skip


def check_chunks(array: Any, name: str) -> None:
    """Raise if an axis has chunks of unknown size."""
    unknown = [d for d, n in enumerate(array.shape) if math.isnan(n)]
    if unknown:
        axes = "axis" if len(unknown) == 1 else "axes"
        numbers = ", ".join(map(str, unknown))
        raise ValueError(
            f"{name} has chunks of unknown size along {axes} {numbers}: call "
            f"{name}.compute_chunk_sizes() first, which computes the array once"
        )


def check_kind(array: Any, name: str) -> None:
    """Raise if chunks are not plain NumPy arrays, as far as Dask knows."""
    refuse_masked(array._meta, name)
    if not isinstance(array._meta, np.ndarray):
        raise TypeError(
            f"{name} must have chunks that are NumPy arrays, got {type(array._meta).__name__}: "
            f"convert them by {name}.map_blocks(...)"
        )


def starts(chunks: tuple[int, ...]) -> Any:
    """Return where chunks begin: an array with a chunk for each."""
    at = np.concatenate([[0], np.cumsum(chunks)[:-1]]).astype(np.int64)
    return da.from_array(at, chunks=1)


def merged(records: Any, merge: Merge, axis: Any) -> Any:
    """Return records merged along one axis or several, which remain with a length of 1."""
    if all(records.numblocks[d] == 1 for d in np.atleast_1d(axis)):
        return records
    return da.reduction(
        records, chunk=_same, combine=_Merging(merge), aggregate=_Merging(merge), axis=axis,
        keepdims=True, concatenate=False, dtype=records.dtype, meta=records._meta, split_every=8,
    )  # fmt: skip


def _same(records: Array, axis: Any, keepdims: bool) -> Array:
    return records


class _Merging:
    """Merges nested lists of records."""

    __name__ = "merged"  # of tasks, which would have the address of the object else

    def __init__(self, merge: Merge) -> None:
        self.merge = merge

    def __call__(self, records: Any, axis: Any, keepdims: bool) -> Array:
        each = list(_flat(records))
        result = each[0].copy()
        flat = result.reshape(-1)  # a view of a contiguous copy
        for other in each[1:]:
            self.merge(flat, np.ascontiguousarray(other).reshape(-1))
        return result


def _flat(records: Any) -> Iterator[Array]:
    if isinstance(records, list):
        for some in records:
            yield from _flat(some)
    else:
        yield np.ascontiguousarray(records)


class _OfChunk:
    """Calls a function of a matrix of part of the rows, and returns an array of records."""

    def __init__(self, function: Any, axis: int) -> None:
        self.function, self.axis = function, axis
        self.__name__ = funcname(function).strip("_")  # of tasks

    @quietly
    def __call__(self, x: Array, first: Array, *columns: Array) -> Array:
        last, result = self._call(x, first, columns)
        return np.expand_dims(result.reshape(last.shape[:-1]), self.axis)

    def _call(self, x: Array, first: Array, columns: tuple[Array, ...]) -> tuple[Array, Array]:
        refuse_masked(x, "a chunk")
        last = np.moveaxis(np.asarray(x), self.axis, -1)
        shape = (math.prod(last.shape[:-1]), last.shape[-1])
        matrix = np.require(last, requirements=("C", "A")).reshape(shape)
        flat = [np.ascontiguousarray(column).reshape(-1) for column in columns]
        return last, self.function(matrix, int(first[0]), *flat)


class _MapOfChunk(_OfChunk):
    """Calls a function that returns a result for each element of the matrix."""

    @quietly
    def __call__(self, x: Array, first: Array, *columns: Array) -> Array:
        last, result = self._call(x, first, columns)
        return np.moveaxis(result.reshape(last.shape), -1, self.axis)


class _OfRows:
    """Calls a function of records and other columns."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.__name__ = funcname(function).strip("_")  # of tasks

    @quietly
    def __call__(self, records: Array, *columns: Array) -> Array:
        flat = [np.ascontiguousarray(column).reshape(-1) for column in (records, *columns)]
        result = np.asarray(self.function(*flat))
        return result.reshape(records.shape + result.shape[1:])


class MergeParts:
    """Merges what is known of parts of rows, at a temperature."""

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature

    def __call__(self, mine: Array, other: Array) -> None:
        """Add what is known from other classes."""
        merge_parts(mine, other, self.temperature)


def totals(logits: Logits, temperature: float) -> Any:
    """Return what is known of rows: records of `PART`, with a class axis of length 1."""
    read = partial(_parts, temperature=temperature)
    return logits.reduced(read, MergeParts(temperature), PART)


def _parts(x: Array, first: int, *, temperature: float) -> Array:
    return parts_of(x, first, temperature)
