"""Losses and statistics of so many rows that threads share them, and their targets too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import boltzmax

Array = npt.NDArray[Any]
Threads = Callable[[int], None]

ROWS, CLASSES = 40_000, 3
RNG = np.random.default_rng(0)
LOGITS = RNG.standard_normal((ROWS, CLASSES), np.float32)
TARGET = RNG.integers(CLASSES, size=ROWS)
WEIGHT = np.array([0.5, 2.0, 1.25])


def fields(stats: boltzmax.RowStats) -> dict[str, Array]:
    """Return the statistics that were requested."""
    return {name: value for name, value in vars(stats).items() if value is not None}


def same_bits(a: Any, b: Any) -> None:
    """Check that results are the same to the last bit."""
    np.testing.assert_array_equal(a, b, strict=True)


@pytest.mark.parametrize("place", [0, 8191, 8192, 30_000, ROWS - 1])
@pytest.mark.parametrize("bad", [-1, CLASSES, np.iinfo(np.int64).min, np.iinfo(np.int64).max])
def test_a_bad_target_is_named_wherever_it_is(place: int, bad: int, threads: Threads) -> None:
    """Nothing is written, no matter how many threads look."""
    target, out = TARGET.copy(), np.full_like(LOGITS, 7)
    target[place] = bad
    for count in (1, 3):
        threads(count)
        for call in (
            lambda: boltzmax.cross_entropy(LOGITS, target),
            lambda: boltzmax.cross_entropy_with_grad(LOGITS, target, out=out),
            lambda: boltzmax.focal_loss_with_grad(LOGITS, target, out=out),
            lambda: boltzmax.row_stats(LOGITS, target, k=1, entropy=False),
            lambda: boltzmax.row_stats(LOGITS, target, k=2),
        ):
            with pytest.raises(IndexError, match=f"target {bad} "):
                call()
        assert (out == 7).all()


def test_the_first_bad_target_is_named(threads: Threads) -> None:
    """Even if another thread meets a later one before."""
    threads(3)
    target = TARGET.copy()
    target[[20_000, 39_000]] = 8, 9
    for call in (boltzmax.cross_entropy, boltzmax.row_stats):
        with pytest.raises(IndexError, match="target 8 "):
            call(LOGITS, target)


def test_unsigned_targets_beyond_int64() -> None:
    """They are no class, though their bits are those of a negative number."""
    target = TARGET.astype(np.uint64)
    target[9000] = 2**64 - 1
    for call in (boltzmax.cross_entropy, boltzmax.row_stats):
        with pytest.raises(IndexError, match=f"target {2**64 - 1} "):
            call(LOGITS, target)


@pytest.mark.parametrize("ignored", [-100, 1, CLASSES, -1])
@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_ignored_rows(ignored: int, weight: Array | None, threads: Threads) -> None:
    """The mean is that of the rows that count; bits do not depend on threads."""
    target = TARGET.copy()
    target[5::7] = ignored
    counted = target != ignored
    log_prob = boltzmax.log_softmax(LOGITS.astype(np.float64))
    of_row = np.ones(ROWS) if weight is None else weight[np.clip(target, 0, CLASSES - 1)]
    of_row = np.where(counted, of_row, 0.0)
    own = log_prob[np.arange(ROWS), np.where(counted, target, 0)]
    results = []
    for count in (1, 2, 3):
        threads(count)
        results.append(
            boltzmax.cross_entropy_with_grad(LOGITS, target, weight=weight, ignore_index=ignored)
        )
        same_bits(results[0][0], results[-1][0])
        same_bits(results[0][1], results[-1][1])
    loss, gradient = results[0]
    assert loss == pytest.approx(-(of_row * own).sum() / of_row.sum(), rel=1e-6)
    assert not gradient[~counted].any()
    np.testing.assert_allclose(gradient.sum(axis=1), 0, atol=1e-10)


@pytest.mark.parametrize("kind", ["int8", "uint16", "int32", "uint64", "every second", "backwards"])
def test_targets_of_any_kind(kind: str, threads: Threads) -> None:
    """Integers are read where they are, of any type and at any distance."""
    if kind == "every second":
        target: Array = np.repeat(TARGET, 2)[::2]
    elif kind == "backwards":
        target = TARGET[::-1].copy()[::-1]
    else:
        target = TARGET.astype(kind)
    threads(2)
    same_bits(boltzmax.cross_entropy(LOGITS, target), boltzmax.cross_entropy(LOGITS, TARGET))
    for k, entropy in (1, False), (2, True):
        got = fields(boltzmax.row_stats(LOGITS, target, k, entropy=entropy))
        for name, value in fields(boltzmax.row_stats(LOGITS, TARGET, k, entropy=entropy)).items():
            same_bits(got[name], value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize(("classes", "k"), [(5, 0), (5, 1), (5, 3), (6000, 1), (6000, 5000)])
@pytest.mark.parametrize("entropy", [False, True])
def test_statistics_of_a_row_are_its_own(
    dtype: Any, classes: int, k: int, entropy: bool, threads: Threads
) -> None:
    """They have the same bits among many rows and alone, in C++ and by the general path."""
    rows = 5000 if classes == 5 else 7
    x = RNG.standard_normal((rows, classes)).astype(dtype)
    target = RNG.integers(classes, size=rows)
    threads(3)
    all_rows = fields(boltzmax.row_stats(x, target, k, entropy=entropy, temperature=1.5))
    copied = fields(
        boltzmax.row_stats(np.asfortranarray(x), target, k, entropy=entropy, temperature=1.5)
    )
    assert all_rows.keys() == copied.keys()
    for name, value in all_rows.items():
        same_bits(value, copied[name])
    for r in (0, 1, rows // 2, rows - 1):
        alone = boltzmax.row_stats(x[r], target[r], k, entropy=entropy, temperature=1.5)
        for name, value in fields(alone).items():
            same_bits(value, all_rows[name][r])


@pytest.mark.parametrize("bad", [0.0, -0.0, -1.0, 9.9e-31, 1.01e30, np.inf, -np.inf, np.nan])
def test_one_bad_temperature_among_many(bad: float) -> None:
    """It is found, whatever its sign and size; both limits are temperatures."""
    temperature = np.full((ROWS, 1), 2.0)
    temperature[:2, 0] = 1e-30, 1e30
    boltzmax.softmax(LOGITS, temperature=temperature)
    temperature[ROWS // 2] = bad
    if bad == 0:  # the limit of softmax as its temperature falls
        got = boltzmax.softmax(LOGITS, temperature=temperature)[ROWS // 2]
        same_bits(got, (LOGITS[ROWS // 2] == LOGITS[ROWS // 2].max()).astype(np.float32))
    else:
        with pytest.raises(ValueError, match="temperature"):
            boltzmax.softmax(LOGITS, temperature=temperature)
