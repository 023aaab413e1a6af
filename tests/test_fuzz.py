"""The functions on inputs of every kind, on all instruction sets, against the oracle.

For longer runs: ``python -m pytest tests/test_fuzz*.py --hypothesis-profile=long``, or
``.ci/fuzz --minutes N``.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, event, given, note
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import boltzmax
import boltzmax.testing
import fuzzing
import oracle
import ulp
from layouts import Axis, as_rows, rows_of
from operations import GRADIENTS

Array = npt.NDArray[Any]

FLOATS = ("float32", "float64", "float16", "bfloat16")
INPUTS = (*FLOATS, *FLOATS, *fuzzing.INTEGERS)
RESULTS = (None, None, *FLOATS)

pytest.importorskip("ml_dtypes")


def working(x: Array, dtype: str | None) -> np.dtype[Any]:
    """The dtype of the computation; integers become float64."""
    if dtype is not None:
        return ulp.dtype_of(dtype)
    native = x.dtype.newbyteorder("=") if x.dtype.kind in "iuf" else x.dtype
    return np.dtype(np.float64) if native.kind in "biu" else native


def results_of(data: st.DataObject, op: str, x: Array, axis: Axis, dtype: Any) -> dict[str, Any]:
    """out=: none, of any layout, x itself, or overlapping x."""
    others = rows_of(x, axis)[1]
    shape = others if op == "logsumexp" else x.shape
    place = data.draw(st.sampled_from(["none", "none", "fresh", "itself", "overlap"]), label="out")
    if place == "fresh":
        return {"out": data.draw(fuzzing.laid_out(np.zeros(shape, dtype), as_out=True))}
    if place == "itself" and op != "logsumexp" and x.dtype == dtype and x.flags.writeable:
        return {"out": x}
    if place == "overlap" and x.flags.c_contiguous and x.flags.writeable and x.ndim:
        # The memory of x from some byte on, and some bytes beyond it.
        start = data.draw(st.integers(0, x.nbytes), label="start")
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = np.zeros(x.nbytes + size, np.uint8)
        inside = memory[: x.nbytes].view(x.dtype).reshape(x.shape)
        inside[...] = x
        return {"x": inside, "out": memory[start : start + size].view(dtype).reshape(shape)}
    return {}


@given(fuzzing.arrays(INPUTS), st.data())
def test_forward(x: Array, data: st.DataObject) -> None:
    """softmax, log_softmax and logsumexp with all their arguments, within their budgets."""
    op = data.draw(st.sampled_from(ulp.OPS), label="op")
    axis = data.draw(fuzzing.axes_of(x.ndim), label="axis")
    where = data.draw(fuzzing.masks_of(x.shape), label="where")
    temperature = data.draw(fuzzing.temperatures_of(x, axis), label="temperature")
    name = data.draw(st.sampled_from(RESULTS), label="dtype")
    dtype = working(x, name)
    with np.errstate(all="ignore"):
        lines = rows_of(x, axis)[0].astype(dtype)
    mask = rows_of(np.broadcast_to(True if where is None else where, x.shape), axis)[0]
    others = rows_of(x, axis)[1]
    column = column_of(temperature, axis, x, others)
    # 1/T is rounded before it multiplies the score; out of range there is no bound.
    with np.errstate(all="ignore"):
        largest = np.abs(np.where(np.isfinite(lines.astype(float)), lines.astype(float), 0))
        assume((largest.max(-1, initial=0) / column[:, 0] < ulp.format_of(dtype).largest / 8).all())
    call = {"where": where, "temperature": temperature, "dtype": name and dtype}
    note(f"{x.dtype}{x.shape} strides {x.strides}")
    for isa in boltzmax.available_isas():
        fuzzing.seen["forward"] += 1
        given_x = x.copy("K") if x.flags.writeable else x
        more = results_of(data, op, given_x, axis, dtype)
        first = more.pop("x", given_x)
        event(f"{op} {dtype} out={'out' in more}")
        with boltzmax.testing.use_isa(isa):
            got = getattr(boltzmax, op)(first, axis, **call, **more)
        if "out" in more:
            assert got is more["out"]
        assert np.shape(got) == (others if op == "logsumexp" else x.shape)
        assert np.asarray(got).dtype.newbyteorder("=") == dtype
        assert np.result_type(got) == dtype
        excess = fuzzing.excess(op, as_rows(op, got, axis), lines, mask, column)
        assert not excess.any(), (isa, op, np.argwhere(excess)[:3], excess.max())


def column_of(temperature: Any, axis: Axis, x: Array, others: tuple[int, ...]) -> Array:
    """A column with one temperature per row of the matrix."""
    t = np.asarray(temperature, np.float64)
    if t.ndim == x.ndim and t.ndim > len(others):
        t = t.reshape(others)
    return np.broadcast_to(t, others).reshape(-1, 1)


@given(fuzzing.arrays(FLOATS, special=False), st.data())
def test_backward(x: Array, data: st.DataObject) -> None:
    """The gradients for any layout, axes and output."""
    op = data.draw(st.sampled_from(GRADIENTS), label="op").removesuffix("_backward")
    axis = data.draw(fuzzing.axes_of(x.ndim), label="axis")
    dtype = working(x, None)
    with np.errstate(all="ignore"):
        y = data.draw(fuzzing.laid_out(np.asarray(getattr(boltzmax, op)(x, axis))))
        dy = np.random.default_rng(data.draw(fuzzing.SEEDS)).normal(size=y.shape).astype(dtype)
    dy = data.draw(fuzzing.laid_out(dy))
    assume(dy.shape == y.shape)
    a, b = rows_of(dy, axis)[0].astype(dtype), rows_of(y, axis)[0].astype(dtype)
    assume(np.isfinite(b.astype(float)).all() or op == "log_softmax")
    exact, size = getattr(oracle, f"{op}_backward")(a, b)
    form = ulp.format_of(dtype)
    for isa in boltzmax.available_isas():
        fuzzing.seen["backward"] += 1
        more = {}
        if data.draw(st.booleans(), label="out"):
            more["out"] = data.draw(fuzzing.laid_out(np.zeros(y.shape, dtype), as_out=True))
            assume(more["out"].shape == y.shape)
            assume(more["out"].dtype == dtype)
        with boltzmax.testing.use_isa(isa):
            got = getattr(boltzmax, f"{op}_backward")(dy, y, axis, **more)
        assert np.shape(got) == y.shape
        assert np.result_type(got) == dtype
        error = np.abs(rows_of(np.asarray(got), axis)[0].astype(exact.dtype) - exact)
        finite = np.isfinite(exact.astype(float)) & np.isfinite(size.astype(float))
        assert (error <= 2 * (form.eps * size + form.smallest))[finite].all(), isa


# ---- invalid arguments


JUNK: list[Any] = [
    None, True, -1, 0, 1, 7, 2**70, -0.0, 1e-300, float("nan"), float("inf"), "x", b"x", (), [], {},
    (0, 0), (0, 1, 2, 3, 4), 1j, object(), np.float32(2), [[1.0], [2.0, 3.0]], ["a", "b"],
    np.zeros(3), np.zeros((3, 4)), np.zeros((0, 3)), np.zeros((2, 0)), np.array("text"),
    np.array([1 + 2j]), np.zeros(3, object), np.zeros(2, "M8[s]"), np.zeros(2, "i4,f8"),
    np.zeros((3, 4), bool), np.zeros(4, np.longdouble), np.ma.masked_array([1.0, 2.0], [1, 0]),
    np.broadcast_to(1.0, (3, 4)), np.ones((3, 4), np.float32)[:, ::-1], np.dtype("f4"), "f2", "i4",
    np.zeros((1,) * 40), range(4), np.zeros(2)[:0], np.array(1.0), memoryview(b"abcd"), slice(3),
]  # fmt: skip
# The only errors that an invalid argument may raise; each names the problem.
NAMED = (TypeError, ValueError, IndexError, OverflowError)
QUIET = {"set_num_threads", "get_num_threads", "show_config"}
BUILDERS = ("from_parents", "huffman", "balanced", "two_level", "from_clusters", "from_paths")
FUNCTIONS = {
    name: getattr(boltzmax, name)
    for name in boltzmax.__all__
    if inspect.isroutine(getattr(boltzmax, name)) and name not in QUIET
} | {f"Tree.{name}": getattr(boltzmax.Tree, name) for name in BUILDERS}


@pytest.mark.filterwarnings("ignore")
@given(st.sampled_from(sorted(FUNCTIONS)), st.data())
def test_junk(name: str, data: st.DataObject) -> None:
    """Any value for any argument gives a result, or an error that names the problem."""
    fuzzing.seen["junk"] += 1
    junk = st.sampled_from(range(len(JUNK))).map(JUNK.__getitem__)
    shapes = st.sampled_from([(3, 4), (4,), (3,)])
    sound = hnp.arrays(np.float32, shapes, elements=st.floats(-9, 9, width=32))
    parameters = inspect.signature(FUNCTIONS[name]).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty]
    others = [p.name for p in parameters if p.default is not p.empty]
    chosen = data.draw(st.lists(st.sampled_from(others), unique=True, max_size=3)) if others else []
    arguments = [data.draw(st.one_of(junk, sound), label=word) for word in needed]
    options = {word: data.draw(junk, label=word) for word in chosen}
    fuzzing.attempt(lambda: FUNCTIONS[name](*arguments, **options), *NAMED)
