"""Filters and draws of the compiled sampler, against an oracle that sorts."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import boltzmax.testing
import sampling_oracle as oracle
from boltzmax.sampling import filter_logits, sample, token_probs
from boltzmax.sampling.program import run_filter, run_sample
from boltzmax.sampling.steps import (
    XTC,
    Bias,
    Epsilon,
    Eta,
    MinP,
    Step,
    Temperature,
    TopH,
    TopK,
    TopNSigma,
    TopP,
    TypicalP,
)

Array = np.ndarray[Any, Any]

# Each filter as a step and as the oracle has it.
FILTERS: list[tuple[Step, tuple[Any, ...]]] = [
    (Temperature(0.7), ("temperature", 0.7)),
    (Temperature(0.0), ("temperature", 0.0)),
    (TopK(1), ("top_k", 1)),
    (TopK(50), ("top_k", 50)),
    (TopK(50, "all"), ("top_k", 50, "all")),
    (TopK(1500), ("top_k", 1500)),
    (TopP(0.9), ("top_p", 0.9)),
    (TopP(0.2), ("top_p", 0.2)),
    (TopP(1 - 1e-9), ("top_p", 1 - 1e-9)),
    (TopP(1e-9), ("top_p", 1e-9)),
    (MinP(0.05), ("min_p", 0.05)),
    (MinP(1e-4, "log"), ("min_p", 1e-4, "log")),
    (TypicalP(0.3), ("typical_p", 0.3)),
    (TypicalP(0.9, "llama.cpp"), ("typical_p", 0.9, "llama.cpp")),
    (Epsilon(3e-4), ("epsilon", 3e-4)),
    (Epsilon(0.9), ("epsilon", 0.9)),
    (Eta(2e-3), ("eta", 2e-3)),
    (TopNSigma(1.0), ("top_n_sigma", 1.0)),
    (TopH(0.6), ("top_h", 0.6)),
]
NEAR = 1e-11  # where a decision is closer than this, rounding may make another


def rows_of(kind: str, n: int, rng: np.random.Generator) -> Array:
    """One row of logits."""
    x = rng.normal(size=n) * 2.5
    match kind:
        case "tied":
            return np.round(x * 2) / 2
        case "flat":
            return x / 25
        case "equal":
            return np.full(n, 0.5)
        case "one":
            return np.where(np.arange(n) == n // 2, 1.0, -np.inf)
        case "masked":
            return np.where(rng.random(n) < 0.7, -np.inf, x) if n > 20 else x
        case "far":
            return x + 1e4 * np.sign(x)
        case "ascending":
            return np.sort(x)
    return x


KINDS = ["normal", "tied", "flat", "equal", "one", "masked", "far", "ascending"]


def check_filter(x: Array, steps: list[Step], names: list[tuple[Any, ...]]) -> None:
    """The classes that are left are the oracle's, unless a decision is as near as rounding."""
    got = run_filter(x, steps).astype(np.float64)
    (outcome,) = oracle.apply(x.astype(np.float64), names)
    if outcome.margin < NEAR:
        return
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(outcome.logits), str(steps))
    drawn = run_sample(x, steps, rng=1, n=3)
    assert drawn.kept == np.isfinite(outcome.logits).sum()
    log_p = oracle.log_softmax(outcome.logits).astype(np.float64)
    error = oracle.log_prob_error(x.dtype)
    np.testing.assert_allclose(drawn.log_probs, log_p[drawn.ids], rtol=1e-12, atol=error)


@pytest.mark.parametrize("n", [1, 7, 300])
def test_contract(isa: str, dtype: np.dtype[Any], n: int) -> None:
    rng = np.random.default_rng(n)
    for kind in ("normal", "tied", "one"):
        x = rows_of(kind, n, rng).astype(dtype)
        for step, name in FILTERS:
            check_filter(x, [step], [name])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [129, 5000, 40000])
def test_filters_leave_what_sorting_finds(isa: str, kind: str, n: int) -> None:
    rng = np.random.default_rng([n, KINDS.index(kind)])
    x = rows_of(kind, n, rng)
    for step, name in FILTERS:
        check_filter(x.astype(np.float32), [step], [name])
    for step, name in (FILTERS[6], FILTERS[5]):
        check_filter(x, [step], [name])


