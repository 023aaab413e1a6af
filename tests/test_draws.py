"""Draws of classes with and without replacement, and the arguments of random functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import boltzmax
import boltzmax.testing
from gumbel_oracle import (
    DRAW,
    Array,
    block,
    gumbel,
    scores,
    softmax,
)

pytestmark = pytest.mark.usefixtures("strict")

KEY = 0x299F31D0A4093822


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


def test_a_tail_of_1e_4() -> None:
    """Each of two classes of probability 1e-4 (1e-7 in benchmarks/many_draws.py)."""
    logits = np.log([1.0, 1e-4, 1e-4])
    ids = boltzmax.gumbel_max(logits, n=2_000_000, rng=21)
    for c in (1, 2):
        expected = 2_000_000 * softmax(logits)[c]
        assert abs((ids == c).sum() - expected) < 4 * np.sqrt(expected)


def test_the_first_class_of_tiny_probability_is_reachable() -> None:
    """Its edge is where the numbers are smallest: 1e-5 of them are below it."""
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


def gumbel_rows(key: int, rows: int, n: int) -> Array:
    return np.stack([gumbel(key, r, n) for r in range(rows)])


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


def test_noise_counts_however_large_scores_are(isa: str) -> None:
    """Of equal scores far below or above zero, each is drawn first as often as any other."""
    rows = np.zeros((3000, 4))
    for at, score in ((0, 2.0**60), (0, 1e300), (1, -(2.0**70))):
        x = rows + (score if at else 0.0)
        x[:, 0] = 0.0 if at else score
        ids, keys = boltzmax.gumbel_topk(x, 4, rng=5)
        assert (ids[:, 0] == 0).all()
        first = np.bincount(ids[:, 1], minlength=4)[1:]
        assert (np.abs(first - 1000) < 5 * np.sqrt(1000 * 2 / 3)).all()
        order = np.argsort(-gumbel_rows(5, 50, 4)[:, 1:], axis=1) + 1
        assert (ids[:50, 1:] == order).all()
        assert (np.diff(keys) <= 0).all()


def test_order_of_scores_that_a_distance_would_swallow(isa: str) -> None:
    """Their distances from the maximum are the same number; their keys are not."""
    x = np.array([2.0**60, 0.0, 40.0, 80.0, 120.0])
    for row in range(50):
        ids, _ = boltzmax.gumbel_topk(x, 5, rng=1, first_row=row)
        want = np.argsort(-(x[1:] + gumbel(1, row, 5)[1:])) + 1
        assert (ids[1:] == want).all()


def test_keys_beyond_the_range_are_the_largest_numbers(isa: str) -> None:
    x, largest = np.array([1e308, 1.0, -1e308, 1e308, -np.inf]), np.finfo(float).max
    ids, keys = boltzmax.gumbel_topk(x, 5, temperature=1e-30, rng=1)
    noise = gumbel(1, 0, 5)
    first = [0, 3] if noise[0] > noise[3] else [3, 0]
    assert ids.tolist() == [*first, 1, 2, -1]
    assert keys.tolist() == [largest, largest, keys[2], -largest, -np.inf]
    np.testing.assert_allclose(keys[2], 1e30)
    ids, keys = boltzmax.gumbel_topk([1.7e308, -1.7e308, -1.6e308], 3, rng=1)
    assert ids.tolist() == [0, 2, 1]
    assert keys.tolist() == [1.7e308, -1.6e308, -1.7e308]


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
            results.append((ids, keys, *boltzmax.gumbel_topk(short, 5, rng=1),
                            boltzmax.gumbel_max(x, n=50, rng=1),
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
