"""Temperature 0: the largest elements of a row share its probability."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import boltzmax
import ulp
from boltzmax import linear_log_prob, linear_logsumexp, linear_sample
from boltzmax.linear import queries as linear_queries
from linear_samples import TILES, use_tiles

Array = npt.NDArray[Any]
pytestmark = pytest.mark.usefixtures("strict")
NAN, INF = float("nan"), float("inf")
SOFTMAX = ("softmax", "log_softmax")


def limit(op: str, row: list[float]) -> list[float]:
    """The definition, without an exponential: one number, or one per element."""
    top = max(row) if row and not any(map(math.isnan, row)) else NAN
    k = row.count(top)
    if op == "logsumexp":
        return [math.log(k) if top == 0 else top * INF if row else -INF]
    if op == "softmax":
        return [1 / k * (x == top) if math.isfinite(top) else NAN for x in row]
    if math.isfinite(top):
        return [-math.log(k) if x == top else -INF for x in row]
    return [-INF if top == INF and x < top else NAN for x in row]


def limits(op: str, x: Array, where: Array | None = None) -> Array:
    """The limits of the rows along the last axis; masked elements are left out."""
    rows = np.asarray(x, np.float64).reshape(-1, x.shape[-1])
    masks = np.ones_like(rows, bool) if where is None else np.broadcast_to(where, x.shape)
    results = np.full(rows.shape, 0.0 if op == "softmax" else -INF)
    for row, mask, result in zip(rows, masks.reshape(rows.shape), results, strict=True):
        answer = limit(op, row[mask].tolist())
        if op == "logsumexp":
            result[0] = answer[0]
        else:
            result[mask] = answer
    return results[:, 0].reshape(x.shape[:-1]) if op == "logsumexp" else results.reshape(x.shape)


def same(got: Any, expected: Array, dtype: Any) -> None:
    got = np.asarray(got)
    assert got.dtype == dtype
    with np.errstate(all="ignore"):
        wanted = expected.astype(dtype).astype(np.float64)
    rtol = {2: 2.0**-7, 4: 2.0**-23}.get(np.dtype(dtype).itemsize, 2.0**-52)
    np.testing.assert_allclose(got.astype(np.float64), wanted, rtol=rtol)


def ties(*shape: int, dtype: Any = np.float64, seed: int = 0) -> Array:
    """Few different numbers, so that many are equal; some rows have no positive number."""
    x = np.random.default_rng(seed).integers(-3, 3, shape)
    return (x - 2 * (x.sum(axis=-1, keepdims=True) % 2)).astype(dtype)


ROWS = [
    [[3.0], [0.0], [-2.0], [INF], [-INF], [NAN]],
    [[0.0, -0.0], [1.0, 1.0], [1e-300, 2e-300], [-1.0, -INF], [INF, INF], [-INF, -INF]],
    [[NAN, 1.0, 2.0], [INF, NAN, 1.0], [INF, 5.0, -INF], [-INF, 4.0, 4.0], [5e-324, 0.0, 5e-324]],
]


@pytest.mark.parametrize("op", ulp.OPS)
@pytest.mark.parametrize("rows", ROWS, ids=["1", "2", "3"])
def test_special_values(isa: str, op: str, rows: list[list[float]]) -> None:
    x = np.array(rows)
    same(getattr(boltzmax, op)(x, temperature=0), limits(op, x), np.float64)
    long = np.concatenate([x, np.full((len(x), 900), -INF)], axis=1)
    same(getattr(boltzmax, op)(long, temperature=0.0), limits(op, long), np.float64)
    columns = np.ascontiguousarray(long.T)
    got = getattr(boltzmax, op)(columns, 0, temperature=0.0)
    same(got.T, limits(op, long), np.float64)


@pytest.mark.parametrize("op", ulp.OPS)
@pytest.mark.parametrize("shape", [(5,), (7, 1), (40, 3), (4, 33, 5), (6, 257), (2, 3000)])
def test_definition(isa: str, dtype: np.dtype[Any], op: str, shape: tuple[int, ...]) -> None:
    function, x = getattr(boltzmax, op), ties(*shape, dtype=dtype)
    for zero in (0, 0.0, -0.0, False, np.float32(0), np.zeros(shape[:-1]), [0.0]):
        if np.ndim(zero) == 0 or np.shape(zero) == shape[:-1]:
            same(function(x, temperature=zero), limits(op, x), dtype)
    where = np.random.default_rng(1).random(shape) < 0.6
    same(function(x, where=where, temperature=0), limits(op, x, where), dtype)
    for axis in range(len(shape)):
        got = function(x, axis, temperature=0)
        got = got if op == "logsumexp" else np.moveaxis(got, axis, -1)
        same(got, limits(op, np.moveaxis(x, axis, -1)), dtype)
    flat = limits(op, x.reshape(-1))
    same(
        function(x, None, temperature=0), flat if op == "logsumexp" else flat.reshape(shape), dtype
    )


@pytest.mark.parametrize("op", ulp.OPS)
@pytest.mark.parametrize("dtype", ["i1", "u2", "i8", "?", "f2", "f4", "f8", "g", ">f4"])
def test_dtypes(op: str, dtype: str) -> None:
    x = np.abs(ties(9, 6)).astype(dtype) if dtype == "u2" else ties(9, 6).astype(dtype)
    exact = x.astype(np.float64)
    function = getattr(boltzmax, op)
    native = np.dtype(dtype).newbyteorder("=") if x.dtype.kind == "f" else np.dtype(np.float64)
    same(function(x, temperature=0), limits(op, exact), native)
    for other in ("f2", "f4", "f8", "g"):
        same(function(x, temperature=0, dtype=other), limits(op, exact), np.dtype(other))
    assert type(function(x[0, 0], temperature=0)) is native.type
    same(function(x[0, 0], temperature=0), limits(op, exact[:1, :1]).reshape(()), native)


def test_ties_are_those_of_the_computation_dtype() -> None:
    """Elements equal in that dtype tie, as at other temperatures: rounding comes first."""
    near = np.array([1.0, 1.0 + 2.0**-30])
    for x, dtype, shared in (
        (near, None, False),
        (near, np.float32, True),
        (np.array([2**53, 2**53 + 1]), None, True),
        (np.array([2**53, 2**53 + 1]), np.longdouble, np.finfo(np.longdouble).nmant < 60),
        (near.astype(np.longdouble), np.float32, False),
    ):
        for temperature in (0.0, 1e-30):
            got = boltzmax.softmax(x, temperature=temperature, dtype=dtype)
            assert got.tolist() == ([0.5, 0.5] if shared else [0.0, 1.0])


@given(
    st.lists(st.integers(-(2**20), 2**20), min_size=1, max_size=40),
    st.sampled_from(["f4", "f8", "g"]),
    st.sampled_from(SOFTMAX),
)
def test_limit_matches_small_temperatures(row: list[int], dtype: str, op: str) -> None:
    x = np.array(row, dtype)
    cold, zero = (getattr(boltzmax, op)(x, temperature=t) for t in (1e-30, 0.0))
    if op == "log_softmax":  # x / 1e-30 is a large number where the limit has -inf
        cold[cold < -1e20] = -INF
    np.testing.assert_array_equal(cold, zero)


@pytest.mark.parametrize("op", ulp.OPS)
def test_one_temperature_per_row(isa: str, dtype: np.dtype[Any], op: str) -> None:
    """Zeros among other temperatures: each row has the same bits as alone."""
    function, x = getattr(boltzmax, op), ties(2, 4, 6, dtype=dtype)
    t = np.array([[0.0, 0.7, 0.5, 0.0], [2.0, 0.0, 0.0, 3.0]])
    where = np.random.default_rng(2).random(x.shape) < 0.7
    for mask in (None, where):
        got = np.asarray(function(x, where=mask, temperature=t))
        kept = function(x, where=mask, temperature=t[..., None])
        assert got.tobytes() == kept.tobytes()
        for index in np.ndindex(t.shape):
            own = None if mask is None else mask[index]
            alone = function(x[index].copy(), where=own, temperature=t[index])
            assert got[index].tobytes() == np.asarray(alone).tobytes()
    some = function(x, 1, temperature=[0, 1, 1, 0, 0, 1])
    assert some[..., 0].tobytes() == function(x[..., 0].copy(), 1, temperature=0).tobytes()
    assert some[..., 1].tobytes() == function(x[..., 1].copy(), 1).tobytes()


@pytest.mark.parametrize("op", SOFTMAX)
def test_out(op: str, dtype: np.dtype[Any]) -> None:
    function, x = getattr(boltzmax, op), ties(5, 8, dtype=dtype)
    expected = function(x, temperature=0)
    assert x.tobytes() == ties(5, 8, dtype=dtype).tobytes()  # the input is not modified
    out = np.empty_like(x)
    assert function(x, temperature=0, out=out) is out
    assert out.tobytes() == expected.tobytes()
    column = np.empty((5, 16), dtype)[:, ::2]
    function(x, temperature=0, out=column)
    assert column.tobytes() == expected.tobytes()
    room = np.zeros(41, dtype)
    shifted, overlapping = room[:40].reshape(5, 8), room[1:].reshape(5, 8)
    shifted[...] = x
    function(shifted, temperature=0, out=overlapping)
    assert overlapping.tobytes() == expected.tobytes()
    assert function(x, temperature=np.zeros(5), out=x) is x
    assert x.tobytes() == expected.tobytes()
    t = np.array([0.0, 1.0, 0.0, 2.0, 0.0])
    y = ties(5, 8, dtype=dtype)
    mixed = function(y, temperature=t)
    assert function(y, temperature=t, out=y).tobytes() == mixed.tobytes()
    assert t.tolist() == [0.0, 1.0, 0.0, 2.0, 0.0]


@pytest.mark.parametrize("op", ulp.OPS)
def test_layouts_and_empty_arrays(op: str) -> None:
    function, x = getattr(boltzmax, op), ties(6, 8)
    expected = function(x, temperature=0)
    strided = np.zeros((12, 24))[::-2, ::3]
    strided[...] = x
    for same_elements in (strided, np.asfortranarray(x), np.broadcast_to(x, (3, 6, 8))[1]):
        assert function(same_elements, temperature=0).tobytes() == expected.tobytes()
    assert function(np.asfortranarray(x), temperature=0).flags.f_contiguous or op == "logsumexp"
    for shape, axis in (((0, 3), 1), ((3, 0), 1), ((0,), 0), ((2, 0, 3), (0, 1))):
        like = function(np.empty(shape), axis)
        got = function(np.empty(shape), axis, temperature=0)
        np.testing.assert_array_equal(got, like)


def test_signs_and_kept_axes_of_sums() -> None:
    x = np.array([[1.0, 2.0], [-1.0, -2.0], [0.0, 0.0], [NAN, 1.0]])
    value, sign = boltzmax.logsumexp(x, temperature=0, return_sign=True, keepdims=True)
    np.testing.assert_array_equal(value, [[INF], [-INF], [math.log(2)], [NAN]])
    np.testing.assert_array_equal(sign, [[1], [0], [1], [NAN]])
    out = np.empty(4)
    assert boltzmax.logsumexp(x, temperature=0, out=out) is out
    np.testing.assert_array_equal(out, value[:, 0])


def test_weights_and_complex_numbers_are_errors() -> None:
    for call in (
        partial(boltzmax.logsumexp, [1.0, 2.0], b=[1.0, 1.0]),
        partial(boltzmax.logsumexp, [1.0, 2.0], b=[1j, 1.0]),
        partial(boltzmax.logsumexp, [1j, 2.0]),
    ):
        with pytest.raises(ValueError, match="a temperature of 0 goes with real x, and without"):
            call(temperature=0.0)
        with pytest.raises(ValueError, match="a temperature of 0 goes with real x, and without"):
            call(axis=None, temperature=[0.0])


# ---- the classes of a linear layer


def queries(hidden: Array, weight: Array, bias: Array | None, softcap: float | None) -> Array:
    """The scores of the classes, from a matrix product."""
    s = hidden @ weight.T + (0 if bias is None else bias)
    return s if softcap is None else softcap * np.tanh(s / softcap)


@pytest.mark.parametrize("sizes", TILES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_queries_of_a_linear_layer(sizes: Any, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiles(sizes, monkeypatch)
    rng = np.random.default_rng(0)
    for n, v, d in ((1, 1, 1), (5, 3, 2), (17, 40, 3)):
        h, w = (rng.integers(-2, 3, (k, d)).astype(dtype) for k in (n, v))  # exact, with ties
        b = rng.integers(-1, 2, v).astype(dtype)
        t = rng.integers(0, v, n)
        for bias, softcap in ((None, None), (b, None), (b, 2.5)):
            s = queries(h, w, bias, softcap)
            got = linear_logsumexp(h, w, bias, temperature=0, softcap=softcap)
            same(got, limits("logsumexp", s), dtype)
            got = linear_log_prob(h, w, t, bias, temperature=0, softcap=softcap)
            same(got, limits("log_softmax", s)[np.arange(n), t], dtype)
        ignored = np.where(t == t[0], -100, t)
        got = linear_log_prob(h, w, ignored, b, temperature=0)
        expected = limits("log_softmax", queries(h, w, b, None))[np.arange(n), t]
        same(got, np.where(ignored == -100, 0.0, expected), dtype)


@pytest.mark.parametrize("sizes", TILES)
def test_samples_are_drawn_from_the_largest(sizes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples are those of shared probabilities, whatever the tiles."""
    use_tiles(sizes, monkeypatch)
    rng = np.random.default_rng(1)
    h, w = rng.integers(-2, 3, (300, 3)) * 1.0, rng.integers(-2, 3, (50, 3)) * 1.0
    h[:100] = 0.0  # all scores are equal
    ids = linear_sample(h, w, 7, temperature=0)
    s = h @ w.T
    is_top = s == s.max(axis=1, keepdims=True)
    level = np.random.default_rng(7).random(300)
    wanted = (level * is_top.sum(axis=1)).astype(int)
    np.testing.assert_array_equal(
        ids, [np.flatnonzero(a)[k] for a, k in zip(is_top, wanted, strict=True)]
    )
    assert len(set(ids[:100])) > 30


