"""``out=``: in place, into any layout, over memory shared with the input; and its errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import boltzmax
import ulp
from layouts import unaligned
from operations import GRADIENTS, MAPS
from rows import uneven

Array = npt.NDArray[Any]

# Short rows, tails of vectors, several blocks, and rows of a matrix.
SHAPES = [(5,), (64,), (1001,), (70_001,), (7, 5), (40, 67), (3, 9001)]


@pytest.mark.parametrize("op", MAPS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_in_place(isa: str, dtype: np.dtype[Any], op: str, shape: tuple[int, ...]) -> None:
    x = uneven(shape, dtype)
    function = getattr(boltzmax, op)
    for axis in range(len(shape)):
        expected = function(x, axis)
        z = x.copy()
        assert function(z, axis, out=z) is z
        assert z.tobytes() == expected.tobytes()


@pytest.mark.parametrize("op", ulp.OPS)
def test_into_any_layout(isa: str, dtype: np.dtype[Any], op: str) -> None:
    x = uneven((6, 35), dtype)
    function = getattr(boltzmax, op)
    for axis in (0, 1):
        expected = function(x, axis)
        shape = expected.shape
        layouts: list[Array] = [
            np.full(shape, 9, dtype, order="F"),
            np.full([2 * s for s in shape], 9, dtype)[tuple([slice(None, None, 2)] * len(shape))],
            np.full(shape, 9, dtype)[tuple([slice(None, None, -1)] * len(shape))],
            unaligned(np.zeros(shape, dtype), 1),
        ]
        for out in layouts:
            assert function(x, axis, out=out) is out
            assert out.tobytes() == expected.tobytes()


def test_nothing_between_strided_elements_is_written(isa: str, dtype: np.dtype[Any]) -> None:
    x = uneven((5, 33), dtype)
    buffer = np.full((5, 66), 7, dtype)
    boltzmax.softmax(x, out=buffer[:, ::2])
    assert (buffer[:, 1::2] == 7).all()
    buffer = np.full((7, 35), 7, dtype)
    boltzmax.softmax(x, out=buffer[1:-1, 1:-1])
    assert (buffer[[0, -1]] == 7).all()
    assert (buffer[:, [0, -1]] == 7).all()
    sums = np.full(11, 7, dtype)
    boltzmax.logsumexp(x, out=sums[3:8])
    assert (sums[[0, 1, 2, 8, 9, 10]] == 7).all()


# Two views of one buffer, of the same shape: the input and the output.
Views = Callable[[Array], tuple[Array, Array]]
OVERLAPS: dict[str, Views] = {
    "out one ahead": lambda b: (b[:-1], b[1:]),
    "out one behind": lambda b: (b[1:], b[:-1]),
    "out 5 ahead": lambda b: (b[:-5], b[5:]),
    "out 5 behind": lambda b: (b[5:], b[:-5]),
    "out 64 ahead": lambda b: (b[:-64], b[64:]),
    "out 64 behind": lambda b: (b[64:], b[:-64]),
    "half ahead": lambda b: (b[: len(b) // 2 + 9], b[-(len(b) // 2) - 9 :]),
    "reversed": lambda b: (b, b[::-1]),
    "reversed input": lambda b: (b[::-1], b),
    "both reversed": lambda b: (b[::-1], b[::-1]),
    "step 2 in the first half": lambda b: (b[::2], b[: (len(b) + 1) // 2]),
    "first half into step 2": lambda b: (b[: (len(b) + 1) // 2], b[::2]),
    "interleaved": lambda b: (b[: len(b) // 2 * 2 : 2], b[1::2]),
}


@pytest.mark.parametrize("op", MAPS)
@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("n", [130, 1001, 70_001])
def test_overlap_of_one_row(isa: str, dtype: np.dtype[Any], op: str, overlap: str, n: int) -> None:
    x, out = OVERLAPS[overlap](uneven(n, dtype))
    expected = getattr(boltzmax, op)(x.copy())
    assert getattr(boltzmax, op)(x, out=out) is out
    assert out.tobytes() == expected.tobytes()


MATRICES: dict[str, Views] = {
    "transposed": lambda b: (b, b.T),
    "transposed input": lambda b: (b.T, b),
    "a row below": lambda b: (b[:-1], b[1:]),
    "a row above": lambda b: (b[1:], b[:-1]),
    "a column right": lambda b: (b[:, :-1], b[:, 1:]),
    "a column left": lambda b: (b[:, 1:], b[:, :-1]),
    "upside down": lambda b: (b, b[::-1]),
    "mirrored": lambda b: (b, b[:, ::-1]),
    "turned": lambda b: (b, b[::-1, ::-1]),
    "itself, transposed": lambda b: (b.T, b.T),
    "itself, strided": lambda b: (b[::2, ::3], b[::2, ::3]),
    "diagonal": lambda b: (b[:-1, :-1], b[1:, 1:]),
}


@pytest.mark.parametrize("op", MAPS)
@pytest.mark.parametrize("overlap", MATRICES)
@pytest.mark.parametrize("n", [7, 130])
def test_overlap_of_matrices(isa: str, dtype: np.dtype[Any], op: str, overlap: str, n: int) -> None:
    for axis in (0, 1, None):
        x, out = MATRICES[overlap](uneven((n, n), dtype))
        expected = getattr(boltzmax, op)(x.copy(), axis)
        assert getattr(boltzmax, op)(x, axis, out=out) is out
        assert np.array_equal(out, expected)


def test_overlap_with_many_threads(threads: Callable[[int], None]) -> None:
    """Rows that another thread has yet to read."""
    threads(4)
    for overlap in MATRICES.values():
        x, out = overlap(uneven((900, 900), np.float32))
        expected = boltzmax.softmax(x.copy())
        assert np.array_equal(boltzmax.softmax(x, out=out), expected)


def test_logsumexp_into_its_own_input(
    isa: str, dtype: np.dtype[Any], threads: Callable[[int], None]
) -> None:
    threads(4)
    places: list[Callable[[Array], Array]] = [
        lambda b: b[0],
        lambda b: b[-1],
        lambda b: b[:, 0],
        lambda b: b[:, -1],
        lambda b: b[::-1, 5],
        lambda b: b.ravel()[7 : 7 + len(b)],
        lambda b: b.diagonal(),
    ]
    for axis in (0, 1):
        for place in places:
            x = uneven((130, 130), dtype)
            expected = boltzmax.logsumexp(x, axis)
            out = place(x)
            if not out.flags.writeable:
                out = np.lib.stride_tricks.as_strided(x, (130,), ((130 + 1) * dtype.itemsize,))
            assert np.array_equal(boltzmax.logsumexp(x, axis, out=out), expected)


def test_overlap_of_different_types(isa: str) -> None:
    """``dtype=`` with an output that starts where the narrower or wider input does."""
    for n in (9, 130, 5000):
        buffer = np.zeros(2 * n, np.float32)
        for start in (0, n // 2, n):
            x: Array = buffer.view(np.float16)[start : start + n]
            x[...] = uneven(n, np.float16)
            out: Array = buffer[:n]
            expected = boltzmax.softmax(x.copy(), dtype=np.float32)
            assert np.array_equal(boltzmax.softmax(x, dtype=np.float32, out=out), expected)
            x = buffer[:n]
            x[...] = uneven(n, np.float32)
            out = buffer.view(np.float16)[start : start + n]
            expected = boltzmax.softmax(x.copy(), dtype=np.float16)
            assert np.array_equal(boltzmax.softmax(x, dtype=np.float16, out=out), expected)


def test_mask_and_temperature_in_the_memory_of_out(isa: str) -> None:
    x = uneven((40, 64), np.float32)
    out = np.empty_like(x)
    where = out.view(np.bool_).reshape(-1)[: x.size].reshape(x.shape)
    where[...] = np.random.default_rng(1).random(x.shape) < 0.5
    expected = boltzmax.softmax(x, where=where.copy())
    assert np.array_equal(boltzmax.softmax(x, where=where, out=out), expected)
    temperature = out[:, 3]
    temperature[...] = np.linspace(0.5, 2, 40)
    expected = boltzmax.softmax(x, temperature=temperature.copy())
    assert np.array_equal(boltzmax.softmax(x, temperature=temperature, out=out), expected)


@pytest.mark.parametrize("op", GRADIENTS)
def test_backward_over_its_inputs(isa: str, dtype: np.dtype[Any], op: str) -> None:
    function = getattr(boltzmax, op)
    for shape in SHAPES:
        for axis in range(len(shape)):
            dy, y = uneven(shape, dtype), -abs(uneven(shape, dtype, 1))
            expected = function(dy, y, axis)
            for first in (True, False):
                a, b = dy.copy(), y.copy()
                out = a if first else b
                assert function(a, b, axis, out=out) is out
                assert out.tobytes() == expected.tobytes()
            same = y.copy()
            expected = function(y, y.copy(), axis)
            assert function(same, same, axis, out=same).tobytes() == expected.tobytes()
    for views in OVERLAPS.values():
        dy, out = views(uneven(1001, dtype))
        y = -abs(uneven(dy.shape, dtype, 1))
        expected = function(dy.copy(), y)
        assert np.array_equal(function(dy, y, out=out), expected)
        y, out = views(-abs(uneven(1001, dtype)))
        dy = uneven(y.shape, dtype, 2)
        expected = function(dy, y.copy())
        assert np.array_equal(function(dy, y, out=out), expected)


# ---- errors


def outcome(op: str, x: Array, out: Any) -> Any:
    function = getattr(boltzmax, op)
    return function(x, x, out=out) if op in GRADIENTS else function(x, out=out)


@pytest.mark.parametrize("op", [*ulp.OPS, *GRADIENTS])
def test_wrong_shape(op: str) -> None:
    x = uneven((3, 4), np.float32)
    right = (3,) if op == "logsumexp" else (3, 4)
    for shape in ((4,), (4, 3), (3, 4, 1), (1, 3, 4), (12,), ()):
        with pytest.raises(ValueError, match="out") as error:
            outcome(op, x, np.empty(shape, np.float32))
        assert str(right) in str(error.value), "the shape that it should have"
        assert str(shape) in str(error.value), "the shape that it has"


def test_shape_follows_keepdims() -> None:
    x = uneven((3, 4), np.float32)
    out = np.empty((3, 1), np.float32)
    assert boltzmax.logsumexp(x, keepdims=True, out=out) is out
    with pytest.raises(ValueError, match="out"):
        boltzmax.logsumexp(x, out=out)
    with pytest.raises(ValueError, match="out"):
        boltzmax.logsumexp(x, keepdims=True, out=np.empty(3, np.float32))


@pytest.mark.parametrize("op", [*ulp.OPS, *GRADIENTS])
def test_wrong_dtype(op: str, dtype: np.dtype[Any]) -> None:
    x = uneven((3, 4), dtype)
    shape = 3 if op == "logsumexp" else (3, 4)
    for other in ("float32", "float64", "float16", "int32", "bool", "complex64"):
        if other == dtype.name:
            continue
        with pytest.raises(TypeError, match="out") as error:
            outcome(op, x, np.empty(shape, other))
        assert other in str(error.value)
        assert dtype.name in str(error.value)


@pytest.mark.parametrize("op", [*ulp.OPS, *GRADIENTS])
def test_read_only(op: str) -> None:
    x = uneven((3, 4), np.float32)
    out = np.empty(3 if op == "logsumexp" else (3, 4), np.float32)
    out.flags.writeable = False
    before = out.copy()
    with pytest.raises(ValueError, match=r"read-only|writeable"):
        outcome(op, x, out)
    assert np.array_equal(out, before, equal_nan=True)
    x.flags.writeable = False
    with pytest.raises(ValueError, match=r"out|read-only|writeable"):
        outcome(op, x, x)


@pytest.mark.parametrize("op", [*ulp.OPS, *GRADIENTS])
def test_not_an_array(op: str) -> None:
    x = uneven((3, 4), np.float32)
    for out in ([0.0] * 3, "out", 1.0, np.float32(1), memoryview(bytearray(48))):
        with pytest.raises(TypeError, match="out"):
            outcome(op, x, out)


def test_read_only_input_is_fine() -> None:
    x = uneven((3, 4), np.float32)
    expected = boltzmax.softmax(x)
    x.flags.writeable = False
    assert np.array_equal(boltzmax.softmax(x), expected)


def test_input_is_not_modified(isa: str, dtype: np.dtype[Any]) -> None:
    x = uneven((5, 67), dtype)
    before = x.tobytes()
    where = np.ones(x.shape, bool)
    for op in ulp.OPS:
        for axis in (0, 1, None):
            getattr(boltzmax, op)(x, axis)
            getattr(boltzmax, op)(x, axis, where=where, temperature=2)
    for op in GRADIENTS:
        getattr(boltzmax, op)(x, x)
    assert x.tobytes() == before
    assert where.all()
