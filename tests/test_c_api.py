"""The C interface: the same bits as in Python, status codes, and state shared with Python."""

from __future__ import annotations

import concurrent.futures
import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import boltzmax
import c_table
from c_table import SUFFIX, same
from conftest import RunPython
from operations import GRADIENTS, OPERATIONS, REDUCTIONS

Array = npt.NDArray[Any]

API = c_table.table()
STATUS = {name.removeprefix("BOLTZMAX_"): value for name, value in c_table.constants().items()}
SHAPES = [(0, 5), (3, 0), (1, 1), (5, 1), (3, 10), (40, 129), (2, 70_000), (700, 300)]


def rows(shape: tuple[int, ...], dtype: Any) -> Array:
    """Scores, with special values in some rows."""
    x = np.random.default_rng(sum(shape)).normal(scale=4, size=shape).astype(np.float32)
    for r, value in enumerate((np.nan, np.inf, -np.inf)):
        if len(x) > 2 and x.shape[1] > 2:
            x[r, r] = value
    return np.ascontiguousarray(x.astype(dtype))


def entry(name: str, dtype: Any) -> Callable[..., int]:
    found: Callable[..., int] = getattr(API, f"{name}_{SUFFIX[np.dtype(dtype).name]}")
    return found


def test_table_describes_itself() -> None:
    assert API.abi_version == 1
    assert API.size == ctypes.sizeof(c_table.Api)
    assert API.version.decode() == boltzmax.__version__
    functions = [name for name, kind in c_table.Api._fields_ if hasattr(kind, "_restype_")]
    assert len(functions) == 44
    assert all(bool(getattr(API, name)) for name in functions)


def test_every_status_has_a_text() -> None:
    codes = [STATUS[name] for name in list(STATUS)[:10]]
    assert codes == list(range(10))
    words = {API.status_text(code) for code in codes}
    assert len(words) == 10
    assert API.status_text(99) == API.status_text(-1) == b"this is not a status"


# ---- contiguous rows


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("op", OPERATIONS)
def test_same_bits_as_python(op: str, shape: tuple[int, int], dtype: Any, isa: str) -> None:
    x = rows(shape, dtype)
    before = x.copy()
    y = np.empty(shape[:1] if op in REDUCTIONS else shape, dtype)
    assert entry(op, dtype)(x.ctypes.data, *shape, y.ctypes.data) == 0
    assert same(y, getattr(boltzmax, op)(x))
    assert entry(f"{op}_at", dtype)(x.ctypes.data, *shape, 0.7, y.ctypes.data) == 0
    assert same(y, getattr(boltzmax, op)(x, temperature=0.7))
    assert same(x, before)
    if op not in REDUCTIONS:
        assert entry(op, dtype)(x.ctypes.data, *shape, x.ctypes.data) == 0
        assert same(x, getattr(boltzmax, op)(before))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("op", OPERATIONS)
def test_nothing_outside_the_results_is_written(
    op: str, shape: tuple[int, int], dtype: Any, isa: str
) -> None:
    """A compiler may widen the store of a single 16-bit number, as Clang 22 did."""
    x = rows(shape, dtype)
    size = shape[0] if op in REDUCTIONS else x.size
    memory = np.full(size * x.itemsize + 128, 0xAB, np.uint8)
    y = memory[64:-64].view(dtype)
    for name, options in ((op, ()), (f"{op}_at", (0.7,))):
        assert entry(name, dtype)(x.ctypes.data, *shape, *options, y.ctypes.data) == 0
        assert (memory[:64] == 0xAB).all()
        assert (memory[-64:] == 0xAB).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("op", GRADIENTS)
