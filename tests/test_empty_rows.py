"""Results for rows of -inf alone, masked elements aside."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import boltzmax
import ulp

Array = npt.NDArray[Any]
pytestmark = pytest.mark.usefixtures("strict")
NAN, INF = float("nan"), float("inf")
NOTHING = {"softmax": 0.0, "log_softmax": -INF}


def rows(n: int, dtype: Any) -> tuple[Array, Array]:
    """Rows of every kind, and which of them are all -inf."""
    x = np.random.default_rng(0).standard_normal((10, n))
    x[2] = x[5] = x[9] = -INF
    x[3, 0] = x[4, -1] = NAN
    x[6, : n - 1] = -INF
    x[7, 1:] = -INF
    x[8, n // 2] = INF
    if n > 1:  # a finite row that begins with -inf
        x[1, : n // 2] = -INF
    with np.errstate(under="ignore"):
        return x.astype(dtype), np.isin(np.arange(10), (2, 5, 9))


@pytest.mark.parametrize("op", NOTHING)
@pytest.mark.parametrize("n", [1, 2, 9, 100, 3000])
def test_rows_of_minus_infinity(isa: str, dtype: np.dtype[Any], op: str, n: int) -> None:
    function = getattr(boltzmax, op)
    x, nothing = rows(n, dtype)
    usual, zero = function(x), function(x, empty="zero")
    assert function(x, empty="nan").tobytes() == usual.tobytes()
    assert np.isnan(usual[nothing].astype(np.float64)).all()
    assert (zero[nothing] == NOTHING[op]).all()
    assert zero[~nothing].tobytes() == usual[~nothing].tobytes()
    columns = function(np.ascontiguousarray(x.T), 0, empty="zero")
    np.testing.assert_array_equal(columns.T.astype(np.float64), zero.astype(np.float64))
    for t in (0.5, 0, np.linspace(0, 2, 10)):
        other, usual = function(x, temperature=t, empty="zero"), function(x, temperature=t)
        assert (other[nothing] == NOTHING[op]).all()
        assert other[~nothing].tobytes() == usual[~nothing].tobytes()
    assert function(x, out=x, empty="zero") is x
    assert x.tobytes() == zero.tobytes()


@pytest.mark.parametrize("op", NOTHING)
def test_masks(dtype: np.dtype[Any], op: str) -> None:
    """A fully masked row counts, and so does one whose unmasked elements are all -inf."""
    function, nothing = getattr(boltzmax, op), NOTHING[op]
    x = np.array([[1, 2, 3], [-INF, 1, -INF], [-INF, NAN, -INF], [1, 2, -INF]], dtype)
    where = np.array([[False] * 3, [True, False, True], [True, False, False], [True, True, False]])
    usual = function(x, where=where).astype(np.float64)
    np.testing.assert_array_equal(usual[:3], [
        [nothing] * 3, [NAN, nothing, NAN], [NAN, nothing, nothing]
    ])  # fmt: skip
    zero = function(x, where=where, empty="zero").astype(np.float64)
    np.testing.assert_array_equal(zero[:3], np.full((3, 3), nothing))
    np.testing.assert_array_equal(zero[3], usual[3])
    where[2, 1] = True  # with the NaN it no longer counts
    assert np.isnan(function(x, where=where, empty="zero")[2].astype(np.float64)).sum() == 2
    columns = function(x.T.copy(), 0, where=where.T, empty="zero").astype(np.float64)
    np.testing.assert_array_equal(columns.T[:2], zero[:2])


@pytest.mark.parametrize("op", NOTHING)
def test_shapes_and_dtypes(op: str) -> None:
    function, nothing = getattr(boltzmax, op), NOTHING[op]
    x = np.full((2, 3, 4), -INF)
    x[1, 2] = 1.0
    for axis, count in ((2, 5), ((1, 2), 1), ((0, 2), 2), (None, 0), ((), 20), (0, 8)):
        got = function(x, axis, empty="zero")
        assert not np.isnan(got).any()
        lowest = -INF if op == "log_softmax" else 0.0
        length = (
            x.size
            if axis is None
            else np.prod([x.shape[d] for d in np.atleast_1d(axis)], initial=1)
        )
        all_nothing = np.isneginf(x).all(axis=axis).sum() * length
        assert all_nothing == count * length
        assert (got == lowest).sum() >= all_nothing
    assert function(-INF, empty="zero") == nothing
    assert np.isnan(function(-INF))
    assert function(np.longdouble(-INF), empty="zero") == nothing
    assert function(np.empty((3, 0)), empty="zero").shape == (3, 0)
    assert function(np.empty((0, 3)), empty="zero").shape == (0, 3)
    assert (function([[1, 2]], empty="zero") == function([[1, 2]])).all()
    # -inf in the dtype of the computation.
    assert function([-1e300, -1e300], dtype=np.float32, empty="zero").tolist() == [nothing] * 2
    out = np.ones((2, 2), np.float32)
    function(np.full((2, 2), -INF), dtype=np.float32, out=out, empty="zero")
    assert (out == nothing).all()


@pytest.mark.parametrize("op", NOTHING)
@pytest.mark.parametrize("bad", ["NaN", "0", "", None, 0, 0.0])
def test_other_names(op: str, bad: Any) -> None:
    out = np.ones(2)
    with pytest.raises(ValueError, match=r"^empty must be one of 'nan', 'zero', got "):
        getattr(boltzmax, op)([0.0, 1.0], empty=bad, out=out)
    assert (out == 1.0).all()


def test_only_functions_with_probabilities_have_the_option() -> None:
    with pytest.raises(TypeError, match="empty"):
        boltzmax.logsumexp([0.0], empty="zero")  # type: ignore[call-overload]
    assert set(ulp.OPS) == {*NOTHING, "logsumexp"}