def test_samples_of_rows_without_a_maximum() -> None:
    h = np.array([[NAN], [1.0], [INF], [0.0]])
    ids = linear_sample(h, [[1.0], [2.0]], 0, [0.0, -0.0], temperature=0, errors="mark")
    assert ids[:3].tolist() == [-1, 1, -1]
    assert ids[3] in (0, 1)
    nothing = h[1:2], [[1.0], [2.0]], 0, [-INF, -INF]
    assert linear_sample(*nothing, temperature=0, errors="mark").tolist() == [-1]
    with pytest.raises(ValueError, match=r"neither NaN nor \+inf for row 0"):
        linear_sample(*nothing, temperature=0)
    got = linear_log_prob(h, [[1.0], [2.0]], [0, 1, 0, 0], temperature=0)
    np.testing.assert_array_equal(got, [NAN, 0.0, NAN, -math.log(2)])
    np.testing.assert_array_equal(
        linear_logsumexp(h, [[1.0], [2.0]], temperature=0), [NAN, INF, INF, math.log(2)]
    )
    assert linear_sample(np.empty((0, 1)), [[1.0]], 0, temperature=0).shape == (0,)


def test_tiles_are_read_once_without_ties(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiles((8, 16), monkeypatch)
    read, tiles = linear_queries.summed_tile, []

    def counted(scores: Any, x: Array, tile: slice) -> Any:
        tiles.append(tile)
        return read(scores, x, tile)

    monkeypatch.setattr(linear_queries, "summed_tile", counted)
    w = np.arange(40.0)[:, None]
    assert linear_sample([[1.0]], w, 0, temperature=0) == [39]
    n = len(tiles)
    linear_sample([[0.0]], w, 0, temperature=0)
    assert n > 1
    assert len(tiles) == 3 * n
