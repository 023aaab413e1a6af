"""Any strides and axis give the bits of a contiguous copy of each row."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from numpy.lib.stride_tricks import as_strided

import boltzmax
import ulp
from boltzmax import special
from conftest import RunPython
from layouts import LAYOUTS, Axis, as_rows, flipped, rows_of, spread
from operations import GRADIENTS, MAPS
from rows import uneven

Array = npt.NDArray[Any]


def check(op: str, x: Array, axis: Axis) -> None:
    got = getattr(boltzmax, op)(x, axis)
    lines, others = rows_of(x, axis)
    assert np.shape(got) == (others if op == "logsumexp" else x.shape)
    expected = np.array([getattr(boltzmax, op)(line) for line in lines], x.dtype)
    assert as_rows(op, got, axis).tobytes() == expected.tobytes(), (op, axis, x.shape, x.strides)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("op", ulp.OPS)
def test_layouts_and_axes(isa: str, dtype: np.dtype[Any], op: str, layout: str) -> None:
    for shape in ((37,), (5, 19), (3, 4, 35), (2, 3, 4, 5)):
        x = LAYOUTS[layout](uneven(shape, dtype))
        assert np.array_equal(x, uneven(shape, dtype))
        axes: list[Axis] = [*range(-1, x.ndim), None]
        axes += itertools.combinations(range(x.ndim), 2)
        for axis in axes:
            check(op, x, axis)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
@pytest.mark.parametrize("kind", ["e", "f", "d", "g", "i", "D"])
def test_results_have_numpys_memory_order(order: tuple[int, ...], kind: str) -> None:
    """The remaining axes have the memory order that NumPy's reductions give them."""
    peer = pytest.importorskip("scipy.special")
    x = np.ones((3, 4, 5)).astype(kind)
    x = np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
    weights = np.broadcast_to(np.array([1.0, 2, 3, 4, 5]), x.shape)
    for view in (x, x[:, ::2], x[::-1], x[:2, ..., ::-1], x[:, 1:2]):
        for axis in (0, 1, 2, (0, 1), (2, 0), ()):
            for keepdims in (False, True):
                expected = np.add.reduce(view, axis, keepdims=keepdims)
                results = [
                    boltzmax.logsumexp(view, axis, keepdims=keepdims),
                    boltzmax.logsumexp(view, axis, keepdims=keepdims, where=view == 1),
                    *boltzmax.logsumexp(view, axis, keepdims=keepdims, return_sign=True),
                    special.logsumexp(view, axis, keepdims=keepdims),
                    *special.logsumexp(view, axis, keepdims=keepdims, return_sign=True),
                ]
                if kind != "D":  # SciPy puts it in C order
                    results.append(peer.logsumexp(view, axis, keepdims=keepdims))
                if view.shape == weights.shape:
                    results += boltzmax.logsumexp(
                        view, axis, b=weights, keepdims=keepdims, return_sign=True
                    )
                for got in results:
                    assert order_of(got) == order_of(expected), (view.strides, axis, keepdims)


@pytest.mark.parametrize("name", ["float32", "float64", "int64"])
def test_results_of_broadcast_views_have_numpys_memory_order(name: str) -> None:
    """Strides of 0 and axes of one element do not determine an order."""
    x = np.ones((3, 4, 5), name)
    for lines in (x[:1], x[:, :1], x[..., :1], x[:1, :, :1], x[:, :1, :1], x[:, :, 0, None]):
        for order in itertools.permutations(range(3)):
            view = np.broadcast_to(lines, (3, 4, 5)).transpose(order)
            for op in MAPS:
                got = getattr(boltzmax, op)(view)
                assert order_of(got) == order_of(np.exp(view)), (op, view.strides)


def order_of(x: Array) -> list[int]:
    """Axes with more than one element, from the outermost in memory to the innermost."""
    return sorted((d for d in range(x.ndim) if x.shape[d] > 1), key=lambda d: -x.strides[d])


@pytest.mark.parametrize("op", ulp.OPS)
def test_zero_strides(isa: str, dtype: np.dtype[Any], op: str) -> None:
    """Broadcast arrays: along the rows, across them, and both."""
    row, one = uneven(33, dtype), uneven(1, dtype)
    for x in (
        np.broadcast_to(row, (5, 33)),
        np.broadcast_to(row[:, None], (33, 50)),
        np.broadcast_to(one, (70,)),
        np.broadcast_to(one, (4, 70)),
        np.broadcast_to(row[:, None, None], (33, 2, 18)),
        np.broadcast_to(uneven((5, 1, 3), dtype), (5, 40, 3)),
        np.broadcast_to(uneven((1, 9, 1), dtype), (3, 9, 20))[::-1, ::2],
    ):
        for axis in (*range(x.ndim), None):
            check(op, x, axis)


