"""Draws of chains have the exact distribution of their steps, in the tail, too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import boltzmax
import sampling_oracle
from boltzmax.sampling import Chain, Temperature, TopP, sample
from sampling_samples import FILTERS, TIED

pytestmark = pytest.mark.usefixtures("strict")

Array = npt.NDArray[Any]
KEY = 0x452821E638D01377


def chi_square(ids: Array, p: Array) -> float:
    """The probability of counts this far from the expected ones; rare classes are merged."""
    stats = pytest.importorskip("scipy.stats")
    counts = np.bincount(ids.reshape(-1), minlength=len(p))
    assert counts[p == 0.0].sum() == 0
    large = p * ids.size > 5
    observed = np.append(counts[large], counts[~large].sum())
    expected = np.append(p[large], p[~large].sum()) * ids.size
    keep = expected > 0
    if keep.sum() < 2:
        return 1.0
    expected *= observed.sum() / expected.sum()
    return float(stats.chisquare(observed[keep], expected[keep]).pvalue)


def exact_p(names: Sequence[str]) -> Array:
    return sampling_oracle.probabilities(TIED, [FILTERS[name][1] for name in names])


@pytest.mark.parametrize("name", FILTERS)
def test_draws_of_each_filter(name: str, isa: str) -> None:
    """One draw from each of many rows: XTC decides once for a row."""
    x = np.broadcast_to(TIED, (100_000, len(TIED)))
    ids = Chain([FILTERS[name][0]], rng=KEY)(x).ids
    assert chi_square(ids, exact_p([name])) > 1e-3


@pytest.mark.parametrize("first", FILTERS)
def test_draws_of_pairs(first: str) -> None:
    for i, second in enumerate(FILTERS):
        chain = Chain([FILTERS[first][0], FILTERS[second][0]], rng=KEY + i)
        p = exact_p([first, second])
        if "xtc" in (first, second):
            ids = chain(np.broadcast_to(TIED, (100_000, len(TIED)))).ids
            if first == second:
                continue  # both have the same coin
        else:
            ids = chain(TIED, n=100_000).ids
        assert chi_square(ids, p) > 1e-4, second


def test_classes_of_probability_1e_9() -> None:
    """A million of them, which have 1e-3 together, are drawn that often, and alike."""
    stats = pytest.importorskip("scipy.stats")
    classes, draws = 2**20, 200_000
    x = np.full(classes + 1, np.log(1e-9), np.float32)
    x[classes // 2] = np.log1p(-classes * 1e-9)
    ids = Chain([TopP(1.0)], rng=KEY)(x, n=draws).ids
    rare = ids[ids != classes // 2]
    expected = draws * classes * 1e-9
    assert abs(len(rare) - expected) < 4 * np.sqrt(expected)
    assert stats.kstest(rare / classes, "uniform").pvalue > 0.01


def test_tails_without_replacement() -> None:
    """After a class of nearly 1, classes of 1e-9 and 3e-9 come in the ratio of 1 to 3."""
    x = np.log([1e-9, 1.0, 3e-9])
    rows = np.broadcast_to(x, (10_000, 3))
    sample = Chain([Temperature(1.0)], rng=KEY)(rows, n=3, replace=False)
    assert (sample.ids[:, 0] == 1).all()
    assert abs((sample.ids[:, 1] == 2).sum() - 7_500) < 4 * np.sqrt(10_000 * 3 / 16)
    want = sampling_oracle.log_softmax(x)[sample.ids]
    np.testing.assert_allclose(sample.log_probs, want.astype(float), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("name", "scale"), [("float32", 1.0), ("float32", 2.5), ("float64", 2.5), ("float16", 2.5)]
)
def test_long_rows(name: str, scale: float, isa: str) -> None:
    """Threads share a row, and the kept classes, counts and log-probabilities are exact."""
    with np.errstate(under="ignore"):  # by float16
        x = (scale * np.random.default_rng(5).standard_normal((1, 300_001))).astype(name)
    threads = boltzmax.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            boltzmax.set_num_threads(count)
            results.append(sample(x, top_p=0.9, n=2000, rng=KEY))
    finally:
        boltzmax.set_num_threads(threads)
    for result in results[1:]:
        for got, want in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(got, want)
    row = x[0].astype(np.float64)
    order = np.lexsort((np.arange(row.size), -row))
    sums = np.exp(row[order] - row.max()).cumsum()
    kept = order[: np.searchsorted(sums, 0.9 * sums[-1]) + 1]
    ids = results[0].ids[0]
    assert results[0].kept == len(kept)
    assert np.isin(ids, kept).all()
    log_total = np.log(sums[len(kept) - 1]) + row.max()
    np.testing.assert_allclose(results[0].log_probs[0], row[ids] - log_total, atol=3e-7)
    # A fourth of the mass each.
    edges = np.searchsorted(sums / sums[len(kept) - 1], [0.25, 0.5, 0.75])
    rank = np.empty(row.size, np.int64)
    rank[order] = np.arange(row.size)
    shares = np.bincount(np.searchsorted(edges, rank[ids]), minlength=4) / ids.size
    assert np.abs(shares - 0.25).max() < 0.05
