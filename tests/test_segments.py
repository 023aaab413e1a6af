"""Segments: the bits of the functions of rows, in both forms, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import boltzmax

pytestmark = pytest.mark.usefixtures("strict")

Array = np.ndarray[Any, Any]
MAPS = {
    "softmax": (boltzmax.segment_softmax, boltzmax.softmax),
    "log_softmax": (boltzmax.segment_log_softmax, boltzmax.log_softmax),
}
GRADIENTS = {
    "softmax": (boltzmax.segment_softmax_backward, boltzmax.softmax_backward),
    "log_softmax": (boltzmax.segment_log_softmax_backward, boltzmax.log_softmax_backward),
}


def offsets_of(lengths: Any) -> Array:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def random_lengths(seed: int, count: int = 3000, most: int = 21) -> Array:
    """Many short segments, some empty, and a few longer than those that go by panels."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, most, count)
    lengths[rng.integers(0, count, 6)] = (63, 64, 65, 300, 3000, 70_000)
    return lengths


@np.errstate(under="ignore")
def normal(seed: int, shape: Any, dtype: Any) -> Array:
    return (np.random.default_rng(seed).normal(size=shape) * 3).astype(dtype)


def by_row(function: Callable[..., Any], offsets: Array, *operands: Array) -> Array:
    """The results of a function of rows, segment by segment."""
    parts = [
        function(*(a[begin:end] for a in operands))
        for begin, end in pairwise(offsets)
        if end > begin
    ]
    return np.concatenate(parts) if parts else operands[0][:0]


def same(a: Array, b: Array) -> bool:
    return (
        a.dtype == b.dtype and a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())
    )


@pytest.mark.parametrize("most", [21, 64])
@pytest.mark.parametrize("name", MAPS)
def test_segments_have_the_bits_of_rows(
    isa: str, dtype: np.dtype[Any], name: str, most: int
) -> None:
    of_segments, of_row = MAPS[name]
    gradient, gradient_of_row = GRADIENTS[name]
    offsets = offsets_of(random_lengths(0, most=most))
    x, dy = normal(1, (2, offsets[-1]), dtype)
    y = of_segments(x, offsets)
    assert same(y, by_row(of_row, offsets, x))
    assert same(gradient(dy, y, offsets), by_row(gradient_of_row, offsets, dy, y))


@pytest.mark.parametrize("most", [21, 64])
def test_logsumexp_has_the_bits_of_rows(isa: str, dtype: np.dtype[Any], most: int) -> None:
    offsets = offsets_of(random_lengths(2, most=most))
    x = normal(3, offsets[-1], dtype)
    got = boltzmax.segment_logsumexp(x, offsets)
    rows = [x[b:e] for b, e in pairwise(offsets)]
    want = [boltzmax.logsumexp(row) if len(row) else -np.inf for row in rows]
    assert same(got, np.array(want, dtype))


@pytest.mark.parametrize("length", [1, 2, 10, 63, 64, 100])
def test_segments_of_one_length_have_the_bits_of_rows(isa: str, length: int) -> None:
    x = np.random.default_rng(length).normal(size=(500, length)).astype(np.float32)
    offsets = np.arange(501) * length
    for of_segments, of_row in MAPS.values():
        assert same(of_segments(x.ravel(), offsets), of_row(x).ravel())
    assert same(boltzmax.segment_logsumexp(x.ravel(), offsets), boltzmax.logsumexp(x))


@pytest.mark.parametrize("most", [5, 21, 64, 200])
def test_results_may_replace_the_values(isa: str, dtype: np.dtype[Any], most: int) -> None:
    """Segments of one length are written before others, between them, are read."""
    lengths = np.random.default_rng(most).integers(0, most, 900)
    x = normal(1, lengths.sum(), dtype)
    for function, _ in MAPS.values():
        want = function(x, offsets_of(lengths))
        got = x.copy()
        assert function(got, offsets_of(lengths), out=got) is got
        assert same(got, want)


def test_bits_do_not_depend_on_threads(threads: Callable[[int], None]) -> None:
    offsets = offsets_of(random_lengths(4, 60_000))
    x = np.random.default_rng(5).normal(size=offsets[-1]).astype(np.float32)
    threads(1)
    want = boltzmax.segment_softmax(x, offsets)
    threads(4)
    assert same(boltzmax.segment_softmax(x, offsets), want)


def test_special_values_stay_in_their_segments(isa: str, dtype: np.dtype[Any]) -> None:
    offsets = offsets_of(random_lengths(6, 500))
    x = normal(7, offsets[-1], dtype)
    for value in (np.nan, np.inf, -np.inf):
        x[np.random.default_rng(8).integers(0, len(x), 200)] = value
    for of_segments, of_row in MAPS.values():
        assert same(of_segments(x, offsets), by_row(of_row, offsets, x))


