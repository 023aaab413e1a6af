"""Bits do not depend on threads, batch, position in the batch, alignment or output array."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import boltzmax
import ulp
from operations import GRADIENTS, MAPS
from rows import uneven

Array = npt.NDArray[Any]
ALL = (*ulp.OPS, *GRADIENTS)
# Beyond any size at which one row is split over threads, and not a multiple of any block size.
LONG_ROW = 3_000_017


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = boltzmax.get_num_threads()
    yield
    boltzmax.set_num_threads(before)


def call(op: str, x: Array, axis: Any = -1, out: Array | None = None) -> Array:
    """Call any of the five; the two that need a second array get ``-|x|``."""
    function: Callable[..., Any] = getattr(boltzmax, op)
    result = function(x, -abs(x), axis, out=out) if op in GRADIENTS else function(x, axis, out=out)
    return np.asarray(result)


def bits(op: str, x: Array, axis: Any = -1) -> bytes:
    return call(op, x, axis).tobytes()


THREADED = [
    ((64, 1000), -1),
    ((7, 50_001), -1),
    ((3, 400_000), -1),
    ((2, 1_500_001), -1),
    ((LONG_ROW,), -1),
    ((1000, 1000), 0),
    ((64, 50, 100), 1),
    ((300_001, 10), 0),
    ((LONG_ROW, 1), 0),
    ((5, 601, 1001), (0, 2)),
    ((1001, 2999), None),
]


@pytest.mark.parametrize(("shape", "axis"), THREADED, ids=str)
@pytest.mark.parametrize("name", ["float32", "float64", "float16"])
def test_number_of_threads(name: str, shape: tuple[int, ...], axis: Any) -> None:
    x = uneven(shape, name)
    boltzmax.set_num_threads(1)
    expected = {
        op: call(op, x, axis) for op in ALL if op not in GRADIENTS or not isinstance(axis, tuple)
    }
    for n in (2, 3, 4):
        boltzmax.set_num_threads(n)
        for op, result in expected.items():
            assert np.array_equal(call(op, x, axis), result), f"{op} with {n} threads"


def test_number_of_threads_on_every_isa(isa: str, dtype: np.dtype[Any]) -> None:
    for shape, axis in (((LONG_ROW,), -1), ((40, 30_001), -1), ((1000, 300), 0)):
        x = uneven(shape, dtype)
        boltzmax.set_num_threads(1)
        expected = [bits(op, x, axis) for op in ulp.OPS]
        for n in (2, 3):
            boltzmax.set_num_threads(n)
            assert [bits(op, x, axis) for op in ulp.OPS] == expected


def test_repeated_calls(isa: str) -> None:
    """The assignment of parts to threads differs from call to call."""
    boltzmax.set_num_threads(4)
    x = uneven((300, 5001), np.float32)
    row = uneven(LONG_ROW, np.float32)
    for op in ulp.OPS:
        assert len({bits(op, x) for _ in range(10)}) == 1
        assert len({bits(op, row) for _ in range(5)}) == 1


@pytest.mark.parametrize("op", ALL)
def test_batch_and_position(isa: str, dtype: np.dtype[Any], op: str) -> None:
    """A row alone, and the same row first, last and in the middle of batches of many sizes."""
    for n in (1, 2, 3, 7, 16, 33, 64, 100, 1000, 4097, 20_001):
        row = uneven(n, dtype)
        alone = bits(op, row)
        assert bits(op, row[None]) == alone
        for batch in (2, 3, 5, 17) if n < 5000 else (3,):
            x = uneven((batch, n), dtype, seed=1)
            for position in {0, 1, batch // 2, batch - 1}:
                x[position] = row
                assert call(op, x)[position].tobytes() == alone, (n, batch, position)
                columns = np.ascontiguousarray(x.T)
                assert call(op, columns, 0)[..., position].tobytes() == alone, (n, batch, position)


@pytest.mark.parametrize("op", ALL)
def test_large_batch(isa: str, op: str) -> None:
    """Rows distributed over threads in chunks, each as if alone."""
    boltzmax.set_num_threads(3)
    shapes = (("float32", 10), ("float32", 129), ("float32", 240), ("float64", 33), ("float16", 65))
    for name, n in shapes:
        x = uneven((5001, n), name)
        whole = call(op, x)
        columns = call(op, np.ascontiguousarray(x.T), 0).T
        for i in (0, 1, 2, 63, 64, 1250, 1666, 1667, 2500, 4999, 5000):
            alone = bits(op, x[i])
            assert whole[i].tobytes() == alone
            assert columns[i].tobytes() == alone


@pytest.mark.parametrize("op", ulp.OPS)
def test_alignment(isa: str, dtype: np.dtype[Any], op: str) -> None:
    """Every offset from a cache line, in elements and in bytes, of the input and the output."""
    function: Callable[..., Any] = getattr(boltzmax, op)
    for n in (1, 5, 16, 31, 64, 200, 4099):
        row = uneven(n, dtype)
        expected = bits(op, row)
        raw_in, raw_out = (np.zeros(n * dtype.itemsize + 192, np.uint8) for _ in range(2))
        base_in, base_out = (-raw.ctypes.data % 64 for raw in (raw_in, raw_out))
        for offset in range(65):
            x = raw_in[base_in + offset :][: row.nbytes].view(dtype)
            x[...] = row
            assert bits(op, x) == expected, (n, offset)
            if op != "logsumexp":
                out = raw_out[base_out + 64 - offset :][: row.nbytes].view(dtype)
                assert function(x, out=out).tobytes() == expected, (n, offset)


@pytest.mark.parametrize("name", ["float32", "float64", "float16"])
def test_output_arrays(isa: str, name: str) -> None:
    """A fresh array, the caller's, or the input itself; small, and too large for the cache."""
    for shape in ((5,), (3, 1000), (40, 33_003), (5_000_003,)):
        x = uneven(shape, name)
        for op in MAPS:
            fresh = call(op, x)
            out = np.full(shape, 7, name)
            assert np.array_equal(call(op, x, out=out), fresh)
            inside = np.full((shape[0] + 2, *shape[1:]), 7, name)[1:-1]
            assert np.array_equal(call(op, x, out=inside), fresh)
            z = x.copy()
            assert np.array_equal(call(op, z, out=z), fresh)
        for op in GRADIENTS:
            fresh = call(op, x)
            z, y = x.copy(), -abs(x)
            function: Callable[..., Any] = getattr(boltzmax, op)
            assert np.array_equal(function(x, y, out=y), fresh)
            assert np.array_equal(function(z, -abs(x), out=z), fresh)


