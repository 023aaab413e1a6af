"""Every argument: accepted values, effects and error messages."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import boltzmax
import oracle
import ulp
from operations import GRADIENTS, MAPS
from rows import normal

Array = npt.NDArray[Any]
pytestmark = pytest.mark.usefixtures("strict")


def call(op: str, x: Array, **kwargs: Any) -> Any:
    """Call any of the five functions; the two with two arguments get x for both."""
    function = getattr(boltzmax, op)
    return function(x, x, **kwargs) if op in GRADIENTS else function(x, **kwargs)


# ---- axis


@pytest.mark.parametrize("op", [*ulp.OPS, *GRADIENTS])
def test_axis_errors(op: str) -> None:
    x = normal(3, 4)
    for axis in (2, -3, 1000, (0, 2)):
        with pytest.raises(np.exceptions.AxisError, match="out of bounds"):
            call(op, x, axis=axis)
    with pytest.raises(ValueError, match=r"duplicate|repeated"):
        call(op, x, axis=(0, -2))
    for axis in (10**10, -(10**30), (0, 2**63)):  # too large for a C int
        with pytest.raises(np.exceptions.AxisError, match="out of bounds for array of dimension 2"):
            call(op, x, axis=axis)
    for bad in (1.0, "0", [0.5], (0, None), np.array([0.0])):
        with pytest.raises(TypeError) as error:
            call(op, x, axis=bad)
        assert str(error.value) == f"axis must be an int, a tuple of ints or None, got {bad!r}"


@pytest.mark.parametrize("op", ulp.OPS)
def test_axis_kinds(isa: str, op: str) -> None:
    """None and tuples reduce axes together; NumPy integers and negative numbers are axes."""
    x = normal(3, 4, 5)
    function = getattr(boltzmax, op)
    assert np.array_equal(function(x, np.int64(-2)), function(x, axis=1))
    assert np.array_equal(function(x, (1,)), function(x, 1))
    flat = np.asarray(function(x.ravel()))
    assert np.array_equal(np.asarray(function(x, None)).ravel(), flat.ravel())
    assert np.array_equal(np.asarray(function(x, (2, 0, 1))).ravel(), flat.ravel())
    together = np.ascontiguousarray(x.transpose(1, 0, 2)).reshape(4, 15)
    expected = function(together)
    for axis in ((0, 2), (2, 0), (-1, 0)):
        got = function(x, axis)
        got = got if op == "logsumexp" else got.transpose(1, 0, 2).reshape(4, 15)
        assert np.array_equal(got, expected)


@pytest.mark.parametrize("op", ulp.OPS)
def test_empty_tuple_of_axes_reduces_nothing(op: str) -> None:
    """As in NumPy's reductions, every element is one row."""
    x = normal(2, 3)
    function = getattr(boltzmax, op)
    assert np.array_equal(function(x, axis=()), function(x[..., None]).reshape(x.shape))


def test_keepdims() -> None:
    x = normal(2, 3, 4)
    for axis in (0, 1, -1, (0, 2), None):
        plain = np.asarray(boltzmax.logsumexp(x, axis))
        kept = boltzmax.logsumexp(x, axis, keepdims=True)
        assert kept.shape == x.sum(axis, keepdims=True).shape
        assert np.array_equal(kept.ravel(), plain.ravel())


@pytest.mark.parametrize("b", [None, [[1.0, -2.0]], [[1.0, 2j]]], ids=str)
@pytest.mark.parametrize("kind", ["e", "f", "d", "g", "F", "D", "i"])
def test_sign(kind: str, b: Any) -> None:
    """The sign of the sum; it and the logarithm are scalars if all axes are reduced."""
    x = np.array([[0.5, -1.5], [1, 2]]).astype(kind)
    for axis in (None, (1, 0), -1):
        for keepdims in (False, True):
            log_abs, sign = boltzmax.logsumexp(x, axis, b=b, return_sign=True, keepdims=keepdims)
            assert isinstance(sign, np.generic) == (axis != -1 and not keepdims)
            assert isinstance(log_abs, np.generic) == isinstance(sign, np.generic)
            total = np.sum(np.exp(x) * (1 if b is None else np.array(b)), axis, keepdims=keepdims)
            tolerance = 4e-3 if kind == "e" else 1e-5
            np.testing.assert_allclose(sign * np.exp(log_abs), total, rtol=tolerance)


