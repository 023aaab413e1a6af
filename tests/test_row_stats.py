"""Row statistics, against NumPy in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import boltzmax
import ulp
from loss_samples import check_row_stats as check

Array = npt.NDArray[Any]


@pytest.mark.parametrize("name", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("shape", [(3, 1), (4, 7), (2, 3, 64), (5, 1000), (2, 20_001), (1, 70_000)])
def test_all(isa: str, name: str, shape: tuple[int, ...]) -> None:
    """Every statistic, dtype and instruction set; ties go to the lower class."""
    rng = np.random.default_rng(0)
    logits = (3 * rng.standard_normal(shape)).round(1).astype(ulp.dtype_of(name))
    target = rng.integers(shape[-1], size=shape[:-1])
    check(logits, target, 5, 1.0, 1e-12 if name == "float64" else 3e-6)


@pytest.mark.parametrize("offset", [0.0, 1e4, -3e4])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_large_offsets(offset: float, temperature: float) -> None:
    """An offset cancels, and the entropy keeps its digits."""
    rng = np.random.default_rng(1)
    logits = (offset + 2 * rng.standard_normal((3, 30_000))).astype(np.float32)
    logits[:, :5] -= 100  # a poor guess at the maximum
    check(logits, np.zeros(3, int), 3, temperature, 1e-5)


@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_any_k(n: int, k: int, seed: int) -> None:
    """Even more than the number of classes."""
    rng = np.random.default_rng(seed)
    check(rng.integers(-3, 3, (4, n)).astype(float), rng.integers(n, size=4), k, 1.0, 1e-12)


def test_special_values() -> None:
    """-inf is an ordinary class that ranks last; NaN and +inf make all statistics NaN."""
    stats = boltzmax.row_stats([[-np.inf, 1.0, -np.inf]], [0], k=3)
    assert stats.top_ids is not None
    assert stats.top_ids.tolist() == [[1, 0, 2]]
    assert stats.target_rank == 2
    assert stats.target_log_prob == -np.inf
    assert stats.entropy == 0
    scattered = np.full((1, 200), -np.inf)
    scattered[0, [3, 7, 150]] = 1.0, 5.0, 2.0
    others = [c for c in range(200) if c not in (3, 7, 150)]
    for k in (5, 100, 200):
        top_ids = boltzmax.row_stats(scattered, k=k).top_ids
        assert top_ids is not None
        assert top_ids.tolist() == [[7, 150, 3, *others][:k]]
    for bad in ([[np.nan, 1.0]], [[np.inf, 1.0]], [[-np.inf, -np.inf]]):
        assert np.isnan(boltzmax.row_stats(bad).entropy).all()


def test_unrequested_statistics_are_none() -> None:
    """Statistics that are not requested are None."""
    stats = boltzmax.row_stats([[1.0, 2.0]], k=0, entropy=False)
    assert stats.top_ids is None
    assert stats.entropy is None
    assert stats.margin is None
    assert stats.target_rank is None
    assert boltzmax.row_stats(np.zeros((0, 3))).lse.shape == (0,)
    stats = boltzmax.row_stats([3.0, 1.0, 2.0], k=2)
    assert (stats.argmax, stats.margin) == (0, 1.0)
    assert stats.max == pytest.approx(3.0)


def test_errors() -> None:
    """Messages name the bad value."""
    with pytest.raises(IndexError, match="target 2"):
        boltzmax.row_stats([[1.0, 2.0]], [2])
    with pytest.raises(IndexError, match="target -100"):
        boltzmax.row_stats([[1.0, 2.0]], [-100])
    with pytest.raises(ValueError, match="k must"):
        boltzmax.row_stats([[1.0, 2.0]], k=-1)
    with pytest.raises(ValueError, match="temperature"):
        boltzmax.row_stats([[1.0, 2.0]], temperature=0.0)


def test_threads_do_not_matter() -> None:
    """Bits do not depend on the number of threads."""
    logits = np.random.default_rng(0).standard_normal((64, 20_000), np.float32)
    before = boltzmax.get_num_threads()
    results = []
    for n in (1, 2, 3):
        boltzmax.set_num_threads(n)
        results.append(boltzmax.row_stats(logits).entropy)
    boltzmax.set_num_threads(before)
    assert all(np.array_equal(results[0], r) for r in results)


def test_entropy_of_peaked_rows(isa: str) -> None:
    """A small entropy keeps its digits: it is a sum of small terms."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(3000, 256)) * 40).round(1).astype(np.float32)
    log_p = boltzmax.log_softmax(x.astype(np.longdouble))
    with np.errstate(invalid="ignore"):
        exact = -np.where(np.isinf(log_p), 0, np.exp(log_p) * log_p).sum(axis=1)
    assert (exact < 1e-3).any()
    assert (exact > 0.1).any()
    got = boltzmax.row_stats(x).entropy
    np.testing.assert_allclose(got, exact.astype(np.float64), rtol=2e-5, atol=1e-30)


@pytest.mark.parametrize("share", [1e-6, 1e-3, 0.1, 0.5, 0.9])
def test_entropy_where_the_first_elements_are_small(isa: str, share: float) -> None:
    """They are a poor guess at the maximum, about which the mean would cancel.

    All other elements than the maximum have a `share` of the probability.
    """
    rng = np.random.default_rng(2)
    for below in 0.1, 1.0, 3.0, 8.0, 30.0, 63.0:
        x = rng.normal(size=(20, 3000)) + np.log(share / (1 - share) / 3000)
        x[:, :100] = -below - rng.random((20, 100))
        x[:, -7] = 0
        for offset in 0.0, 50.0:
            row = (x + offset).astype(np.float32)
            log_p = boltzmax.log_softmax(row.astype(np.longdouble))
            exact = -(np.exp(log_p) * log_p).sum(axis=1)
            np.testing.assert_allclose(
                boltzmax.row_stats(row).entropy, exact.astype(np.float64), rtol=4e-6
            )