@pytest.mark.parametrize("op", ALL)
@pytest.mark.parametrize("threads", [1, 4])
def test_one_long_row_in_many_shapes(op: str, threads: int) -> None:
    """Split or not, as a vector, a row, a column, a block, or one of two rows or columns."""
    boltzmax.set_num_threads(threads)
    n = 1_200_000  # several parts for each of four threads
    for name in ("float32", "float64", "bfloat16"):
        if name == "bfloat16":
            pytest.importorskip("ml_dtypes")
        x = uneven(n, ulp.dtype_of(name))
        expected = bits(op, x)
        assert bits(op, x[None]) == expected
        assert bits(op, x.reshape(1, 1, n, 1), 2) == expected
        assert bits(op, x[:, None], 0) == expected
        two = np.stack([uneven(n, x.dtype, seed=1), x])
        assert call(op, two)[1].tobytes() == expected
        columns = np.ascontiguousarray(two.T)
        assert call(op, columns, 0)[..., 1].tobytes() == expected
        assert bits(op, two[1, ::-1][::-1]) == expected
        if op not in GRADIENTS:
            assert bits(op, x.reshape(1000, 1200), None) == expected
            assert bits(op, x.reshape(100, 1000, 12), (0, 2, 1)) == expected


def test_mask_of_ones_and_temperature_one_change_nothing(isa: str, dtype: np.dtype[Any]) -> None:
    for shape in ((5,), (3, 67), (2, 9001)):
        x = uneven(shape, dtype)
        for op in ulp.OPS:
            function: Callable[..., Any] = getattr(boltzmax, op)
            expected = bits(op, x)
            assert function(x, where=True).tobytes() == expected
            assert function(x, where=np.ones(shape, bool)).tobytes() == expected
            assert function(x, temperature=1).tobytes() == expected
            assert function(x, temperature=np.ones(shape[:-1])).tobytes() == expected
            assert function(x, dtype=dtype).tobytes() == expected


def test_masked_entries_are_like_minus_infinity(isa: str, dtype: np.dtype[Any]) -> None:
    rng = np.random.default_rng(1)
    for n in (3, 64, 77, 9001):
        x = uneven((3, n), dtype)
        where = rng.random(x.shape) < 0.6
        where[:, 0] = True
        lowered = np.where(where, x, dtype.type(-np.inf))
        for op in ulp.OPS:
            assert getattr(boltzmax, op)(x, where=where).tobytes() == bits(op, lowered)