def test_sign_of_special_sums(isa: str, dtype: np.dtype[Any]) -> None:
    """0 for an empty sum, NaN for NaN; the logarithm is the same as without the sign."""
    rows = [[-np.inf] * 3, [-np.inf, 2, 1], [np.nan, 0, 1], [np.inf, 0, 1], [-90.0, -90, -99]]
    x = np.array(rows, dtype)
    for view in (x, np.asfortranarray(x)):
        log_sum, sign = boltzmax.logsumexp(view, return_sign=True)
        # Compare values: a NaN may have either sign.
        plain = boltzmax.logsumexp(x).astype(float)
        assert np.array_equal(log_sum.astype(float), plain, equal_nan=True)
        assert sign.dtype == log_sum.dtype == dtype
        assert np.array_equal(sign.astype(float), [0, 1, np.nan, 1, 1], equal_nan=True)
    out = np.zeros(10, dtype)[::2]
    assert boltzmax.logsumexp(x, return_sign=True, out=out)[0] is out
    assert np.array_equal(out.astype(float), plain, equal_nan=True)


@pytest.mark.parametrize("op", ulp.OPS)
def test_keywords_and_positions(op: str) -> None:
    x = normal(3, 4)
    function = getattr(boltzmax, op)
    assert np.array_equal(function(x=x, axis=0), function(x, 0))
    with pytest.raises(TypeError):
        function()
    with pytest.raises(TypeError):
        function(x, -1, None)
    with pytest.raises(TypeError, match="temprature"):
        function(x, temprature=2)
    with pytest.raises(TypeError):
        function(x, axis=-1, x=x)


# ---- dtype


@pytest.mark.parametrize("op", ulp.OPS)
@pytest.mark.parametrize("kind", ["?", "b", "B", "h", "H", "i", "I", "l", "L", "q", "Q"])
def test_integers_and_bools_become_float64(op: str, kind: str) -> None:
    x = np.array([[1, 0, 1, 1], [0, 0, 0, 1]], kind)
    got = getattr(boltzmax, op)(x)
    assert got.dtype == np.float64
    assert np.array_equal(got, getattr(boltzmax, op)(x.astype(np.float64)))


@pytest.mark.parametrize("op", ulp.OPS)
def test_dtype_computes_in_that_type(isa: str, dtype: np.dtype[Any], op: str) -> None:
    """``dtype=`` is equivalent to casting the input, without the copy."""
    function = getattr(boltzmax, op)
    for source in (np.float32, np.float64, np.float16, np.int32, np.bool_):
        x = (3 * normal(5, 40)).astype(source)
        got = function(x, dtype=dtype)
        assert got.dtype == dtype
        assert got.tobytes() == function(x.astype(dtype)).tobytes()
    x = 3 * normal(5, 40)
    out = np.empty_like(function(x, dtype=dtype))
    assert function(x, dtype=dtype, out=out) is out
    assert out.tobytes() == function(x.astype(dtype)).tobytes()


def test_dtype_rounds_once() -> None:
    """From float64 to float16 without an intermediate float32, which would become a tie."""
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float64)
    ties = (halves[:-1] + halves[1:]) / 2
    x = np.concatenate(
        [ties * (1 + 2.0**-40), ties, ties * (1 - 2.0**-40), [65519, 65520, 1e300, 1e-300]]
    )
    for each in (x, -x):
        with np.errstate(all="ignore"):
            expected = each.astype(np.float16)
        got = boltzmax.logsumexp(each, axis=(), dtype=np.float16)
        assert got.tobytes() == boltzmax.logsumexp(expected, axis=()).tobytes()


