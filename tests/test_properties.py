"""Properties that hold for every input; hypothesis searches for counterexamples."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import boltzmax
import oracle
import ulp

Array = npt.NDArray[Any]

relaxed = settings(
    deadline=None,
    max_examples=100,
    # The fixtures apply to all examples.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SHAPES = hnp.array_shapes(max_dims=3, max_side=40)
NAMES = st.sampled_from(["float32", "float64", "float16"])


def values(name: str, limit: float = 1e4) -> st.SearchStrategy[float]:
    width: Any = int(name.removeprefix("float"))
    return st.floats(-limit, limit, width=width)


@st.composite
def arrays(draw: st.DrawFn, limit: float = 1e4, shape: Any = SHAPES) -> Array:
    """An array of any native dtype and shape, with steps, reversed axes and transposition."""
    name = draw(NAMES)
    x = draw(hnp.arrays(name, shape, elements=values(name, limit)))
    x = x[tuple(slice(None, None, draw(st.sampled_from([1, 1, 2, -1, -3]))) for _ in x.shape)]
    if draw(st.booleans()):
        x = x.transpose(draw(st.permutations(range(x.ndim))))
    result: Array = x
    return result


@st.composite
def arrays_and_axes(draw: st.DrawFn, limit: float = 1e4) -> tuple[Array, Any]:
    x = draw(arrays(limit))
    axis = draw(
        st.one_of(
            st.none(),
            st.integers(-x.ndim, x.ndim - 1),
            st.lists(st.sampled_from(range(x.ndim)), unique=True, min_size=1).map(tuple),
        )
    )
    return x, axis


def rows_of(x: Array, axis: Any) -> Array:
    """The elements reduced together, as rows of a contiguous matrix."""
    axes = tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else axis
    axes = tuple(sorted(a % x.ndim for a in axes))
    moved = np.moveaxis(x, axes, range(x.ndim - len(axes), x.ndim))
    length = int(np.prod([x.shape[a] for a in axes]))
    return np.ascontiguousarray(moved).reshape(-1, length)


@relaxed
@given(arrays_and_axes())
@example((np.array([0.0, 40.0], np.float32), -1))
@example((np.array([-10000.0, 0.0, -0.0]), 0))
@example((np.array([8707.0] + 16 * [7982.46875]), 0))  # a subnormal logarithm
def test_agrees_with_the_oracle(isa: str, case: tuple[Array, Any]) -> None:
    """Within the budget, for any dtype, shape, axes and strides."""
    x, axis = case
    exact = oracle.exact(rows_of(x, axis))
    for op in ulp.OPS:
        got = getattr(boltzmax, op)(x, axis)
        lines = np.asarray(got).reshape(-1) if op == "logsumexp" else rows_of(got, axis)
        assert ulp.of_budget(op, lines, exact, x.dtype).max() <= 1, op


@relaxed
@given(arrays_and_axes())
def test_softmax_is_a_distribution(isa: str, case: tuple[Array, Any]) -> None:
    """Never negative, never more than 1 (beyond the rounding of a quotient), and sums to 1."""
    x, axis = case
    y = rows_of(boltzmax.softmax(x, axis), axis).astype(np.float64)
    f = ulp.format_of(x.dtype)
    assert (y >= 0).all()
    assert (y <= 1 + f.eps).all()
    # Every element may be off by its budget; half types by half an ULP more for rounding.
    rows = rows_of(x, axis).astype(np.float64)
    distance = rows.max(axis=-1, keepdims=True) - rows
    slack = ((3 + distance / 2) * f.eps * y + f.smallest).sum(axis=-1)
    total = np.array([math.fsum(row) for row in y])  # exact; NumPy's sum rounds
    assert (np.abs(total - 1) <= slack).all()


@relaxed
@given(arrays_and_axes())
def test_log_softmax_is_not_positive_and_exponentiates_to_softmax(
    isa: str, case: tuple[Array, Any]
) -> None:
    x, axis = case
    log_p, p = (
        getattr(boltzmax, op)(x, axis).astype(np.float64) for op in ("log_softmax", "softmax")
    )
    assert (log_p <= 0).all()
    f = ulp.format_of(x.dtype)
    np.testing.assert_allclose(
        np.exp(log_p), p, rtol=4 * f.eps * (1 + np.abs(log_p).max()), atol=2 * f.smallest
    )


@relaxed
@given(arrays_and_axes())
def test_logsumexp_bounds(isa: str, case: tuple[Array, Any]) -> None:
    """``max <= logsumexp <= max + log(n)``, up to rounding."""
    x, axis = case
    rows = rows_of(x, axis).astype(np.float64)
    s = np.asarray(boltzmax.logsumexp(x, axis)).reshape(-1).astype(np.float64)
    top, n = rows.max(axis=-1), rows.shape[-1]
    slack = (
        2 * ulp.format_of(x.dtype).eps * (np.abs(top) + np.log(n) + ulp.format_of(x.dtype).smallest)
    )
    assert (s >= top - slack).all()
    assert (s <= top + np.log(n) + slack).all()


@relaxed
@given(
    st.integers(1, 300),
    st.integers(-(2**12), 2**12),
    NAMES.filter(lambda n: n != "float16"),
    st.randoms(),
)
def test_shift_invariance(isa: str, n: int, shift: int, name: str, random: Any) -> None:
    """Where ``x + c`` is exact, a shift changes no exact result, and ours stay in the budget."""
    x = np.array([random.randint(-(2**10), 2**10) for _ in range(n)], name) / 64
    shifted = x + x.dtype.type(shift)
    assert np.array_equal(shifted - x.dtype.type(shift), x)
    exact = oracle.exact(x)
    for op in ("softmax", "log_softmax"):
        got = getattr(boltzmax, op)(shifted)
        assert ulp.of_budget(op, got, exact, x.dtype).max() <= 1, op
    tolerance = float(2 * np.finfo(name).eps * (abs(shift) + 32))
    lifted = float(boltzmax.logsumexp(shifted)) - shift
    assert lifted == pytest.approx(float(exact.logsumexp), abs=tolerance)


@relaxed
@given(arrays(shape=hnp.array_shapes(max_dims=1, max_side=300)), st.randoms())
def test_permuting_the_input_permutes_the_result(isa: str, x: Array, random: Any) -> None:
    """Up to the order of summation, which is all that a permutation changes."""
    order = list(range(len(x)))
    random.shuffle(order)
    exact = oracle.exact(x)
    back = np.argsort(order)
    for op in ulp.OPS:
        got = np.asarray(getattr(boltzmax, op)(np.ascontiguousarray(x[order])))
        got = got if op == "logsumexp" else got[back]
        assert ulp.of_budget(op, got, exact, x.dtype).max() <= 1


@relaxed
@given(arrays(shape=hnp.array_shapes(max_dims=1, max_side=300)))
def test_order_is_kept(isa: str, x: Array) -> None:
    """A larger input never has a smaller result; equal inputs have equal results."""
    order = np.argsort(x, kind="stable")
    equal = np.diff(x[order].astype(np.float64)) == 0
    for op in ("softmax", "log_softmax"):
        steps = np.diff(getattr(boltzmax, op)(x)[order].astype(np.float64))
        unit = (
            2 * ulp.format_of(x.dtype).eps * getattr(boltzmax, op)(x)[order][1:].astype(np.float64)
        )
        assert (steps >= -np.abs(unit)).all()
        assert (steps[equal] == 0).all()


@relaxed
@given(arrays_and_axes(limit=50), st.floats(0.05, 20), st.data())
def test_masks_and_temperatures(
    isa: str, case: tuple[Array, Any], temperature: float, data: st.DataObject
) -> None:
    x, axis = case
    where = data.draw(hnp.arrays(bool, x.shape))
    mask = rows_of(where, axis)
    exact = oracle.exact(rows_of(x, axis), temperature=temperature, where=mask)
    f = ulp.format_of(x.dtype)
    for op in ulp.OPS:
        got = getattr(boltzmax, op)(x, axis, where=where, temperature=temperature)
        lines = np.asarray(got).reshape(-1) if op == "logsumexp" else rows_of(got, axis)
        # x / T is rounded first: an error of eps of its size, twice.
        size = 2 * f.eps * np.abs(rows_of(x, axis).astype(np.float64)).max(axis=-1) / temperature
        extra = (
            size if op == "logsumexp" else size[:, None] * (exact.softmax if op == "softmax" else 1)
        )
        error, budget = ulp.error(op, lines, exact, x.dtype), ulp.budget(op, lines, exact, x.dtype)
        assert (error <= budget + extra).all(), op


@relaxed
@given(arrays_and_axes(), st.data())
def test_gradients_through_softmax_sum_to_zero(
    isa: str, case: tuple[Array, Any], data: st.DataObject
) -> None:
    """Adding a constant to a row changes nothing, so the gradient has no component along it."""
    x, axis = case
    dy = data.draw(hnp.arrays(x.dtype, x.shape, elements=values(x.dtype.name, 10)))
    f = ulp.format_of(x.dtype)
    for op in ("softmax", "log_softmax"):
        y = getattr(boltzmax, op)(x, axis)
        dx = getattr(boltzmax, f"{op}_backward")(dy, y, axis)
        total = rows_of(dx, axis).astype(np.float64).sum(axis=-1)
        size = np.abs(rows_of(dy, axis).astype(np.float64)).sum(axis=-1) + f.smallest
        distance = np.abs(rows_of(x, axis).astype(np.float64)).max(axis=-1)
        n = rows_of(x, axis).shape[-1]
        fits = size < f.largest / 2  # otherwise float16 gradients may be infinite
        allowed = 8 * f.eps * size * (1 + distance) + n * f.smallest
        assert (np.abs(total) <= allowed)[fits].all()
