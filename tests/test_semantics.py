"""Semantics: special values, empty and 0-d input, masks, other libraries; no warnings."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import boltzmax
import oracle
import ulp
from operations import MAPS

Array = npt.NDArray[Any]
pytestmark = pytest.mark.usefixtures("strict")
NAN, INF = float("nan"), float("inf")

# row, softmax, log_softmax, logsumexp
TABLE: list[tuple[list[float], list[float], list[float], float]] = [
    ([NAN, 0, 1], [NAN, NAN, NAN], [NAN, NAN, NAN], NAN),
    ([0, 1, NAN], [NAN, NAN, NAN], [NAN, NAN, NAN], NAN),
    ([NAN], [NAN], [NAN], NAN),
    ([-INF], [NAN], [NAN], -INF),
    ([-INF, -INF, -INF], [NAN, NAN, NAN], [NAN, NAN, NAN], -INF),
    ([-INF, NAN], [NAN, NAN], [NAN, NAN], NAN),
    ([INF], [NAN], [NAN], INF),
    ([INF, 0], [NAN, NAN], [NAN, -INF], INF),
    ([0, INF, -INF], [NAN, NAN, NAN], [-INF, NAN, -INF], INF),
    ([INF, INF], [NAN, NAN], [NAN, NAN], INF),
    ([INF, NAN], [NAN, NAN], [NAN, NAN], NAN),
    ([NAN, INF, 1], [NAN, NAN, NAN], [NAN, NAN, NAN], NAN),
    ([-INF, 0], [0, 1], [-INF, 0], 0),
    ([2, -INF, -INF], [1, 0, 0], [0, -INF, -INF], 2),
    ([5], [1], [0], 5),
    ([0, 0], [0.5, 0.5], [-np.log(2), -np.log(2)], np.log(2)),
]
TABLE_IDS = [str(row) for row, *_ in TABLE]


def same(got: Any, expected: npt.ArrayLike, dtype: np.dtype[Any]) -> None:
    """Equal, NaN where NaN is expected, within an ULP or two elsewhere."""
    with np.errstate(all="ignore"):
        got, expected = np.asarray(got), np.asarray(expected, np.float64)
        assert got.dtype == dtype
        assert got.shape == expected.shape
        np.testing.assert_allclose(
            got.astype(np.float64),
            expected,
            rtol=2 * ulp.format_of(dtype).eps,
            atol=0,
            equal_nan=True,
        )


@pytest.mark.parametrize("case", TABLE, ids=TABLE_IDS)
def test_special_values(isa: str, dtype: np.dtype[Any], case: Any) -> None:
    x = np.array(case[0], dtype)
    for op, value in zip(ulp.OPS, case[1:], strict=True):
        same(getattr(boltzmax, op)(x), value, dtype)


def padded(case: Any, n: int, shift: int) -> tuple[list[float], list[float], list[float], float]:
    """A row of the table padded with elements that change nothing: -inf, or 0 with NaN or +inf."""
    row, softmax, log_softmax, logsumexp = case
    finite = np.isfinite(max(row)) if not np.isnan(row).any() else False
    fill = -INF if finite or max(row) == -INF else 0.0
    rest = n - len(row)
    p, q = (NAN, NAN) if not finite else (0.0, -INF)
    if not finite and not np.isnan(row).any() and max(row) == INF:
        q = -INF

    def line(values: list[float], pad: float) -> list[float]:
        return [float(v) for v in np.roll([*values, *[pad] * rest], shift)]

    return line(row, fill), line(softmax, p), line(log_softmax, q), logsumexp


@pytest.mark.parametrize("case", TABLE, ids=TABLE_IDS)
@pytest.mark.parametrize("n", [17, 64, 67, 131, 5000])
def test_special_values_in_long_rows(isa: str, case: Any, n: int) -> None:
    """At any position: first, last, in the tail of the vectors, along rows and columns."""
    for name in ("float32", "float64"):
        dtype = np.dtype(name)
        lines = [padded(case, n, shift) for shift in (0, 1, n // 2, n - 1)]
        x = np.array([row for row, *_ in lines], dtype)
        for op, expected in zip(
            ulp.OPS, zip(*(values for _, *values in lines), strict=True), strict=True
        ):
            same(getattr(boltzmax, op)(x), list(expected), dtype)
            columns = np.ascontiguousarray(x.T)
            same(getattr(boltzmax, op)(columns, axis=0), np.array(expected).T, dtype)


def test_nan_stays_in_its_row(isa: str, dtype: np.dtype[Any]) -> None:
    rng = np.random.default_rng(0)
    clean = rng.standard_normal((40, 33)).astype(dtype)
    x = clean.copy()
    x[7, 5] = x[20, 0] = x[39, 32] = NAN
    spoilt = np.zeros(40, bool)
    spoilt[[7, 20, 39]] = True
    for op in ulp.OPS:
        function = getattr(boltzmax, op)
        for got, expected in (
            (function(x), function(clean)),
            (function(np.ascontiguousarray(x.T), axis=0).T, function(clean)),
        ):
            assert np.isnan(got[spoilt].astype(np.float64)).all()
            assert got[~spoilt].tobytes() == expected[~spoilt].tobytes()


@pytest.mark.parametrize("shape", [(0,), (3, 0), (2, 3, 0), (0, 4), (0, 0)])
def test_empty(isa: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    x = np.empty(shape, dtype)
    for axis in (*range(len(shape)), None, tuple(range(len(shape)))):
        for op in MAPS:
            got = getattr(boltzmax, op)(x, axis=axis)
            assert (got.shape, got.dtype) == (shape, dtype)
        got = np.asarray(boltzmax.logsumexp(x, axis=axis))
        expected = np.add.reduce(np.empty(shape), axis=axis)
        same(got, np.full(np.shape(expected), -INF), dtype)
        kept = boltzmax.logsumexp(x, axis=axis, keepdims=True)
        assert kept.shape == np.add.reduce(np.empty(shape), axis=axis, keepdims=True).shape


def test_empty_with_mask_temperature_and_out() -> None:
    x = np.empty((3, 0), np.float32)
    out = np.empty(3, np.float32)
    assert (
        boltzmax.logsumexp(x, where=np.empty((3, 0), bool), temperature=[1, 2, 3], out=out) is out
    )
    assert (out == -INF).all()
    assert boltzmax.softmax(x, where=True, out=np.empty_like(x)).shape == (3, 0)
    assert boltzmax.softmax_backward(x, x).shape == (3, 0)
    assert boltzmax.log_softmax_backward(x, x).shape == (3, 0)


@pytest.mark.parametrize("axis", [-1, 0, None, (), (0,), (-1,), np.int64(0)])
def test_zero_dimensions(dtype: np.dtype[Any], axis: Any) -> None:
    for x in (np.array(3.5, dtype), dtype.type(3.5)):
        for op, expected in zip(ulp.OPS, (1.0, 0.0, 3.5), strict=True):
            got = getattr(boltzmax, op)(x, axis=axis)
            assert isinstance(got, dtype.type), f"{op}: a scalar, not {type(got)}"
            assert float(got) == expected


def test_zero_dimensions_from_python_numbers() -> None:
    assert boltzmax.softmax(3) == 1.0
    assert boltzmax.log_softmax(3.0) == 0.0
    assert boltzmax.logsumexp(True) == 1.0
    for axis in (1, -2, (1,), 10**10):
        with pytest.raises(np.exceptions.AxisError, match="out of bounds for array of dimension 0"):
            boltzmax.softmax(3.0, axis=axis)
    with pytest.raises(ValueError, match="repeated axis"):
        boltzmax.softmax(3.0, axis=(0, -1))
    out = np.empty((), np.float64)
    assert boltzmax.logsumexp(3.0, out=out) is out
    assert out == 3.0


def test_result_of_one_row_is_a_scalar(isa: str, dtype: np.dtype[Any]) -> None:
    x = np.array([1, 2, 3], dtype)
    assert type(boltzmax.logsumexp(x)) is dtype.type
    assert type(boltzmax.logsumexp(x.reshape(3, 1), axis=None)) is dtype.type
    assert boltzmax.logsumexp(x, keepdims=True).shape == (1,)
    assert boltzmax.logsumexp(x[None]).shape == (1,)


ZEROS = [[-0.0], [-0.0, -INF], [-INF, -0.0], [-0.0, -9000], [-INF] * 70 + [-0.0]]


@pytest.mark.parametrize("row", ZEROS, ids=lambda row: str(row[-2:]))
def test_zeros_are_positive(isa: str, dtype: np.dtype[Any], row: list[float]) -> None:
    """The logarithm of 1, or of a sum of 1, is +0 even if the score is -0."""
    x = np.array([row] * 3, dtype)
    where = np.ones(x.shape, bool)
    where[:, :-1] = x[:, :-1] == 0
    where |= x == 0
    for a, m, axis in ((x, where, 1), (x.T.copy(), where.T, 0), (x.T, where.T, 0)):
        for options in ({}, {"where": m}, {"temperature": 0.5}, {"dtype": np.float64}):
            for op in ulp.OPS:
                got = np.asarray(getattr(boltzmax, op)(a, axis, **options)).astype(np.float64)
                assert not np.signbit(got[got == 0]).any(), (op, options)
    log_p = boltzmax.log_softmax(np.array(row, np.longdouble))
    assert not np.signbit(log_p[log_p == 0]).any()


def test_zeros_of_long_rows_are_positive(isa: str, dtype: np.dtype[Any]) -> None:
    x = np.full(100_000, -INF, dtype)
    x[-1] = -0.0
    for op in ulp.OPS:
        got = np.ravel(getattr(boltzmax, op)(x))[-1].astype(np.float64)
        assert got == (op == "softmax")
        assert not np.signbit(got)


# ---- masks


def test_mask_leaves_entries_out(isa: str, dtype: np.dtype[Any]) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((50, 37)).astype(dtype)
    where = rng.random(x.shape) < 0.5
    where[:, 3] = True
    p, q, s = (getattr(boltzmax, op)(x, where=where) for op in ulp.OPS)
    assert (p[~where] == 0).all()
    assert (q[~where].astype(np.float64) == -INF).all()
    for i, keep in enumerate(where):
        # The same as the row without them, except for the order of summation.
        exact = oracle.exact(np.ascontiguousarray(x[i, keep]))
        assert ulp.of_budget("softmax", p[i, keep], exact, dtype).max() <= 1
        assert ulp.of_budget("log_softmax", q[i, keep], exact, dtype).max() <= 1
        assert ulp.of_budget("logsumexp", s[i, ...], exact, dtype) <= 1


def test_fully_masked_rows(isa: str, dtype: np.dtype[Any]) -> None:
    for n in (1, 2, 16, 33, 5000):
        x = np.zeros((3, n), dtype)
        where = np.ones((3, n), bool)
        where[1] = False
        for axis, a, m in (
            (1, x, where),
            (0, np.ascontiguousarray(x.T), np.ascontiguousarray(where.T)),
        ):
            line = (slice(None), 1) if axis == 0 else (1,)
            assert (boltzmax.softmax(a, axis, where=m)[line] == 0).all()
            assert (boltzmax.log_softmax(a, axis, where=m)[line].astype(np.float64) == -INF).all()
            s = boltzmax.logsumexp(a, axis, where=m).astype(np.float64)
            assert s[1] == -INF
            assert np.isfinite(s[[0, 2]]).all()
    assert boltzmax.logsumexp(np.zeros(4, dtype), where=False) == dtype.type(-INF)
    assert (boltzmax.softmax(np.zeros(4, dtype), where=False) == 0).all()


@pytest.mark.parametrize("poison", [NAN, INF, -INF])
def test_masked_entries_are_never_read(isa: str, dtype: np.dtype[Any], poison: float) -> None:
    rng = np.random.default_rng(2)
    for n in (2, 15, 16, 17, 70, 5000):
        x = rng.standard_normal((4, n)).astype(dtype)
        where = rng.random(x.shape) < 0.7
        where[:3, 0] = True
        where[3] = False
        bad = np.where(where, x, dtype.type(poison))
        for op in ulp.OPS:
            function = getattr(boltzmax, op)
            assert function(bad, where=where).tobytes() == function(x, where=where).tobytes()


@pytest.mark.parametrize("shape", [(), (1,), (7,), (5, 1), (5, 7), (3, 1, 1), (3, 5, 7), (1, 5, 1)])
def test_mask_broadcasts(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(3).standard_normal((3, 5, 7))
    where = np.random.default_rng(4).random(shape) < 0.6
    full = np.broadcast_to(where, x.shape).copy()
    for axis in (0, 1, 2, (0, 2), None):
        for op in ulp.OPS:
            function = getattr(boltzmax, op)
            got = np.asarray(function(x, axis, where=where))
            assert got.tobytes() == np.asarray(function(x, axis, where=full)).tobytes()
    where_all = np.ones(shape, bool)
    assert boltzmax.softmax(x, where=where_all).tobytes() == boltzmax.softmax(x).tobytes()


# ---- peers


def some_arrays(dtype: np.dtype[Any]) -> Iterator[Array]:
    rng = np.random.default_rng(6)
    for shape in ((9,), (4, 33), (3, 4, 5), (2, 3, 4, 5)):
        yield (4 * rng.standard_normal(shape)).astype(dtype)
    special = [NAN, INF, -INF, 0.0, 1.0]
    yield np.array(np.meshgrid(special, special, special)).reshape(3, -1).T.astype(dtype)


@pytest.mark.parametrize("name", ["float32", "float64"])
@pytest.mark.parametrize("op", ulp.OPS)
def test_agrees_with_scipy(isa: str, name: str, op: str) -> None:
    peer = getattr(pytest.importorskip("scipy.special"), op, None)
    if peer is None:
        pytest.skip(f"SciPy has no {op}")
    dtype = np.dtype(name)
    for x in some_arrays(dtype):
        for axis in (*range(-x.ndim, x.ndim), None, (0, -1) if x.ndim > 1 else (0,)):
            with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
                expected = peer(x, axis=axis)
            got = getattr(boltzmax, op)(x, axis=axis)
            assert got.dtype == expected.dtype
            np.testing.assert_allclose(
                got, expected, rtol=30 * np.finfo(dtype).eps, atol=30 * np.finfo(dtype).eps
            )


@pytest.mark.parametrize("op", ulp.OPS)
def test_agrees_with_torch(isa: str, dtype: np.dtype[Any], op: str) -> None:
    torch = pytest.importorskip("torch")
    tolerance = 30 * ulp.format_of(dtype).eps
    peer: Callable[..., Any] | None = getattr(torch, op, None)
    if peer is None:
        pytest.skip(f"PyTorch has no {op}")
    for x in list(some_arrays(dtype))[:-1]:
        tensor = torch.from_numpy(x.astype(np.float64)).to(getattr(torch, dtype.name))
        for axis in range(x.ndim):
            expected = peer(tensor, axis).to(torch.float64).numpy()
            got = np.asarray(getattr(boltzmax, op)(x, axis=axis)).astype(np.float64)
            np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["float32", "float64", "float16"])
def test_tiny_temperatures(isa: str, name: str) -> None:
    """Where (x - max) / T overflows, the logarithm is -inf; the low part of 1/T adds no NaN."""
    x = np.array([[-np.inf, 1.5, 0.5, -60000.0, 1.5], [0, -np.inf, -np.inf, 0, -3]], name)
    for temperature in np.geomspace(1e-30, 1e-3, 80):
        for layout in (x, np.asfortranarray(x)):
            y = boltzmax.log_softmax(layout, temperature=temperature)
            assert not np.isnan(y).any(), temperature
            assert (y[np.isneginf(x)] == -np.inf).all()
        assert boltzmax.softmax(x, temperature=temperature)[0, 1] == 0.5
