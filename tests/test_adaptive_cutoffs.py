"""Cutoffs of an adaptive softmax, compared with all others where there are few."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from boltzmax import AdaptiveSoftmax
from boltzmax.adaptive.cutoffs import Costs, best_cutoffs, cost_of, tails_allowed

ZIPF = 1 / np.arange(1, 100_001)


@pytest.mark.parametrize("seed", range(4))
def test_best_of_all(seed: int) -> None:
    """No other cutoffs of 30 classes are cheaper."""
    rng = np.random.default_rng(seed)
    counts = -np.sort(-rng.pareto(1.0, 30))
    costs = Costs(call=rng.uniform(0, 5e3), least_rows=rng.integers(1, 9))
    found = best_cutoffs(counts, 32, rows=64, most_tails=3, costs=costs)
    every = itertools.chain.from_iterable(itertools.combinations(range(1, 30), n) for n in range(4))
    least = min(cost_of(cutoffs, counts, 32, rows=64, costs=costs) for cutoffs in every)
    assert cost_of(found, counts, 32, rows=64, costs=costs) == pytest.approx(least, rel=1e-12)


@pytest.mark.parametrize("tails", [1, 2, 3, 4])
@pytest.mark.parametrize("power", [0.7, 1.0, 1.4])
def test_neighbours_cost_more(tails: int, power: float) -> None:
    """Of 100,000 classes, where not all can be tried."""
    counts = ZIPF**power
    found = best_cutoffs(counts, 256, most_tails=tails)
    cost = cost_of(found, counts, 256)
    assert 1 <= len(found) <= tails
    for i, step in itertools.product(range(len(found)), (-1000, -30, -1, 1, 30, 1000)):
        other = [c + step * (j == i) for j, c in enumerate(found)]
        if all(a < b for a, b in itertools.pairwise([0, *other, 100_000])):
            assert cost_of(tuple(other), counts, 256) >= cost
    assert cost < cost_of((), counts, 256)


def test_costs_by_hand() -> None:
    """g(k, B) = c + k (0.02 D + 0.5) max(B, B0)."""
    costs = Costs(call=100.0, multiplication=1.0, logit=2.0, least_rows=4.0)
    counts = [6, 2, 1, 1]
    head = 100 + (1 + 2) * 5 * 10
    tails = (100 + 2 * 5 * 4) + (100 + 1 * 5 * 4)  # 3 rows and 1 row are as dear as 4
    assert cost_of((1, 3), counts, 3, rows=10, costs=costs) == head + tails


def test_more_counts_in_few_classes_make_a_smaller_head() -> None:
    flat, steep = (best_cutoffs(ZIPF**p, 256, most_tails=2)[0] for p in (0.8, 1.3))
    assert steep < flat


def test_a_layer_takes_them() -> None:
    assert AdaptiveSoftmax(256, 100_000).cutoffs == best_cutoffs(ZIPF, 256, most_tails=2)
    order = np.random.default_rng(0).permutation(100_000)
    layer = AdaptiveSoftmax(256, 100_000, counts=ZIPF[order])
    assert layer.cutoffs == best_cutoffs(ZIPF, 256, most_tails=2)
    np.testing.assert_array_equal(layer.order, np.argsort(order))
    assert best_cutoffs(np.ones(8), 4) == ()
    assert best_cutoffs([1.0], 4) == ()


def test_huge_counts() -> None:
    """Their sum is beyond the greatest number."""
    counts = np.r_[np.full(10, 1.0), np.full(20_000, 1e-9)]
    found = AdaptiveSoftmax(256, len(counts), counts=1e308 * counts)
    assert found.cutoffs == AdaptiveSoftmax(256, len(counts), counts=counts).cutoffs == (10,)


def test_many_tails() -> None:
    """Powers of `div_value` beyond the greatest number: vectors of length 1."""
    layer = AdaptiveSoftmax(16, 1200, range(1, 1200))
    assert [len(tail.projection) for tail in layer.tails[:3]] == [4, 1, 1]
    assert len(layer.tails[-1].projection) == 1
    assert AdaptiveSoftmax(2, 30, range(1, 30), div_value=1e30).n_classes == 30


def test_vectors_of_tails_are_not_too_short() -> None:
    """At least 8 numbers, but for the first tail."""
    assert [tails_allowed(d, 4.0) for d in (16, 64, 128, 256, 1024)] == [1, 1, 2, 2, 3]
    assert tails_allowed(10**6, 1.0) == 4
