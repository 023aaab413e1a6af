"""Draws of candidates by their definition: words, the log-uniform law, alias tables, trees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import boltzmax
from boltzmax.candidates import (
    LogUniformSampler,
    QuadraticKernelSampler,
    UniformSampler,
    UnigramSampler,
)
from boltzmax.candidates.unigram import alias_table
from candidate_samples import weight
from gumbel_oracle import block
from test_candidates import chance_of

pytestmark = pytest.mark.usefixtures("strict")

CANDIDATE = 6  # the purpose of random words
KEY = 0x13198A2E03707344
MANY = 50_000_000


def numbers(n: int, row: int = 0) -> list[tuple[int, int]]:
    """The two numbers of 64 bits of each draw."""
    words = block(KEY, row, CANDIDATE, np.arange(n)).tolist()
    return [(int(a) | int(b) << 32, int(c) | int(d) << 32) for a, b, c, d in words]


@pytest.mark.parametrize("n_classes", [1, 3, 1000, MANY, 2**32 - 1])
def test_uniform_draws_follow_their_definition(isa: str, n_classes: int) -> None:
    for n in (1, 2, 15, 16, 17, 255, 256, 257, 600):
        ids, _ = UniformSampler(n_classes).sample(n, rng=KEY)
        assert ids.tolist() == [lower * n_classes >> 64 for lower, _ in numbers(n)]
    exclude = ([], [0] * 4)
    rows, _ = UniformSampler(n_classes).sample(5, rng=KEY, exclude=exclude)
    for row in range(3):
        assert rows[row].tolist() == [lower * n_classes >> 64 for lower, _ in numbers(5, row)]


def test_table_draws_follow_their_definition(isa: str) -> None:
    sampler = UnigramSampler(np.arange(1, 400))
    slots = sampler._slots
    ids, _ = sampler.sample(1000, rng=KEY)
    for got, (lower, upper) in zip(ids.tolist(), numbers(1000), strict=True):
        slot = lower * 399 >> 64
        own = (upper >> 11) * 2.0**-53 < slots["threshold"][slot]
        assert got == (slot if own else slots["alias"][slot])


@pytest.mark.parametrize("n_classes", [1, 2, 10, 1000, 10**8, 2**32 - 1])
def test_log_uniform_draws_are_integer_parts(isa: str, n_classes: int) -> None:
    """Of (V + 1)^u, whose relative error is at most 2^-50."""
    mpmath = pytest.importorskip("mpmath")
    n = 400
    ids, _ = LogUniformSampler(n_classes).sample(n, rng=KEY)
    with mpmath.workdps(50):
        for got, (lower, _) in zip(ids.tolist(), numbers(n), strict=True):
            x = mpmath.power(n_classes + 1, mpmath.mpf(lower) / 2**64)
            assert int(mpmath.floor(x * (1 - mpmath.mpf(2) ** -50))) - 1 <= got
            assert got <= int(mpmath.floor(x * (1 + mpmath.mpf(2) ** -50))) - 1
            assert 0 <= got < n_classes


def test_log_uniform_probabilities_are_accurate(isa: str) -> None:
    n_classes = 2**32 - 1
    k = np.concatenate([np.arange(3000), 10 ** np.arange(4, 10), [2**32 - 2]])
    got = LogUniformSampler(n_classes).log_expected_count(k, 1)
    exact = np.log1p(1 / (k + np.longdouble(1))) / np.log1p(np.longdouble(n_classes))
    error = np.abs(got - np.log(exact)) / np.spacing(np.log(k + 2.0))
    assert error.max() < 5
    total = np.exp(LogUniformSampler(5000).log_expected_count(np.arange(5000), 1)).sum()
    assert abs(total - 1) < 1e-13


def table_probabilities(weights: Any) -> Any:
    """What the slots of a table give to each class."""
    slots = alias_table(weights / weights.sum())
    threshold = slots["threshold"].astype(np.longdouble)
    assert ((threshold >= 0) & (threshold <= 1)).all()
    p = threshold.copy()
    np.add.at(p, slots["alias"], 1 - threshold)
    return p / len(weights)


@pytest.mark.parametrize("kind", ["random", "Zipf", "huge range", "equal", "one", "two kinds"])
def test_tables_have_the_probabilities_of_their_weights(kind: str) -> None:
    for n in (1, 2, 3, 100, 100_000):
        rng = np.random.default_rng(n)
        weights = {
            "random": rng.random(n) + 1e-3,
            "Zipf": rng.permutation(1 / np.arange(1.0, n + 1)),
            "huge range": 10 ** rng.uniform(-200, 0, n),
            "equal": np.full(n, 0.1),
            "one": np.where(np.arange(n) == 0, 1.0, 0.0),
            "two kinds": np.where(rng.random(n) < 0.5, 1e-9, 1.0),
        }[kind]
        p = table_probabilities(weights)
        exact = weights.astype(np.longdouble) / weights.astype(np.longdouble).sum()
        assert np.abs(p - exact).max() < 2.0**-53
        rough = np.abs(p - exact) > 1e-9 * exact
        assert rough.sum() <= 1, "the last one may take the rounding of all"
        assert (np.flatnonzero(p) == np.flatnonzero(weights)).all()


@pytest.mark.parametrize("make", [UniformSampler, LogUniformSampler])
def test_many_classes_have_no_bias(make: Any) -> None:
    """Parts of 5 * 10^7 classes, and the low bits of their ids."""
    sampler = make(MANY)
    ids, _ = sampler.sample(1_000_000, rng=1)
    assert ids.max() > 2**24
    assert (ids < MANY).all()
    edges = np.linspace(0, MANY, 201).astype(np.int64)
    q = np.diff(np.log1p(edges)) if make is LogUniformSampler else np.diff(edges)
    assert chance_of(np.histogram(ids, edges)[0], q / q.sum()) > 1e-3
    rare = ids[ids > 2**23]
    for bits in (1, 4, 8):
        assert chance_of(np.bincount(rare % 2**bits, minlength=2**bits), np.ones(2**bits)) > 1e-3


def test_a_table_of_many_classes_has_no_bias() -> None:
    n_classes = 3_000_000
    sampler = UnigramSampler(np.arange(n_classes) % 7 + 1, power=1.0)
    ids, log_q = sampler.sample(1_000_000, rng=2)
    assert chance_of(np.bincount(ids % 7, minlength=7), np.arange(1, 8)) > 1e-3
    assert chance_of(np.bincount(ids // (n_classes // 100)), np.ones(100)) > 1e-3
    for bits in (1, 6):
        assert chance_of(np.bincount(ids % 2**bits), np.ones(2**bits)) > 1e-3
    total = (np.arange(n_classes) % 7 + 1).sum()
    np.testing.assert_allclose(log_q, np.log(1e6 * (ids % 7 + 1) / total), rtol=1e-12)


# ---- the quadratic kernel ----


def kernel_of(w: Any, hidden: Any, alpha: float = 100.0) -> Any:
    """The probabilities for each row of features, in long double."""
    z = hidden.astype(np.longdouble) @ w.astype(np.longdouble).T
    k = alpha * z**2 + 1
    return (k / k.sum(axis=-1, keepdims=True)).astype(np.float64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n_classes", "features"), [
    *((1, 1), (15, 3), (16, 3), (17, 3), (64, 3), (65, 3), (257, 3), (300, 33), (1100, 5)),
])  # fmt: skip
def test_the_tree_has_the_kernel(isa: str, dtype: Any, n_classes: int, features: int) -> None:
    """All leaves and levels, whole or not."""
    w = weight(n_classes, features).astype(dtype)
    sampler = QuadraticKernelSampler(w)
    hidden = np.random.default_rng(3).normal(size=(3, features)).astype(dtype)
    every = np.tile(np.arange(n_classes), (3, 1))
    log_q = sampler.log_expected_count(every, 1, hidden=hidden, per_row=True)
    np.testing.assert_allclose(np.exp(log_q).sum(axis=1), 1, rtol=1e-12)
    tolerance = 1e-12 if dtype == np.float64 else 1e-4
    np.testing.assert_allclose(log_q, np.log(kernel_of(w, hidden)), atol=tolerance)
    shared = sampler.log_expected_count(np.arange(n_classes), 1, hidden=hidden)
    mean = np.sqrt(((hidden.astype(np.longdouble) @ w.T.astype(np.longdouble)) ** 2).mean(axis=0))
    k = 100 * mean**2 + 1
    np.testing.assert_allclose(shared, np.log((k / k.sum()).astype(float)), atol=tolerance)
    ids, of_draws = sampler.sample(50, rng=1, hidden=hidden, per_row=True)
    assert ids.shape == (3, 50)
    rows = np.arange(3)[:, None]
    np.testing.assert_allclose(of_draws, log_q[rows, ids] + np.log(50), atol=1e-12)


def test_draws_from_the_tree_have_its_distribution() -> None:
    w = weight(500, 4).astype(np.float32)
    sampler = QuadraticKernelSampler(w, alpha=30.0)
    hidden = np.random.default_rng(4).normal(size=(2, 4)).astype(np.float32)
    own, _ = sampler.sample(30_000, rng=1, hidden=hidden, per_row=True)
    for row in range(2):
        q = np.exp(sampler.log_expected_count(np.arange(500), 1, hidden=hidden[row]))
        assert chance_of(np.bincount(own[row], minlength=500), q) > 1e-3
    shared, log_q = sampler.sample(30_000, rng=1, hidden=hidden)
    q = np.exp(sampler.log_expected_count(np.arange(500), 1, hidden=hidden))
    assert chance_of(np.bincount(shared, minlength=500), q) > 1e-3
    np.testing.assert_allclose(log_q, np.log(30_000 * q[shared]), atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_update_is_a_new_tree(isa: str, dtype: Any) -> None:
    """To the last bit, however many there were."""
    w = weight(700, 20).astype(dtype)
    sampler = QuadraticKernelSampler(w)
    rng = np.random.default_rng(5)
    for _ in range(10):
        ids = rng.integers(0, 700, 3)
        w[ids] += rng.normal(size=(3, 20)).astype(dtype)
        sampler.update(ids)
    assert (sampler._sums == QuadraticKernelSampler(w)._sums).all()
    w *= 2
    sampler.update()
    assert (sampler._sums == QuadraticKernelSampler(w)._sums).all()


@pytest.mark.parametrize("features", [1, 8, 16, 64, 200])
def test_the_tree_is_at_most_four_times_the_weights(features: int) -> None:
    for n_classes in (3000, 20_000):
        w = np.zeros((n_classes, features), np.float32)
        assert QuadraticKernelSampler(w).nbytes <= 4 * w.nbytes


def test_bad_arguments_of_the_quadratic_kernel() -> None:
    w = weight(40)
    sampler = QuadraticKernelSampler(w)
    in_float32 = QuadraticKernelSampler(np.ones((40, 3), np.float32))
    cases: list[tuple[Any, type[Exception], str]] = [
        (lambda: QuadraticKernelSampler([[1.0]]), TypeError, "an ndarray of float32 or float64"),
        (lambda: QuadraticKernelSampler(w.astype(int)), TypeError, "got int64"),
        (lambda: QuadraticKernelSampler(np.ma.array(w)), TypeError, "weight is a masked array"),
        (lambda: QuadraticKernelSampler(w[0]), ValueError, r"weight must be \(V, D\)"),
        (lambda: QuadraticKernelSampler(w.T), ValueError, "weight must be in C order"),
        (lambda: QuadraticKernelSampler(w * np.nan), ValueError, "weight must be finite"),
        (lambda: QuadraticKernelSampler(w, alpha=0), ValueError, "alpha must be finite and above"),
        (lambda: sampler.sample(3), TypeError, "QuadraticKernelSampler needs hidden"),
        (lambda: sampler.sample(3, hidden=np.ones(4)), ValueError, "3 features on the last axis"),
        (lambda: sampler.sample(3, hidden=[np.nan, 0, 0]), ValueError, "finite.*in row 0"),
        (lambda: sampler.sample(3, hidden=[1e200, 0, 0]), ValueError, "too large: squared logits"),
        (lambda: in_float32.sample(3, hidden=[[0, 1e200, 0]], per_row=True), ValueError,
         r"hidden must be finite in float32, got 1e\+200 in row 0"),
        # Terms of both signs overflow, so that their sum is not a number.
        (lambda: in_float32.sample(3, hidden=[1e30, -1e30, 0]), ValueError, "too large: squared"),
        (lambda: sampler.update([40]), IndexError, "ids 40 at position 0 is out of range for 40"),
        (lambda: sampler.sample(3, hidden=np.ones((2, 3)), exclude=([], [0, 0])), ValueError,
         "exclude has 1 rows, but hidden has 2"),
    ]  # fmt: skip
    for call, error, message in cases:
        with pytest.raises(error, match=message):
            call()


def test_weights_are_not_copied() -> None:
    w = weight(50)
    w.flags.writeable = False
    sampler = QuadraticKernelSampler(w)
    assert sampler._weight is w
    assert boltzmax.__name__ in type(sampler).__module__