@pytest.mark.parametrize("op", ulp.OPS)
def test_windows(isa: str, op: str) -> None:
    """Rows that overlap in memory, which the input may."""
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        x = uneven(400, dtype)
        for window in (1, 16, 77):
            view = np.lib.stride_tricks.sliding_window_view(x, window)
            check(op, view, 1)
            check(op, view, 0)


@pytest.mark.parametrize("op", ulp.OPS)
def test_every_length_along_every_stride(isa: str, dtype: np.dtype[Any], op: str) -> None:
    """Lengths 1 to 200 and around block sizes: rows of a batch, strided, reversed, as columns."""
    function = getattr(boltzmax, op)
    for n in (*range(1, 201), 4095, 4096, 4097, 10_000):
        x = uneven((3, n), dtype, seed=n)
        expected = np.array([function(row) for row in x], dtype).tobytes()
        assert function(x).tobytes() == expected
        assert as_rows(op, function(np.asfortranarray(x)), 1).tobytes() == expected
        assert as_rows(op, function(np.ascontiguousarray(x.T), 0), 0).tobytes() == expected
        assert as_rows(op, function(spread(x, 2)), 1).tobytes() == expected
        assert as_rows(op, function(flipped(x, [1])), 1).tobytes() == expected


@pytest.mark.parametrize("op", ulp.OPS)
def test_every_number_of_columns(isa: str, dtype: np.dtype[Any], op: str) -> None:
    """axis=0 and the middle axis with 1 to 70 columns: whole vectors and remainders."""
    function = getattr(boltzmax, op)
    for columns in range(1, 71):
        for n in (1, 2, 5, 33, 130):
            x = uneven((n, columns), dtype, seed=columns)
            expected = function(np.ascontiguousarray(x.T)).tobytes()
            assert as_rows(op, function(x, 0), 0).tobytes() == expected, (n, columns)
        middle = uneven((2, 7, columns), dtype, seed=columns)
        expected = function(rows_of(middle, 1)[0]).tobytes()
        assert as_rows(op, function(middle, 1), 1).tobytes() == expected, columns


@pytest.mark.parametrize("op", ulp.OPS)
def test_maxima_at_the_direct_limit(isa: str, dtype: np.dtype[Any], op: str) -> None:
    """Above 1,024 (2^19 in float64) the kernels switch to x - max, for rows and columns."""
    limit = 2.0**19 if dtype == np.float64 else 1024.0
    below = float(np.nextafter(dtype.type(limit), dtype.type(0)))
    for top in (limit, -limit, below, -below):
        for first in (top, top - 8, -np.inf):
            x = np.full((40, 18), top - 16, dtype)
            x[0], x[-1] = first, top
            check(op, x, 0)
            check(op, x, 1)
        y = getattr(boltzmax, op)(np.full((3, 20), top, dtype), 0)
        exact = {"softmax": 1 / 3, "log_softmax": -np.log(3), "logsumexp": top + np.log(3)}
        rtol = {2: 1e-2, 4: 1e-6, 8: 1e-9}[dtype.itemsize]
        np.testing.assert_allclose(y.astype(float), exact[op], rtol=rtol)