def test_ids_in_any_order(isa: str, dtype: np.dtype[Any]) -> None:
    ids = np.random.default_rng(9).integers(0, 40, 900)
    x, dy = normal(9, (2, 900), dtype)
    y = boltzmax.segment_softmax(x, segment_ids=ids, num_segments=50)
    dx = boltzmax.segment_softmax_backward(dy, y, segment_ids=ids, num_segments=50)
    lse = boltzmax.segment_logsumexp(x, segment_ids=ids.astype(np.int8), num_segments=50)
    assert lse.shape == (50,)
    assert (lse[40:] == -np.inf).all()
    for s in range(40):
        assert same(y[ids == s], boltzmax.softmax(x[ids == s]))
        assert same(dx[ids == s], boltzmax.softmax_backward(dy[ids == s], y[ids == s]))
        assert lse[s] == boltzmax.logsumexp(x[ids == s])
    assert len(boltzmax.segment_logsumexp(x, segment_ids=ids)) == ids.max() + 1


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_any_segments(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(0, 70), max_size=30))
    offsets = offsets_of(lengths)
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    x = rng.normal(size=offsets[-1]).astype(np.float32)
    want = by_row(boltzmax.softmax, offsets, x)
    assert same(boltzmax.segment_softmax(x, offsets.tolist()), want)
    ids, order = np.repeat(np.arange(len(lengths)), lengths), rng.permutation(len(x))
    got = boltzmax.segment_softmax(x[order], segment_ids=ids[order], num_segments=len(lengths))
    np.testing.assert_allclose(got, want[order], rtol=1e-6)


def test_other_dtypes_strides_and_results(isa: str) -> None:
    offsets = [0, 2, 2, 5]
    x = np.random.default_rng(0).normal(size=10)[::2]
    y = boltzmax.segment_softmax(x, offsets)
    assert same(y, boltzmax.segment_softmax(x.copy(), offsets))
    assert boltzmax.segment_softmax([1, 2, 3, 4, 5], offsets).dtype == np.float64
    as_float = boltzmax.segment_softmax(x, offsets, dtype=np.float32)
    assert same(as_float, boltzmax.segment_softmax(x.astype(np.float32), offsets))
    long = boltzmax.segment_softmax(x.astype(np.longdouble), offsets)
    assert same(long[:2], boltzmax.softmax(x[:2].astype(np.longdouble)))
    lse = boltzmax.segment_logsumexp(x.astype(np.longdouble), offsets)
    assert lse.dtype == np.longdouble
    assert lse[1] == -np.inf
    out = np.zeros(10)[::2]
    assert boltzmax.segment_softmax(x, offsets, out=out) is out
    assert same(out, y)
    in_place = x.copy()
    boltzmax.segment_softmax(in_place, offsets, out=in_place)
    assert same(in_place, y)
    ids, out = [1, 0, 1, 0, 0], np.empty(5)
    assert boltzmax.segment_softmax(x, segment_ids=ids, out=out) is out
    assert same(out, boltzmax.segment_softmax(x, segment_ids=ids))
    assert boltzmax.segment_softmax([], [0]).shape == (0,)
    assert boltzmax.segment_logsumexp([], [0, 0]).tolist() == [-np.inf]
    assert boltzmax.segment_logsumexp([], segment_ids=[]).shape == (0,)


def test_masked_elements_are_left_out(isa: str, dtype: np.dtype[Any]) -> None:
    """As by softmax: 0 or -inf, also in a segment that has no others, and in any order of ids."""
    offsets = offsets_of([0, 5, 1, 40, 0, 3])
    ids = np.repeat(np.arange(6), np.diff(offsets))
    x, keep = normal(3, len(ids), dtype), np.random.default_rng(4).random(len(ids)) < 0.6
    x[0], keep[0] = np.nan, False  # what is left out may be anything
    keep[5], keep[-3:] = False, False
    order = np.random.default_rng(5).permutation(len(ids))
    places = np.argsort(ids[order], kind="stable")
    sorted_order = order[places]
    of_segment = (boltzmax.segment_logsumexp, boltzmax.logsumexp)
    for name, (function, of_row) in {**MAPS, "logsumexp": of_segment}.items():
        rows = [
            np.atleast_1d(of_row(x[begin:end], where=keep[begin:end]))
            for begin, end in pairwise(offsets)
            if end > begin or name == "logsumexp"
        ]
        want, out = np.concatenate(rows), np.full(6 if name == "logsumexp" else len(ids), 7, dtype)
        assert same(function(x, offsets, where=keep), want)
        assert function(x, offsets, where=keep, out=out) is out
        assert same(out, want)
        got = function(x[order], segment_ids=ids[order], num_segments=6, where=keep[order])
        want = function(x[sorted_order], offsets, where=keep[sorted_order])
        assert same(got if name == "logsumexp" else got[places], want)
    with pytest.raises(ValueError, match=r"where of shape \(2,\) does not broadcast"):
        boltzmax.segment_softmax(x, offsets, where=[True, False])