def test_gradients(op: str, shape: tuple[int, int], dtype: Any, isa: str) -> None:
    dy, x = rows(shape, dtype), rows(shape, dtype)[::-1].copy()
    y = getattr(boltzmax, op.removesuffix("_backward"))(x)
    expected = getattr(boltzmax, op)(dy, y)
    dx = np.empty_like(dy)
    call = entry(op, dtype)
    assert call(dy.ctypes.data, y.ctypes.data, *shape, dx.ctypes.data) == 0
    assert same(dx, expected)
    for place in (dy.copy(), y.copy()):
        a, b = (place, y) if same(place, dy) else (dy, place)
        assert call(a.ctypes.data, b.ctypes.data, *shape, place.ctypes.data) == 0
        assert same(place, expected)


@pytest.mark.parametrize("shape", [(1, 1), (5, 10), (3, 70_000), (200, 300)], ids=str)
def test_cross_entropy(shape: tuple[int, int], dtype: Any, isa: str) -> None:
    x = rows(shape, dtype)
    target = np.random.default_rng(1).integers(0, shape[1], shape[0])
    target[-1] = -1
    loss, gradient = np.empty(shape[0]), np.empty_like(x)
    python = {"ignore_index": -1, "reduction": "none"}
    expected = np.asarray(boltzmax.cross_entropy(x, target, **python))
    _, d_logits = boltzmax.cross_entropy_with_grad(x, target, ignore_index=-1, reduction="sum")
    call = entry("cross_entropy", dtype)
    at = x.ctypes.data, target.ctypes.data, *shape
    assert call(*at, 1.0, loss.ctypes.data, None) == 0
    assert np.array_equal(loss.astype(expected.dtype), expected, equal_nan=True)
    assert call(*at, 1.0, loss.ctypes.data, gradient.ctypes.data) == 0
    assert same(gradient, d_logits)
    assert call(*at, 0.5, loss.ctypes.data, x.ctypes.data) == 0
    wanted = 0.5 * d_logits.astype(np.float64)
    finite = np.isfinite(wanted)
    assert np.allclose(x.astype(np.float64)[finite], wanted[finite], rtol=1e-2, atol=1e-7)


# ---- errors


@pytest.mark.parametrize("op", OPERATIONS)
def test_invalid_rows(op: str) -> None:
    x, y = np.arange(12.0), np.full(12, 7.0)
    at, to = x.ctypes.data, y.ctypes.data
    call, call_at = entry(op, np.float64), entry(f"{op}_at", np.float64)
    assert call(None, 3, 4, to) == call(at, 3, 4, None) == STATUS["NULL_POINTER"]
    assert call(at, -1, 4, to) == call(at, 3, -4, to) == STATUS["BAD_SIZE"]
    assert call(at, 2**62, 4, to) == call(at, 2**40, 2**40, to) == STATUS["BAD_SIZE"]
    assert call(at, 2**62, 0, to) == STATUS["BAD_SIZE"]
    assert call(at + 1, 2, 4, to) == call(at, 2, 4, to + 4) == STATUS["MISALIGNED"]
    assert call(at, 2, 4, at + 8) == call(at + 8, 2, 4, at) == STATUS["OVERLAP"]
    for temperature in (0.0, -1.0, 1e-31, 1e31, np.nan, np.inf):
        assert call_at(at, 3, 4, temperature, to) == STATUS["BAD_TEMPERATURE"]
    assert (y == 7.0).all(), "nothing was written"
    assert (x == np.arange(12.0)).all()
    # Pointers to no elements may be NULL.
    assert call(None, 0, 4, None) == 0
    assert call(None, 3, 0, to) == 0


def test_reduction_into_its_input_is_refused() -> None:
    x = np.arange(12.0)
    assert API.logsumexp_f64(x.ctypes.data, 3, 4, x.ctypes.data) == STATUS["OVERLAP"]