@pytest.mark.parametrize("op", ulp.OPS)
@pytest.mark.parametrize("columns", [1, 15, 64, 200])
def test_columns_a_power_of_two_apart(
    isa: str, dtype: np.dtype[Any], op: str, columns: int
) -> None:
    """Lines in the same cache set are packed first; in place and with temperatures, too."""
    temperature = np.linspace(0.5, 3, columns)
    for n in (17, 40, 700):
        for distance in (1024, 2048, 4096):
            if columns * dtype.itemsize > distance:
                continue
            wide = np.zeros((n, distance // dtype.itemsize), dtype)
            x = wide[:, :columns]
            x[...] = uneven((n, columns), dtype)
            check(op, x, 0)
            check(op, x[::-1], 0)
            call = getattr(boltzmax, op)
            hot = call(np.ascontiguousarray(x.T), -1, temperature=temperature)
            assert call(x, 0, temperature=temperature).T.tobytes() == hot.tobytes()
            if op != "logsumexp":
                expected = call(x, 0)
                assert call(x, 0, out=x).tobytes() == expected.tobytes()
                assert not wide[:, columns:].any()


@pytest.mark.parametrize("op", ulp.OPS)
@pytest.mark.parametrize(
    "shape", [(4097, 17), (100_000, 3), (20_000, 1), (300, 1001), (3, 5000, 7)], ids=str
)
def test_long_columns(isa: str, op: str, shape: tuple[int, ...]) -> None:
    """Columns of several blocks."""
    axis = len(shape) - 2
    for name in ("float32", "float64", "float16"):
        x = uneven(shape, np.dtype(name))
        expected = getattr(boltzmax, op)(rows_of(x, axis)[0]).tobytes()
        assert as_rows(op, getattr(boltzmax, op)(x, axis), axis).tobytes() == expected


@pytest.mark.parametrize("op", ulp.OPS)
def test_columns_without_elements(isa: str, dtype: np.dtype[Any], op: str) -> None:
    """A part of a larger array, so that the strides are not those of an empty array."""
    for x in (np.zeros((5, 8), dtype)[2:2, 2:5], np.zeros((2, 5, 8), dtype)[:, 2:2, 2:5]):
        got = getattr(boltzmax, op)(x, -2)
        if op == "logsumexp":
            assert got.shape == (*x.shape[:-2], 3)
            assert (got == -np.inf).all()
        else:
            assert got.shape == x.shape


@pytest.mark.parametrize("op", ulp.OPS)
def test_masks_and_temperatures_of_any_layout(isa: str, dtype: np.dtype[Any], op: str) -> None:
    function = getattr(boltzmax, op)
    x = uneven((6, 5, 36), dtype)
    where = np.random.default_rng(1).random(x.shape) < 0.6
    for axis, temperature in (
        (0, uneven((5, 36), np.dtype(float))),
        (1, uneven((6, 36), np.dtype(float))),
        (2, uneven((6, 5), np.dtype(float))),
    ):
        t = np.exp(temperature / 10)
        expected = np.asarray(function(x, axis, where=where, temperature=t)).tobytes()
        for name in ("Fortran", "all axes reversed", "every second", "axes rotated"):
            layout = LAYOUTS[name]
            mask = np.asfortranarray(where) if name != "every second" else as_every_second(where)
            got = function(layout(x), axis, where=mask, temperature=np.asfortranarray(t))
            assert np.ascontiguousarray(got).tobytes() == expected, (name, axis)


def as_every_second(where: Array) -> Array:
    large = np.ones([2 * n for n in where.shape], bool)
    view: Array = large[::2, ::2, ::2]
    view[...] = where
    return view


@pytest.mark.parametrize("op", GRADIENTS)
def test_backward(isa: str, dtype: np.dtype[Any], op: str) -> None:
    """The two inputs and the output, each with a different layout."""
    function = getattr(boltzmax, op)
    for shape in ((37,), (5, 19), (3, 4, 35)):
        dy = uneven(shape, dtype)
        y = getattr(boltzmax, op.removesuffix("_backward"))(uneven(shape, dtype, 1))
        for axis in (*range(len(shape)), None):
            a, b = rows_of(dy, axis)[0], rows_of(y, axis)[0]
            expected = np.array([function(u, v) for u, v in zip(a, b, strict=True)])
            for first, second in zip(LAYOUTS.values(), reversed(LAYOUTS.values()), strict=True):
                got = function(first(dy), second(y), axis)
                assert rows_of(got, axis)[0].tobytes() == expected.tobytes()
                out = first(np.zeros(shape, dtype))
                assert function(dy, y, axis, out=out) is out
                assert rows_of(out, axis)[0].tobytes() == expected.tobytes()


def test_huge_strides_and_many_dimensions(isa: str) -> None:
    x = uneven(10_000_000, np.dtype(np.float32))
    view = as_strided(x, (3, 70), (4_000_000, 400_000), writeable=False)
    check("softmax", view, 0)
    check("softmax", view, 1)
    deep = uneven((2,) * 16, np.dtype(np.float64))
    check("logsumexp", deep[::-1], (0, 3, 15))
    deepest = uneven((1,) * 60 + (3, 1, 2, 1), np.dtype(np.float64))
    check("softmax", deepest, (60, 62))


@pytest.mark.skipif(sys.platform == "win32", reason="guard pages need mmap and mprotect")
def test_nothing_outside_of_the_arrays_is_touched(isa: str, run_python: RunPython) -> None:
    """Every array directly before and directly after an inaccessible page: guard_pages.py."""
    done = run_python(Path(__file__).parent / "guard_pages.py", isa, timeout=300)
    assert done.returncode == 0, (
        f"died with {done.returncode} after: {done.stdout[-300:]}\n{done.stderr[-2000:]}"
    )
    assert "all within bounds" in done.stdout
