"""Mirostat against its definition, and its aim."""

from __future__ import annotations

import re

import numpy as np
import pytest

import sampling_oracle
from boltzmax.sampling import Chain, Mirostat, Temperature, TopK

pytestmark = pytest.mark.usefixtures("strict")

KEY = 0x452821E638D01377


@pytest.mark.parametrize("version", [1, 2])
def test_mirostat_follows_its_definition(version: int) -> None:
    rng = np.random.default_rng(4)
    chain = Chain([Temperature(0.9), Mirostat(2.5, 0.2, version)], rng=KEY)
    mu = np.full(3, 5.0)
    for step in range(60):
        x = rng.normal(size=(3, 300)) * 2.0
        x[0, : 299 if step % 7 == 0 else 3] = -np.inf
        left = chain.filter_logits(x)
        sample = chain(x)
        for r, row in enumerate(x / 0.9):
            finite = np.isfinite(row).sum()
            if version == 2:
                want = int(sampling_oracle.mirostat_2(row, mu[r]).kept.sum())
            else:
                want = int(max(min(sampling_oracle.mirostat_1_count(row, mu[r]), finite), 1))
            assert sample.kept[r] == np.isfinite(left[r]).sum() == want
            kept = sampling_oracle.top_k(row, want).kept
            log_p = sampling_oracle.log_softmax(np.where(kept, row, -np.inf))[sample.ids[r]]
            mu[r] -= 0.2 * (-log_p / np.log(2.0) - 2.5)
        np.testing.assert_allclose(chain.mu, mu, rtol=1e-11)


@pytest.mark.parametrize("version", [1, 2])
def test_mirostat_reaches_its_aim(version: int) -> None:
    """The mean surprise is tau: the error of the mean is that of mu over eta and the steps."""
    logits = -1.1 * np.log(np.arange(1.0, 2001.0))
    chain = Chain([Mirostat(3.0, 0.1, version)], rng=KEY)
    x = np.broadcast_to(logits, (8, 2000))
    surprise = np.mean([-chain(x).log_probs / np.log(2.0) for _ in range(300)], axis=0)
    assert chain.mu is not None
    np.testing.assert_allclose(surprise, 3.0 + (6.0 - chain.mu) / (0.1 * 300), rtol=1e-9)
    assert np.abs(surprise - 3.0).max() < 0.2


def test_mirostat_keeps_one_at_least() -> None:
    chain = Chain([Mirostat(1e-9, 1.0)], rng=KEY)
    sample = chain([1.0, 1.0, 1.0])
    assert (sample.ids, sample.kept, sample.log_probs) == (0, 1, 0.0)
    chain = Chain([Mirostat(1.0, 1e3)], rng=KEY)
    for _ in range(5):
        assert chain([0.0, 30.0]).ids == 1
    assert Chain([Mirostat(version=1)])([3.0]).kept == 1
    assert Chain([Mirostat(version=1, tau=9.0)])(np.zeros(5)).kept == 5


def test_mirostat_and_rows() -> None:
    chain = Chain([Mirostat(1.0)], rng=1)
    x = np.zeros((2, 4))
    x[0, 1] = np.nan
    sample = chain(x, errors="mark")
    assert sample.ids[0] == -1
    assert chain.mu is not None
    assert chain.mu[0] == 2.0 != chain.mu[1]
    with pytest.raises(ValueError, match=re.escape("rows of shape (2,), as when Mirostat began")):
        chain(x[1])
    with pytest.raises(ValueError, match="n must be None"):
        chain(x, n=2)
    chain.reset()
    assert chain(x[1]).ids >= 0
    with pytest.raises(ValueError, match="Mirostat must be the last of 2 steps"):
        Chain([Mirostat(), TopK(3)])
    for make, message in (
        (lambda: Mirostat(0.0), "tau must be positive and finite, got 0"),
        (lambda: Mirostat(1.0, np.nan), "eta must be positive and finite"),
        (lambda: Mirostat(version=3), "version must be 1 or 2, got 3"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
