"""Softmax with Gumbel noise: the function, its gradient and the layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import boltzmax
import boltzmax.testing
from boltzmax.testing import use_isa
from gumbel_oracle import (
    gumbel,
    scores,
    softmax,
)
from layouts import LAYOUTS

pytestmark = pytest.mark.usefixtures("strict")

KEY = 0x299F31D0A4093822
EPS = {"float32": 2.0**-23, "float64": 2.0**-52, "float16": 2.0**-10, "bfloat16": 2.0**-7}
LENGTHS = (*range(1, 42), 63, 64, 65, 127, 128, 129, 257, 1000, 4097)


@pytest.mark.parametrize("temperature", [1.0, 0.25, 3.0])
def test_values(dtype: np.dtype[Any], temperature: float) -> None:
    eps = EPS[dtype.name]
    for n in LENGTHS:
        x = scores((20, n), dtype, n, 2.0)
        results = {}
        for isa in boltzmax.available_isas():
            with use_isa(isa):
                got = boltzmax.gumbel_softmax(x, temperature=temperature, rng=KEY, first_row=5)
            assert got.dtype == dtype
            results[isa] = got.astype(np.longdouble)
        for r, row in enumerate(x.astype(np.longdouble)):
            z = (row - row.max() + gumbel(KEY, 5 + r, n)) / temperature
            want = softmax(z)
            # z is rounded in the dtype of the computation: the exponential's error grows with it.
            unit = max(eps, 2.0**-23 if dtype.itemsize <= 4 else 0)
            computing = 2.0**-23 if dtype.itemsize <= 4 else 2.0**-52
            size = np.abs(z - z.max()) + np.abs(z.max()) / temperature + 4
            limit = want * (unit + 3 * computing * size / min(1, temperature)) + 1e-7 * (eps > 1e-7)
            limit += np.abs(want).max() * 2.0**-60
            limit += want.max() * eps * (dtype.itemsize == 2)
            for isa, got in results.items():
                assert (np.abs(got[r] - want) <= limit).all(), (n, isa)


def test_large_scores_do_not_swallow_the_noise(isa: str) -> None:
    for n in (10, 300):
        x = np.round(scores((50, n), np.float32, 1, 8.0)) / 8
        want = boltzmax.gumbel_softmax(x, rng=3)
        assert (boltzmax.gumbel_softmax(x + np.float32(2**20), rng=3) == want).all()
        ids, _ = boltzmax.gumbel_topk(x, 3, rng=3)
        assert (boltzmax.gumbel_topk(x + np.float32(2**20), 3, rng=3)[0] == ids).all()
        want = boltzmax.gumbel_max(x, rng=3)
        assert (boltzmax.gumbel_max(x + np.float32(2**20), rng=3) == want).all()


@pytest.mark.parametrize("n", [2, 10, 70, 1000])
def test_batch_threads_and_first_row(isa: str, n: int, threads: Callable[[int], None]) -> None:
    x = scores((200_000 // n, n))
    threads(1)
    functions: list[Callable[..., Any]] = [
        boltzmax.gumbel_softmax,
        lambda x, **o: boltzmax.gumbel_softmax(x, hard=True, **o),
        boltzmax.gumbel_max,
        lambda x, **o: boltzmax.gumbel_max(x, n=3, **o),
        lambda x, **o: boltzmax.gumbel_topk(x, 2, **o)[1],
    ]
    for function in functions:
        want = function(x, rng=KEY)
        threads(4)
        assert (function(x, rng=KEY) == want).all()
        threads(1)
        for begin, end in ((0, 1), (1, 2), (3, 50), (17, 90)):
            assert (function(x[begin:end], rng=KEY, first_row=begin) == want[begin:end]).all()


def test_layouts_axes_and_where(isa: str, dtype: np.dtype[Any]) -> None:
    for n in (3, 37, 300):
        x = scores((4, 5, n), dtype)
        want = boltzmax.gumbel_softmax(x, rng=1)
        for layout in LAYOUTS.values():
            assert (boltzmax.gumbel_softmax(layout(x), rng=1) == want).all()
            along_0 = boltzmax.gumbel_softmax(np.moveaxis(layout(x), -1, 0), axis=0, rng=1)
            assert (np.moveaxis(along_0, 0, -1) == want).all()
        keep = np.random.default_rng(0).random(x.shape) < 0.7
        keep[..., 0] = True
        for hard in (False, True):
            masked = boltzmax.gumbel_softmax(x, hard=hard, where=keep, rng=1)
            infinite = np.where(keep, x, np.array(-np.inf, dtype))
            assert (masked == boltzmax.gumbel_softmax(infinite, hard=hard, rng=1)).all()
            assert (masked[~keep] == 0).all()


def test_hard_results_are_one_hot_at_the_largest_key(isa: str, dtype: np.dtype[Any]) -> None:
    for n in (1, 5, 40, 300):
        x = scores((300, n), dtype, n)
        y, soft = boltzmax.gumbel_softmax(x, hard=True, rng=2, return_soft=True)
        assert y.dtype == dtype
        assert (y.astype(float).sum(axis=-1) == 1).all()
        assert ((y == 0) | (y == 1)).all()
        ids, _ = boltzmax.gumbel_topk(x, 1, rng=2)
        assert (y.argmax(axis=-1) == ids[:, 0]).all()
        assert (soft == boltzmax.gumbel_softmax(x, rng=2)).all()
        for t in (0.0, np.zeros(300)):
            assert (boltzmax.gumbel_softmax(x, temperature=t, rng=2) == y).all()
        assert (boltzmax.gumbel_softmax(x, hard=True, temperature=9.0, rng=2) == y).all()


def test_some_temperatures_are_0() -> None:
    x, t = scores((3, 6)), np.array([0.0, 0.5, 0.0])
    out = np.empty_like(x)
    assert boltzmax.gumbel_softmax(x, temperature=t, rng=2, out=out) is out
    hard, soft = boltzmax.gumbel_softmax(x, hard=True, rng=2, return_soft=True, temperature=0.5)
    assert (out[[0, 2]] == hard[[0, 2]]).all()
    assert (out[1] == soft[1]).all()


@pytest.mark.parametrize("temperature", [1e-30, 1e-10, 0.01])
def test_low_temperatures_tend_to_one_hot(isa: str, temperature: float) -> None:
    for n in (5, 300):
        x = scores((200, n))
        hard = boltzmax.gumbel_softmax(x, hard=True, rng=4)
        got = boltzmax.gumbel_softmax(x, temperature=temperature, rng=4)
        assert np.isfinite(got).all()
        assert (got.argmax(axis=-1) == hard.argmax(axis=-1)).all()
        if temperature < 1e-9:
            assert (got == hard).all()


def test_rows_without_probabilities(isa: str, dtype: np.dtype[Any]) -> None:
    for n in (3, 50):
        for special in (np.nan, np.inf):
            x = scores((4, n), dtype)
            x[1, 2] = special
            for hard in (False, True):
                y = boltzmax.gumbel_softmax(x, hard=hard, rng=1).astype(float)
                assert np.isnan(y[1]).all()
                assert np.isfinite(y[[0, 2, 3]]).all()
        x[1] = -np.inf
        keep = np.ones(x.shape, bool)
        keep[1, 0] = False
        for hard in (False, True):
            y = boltzmax.gumbel_softmax(x, hard=hard, rng=1, where=keep).astype(float)
            assert y[1, 0] == 0
            assert np.isnan(y[1, 1:]).all()


def test_out_dtype_and_shapes() -> None:
    x = scores((6, 7))
    want = boltzmax.gumbel_softmax(x, rng=1)
    in_place = x.copy()
    assert boltzmax.gumbel_softmax(in_place, rng=1, out=in_place) is in_place
    assert (in_place == want).all()
    assert boltzmax.gumbel_softmax(x, dtype=np.float64, rng=1).dtype == np.float64
    assert boltzmax.gumbel_softmax(np.arange(4), rng=1).dtype == np.float64
    assert boltzmax.gumbel_softmax(x.astype(np.longdouble), rng=1).dtype == np.longdouble
    assert boltzmax.gumbel_softmax(0.5, rng=1) == 1.0
    assert boltzmax.gumbel_softmax(np.empty((3, 0)), rng=1).shape == (3, 0)
    y, soft = boltzmax.gumbel_softmax(x, rng=1, return_soft=True)
    assert y is soft
    assert boltzmax.gumbel_softmax(x, rng=None).shape == x.shape


def test_the_largest_element_is_a_draw_from_softmax() -> None:
    stats = pytest.importorskip("scipy.stats")
    logits = np.array([0.0, 1.0, 2.0, -1.0, -np.inf, 0.5])
    x = np.broadcast_to(logits, (100_000, 6))
    y = boltzmax.gumbel_softmax(x, hard=True, rng=11)
    counts, p = y.sum(axis=0), softmax(logits)
    assert counts[4] == 0
    assert stats.chisquare(counts[p > 0], 100_000 * p[p > 0]).pvalue > 0.01
    normal = boltzmax.gumbel_softmax(x, hard=True, noise="normal", rng=11).sum(axis=0)
    assert normal[2] > counts[2] + 1000


# ---- gradient ----


def test_gradient_is_the_derivative(isa: str) -> None:
    rng = np.random.default_rng(5)
    for temperature in (1.0, 0.5, np.array([0.3, 1.0, 2.0])):
        x = rng.normal(size=(3, 9))
        y = boltzmax.gumbel_softmax(x, temperature=temperature, rng=1)
        dy = rng.normal(size=y.shape)
        got = boltzmax.gumbel_softmax_backward(dy, y, temperature=temperature)
        want = np.empty_like(x)
        for i in range(9):
            step = np.where(np.arange(9) == i, 1e-6, 0)
            up, down = (
                boltzmax.gumbel_softmax(x + s, temperature=temperature, rng=1)
                for s in (step, -step)
            )
            want[:, i] = (dy * (up - down)).sum(axis=-1) / 2e-6
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-8)


def test_gradient_options(dtype: np.dtype[Any]) -> None:
    x, dy = scores((4, 6), dtype), scores((4, 6), dtype, 1)
    y = boltzmax.gumbel_softmax(x, rng=1)
    plain = boltzmax.gumbel_softmax_backward(dy, y)
    assert (plain == boltzmax.softmax_backward(dy, y)).all()
    half = boltzmax.gumbel_softmax_backward(dy, y, temperature=2.0)
    assert half.dtype == dtype
    assert (np.abs(half.astype(float) - plain.astype(float) / 2) <= EPS[dtype.name]).all()
    out = np.empty_like(x)
    assert boltzmax.gumbel_softmax_backward(dy, y, temperature=2.0, out=out) is out
    assert (out == half).all()
    assert (boltzmax.gumbel_softmax_backward(dy, y, temperature=0.0) == 0).all()
    assert boltzmax.gumbel_softmax_backward(1.0, 1.0, temperature=2.0) == 0


# ---- the layer ----


def test_layer() -> None:
    x = scores((6, 5))
    for hard in (False, True):
        layer = boltzmax.GumbelSoftmax(0.5, hard=hard, num_classes=5, rng=9)
        parts = np.concatenate([layer(x[:2]), layer(x[2:])])
        want, soft = boltzmax.gumbel_softmax(x, temperature=0.5, hard=hard, rng=9, return_soft=True)
        assert (parts == want).all()
        dy = scores((4, 5), np.float32, 1)
        dx = boltzmax.gumbel_softmax_backward(dy, soft[2:], temperature=0.5)
        assert (layer.backward(dy) == dx).all()
        again = boltzmax.GumbelSoftmax.from_config(layer.get_config())
        assert again.get_config() == layer.get_config()
        assert (again(x) == want).all()
    along_0 = boltzmax.GumbelSoftmax(0.5, rng=9)
    y = along_0(x.T, axis=0)
    assert (boltzmax.gumbel_softmax(x, temperature=0.5, rng=9) == y.T).all()
    assert along_0.backward(y).shape == y.shape


def test_layer_anneals_to_a_minimum() -> None:
    layer = boltzmax.GumbelSoftmax(1.0)
    assert [layer.anneal(0.5, 0.2) for _ in range(4)] == [0.5, 0.25, 0.2, 0.2]
    assert layer.temperature == 0.2
    assert layer.get_config()["rng"] is None


def test_layer_rejects_what_does_not_fit() -> None:
    layer = boltzmax.GumbelSoftmax(num_classes=4)
    with pytest.raises(RuntimeError, match="call the layer first"):
        layer.backward(np.zeros(4))
    with pytest.raises(ValueError, match="logits must have 4 classes on axis -1, got 3"):
        layer(np.zeros((2, 3)))
    for options in ({"temperature": -1.0}, {"noise": "x"}, {"num_classes": 0}, {"rng": -1}):
        with pytest.raises(ValueError, match="must be"):
            boltzmax.GumbelSoftmax(**options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="rate must be > 0"):
        layer.anneal(0.0, 0.1)