@pytest.mark.parametrize("count", [2**40, 2**40 - 1])
def test_more_segments_than_memory(count: int) -> None:
    with pytest.raises(MemoryError, match=f"{count} segments need [0-9,]+ bytes for their offsets"):
        boltzmax.segment_softmax([0.0], segment_ids=[0], num_segments=count)
    with pytest.raises(MemoryError, match="segments need"):
        boltzmax.segment_softmax([0.0], segment_ids=[count - 1])


def test_torch_agrees() -> None:
    torch = pytest.importorskip("torch")
    offsets = offsets_of([3, 1, 20, 100])
    x = np.random.default_rng(0).normal(size=offsets[-1])
    parts = torch.from_numpy(x).split([3, 1, 20, 100])
    want = torch.cat([torch.softmax(part, 0) for part in parts]).numpy()
    np.testing.assert_allclose(boltzmax.segment_softmax(x, offsets), want, rtol=1e-14)


BAD: list[tuple[type[Exception], str, dict[str, Any]]] = [
    (
        ValueError,
        r"not decrease, but indptr\[2\] = 1 is below indptr\[1\] = 3",
        {"indptr": [0, 3, 1, 4]},
    ),
    (ValueError, r"end with the number of elements, 4, got indptr\[2\] = 3", {"indptr": [0, 2, 3]}),
    (ValueError, r"end with the number of elements, 4, got indptr\[1\] = 9", {"indptr": [0, 9, 9]}),
    (ValueError, r"begin with 0, got indptr\[0\] = 1", {"indptr": [1, 4]}),
    (ValueError, "at least one number", {"indptr": []}),
    (ValueError, r"indptr must have one axis, got shape \(1, 2\)", {"indptr": [[0, 4]]}),
    (TypeError, "indptr must be an array of integers, got dtype float64", {"indptr": [0.0, 4.0]}),
    (TypeError, "by indptr or by segment_ids", {}),
    (TypeError, "by indptr or by segment_ids", {"indptr": [0, 4], "segment_ids": [0, 0, 0, 0]}),
    (TypeError, "num_segments goes with", {"indptr": [0, 4], "num_segments": 1}),
    (ValueError, "from 0 to 1, got 2 at 3", {"segment_ids": [0, 1, 1, 2], "num_segments": 2}),
    (ValueError, "from 0 to 1099511627775, got -1 at 2", {"segment_ids": [0, 0, -1, 0]}),
    (ValueError, "absent, for 0 segments", {"segment_ids": [0, 0, 0, 0], "num_segments": 0}),
    (ValueError, r"segment_ids has shape \(3,\)", {"segment_ids": [0, 1, 1]}),
    (ValueError, "num_segments must be at least 0", {"segment_ids": [0] * 4, "num_segments": -1}),
]


@pytest.mark.parametrize(("error", "words", "segments"), BAD)
def test_bad_segments_are_refused_and_nothing_is_written(
    error: type[Exception], words: str, segments: dict[str, Any]
) -> None:
    x, out = np.zeros(4), np.full(4, 7.0)
    for function in (boltzmax.segment_softmax, boltzmax.segment_log_softmax):
        with pytest.raises(error, match=words):
            function(x, **segments, out=out)
    with pytest.raises(error, match=words):
        boltzmax.segment_logsumexp(x, **segments)
    with pytest.raises(error, match=words):
        boltzmax.segment_softmax_backward(x, x, **segments, out=out)
    with pytest.raises(error, match=words):
        boltzmax.segment_softmax(x.astype(np.longdouble), **segments)
    assert (out == 7).all()


def test_bad_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match=r"x must have one axis, got shape \(2, 2\)"):
        boltzmax.segment_softmax(np.zeros((2, 2)), [0, 2])
    with pytest.raises(ValueError, match="out has shape"):
        boltzmax.segment_softmax(np.zeros(2), [0, 2], out=np.zeros(3))
    with pytest.raises(ValueError, match=r"dy has shape \(3,\), but y has shape \(2,\)"):
        boltzmax.segment_softmax_backward(np.zeros(3), np.zeros(2), [0, 2])
    with pytest.raises(TypeError, match="complex"):
        boltzmax.segment_softmax(np.zeros(2, complex), [0, 2])
