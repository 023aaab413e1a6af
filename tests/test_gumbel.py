"""Random numbers from counters, softmax with Gumbel noise, and draws of classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import boltzmax
from boltzmax import _core
from gumbel_oracle import DRAW, block, gumbel, gumbel_of, philox, signed_uniforms
from layouts import LAYOUTS

pytestmark = pytest.mark.usefixtures("strict")

Array = npt.NDArray[Any]
KEY = 0x299F31D0A4093822
EPS = {"float32": 2.0**-23, "float64": 2.0**-52, "float16": 2.0**-10, "bfloat16": 2.0**-7}
LENGTHS = (*range(1, 42), 63, 64, 65, 127, 128, 129, 257, 1000, 4097)


def noise(
    rows: int, n: int, dtype: Any, first_row: int = 0, kind: int = 0, key: int = KEY
) -> Array:
    out = boltzmax.softmax(np.zeros((rows, n), dtype))  # which registers bfloat16
    _core.run_function("noise", out.copy(), None, out, 1, None, None, key=key, count=kind,
                       first_row=first_row)  # fmt: skip
    return out


def scores(shape: Any, dtype: Any = np.float32, seed: int = 0, scale: float = 1.0) -> Array:
    with np.errstate(under="ignore"):
        return (scale * np.random.default_rng(seed).normal(size=shape)).astype(dtype)


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max())
    return e / e.sum()


# ---- random numbers ----


def test_philox_has_the_published_words() -> None:
    """The vectors of Random123, kat_vectors."""
    published = [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ]
    for counter, (k0, k1), words in published:
        assert tuple(map(int, philox(k0 | k1 << 32, list(counter)))) == words


@pytest.mark.parametrize("first_row", [0, 7, 2**32 - 2, 2**63 + 5])
@pytest.mark.parametrize("key", [0, KEY, 2**64 - 1])
def test_noise_is_that_of_the_counters(isa: str, key: int, first_row: int) -> None:
    """A double has enough digits to identify the word that it came from."""
    for n in LENGTHS:
        got = noise(5, n, np.float64, first_row, key=key)
        want = np.stack([gumbel(key, first_row + r, n) for r in range(5)])
        error = np.abs(got - want) / np.maximum(1, np.abs(want))
        assert error.max() <= 2.0**-51, n


def test_noise_in_the_tails(isa: str) -> None:
    n = 300_000
    s = signed_uniforms(KEY, 3, n)
    tails = np.abs(s) < 2.0**-12
    assert 80 < tails.sum() < 220
    assert (s[tails] * 2.0**32 % 1 != 0.5).all()
    want = gumbel(KEY, 3, n)
    for dtype, limit in ((np.float64, 2.0**-51), (np.float32, 2.0**-21)):
        got = noise(1, n, dtype, 3)[0]
        error = np.abs(got - want) / np.maximum(1, np.abs(want))
        assert error.max() <= limit


def test_smallest_and_largest_variates() -> None:
    least = np.longdouble(2) ** -65
    assert float(gumbel_of(np.array([least]))[0]) == pytest.approx(45.06, abs=0.01)
    assert float(gumbel_of(np.array([-least]))[0]) == pytest.approx(-3.81, abs=0.01)


def test_noise_in_every_dtype(isa: str, dtype: np.dtype[Any]) -> None:
    got = noise(3, 5000, dtype).astype(np.longdouble)
    want = np.stack([gumbel(KEY, r, 5000) for r in range(3)])
    limit = {"float64": 2.0**-51, "float32": 2.0**-21}.get(dtype.name, 0.51 * EPS[dtype.name])
    assert (np.abs(got - want) / np.maximum(1, np.abs(want))).max() <= limit


def test_noise_of_an_element_depends_on_neither_width_nor_batch(isa: str) -> None:
    wide = noise(40, 500, np.float32)
    for n in (1, 4, 5, 31, 64, 100):
        assert (noise(40, n, np.float32) == wide[:, :n]).all()
    assert (noise(9, 500, np.float32, 13) == wide[13:22]).all()


def test_normal_noise_is_the_quantile_of_the_same_numbers(isa: str) -> None:
    special = pytest.importorskip("scipy.special")
    s = signed_uniforms(KEY, 0, 300_000)
    want = -np.sign(s).astype(float) * special.ndtri(np.abs(s).astype(float))
    for dtype, limit in ((np.float64, 2.0**-48), (np.float32, 2.0**-20)):
        got = noise(1, len(s), dtype, kind=1)[0]
        assert (np.abs(got - want) / np.maximum(1, np.abs(want))).max() <= limit


@pytest.mark.parametrize("kind", [0, 1])
def test_distribution_of_the_noise(kind: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    distribution = (stats.gumbel_r, stats.norm)[kind]
    x = noise(10, 10_000, np.float32, kind=kind).astype(float)
    assert stats.kstest(x.ravel(), distribution.cdf).pvalue > 0.01
    pairs = x.reshape(-1, 2)
    for left, right in ((pairs[:, 0], pairs[:, 1]), (x[0], x[1]), (x[0, :-4], x[0, 4:])):
        assert abs(np.corrcoef(left, right)[0, 1]) < 4 / np.sqrt(len(left))


# ---- gumbel_softmax ----


@pytest.mark.parametrize("temperature", [1.0, 0.25, 3.0])
def test_values(isa: str, dtype: np.dtype[Any], temperature: float) -> None:
    eps = EPS[dtype.name]
    for n in LENGTHS:
        x = scores((20, n), dtype, n, 2.0)
        got = boltzmax.gumbel_softmax(x, temperature=temperature, rng=KEY, first_row=5)
        assert got.dtype == dtype
        for r, row in enumerate(x.astype(np.longdouble)):
            z = (row - row.max() + gumbel(KEY, 5 + r, n)) / temperature
            want = softmax(z)
            # z is rounded in the dtype of the computation: the exponential's error grows with it.
            unit = max(eps, 2.0**-23 if dtype.itemsize <= 4 else 0)
            computing = 2.0**-23 if dtype.itemsize <= 4 else 2.0**-52
            error = np.abs(got[r].astype(np.longdouble) - want)
            size = np.abs(z - z.max()) + np.abs(z.max()) / temperature + 4
            limit = want * (unit + 3 * computing * size / min(1, temperature)) + 1e-7 * (eps > 1e-7)
            limit += np.abs(want).max() * 2.0**-60
            assert (error <= limit + (want.max() * eps * (dtype.itemsize == 2))).all(), n


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


# ---- gumbel_max ----


def plain_draw(x: Array, key: int, row: int, draw: int) -> int:
    """The definition, in long double."""
    words = [int(w) for w in block(key, row, DRAW, draw)]
    shares = [((words[i] | words[i + 1] << 32) >> 11) * 2.0**-53 for i in (0, 2)]
    length = 128
    while length * length < len(x):
        length *= 2
    e = np.exp(x.astype(np.longdouble) - x.max())
    starts = np.arange(0, len(x), length)
    sums = np.cumsum(np.add.reduceat(e, starts))
    b = int(np.searchsorted(sums, np.longdouble(shares[0]) * sums[-1], side="right"))
    inside = np.cumsum(e[starts[b] : starts[b] + length])
    target = np.longdouble(shares[1]) * inside[-1]
    return int(starts[b]) + int(np.searchsorted(inside, target, side="right"))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_draws_follow_their_definition(isa: str, dtype: Any) -> None:
    for n in (*range(1, 45), 127, 128, 129, 300, 1000, 20_000):
        x = scores((6, n), dtype, n, 2.0)
        got = boltzmax.gumbel_max(x, rng=KEY, first_row=9)
        many = boltzmax.gumbel_max(x, n=5, rng=KEY, first_row=9)
        assert many.shape == (6, 5)
        assert (many[:, 0] == got).all()
        for r, row in enumerate(x):
            assert list(many[r]) == [plain_draw(row, KEY, 9 + r, d) for d in range(5)], n


def test_numbers_near_an_edge_are_decided_in_double(isa: str) -> None:
    """Among 10^5 draws, many are near an edge; each is still the one of the definition."""
    for shape in ((30_000, 9), (60, 2000)):
        x = scores(shape, np.float32, 1, 0.1)
        draws = 1 if shape[0] > 60 else 500
        got = boltzmax.gumbel_max(x, n=draws, rng=5)
        with boltzmax.testing.use_isa("scalar"):
            assert (boltzmax.gumbel_max(x.astype(np.float64), n=draws, rng=5) == got).all()
        assert (boltzmax.gumbel_max(x, temperature=0.5, n=draws, rng=5)
                == boltzmax.gumbel_max(x + 0.0, temperature=0.5, n=draws, rng=5)).all()  # fmt: skip


@pytest.mark.parametrize("n", [6, 700])
def test_draws_have_the_distribution_of_softmax(n: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    logits = scores(n, np.float32, 3, 1.5)
    logits[4] = -np.inf
    for temperature in (1.0, 2.0):
        p = softmax(logits.astype(float) / temperature)
        rows = np.broadcast_to(logits, (100_000 // (1 + n // 100), n))
        many = boltzmax.gumbel_max(logits, n=100_000, temperature=temperature, rng=8)
        single = boltzmax.gumbel_max(rows, temperature=temperature, rng=8)
        for ids in (many, single):
            counts = np.bincount(ids, minlength=n)
            assert counts[4] == 0
            large = p * len(ids) > 5
            observed = np.append(counts[large], counts[~large].sum())
            expected = np.append(p[large], p[~large].sum()) * len(ids)
            keep = expected > 0
            assert stats.chisquare(observed[keep], expected[keep]).pvalue > 0.01
        lagged = np.corrcoef(many[:-1], many[1:])[0, 1]
        assert abs(lagged) < 4 / np.sqrt(len(many))


def test_a_tail_of_1e_7() -> None:
    """A class of probability 1e-7 is drawn about that often: 20 times in 2 x 10^8 / its share."""
    logits = np.zeros(3)
    logits[1:] = np.log(1e-4)
    for n, tail in ((3, slice(1, None)),):
        ids = boltzmax.gumbel_max(logits[:n], n=2_000_000, rng=21)
        expected = 2_000_000 * softmax(logits)[tail].sum()
        drawn = (ids > 0).sum()
        assert abs(drawn - expected) < 4 * np.sqrt(expected)


def test_the_first_class_of_tiny_probability_is_reachable() -> None:
    """Its edge is where the numbers are smallest: 1e-7 of them are below it, not 0 or 2^-24."""
    logits = np.array([np.log(1e-5), 0.0], np.float32)
    x = np.broadcast_to(logits, (2_000_000, 2))
    drawn = int((boltzmax.gumbel_max(x, rng=4) == 0).sum())
    assert abs(drawn - 20) < 4 * np.sqrt(20)


def test_many_classes() -> None:
    """2^22 equal classes: their ids are uniform (2^26 in benchmarks/many_draws.py)."""
    stats = pytest.importorskip("scipy.stats")
    ids = boltzmax.gumbel_max(np.zeros(2**22, np.float32), n=20_000, rng=6)
    assert stats.kstest(ids / 2.0**22, "uniform").pvalue > 0.01


def test_ids_of_rows_without_classes(isa: str) -> None:
    for n in (3, 50, 300):
        x = scores((5, n))
        x[0, 1], x[1, 1], x[2] = np.nan, np.inf, -np.inf
        want = np.array([-1, -1, -1])
        assert (boltzmax.gumbel_max(x, rng=1)[:3] == want).all()
        assert (boltzmax.gumbel_max(x, n=2, rng=1)[:3] == -1).all()
        assert (boltzmax.gumbel_max(x, temperature=0.0, rng=1)[:3] == want).all()
        assert (boltzmax.gumbel_max(x, rng=1)[3:] >= 0).all()
        ids, keys = boltzmax.gumbel_topk(x, 2, rng=1)
        assert (ids[:3] == -1).all()
        assert np.isnan(keys[:2]).all()
        assert (keys[2] == -np.inf).all()
        assert (ids[3:] >= 0).all()


def test_temperature_0_is_the_first_largest_score(isa: str) -> None:
    x = np.round(scores((50, 40), np.float32, 0, 2.0))
    t = np.where(np.arange(50) % 2 == 0, 0.0, 1.0)
    got = boltzmax.gumbel_max(x, temperature=t, rng=3)
    assert (got[::2] == x[::2].argmax(axis=-1)).all()
    assert (got[1::2] == boltzmax.gumbel_max(x, rng=3)[1::2]).all()


def test_axes_and_shapes_of_draws() -> None:
    x = scores((4, 5, 6))
    want = boltzmax.gumbel_max(np.moveaxis(x, 1, -1), rng=1)
    assert want.shape == (4, 6)
    assert want.dtype == np.int64
    assert (boltzmax.gumbel_max(x, axis=1, rng=1) == want).all()
    assert isinstance(boltzmax.gumbel_max([0.0, 1.0], rng=1), np.int64)
    assert boltzmax.gumbel_max(x, n=0, rng=1).shape == (4, 5, 0)
    assert (boltzmax.gumbel_max(np.empty((3, 0)), rng=1) == -1).all()
    assert boltzmax.gumbel_max(np.empty((0, 3)), rng=1).shape == (0,)
    ids, keys = boltzmax.gumbel_topk(x, 2, axis=0, rng=1)
    assert ids.shape == keys.shape == (5, 6, 2)


# ---- gumbel_topk ----


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_keys_are_scores_with_noise(isa: str, dtype: Any) -> None:
    for n in (1, 2, 9, 33, 100, 1000, 40_000):
        x = scores((2, n), dtype, n, 2.0)
        x[:, n // 2 : n // 2 + n // 10] = -np.inf
        for k in sorted({1, min(n, 7), min(n, 100), n}):
            for t in (1.0, 0.3):
                ids, keys = boltzmax.gumbel_topk(x, k, temperature=t, rng=KEY, first_row=3)
                for r, row in enumerate(x.astype(np.longdouble)):
                    exact = row / t + gumbel(KEY, 3 + r, n)
                    order = np.argsort(-exact, kind="stable")[:k]
                    finite = exact[order] > -np.inf
                    assert (ids[r] == np.where(finite, order, -1)).all()
                    np.testing.assert_allclose(
                        keys[r], exact[order].astype(float), rtol=1e-14, atol=2e-14
                    )


def test_keys_of_distant_scores(isa: str) -> None:
    """The quotient by the temperature leaves single precision; every class is still found."""
    x = np.array([0.0, -1e3, -1e10, -2e10, -np.inf], np.float32)
    ids, keys = boltzmax.gumbel_topk(x, 5, temperature=1e-30, rng=1)
    assert (ids == [0, 1, 2, 3, -1]).all()
    assert (np.isfinite(keys[:4])).all()
    x = np.linspace(1e5, -1e5, 5000)
    assert (boltzmax.gumbel_topk(x, 5000, rng=1)[0] == np.arange(5000)).all()


def test_draws_without_replacement_have_their_distribution() -> None:
    stats = pytest.importorskip("scipy.stats")
    logits = np.array([0.0, 1.0, 0.5, -0.5])
    p = softmax(logits)
    ids, _ = boltzmax.gumbel_topk(np.broadcast_to(logits, (100_000, 4)), 2, rng=17)
    pairs = [(a, b) for a in range(4) for b in range(4) if a != b]
    observed = [((ids[:, 0] == a) & (ids[:, 1] == b)).sum() for a, b in pairs]
    expected = [100_000 * p[a] * p[b] / (1 - p[a]) for a, b in pairs]
    assert stats.chisquare(observed, expected).pvalue > 0.01


def test_every_isa_has_the_same_ids_and_keys(dtype: np.dtype[Any]) -> None:
    results = []
    x = scores((40, 3000), dtype, 2, 3.0)
    short = scores((5000, 12), dtype, 2, 3.0)
    for name in boltzmax.available_isas():
        with boltzmax.testing.use_isa(name):
            ids, keys = boltzmax.gumbel_topk(x, 20, rng=1)
            results.append((ids, keys, boltzmax.gumbel_max(x, n=50, rng=1),
                            boltzmax.gumbel_max(short, rng=1),
                            boltzmax.gumbel_max(short, temperature=0.7, rng=1)))  # fmt: skip
    for other in results[1:]:
        assert all((a == b).all() for a, b in zip(results[0], other, strict=True))


# ---- arguments ----


def test_generators_and_keys() -> None:
    x = scores((3, 5))
    a, b = np.random.default_rng(1), np.random.default_rng(1)
    first, second = (boltzmax.gumbel_softmax(x, rng=a) for _ in range(2))
    assert (first != second).any()
    assert (boltzmax.gumbel_softmax(x, rng=b) == first).all()
    key = int(np.random.default_rng(1).integers(2**64, dtype=np.uint64))
    assert (boltzmax.gumbel_softmax(x, rng=key) == first).all()
    assert (boltzmax.gumbel_softmax(x, rng=np.int64(3)) == boltzmax.gumbel_softmax(x, rng=3)).all()


@pytest.mark.parametrize(
    ("error", "options", "message"),
    [
        (ValueError, {"temperature": -1.0}, "temperature must be >= 0"),
        (ValueError, {"temperature": np.nan}, "temperature must be >= 0"),
        (ValueError, {"rng": -1}, r"rng must be from 0 to 2\*\*64 - 1, got -1"),
        (ValueError, {"rng": 2**64}, "rng must be from 0"),
        (TypeError, {"rng": 1.5}, "rng must be an integer, a numpy.random.Generator or None"),
        (ValueError, {"first_row": -1}, "first_row must be from 0"),
        (TypeError, {"first_row": 1.0}, "first_row must be an integer"),
        (np.exceptions.AxisError, {"axis": 3}, "axis 3 is out of bounds"),
    ],
)
def test_bad_arguments(error: type[Exception], options: dict[str, Any], message: str) -> None:
    x, out = scores((2, 3)), np.full((2, 3), 7, np.float32)
    generator = np.random.default_rng(1)
    state = generator.bit_generator.state
    options = {"rng": generator} | options
    with pytest.raises(error, match=message):
        boltzmax.gumbel_softmax(x, out=out, **options)
    with pytest.raises(error, match=message):
        boltzmax.gumbel_max(x, **options)
    with pytest.raises(error, match=message):
        boltzmax.gumbel_topk(x, 2, **options)
    assert (out == 7).all()
    assert generator.bit_generator.state == state


def test_other_bad_arguments() -> None:
    x = scores((2, 3))
    with pytest.raises(ValueError, match="noise must be one of 'gumbel', 'normal', got 'cauchy'"):
        boltzmax.gumbel_softmax(x, noise="cauchy")
    with pytest.raises(ValueError, match="k must be from 1 to 3, got 4"):
        boltzmax.gumbel_topk(x, 4)
    with pytest.raises(ValueError, match="k must be from 1 to 3, got 0"):
        boltzmax.gumbel_topk(x, 0)
    with pytest.raises(ValueError, match="temperature must be > 0 for gumbel_topk, got 0"):
        boltzmax.gumbel_topk(x, 1, temperature=0.0)
    with pytest.raises(ValueError, match="n must be from 0"):
        boltzmax.gumbel_max(x, n=-1)
    for function in (boltzmax.gumbel_softmax, boltzmax.gumbel_max):
        with pytest.raises(TypeError, match="complex"):
            function(x + 1j)
        with pytest.raises(TypeError, match="logits is None"):
            function(None)
    with pytest.raises(ValueError, match="out has shape"):
        boltzmax.gumbel_softmax(x, out=np.empty((3, 2), np.float32))


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