@pytest.mark.parametrize("kind", [*KINDS, "descending", "three values"])
def test_typical_classes_without_a_sort(kind: str) -> None:
    """On both sides of the entropy, of any mass, with ties, on top of other filters."""
    rng = np.random.default_rng(5)
    n = 12_000
    x = np.concatenate([rows_of(kind, n // 3, rng), rows_of(kind, n - n // 3, rng)])
    if kind == "descending":
        x = np.sort(x)[::-1].copy()
    elif kind == "three values":
        x = rng.choice([0.0, 1.0, 5.0], n, p=[0.7, 0.2998, 0.0002])
    for mass in (1e-9, 0.3, 0.9, math.nextafter(1.0, 0.0)):
        for rule in ("transformers", "llama.cpp"):
            typical = TypicalP(mass, rule), ("typical_p", mass, rule)
            for before in (FILTERS[5], FILTERS[0]):
                check_filter(x.astype(np.float32), [before[0], typical[0]], [before[1], typical[1]])
        check_filter(x, [TypicalP(mass)], [("typical_p", mass)])


@pytest.mark.parametrize("seed", range(12))
def test_sequences_of_filters(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for n in (50, 3000, 20000):
        chosen = rng.permutation(len(FILTERS))[:3]
        x = rows_of(KINDS[seed % len(KINDS)], n, rng).astype(np.float32)
        check_filter(x, [FILTERS[i][0] for i in chosen], [FILTERS[i][1] for i in chosen])


@given(
    hnp.arrays(np.float64, st.integers(1, 60), elements=st.integers(-6, 6).map(float)),
    st.lists(st.sampled_from(FILTERS), max_size=3),
)
def test_sequences_on_ties(x: Array, filters: list[tuple[Step, tuple[Any, ...]]]) -> None:
    check_filter(x, [step for step, _ in filters], [name for _, name in filters])


def test_ids_do_not_depend_on_how_they_are_computed(
    dtype: np.dtype[Any], threads: Callable[[int], None]
) -> None:
    rng = np.random.default_rng(5)
    x = (rng.normal(size=(6, 30000)) * 2).astype(dtype)
    steps = [Temperature(0.9), TopP(0.95)]
    wanted = run_sample(x, steps, rng=7, n=5)
    for count in (1, 2, 3):
        threads(count)
        np.testing.assert_array_equal(run_sample(x, steps, rng=7, n=5).ids, wanted.ids)
    for name in boltzmax.available_isas():
        with boltzmax.testing.use_isa(name):
            got = run_sample(x, steps, rng=7, n=5)
            np.testing.assert_array_equal(got.ids, wanted.ids)
            np.testing.assert_array_equal(got.kept, wanted.kept)
            np.testing.assert_array_equal(got.log_probs, wanted.log_probs)
    for r in range(6):
        one = run_sample(x[r], steps, rng=7, n=5, counters=r)
        np.testing.assert_array_equal(one.ids, wanted.ids[r])
        np.testing.assert_array_equal(one.log_probs, wanted.log_probs[r])
    strided = np.asfortranarray(x)
    np.testing.assert_array_equal(run_sample(strided, steps, rng=7, n=5).ids, wanted.ids)
    assert (run_sample(x, steps, rng=8, n=5).ids != wanted.ids).any()


def chi_square(ids: Array, p: Array) -> float:
    """How many standard deviations chi-square is above its mean; rare classes are joined."""
    counts = np.bincount(ids.ravel(), minlength=len(p)).astype(float)
    assert not counts[p == 0].any()
    order = np.argsort(p)
    bins = np.minimum(np.cumsum(p[order]) * ids.size // 25, 60).astype(int)
    expected, seen = np.bincount(bins, p[order]) * ids.size, np.bincount(bins, counts[order])
    used = expected > 5
    freedom = max(int(used.sum()) - 1, 1)
    total = float(((seen - expected)[used] ** 2 / expected[used]).sum())
    return (total - freedom) / math.sqrt(2 * freedom)


@pytest.mark.parametrize("n", [40, 3000])
@pytest.mark.parametrize("filters", [[], *([f] for f in FILTERS if f[1][0] != "temperature")])
def test_draws_have_the_probabilities_of_what_is_left(
    n: int, filters: list[tuple[Step, tuple[Any, ...]]]
) -> None:
    x = np.random.default_rng(n).normal(size=n)
    p = oracle.probabilities(x, [name for _, name in filters])
    drawn = run_sample(x.astype(np.float64), [step for step, _ in filters], rng=11, n=20000)
    assert chi_square(drawn.ids, p) < 5


def test_xtc_leaves_out_the_likeliest_now_and_then() -> None:
    for n in (30, 2000):
        x = np.zeros(n)
        x[:3] = [math.log(n), math.log(n) + 1, math.log(n) + 0.5]
        p = oracle.probabilities(x, [("xtc", 0.4, 0.1)])
        rows = np.broadcast_to(x, (4000, n))
        drawn = run_sample(rows, [XTC(0.4, 0.1)], rng=3)
        assert chi_square(drawn.ids, p) < 5
        assert set(drawn.kept.tolist()) == {n, n - 2}


def test_rare_classes_are_drawn_as_often_as_they_should() -> None:
    # Classes of 1e-6 each beside one that has nearly all of the mass, and 1e-9 beside one of 1e-3.
    tail = np.full(1000, -math.log(1e6))
    tail[0], tail[1] = 0.0, -math.log(1e3)
    tail[2:500] -= math.log(1e3)
    ids = run_sample(tail, [], rng=2, n=400000).ids
    p = oracle.softmax(tail).astype(np.float64)
    for group in (slice(1, 2), slice(2, 500), slice(500, 1000)):
        wanted = ids.size * p[group].sum()
        seen = np.count_nonzero(np.isin(ids, np.arange(1000)[group]))
        assert abs(seen - wanted) < 5 * math.sqrt(wanted) + 1


@pytest.mark.parametrize("n", [5, 900])
def test_draws_without_replacement(n: int) -> None:
    x = np.zeros(n)
    x[:3] = [2.0, 1.0, 5.0]
    drawn = run_sample(np.tile(x, (20000, 1)), [], rng=4, n=3, replace=False)
    assert all(len(set(row)) == 3 for row in drawn.ids[:500].tolist())
    p = oracle.softmax(x).astype(np.float64)
    assert chi_square(drawn.ids[:, 0], p) < 5
    second = np.array([sum(p[i] * p[j] / (1 - p[i]) for i in range(n) if i != j) for j in range(n)])
    assert chi_square(drawn.ids[:, 1], second) < 5


def test_draws_without_replacement_of_all_classes() -> None:
    x = np.array([40.0, 0.0, -np.inf, 1.0] + [0.5] * 700)
    drawn = run_sample(x, [], rng=4, n=703, replace=False)
    assert sorted(drawn.ids.tolist()) == [0, 1, *range(3, 704)]
    with pytest.raises(ValueError, match="n must be at most the number of classes that are left"):
        run_sample(x, [], rng=4, n=704, replace=False)


def test_greedy_draws_take_the_lowest_id() -> None:
    x = np.array([[0.0, 3.0, 3.0, 1.0], [5.0, -1.0, 5.0, 5.0]])
    for options in ({"temperature": 0.0}, {"top_k": 1}, {"top_p": 1e-300}):
        drawn = sample(x, rng=1, **options)
        np.testing.assert_array_equal(drawn.ids, [1, 0])
        np.testing.assert_array_equal(drawn.log_probs, [0.0, 0.0])
    assert sample(x[0], temperature=0.0).ids.dtype == np.int64


def test_numbers_for_each_row() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 400))
    k, p = np.array([[1, 2, 3], [4, 5, 400]]), np.array([0.5, 0.9, 1.0])
    both = filter_logits(x, top_k=k, top_p=p, temperature=[[2.0], [0.5]])
    for i, j in np.ndindex(2, 3):
        one = filter_logits(
            x[i, j], top_k=int(k[i, j]), top_p=float(p[j]), temperature=[2.0, 0.5][i]
        )
        np.testing.assert_array_equal(both[i, j], one)


def test_bias_and_mask() -> None:
    x = np.random.default_rng(0).normal(size=(3, 500)).astype(np.float32)
    where = np.random.default_rng(1).random((3, 500)) < 0.5
    bias = np.random.default_rng(2).normal(size=500)
    got = filter_logits(x, bias=bias, where=where, top_k=20)
    changed = np.where(where, (x.astype(float) + bias).astype(np.float32), -np.inf)
    np.testing.assert_array_equal(got, filter_logits(changed.astype(np.float32), top_k=20))
    some = filter_logits(x, bias={3: 100.0, 7: -math.inf})
    assert (some.argmax(-1) == 3).all()
    assert not np.isfinite(some[:, 7]).any()
    assert (some[:, 8] == x[:, 8]).all()
    with pytest.raises(ValueError, match="bias must come before"):
        run_sample(x, [TopK(3), Bias({1: 1.0})])


def test_probabilities(dtype: np.dtype[Any]) -> None:
    x = np.random.default_rng(3).normal(size=(2, 700)).astype(dtype)
    p = token_probs(x, temperature=0.8, top_p=0.9)
    assert p.dtype == dtype
    names = [("temperature", 0.8), ("top_p", 0.9)]
    for row, logits in zip(p, x, strict=True):
        wanted = oracle.probabilities(logits.astype(np.float64), names)
        np.testing.assert_allclose(
            row.astype(np.float64), wanted, rtol=1e-2 if p.itemsize < 4 else 1e-6
        )


def test_bad_rows() -> None:
    x = np.zeros((4, 300))
    x[1, 5], x[2, 5], x[3] = np.nan, np.inf, -np.inf
    for bad in (1, 2, 3):
        with pytest.raises(ValueError, match=r"for row 1$"):
            sample(x[[0, bad]])
        with pytest.raises(ValueError, match=r"for row 1$"):
            filter_logits(x[[0, bad]])
    drawn = sample(x, errors="mark", n=2, rng=1)
    assert (drawn.ids[0] >= 0).all()
    assert (drawn.ids[1:] == -1).all()
    assert np.isnan(drawn.log_probs[1:]).all()
    np.testing.assert_array_equal(drawn.kept, [300, 0, 0, 0])
    assert np.isnan(token_probs(x, errors="mark")[1:]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_p": 0.0}, "top_p must be in (0, 1], got 0"),
        ({"top_p": 1.5}, "top_p must be in (0, 1], got 1.5"),
        ({"top_p": math.nan}, "top_p must be in (0, 1], got nan"),
        ({"top_p": [0.5, 2.0]}, "top_p must be in (0, 1], got 2 for row 1"),
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"top_k": 2.5}, "k must be an integer, got 2.5"),
        ({"top_k": [1, 2, 3]}, "top_k of shape (3,) does not broadcast to one per row, (2,)"),
        ({"min_p": -0.1}, "min_p must be in [0, 1], got -0.1"),
        ({"typical_p": 0}, "typical_p must be in (0, 1], got 0"),
        ({"epsilon": 1.0}, "epsilon must be in (0, 1), got 1"),
        ({"eta": 0.0}, "eta must be in (0, 1), got 0"),
        ({"top_n_sigma": 0.0}, "top_n_sigma must be positive and finite, got 0"),
        ({"top_h": 2.0}, "top_h must be in (0, 1], got 2"),
        ({"temperature": -1.0}, "temperature must be 0, or from 1e-30 to 1e+30, got -1"),
        ({"temperature": 1e-31}, "temperature must be 0, or from 1e-30 to 1e+30, got 1e-31"),
        ({"bias": {4: 1.0}}, "an id of bias must be from 0 to 3, got 4"),
        ({"bias": [math.nan] * 4}, "bias must be below +inf and not NaN, got nan"),
        ({"bias": np.zeros(3)}, "bias of shape (3,) does not broadcast to logits of shape (2, 4)"),
        ({"where": np.ones(3, bool)}, "where of shape (3,) does not broadcast"),
        ({"order": ("top_k",), "top_p": 0.5}, "top_p is given, but order has only top_k"),
        ({"order": ("top_k", "top_k")}, "order must have no name twice"),
        ({"order": ("top_q",)}, "a name in order must be one of"),
        ({"compat": "jax"}, "compat must be one of"),
        ({"compat": "vllm", "eta": 0.1}, "eta is given, but order has only"),
        ({"compat": "transformers", "temperature": 0}, "temperature must be from 1e-30 to"),
        ({"n": 0}, "n must be from 1 to"),
        ({"rng": -1}, "rng must be from 0 to 2**64 - 1, got -1"),
        ({"rng": 0.5}, "rng must be an integer"),
        ({"counters": [-1, 0]}, "counters must be from 0 to 2**64 - 1, got -1"),
        ({"counters": [1, 2, 3]}, "counters of shape (3,) do not broadcast to one per row, (2,)"),
        ({"counters": 0.5}, "counters must be integers"),
        ({"errors": "skip"}, "errors must be one of"),
    ],
    ids=str,
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        sample(np.zeros((2, 4)), **options)


def test_rules_of_engines() -> None:
    x = np.array([2.0, 1.0, 1.0, 0.0])
    assert sample(x, top_k=2, compat="transformers").kept == 3
    assert sample(x, top_k=2, compat="vllm").kept == 3
    assert sample(x, top_k=2, compat="llama.cpp").kept == 2
    assert sample(x, temperature=-1.0, compat="llama.cpp").ids == 0
    np.testing.assert_allclose(filter_logits(x, temperature=1e-3, compat="vllm"), x / 0.01)


def test_steps_have_configs() -> None:
    for step, _ in FILTERS:
        assert type(step).from_config(step.get_config()) == step
    per_row = TopK([1, 2])
    assert per_row.get_config() == {"k": [1, 2], "ties": "lowest"}
    assert TopK([1, 2]) == per_row != TopK([1, 3])


def test_a_generator_gives_a_key_for_each_call() -> None:
    x = np.zeros(1000)
    generator = np.random.default_rng(1)
    first, second = sample(x, rng=generator).ids, sample(x, rng=generator).ids
    again = np.random.default_rng(1)
    assert (first, second) == (sample(x, rng=again).ids, sample(x, rng=again).ids)
    assert first != second
    assert sample(x, rng=5, counters=3).ids == sample(np.zeros((4, 1000)), rng=5).ids[3]