def test_dtype_spellings_and_errors() -> None:
    x = normal(5)
    for spelling in (np.float32, "float32", "f4", np.dtype("<f4"), np.dtype(">f4")):
        assert boltzmax.softmax(x, dtype=spelling).dtype == np.float32
    for bad in (np.int64, "U5", object, np.complex128, "datetime64[s]"):
        with pytest.raises(TypeError) as error:
            boltzmax.softmax(x, dtype=bad)
        assert_names(np.dtype(bad), error)


def assert_names(dtype: np.dtype[Any], error: pytest.ExceptionInfo[TypeError]) -> None:
    spellings = (
        dtype.name,
        str(dtype),
        dtype.str,
        repr(dtype),
        getattr(dtype.type, "__name__", ""),
    )
    assert any(s in str(error.value) for s in spellings), str(error.value)


UNSUPPORTED = [
    np.array([1, "a", None], object),
    np.array(["a", "b"]),
    np.array([b"a", b"b"]),
    np.array([(1, 2.0)], [("a", "i4"), ("b", "f4")]),
    np.array(["2024-01-01"], "datetime64[D]"),
    np.array([1, 2], "timedelta64[s]"),
]


@pytest.mark.parametrize("op", [*ulp.OPS, *GRADIENTS])
@pytest.mark.parametrize("x", UNSUPPORTED, ids=lambda x: x.dtype.kind)
def test_unsupported_dtypes_are_named(op: str, x: Array) -> None:
    with pytest.raises(TypeError) as error:
        call(op, x)
    assert_names(x.dtype, error)


@pytest.mark.parametrize("op", [*MAPS, *GRADIENTS])
def test_complex_is_for_logsumexp_only(op: str) -> None:
    with pytest.raises(TypeError, match="complex128"):
        call(op, np.array([1 + 2j, 3]))


# ---- temperature


@pytest.mark.parametrize("op", ulp.OPS)
@pytest.mark.parametrize(
    "bad", [-1.0, -1e-300, 1e-31, float("nan"), float("inf"), -float("inf"), [1, -2, 3], [0, -2, 3]]
)
def test_temperature_must_not_be_negative(op: str, bad: Any) -> None:
    said = r"temperature must be >= 0 \(0, or from 1e-30 to 1e\+30\), got "
    with pytest.raises(ValueError, match=said):
        getattr(boltzmax, op)(normal(3, 4), temperature=bad)


@pytest.mark.parametrize("op", ulp.OPS)
def test_temperature_errors(op: str) -> None:
    function = getattr(boltzmax, op)
    for bad in ("warm", None, 1j, [[1], [2, 3]], np.array([1, 2, 3], object)):
        with pytest.raises((TypeError, ValueError)):
            function(normal(3, 4), temperature=bad)
    # Neither the shape of the reduced result nor that with its axes kept; one per element is not
    # one per row.
    for shape in ((4,), (2,), (3, 4), (1, 4), (2, 3, 1)):
        with pytest.raises(ValueError, match="temperature"):
            function(normal(3, 4), temperature=np.ones(shape))


@pytest.mark.parametrize("op", ulp.OPS)
@pytest.mark.parametrize("temperature", [2.0, 0.25, 1 / 1024, 65536])
def test_powers_of_two(isa: str, dtype: np.dtype[Any], op: str, temperature: float) -> None:
    """Dividing by them is exact, so the result must be as accurate as that of ``x / T``."""
    x = normal(4, 67, dtype=dtype)
    function = getattr(boltzmax, op)
    with np.errstate(under="ignore"):
        scaled = (x.astype(np.float64) / temperature).astype(dtype)
    # (float16 is too narrow for x / 65536.)
    if np.array_equal(scaled.astype(np.float64) * temperature, x.astype(np.float64)):
        got = function(x, temperature=temperature)
        # x - max is rounded once here.
        assert ulp.of_budget(op, got, oracle.exact(scaled), dtype).max() <= 1.25
    else:
        assert (dtype.name, temperature) == ("float16", 65536)
    # The dtype of the temperature does not affect that of the result.
    for t in (
        np.float64(temperature),
        np.float32(temperature),
        np.array(temperature),
        np.array([temperature]),
    ):
        got = function(x, temperature=t)
        assert got.dtype == dtype
        assert got.tobytes() == function(x, temperature=temperature).tobytes()