def test_invalid_gradients() -> None:
    a, b, c = np.ones(12), np.ones(12), np.full(12, 7.0)
    at = [v.ctypes.data for v in (a, b, c)]
    call = API.softmax_backward_f64
    for i in range(3):
        pointers: list[int | None] = list(at)
        pointers[i] = None
        assert call(pointers[0], pointers[1], 3, 4, pointers[2]) == STATUS["NULL_POINTER"]
    assert call(at[0], at[1], -3, 4, at[2]) == STATUS["BAD_SIZE"]
    assert call(at[0], at[1] + 2, 2, 4, at[2]) == STATUS["MISALIGNED"]
    assert call(at[0], at[1], 2, 4, at[1] + 8) == STATUS["OVERLAP"]
    assert (c == 7.0).all()


def test_invalid_cross_entropy() -> None:
    x, loss, d = np.ones((3, 4)), np.full(3, 7.0), np.full((3, 4), 7.0)
    target = np.array([0, 3, 4])
    call = API.cross_entropy_f64
    at, to = (x.ctypes.data, target.ctypes.data, 3, 4, 1.0), (loss.ctypes.data, d.ctypes.data)
    assert call(*at, *to) == STATUS["BAD_TARGET"]
    assert (loss == 7.0).all()
    assert (d == 7.0).all()
    target[2] = -5
    assert call(*at[:3], -4, 1.0, *to) == STATUS["BAD_SIZE"]
    assert call(*at, None, to[1]) == call(at[0], None, *at[2:], *to) == STATUS["NULL_POINTER"]
    assert call(*at, d.ctypes.data, to[1]) == STATUS["OVERLAP"]
    assert call(*at, to[0], x.ctypes.data + 8) == STATUS["OVERLAP"]
    assert call(*at, *to) == 0
    assert loss[2] == 0
    assert (d[2] == 0).all()
    target[:] = -1
    assert call(None, target.ctypes.data, 3, 0, 1.0, *to) == 0
    assert (loss == 0).all()


# ---- shared state


def test_threads_are_shared(threads: Callable[[int], None]) -> None:
    threads(3)
    assert API.get_num_threads() == 3
    assert API.set_num_threads(2) == 0
    assert boltzmax.get_num_threads() == 2
    for n in (0, -1, 65537):
        assert API.set_num_threads(n) == STATUS["BAD_OPTION"]
    assert boltzmax.get_num_threads() == 2


def test_the_instruction_set_is_shared(isa: str) -> None:
    assert API.isa().decode() == isa
    for name in boltzmax.available_isas():
        assert API.select_isa(name.encode()) == 0
        assert boltzmax.isa() == name
    assert API.select_isa(b"abacus") == STATUS["BAD_OPTION"]
    assert API.select_isa(None) == STATUS["NULL_POINTER"]
    assert boltzmax.isa() == boltzmax.available_isas()[-1]
    count = len(boltzmax.available_isas())
    assert [API.available_isa(i).decode() for i in range(count)] == boltzmax.available_isas()
    assert API.available_isa(count) is API.available_isa(-1) is None


def test_many_callers_without_the_gil(threads: Callable[[int], None]) -> None:
    """ctypes releases the GIL."""
    threads(2)
    x = rows((64, 5000), np.float32)
    expected = boltzmax.softmax(x)

    def call(_: int) -> bool:
        y = np.empty_like(x)
        return API.softmax_f32(x.ctypes.data, *x.shape, y.ctypes.data) == 0 and same(y, expected)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(call, range(40)))


FORK = """
import faulthandler, os
import numpy as np, c_table
faulthandler.dump_traceback_later(40, exit=True)
api = c_table.table()
x = np.random.default_rng(0).standard_normal((64, 20_000), np.float32)
def result():
    y = np.empty_like(x)
    assert api.softmax_f32(x.ctypes.data, *x.shape, y.ctypes.data) == 0
    return y.tobytes()
api.set_num_threads(3)
expected = result()
child = os.fork()
if child == 0:
    os._exit(0 if result() == expected and api.get_num_threads() == 3 else 5)
assert result() == expected
assert os.waitpid(child, 0)[1] == 0
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_fork(run_python: RunPython) -> None:
    done = run_python(FORK, env={"PYTHONPATH": str(Path(__file__).parent)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["done"]
