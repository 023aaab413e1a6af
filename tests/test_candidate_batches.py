"""Samplers that change: what has been observed, and the classes of a batch."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from boltzmax.candidates import InBatchSampler, LearnedSampler
from test_candidates import chance_of

pytestmark = pytest.mark.usefixtures("strict")


def test_a_learned_sampler_follows_every_observation() -> None:
    """Before, between and after the tables that it makes."""
    sampler = LearnedSampler(30, smoothing=2.0)
    rng = np.random.default_rng(8)
    seen = np.zeros(30)
    for step in range(40):
        ids = rng.integers(0, 30, rng.integers(0, 12)) ** 2 // 30
        sampler.update(ids)
        np.add.at(seen, ids, 1)
        assert (sampler.counts == seen).all()
        q = (seen + 2) / (seen + 2).sum()
        np.testing.assert_allclose(sampler.log_expected_count(np.arange(30), 1), np.log(q))
        if step % 8 == 0:
            drawn = np.bincount(sampler.sample(30_000, rng=step)[0], minlength=30)
            assert chance_of(drawn, q) > 1e-3
    assert sampler.nbytes <= 40 * 30 + 64 * 8


def test_a_batch_draws_its_places() -> None:
    batch = np.array([4, 9, 4, 2, 9, 9])
    sampler = InBatchSampler(batch)
    whole, log_q = sampler.sample(6, rng=1)
    assert sorted(whole) == sorted(batch)
    times = dict(zip(*np.unique(batch, return_counts=True), strict=True))
    np.testing.assert_allclose(log_q, np.log([times[i] for i in whole]))
    got = sampler.log_expected_count([[2, 4], [9, 1000]], 3)
    np.testing.assert_allclose(np.exp(got), [[0.5, 1.0], [1.5, 0.0]])
    exclude = (np.array([9, 7, 2]), np.array([0, 1, 2, 2, 3]))
    rows, _ = sampler.sample(3, rng=1, exclude=exclude)
    assert rows.shape == (4, 3)
    assert sorted(rows[0]) == [2, 4, 4]
    counts = np.zeros(10)
    for key in range(1000):
        counts += np.bincount(sampler.sample(2, rng=key, exclude=[9])[0], minlength=10)
    assert chance_of(counts[[2, 4]], [1, 2]) > 1e-3
    ids, log_q = sampler.sample(2, rng=1, unique=True, exclude=[9])
    assert sorted(ids) == [2, 4]
    assert (log_q == 0).all()


def test_a_batch_with_counts_corrects_over_all_batches() -> None:
    """The estimate of a sum is unbiased over batches that are drawn by the counts."""
    counts = np.array([5, 1, 3, 8, 2])
    rng = np.random.default_rng(9)
    f = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    sampler = InBatchSampler([0, 1], counts)
    for unique in (False, True):
        sums = []
        for _ in range(300):
            sampler.update(rng.choice(5, 30, p=counts / counts.sum()))
            n = 2 if unique else 30
            ids, log_q = sampler.sample(n, rng=rng, unique=unique)
            sums.append((f[ids] * np.exp(-log_q)).sum())
        assert abs(np.mean(sums) - f.sum()) < 4 * np.std(sums) / np.sqrt(len(sums))
    with pytest.raises(ValueError, match=r"counts of class 1, ids\[1\], must not be 0"):
        InBatchSampler([0, 1], [1, 0, 2])
    with pytest.raises(ValueError, match="that are not excluded, 2, got 3"):
        InBatchSampler([0, 1, 0]).sample(3, exclude=[1])
    for counts_of_batch in (None, [1, 2]):
        batch = InBatchSampler([0, 1, 0], counts_of_batch)
        with pytest.raises(ValueError, match="that are not excluded in row 1, 1, got 2"):
            batch.log_expected_count([0, 1], 2, exclude=([0], [0, 0, 1]))


def test_pickles_go_on_alike() -> None:
    learned = LearnedSampler(50)
    learned.update(np.arange(40) // 3)
    batch = InBatchSampler([3, 4, 3], np.arange(1, 10))
    for sampler in (learned, batch):
        other = pickle.loads(pickle.dumps(sampler))
        for each in (sampler, other):
            each.update([4, 4, 5, 8])
        assert (other.sample(4, rng=1)[0] == sampler.sample(4, rng=1)[0]).all()
        got = other.log_expected_count([4, 5], 4)
        assert (got == sampler.log_expected_count([4, 5], 4)).all()
        assert other.nbytes == sampler.nbytes