@pytest.mark.parametrize("op", ulp.OPS)
def test_one_temperature_per_row(isa: str, dtype: np.dtype[Any], op: str) -> None:
    """Each row as if alone with its temperature, with or without the reduced axes in the shape."""
    x = normal(3, 4, 5, dtype=dtype)
    function = getattr(boltzmax, op)
    rng = np.random.default_rng(1)
    for axis, reduced, kept in (
        (2, (3, 4), (3, 4, 1)),
        (1, (3, 5), (3, 1, 5)),
        (0, (4, 5), (1, 4, 5)),
        ((0, 2), (4,), (1, 4, 1)),
    ):
        t = rng.uniform(0.3, 4, reduced)
        got = function(x, axis, temperature=t)
        assert got.tobytes() == function(x, axis, temperature=t.reshape(kept)).tobytes()
        axes = axis if isinstance(axis, tuple) else (axis,)
        lines = np.moveaxis(x, axes, range(-len(axes), 0)).reshape(*reduced, -1)
        results = (
            got
            if op == "logsumexp"
            else np.moveaxis(got, axes, range(-len(axes), 0)).reshape(*reduced, -1)
        )
        for index in np.ndindex(reduced):
            alone = np.asarray(function(np.ascontiguousarray(lines[index]), temperature=t[index]))
            assert np.asarray(results[index]).tobytes() == alone.tobytes()
    t = rng.uniform(0.3, 4, 4)
    full = np.broadcast_to(t, (3, 4)).copy()
    assert function(x, temperature=t).tobytes() == function(x, temperature=full).tobytes()
    assert function(x, temperature=t.tolist()).tobytes() == function(x, temperature=full).tobytes()
    assert (
        function(x, temperature=2).tobytes()
        == function(x, temperature=np.full((3, 1), 2)).tobytes()
    )


def test_extreme_temperatures(isa: str) -> None:
    """Low temperatures select the largest, high ones give uniform results; nothing overflows."""
    x = np.array([1.0, 3.0, 2.0], np.float32)
    assert np.array_equal(boltzmax.softmax(x, temperature=1e-30), [0, 1, 0])
    np.testing.assert_allclose(boltzmax.softmax(x, temperature=1e30), np.full(3, 1 / 3), rtol=1e-6)
    np.testing.assert_allclose(boltzmax.logsumexp(x, temperature=1e-30), 3e30, rtol=1e-6)
    # Beyond the range of float32 divisors.
    for temperature in (1e-39, 1e-60, 1e-300):
        for op in ulp.OPS:
            with pytest.raises(ValueError, match=f"temperature must be .* got {temperature}"):
                getattr(boltzmax, op)(x, temperature=temperature)


# ---- where


@pytest.mark.parametrize("op", ulp.OPS)
def test_where_errors(op: str) -> None:
    function = getattr(boltzmax, op)
    for shape in ((3,), (4, 3), (2, 3, 4), (2, 1, 4)):
        with pytest.raises(ValueError, match=r"where|broadcast"):
            function(normal(3, 4), where=np.ones(shape, bool))
    for bad in ("yes", 0.5, np.ones((3, 4)), np.ones((3, 4), np.int64)):
        with pytest.raises(TypeError, match=r"where|bool"):
            function(normal(3, 4), where=bad)


def test_where_and_temperature_together(isa: str) -> None:
    x = normal(6, 50, dtype=np.float32)
    where = np.random.default_rng(1).random(x.shape) < 0.5
    t = np.array([0.5, 1, 2, 4, 8, 16])
    exact = oracle.exact(x, temperature=t[:, None], where=where)
    for op in ulp.OPS:
        got = getattr(boltzmax, op)(x, where=where, temperature=t)
        assert ulp.of_budget(op, got, exact, x.dtype).max() <= 1
