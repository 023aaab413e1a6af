"""Samplers of candidates: their distributions, their expected counts, and their arguments."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import boltzmax
import boltzmax.candidates.inclusion as module
import boltzmax.testing
from boltzmax._lib.arguments import quietly
from boltzmax.candidates import (
    InBatchSampler,
    LearnedSampler,
    LogUniformSampler,
    QuadraticKernelSampler,
    Sampler,
    UniformSampler,
    UnigramSampler,
)
from candidate_samples import SAMPLES, inclusion, orders, probabilities, weight

pytestmark = pytest.mark.usefixtures("strict")

EACH = pytest.mark.parametrize("name", SAMPLES)
KEY = 0x243F6A8885A308D3


def make(name: str, n_classes: int) -> tuple[Sampler, dict[str, Any]]:
    sample = SAMPLES[name]
    hidden = {} if sample.hidden is None else {"hidden": sample.hidden}
    return sample.make(n_classes), hidden


def chance_of(observed: Any, p: Any) -> float:
    """The chance of counts that are at least as far from the probabilities, by chi-square."""
    stats = pytest.importorskip("scipy.stats")
    observed, p = np.asarray(observed, float), np.asarray(p, float)
    assert not observed[p == 0].any()
    observed, p = observed[p > 0], p[p > 0]
    expected = p / p.sum() * observed.sum()
    common = expected >= 5
    if not common.all():
        observed, expected = (np.append(x[common], x[~common].sum()) for x in (observed, expected))
    return float(stats.chisquare(observed, expected).pvalue) if len(observed) > 1 else 1.0


# ---- distributions ----


@EACH
@pytest.mark.parametrize("excluded", [None, [0, 2, 7], list(range(1, 90)), list(range(99))])
def test_draws_have_their_distribution(name: str, excluded: Any) -> None:
    """Also where exclusions leave so little that all classes are listed."""
    sampler, hidden = make(name, 100)
    ids, _ = sampler.sample(100_000, rng=1, exclude=excluded, **hidden)
    q = probabilities(name, 100, excluded or [])
    assert chance_of(np.bincount(ids, minlength=100), q) > 1e-3


@EACH
def test_each_row_has_its_own_distribution(name: str) -> None:
    sampler, hidden = make(name, 40)
    lists = [[], [5], [0, 1, 2, 4], list(range(39))[::-1], [7, 5, 7]]
    exclude = (np.concatenate(lists).astype(int), np.cumsum([0, *map(len, lists)]))
    if hidden:
        hidden = {"hidden": np.stack([hidden["hidden"]] * 5)}
    ids, log_q = sampler.sample(20_000, rng=2, exclude=exclude, **hidden)
    assert ids.shape == log_q.shape == (5, 20_000)
    q = np.stack([probabilities(name, 40, some) for some in lists])
    for row in range(5):
        assert chance_of(np.bincount(ids[row], minlength=40), q[row]) > 1e-3
        np.testing.assert_allclose(log_q[row], np.log(20_000 * q[row, ids[row]]), atol=1e-12)
    same = sampler.log_expected_count(ids, 20_000, exclude=exclude, **hidden)
    np.testing.assert_allclose(same, log_q, atol=1e-12)
    one = sampler.log_expected_count(ids[:, 0], 20_000, exclude=exclude, **hidden)
    assert (one == same[:, 0]).all()


@EACH
@pytest.mark.parametrize("n", [2, 3])
def test_different_classes_come_in_the_order_of_successive_sampling(name: str, n: int) -> None:
    """Of many rows; both from draws that repeat and from the list of all classes."""
    sampler, hidden = make(name, 5)
    rows = 4000
    exclude = (np.ones(rows, int), np.arange(rows + 1))
    of_rows = {"hidden": np.tile(hidden["hidden"], (rows, 1))} if hidden else {}
    chances = orders(probabilities(name, 5, [1]), n)
    # The ids of `sample` alone: for the kernel, expected counts of each row take their time.
    ids = sampler._draws(n, True, exclude, of_rows.get("hidden"))[0].draw_ids(3)
    first = ([1], [0, 1])
    assert (sampler.sample(n, rng=3, unique=True, exclude=first, **hidden)[0] == ids[:1]).all()
    seen = dict.fromkeys(chances, 0)
    for row in ids.tolist():
        seen[tuple(row)] += 1
    assert chance_of(list(seen.values()), list(chances.values())) > 1e-3


# ---- expected counts ----


@EACH
@pytest.mark.parametrize("excluded", [[], [4], [1, 0, 5]])
def test_expected_counts_are_exact(name: str, excluded: list[int]) -> None:
    """Of independent draws n q; of different ones by enumeration of all subsets."""
    sampler, hidden = make(name, 8)
    q = probabilities(name, 8, excluded)
    with np.errstate(divide="ignore"):
        for n in (1, 6):
            got = sampler.log_expected_count(np.arange(8), n, exclude=excluded, **hidden)
            np.testing.assert_allclose(got, np.log(n * q), rtol=1e-13, atol=1e-12)
        for n in range(1, np.count_nonzero(q) + 1):
            got = sampler.log_expected_count(
                np.arange(8), n, unique=True, exclude=excluded, **hidden
            )
            np.testing.assert_allclose(got, np.log(inclusion(q, n)), rtol=1e-9, atol=1e-9)


@EACH
@pytest.mark.parametrize("options", [{}, {"exclude": [0, 9]}, {"unique": True}])
def test_draws_come_with_their_expected_counts(name: str, options: dict[str, Any]) -> None:
    sampler, hidden = make(name, 60)
    ids, log_q = sampler.sample(20, rng=4, **options, **hidden)
    got = sampler.log_expected_count(ids, 20, **options, **hidden)
    np.testing.assert_allclose(got, log_q, rtol=1e-12, atol=1e-12)
    matrix = sampler.log_expected_count(ids.reshape(4, 5), 20, **options, **hidden)
    assert (matrix.reshape(-1) == got).all()
    assert sampler.sample(0, **options, **hidden)[0].shape == (0,)


@EACH
@pytest.mark.parametrize("unique", [False, True])
def test_sums_over_candidates_are_unbiased(name: str, unique: bool) -> None:
    """sum f(i) / expected count, with its error bar, over many samples."""
    sampler, hidden = make(name, 50)
    f = np.random.default_rng(5).random(50) * (probabilities(name, 50) > 0)
    rng = np.random.default_rng(6)
    sums = []
    for _ in range(1000 if not (hidden and unique) else 100):
        ids, log_q = sampler.sample(12, rng=rng, unique=unique, **hidden)
        assert not unique or len(set(ids.tolist())) == 12
        sums.append((f[ids] * np.exp(-log_q)).sum())
    error = np.std(sums) / np.sqrt(len(sums))
    assert abs(np.mean(sums) - f.sum()) < 4 * error + 1e-12


def test_inclusion_probabilities_of_many_classes() -> None:
    """Their sum is n; classes of 5000 different probabilities are grouped."""
    for sampler in (LogUniformSampler(20_000), UnigramSampler(np.arange(1, 20_001))):
        q = np.exp(sampler.log_expected_count(np.arange(20_000), 1))
        for n in (1, 300, 19_000):
            pi = np.exp(sampler.log_expected_count(np.arange(20_000), n, unique=True))
            assert abs(pi.sum() / n - 1) < 1e-6
            assert (np.diff(pi[np.argsort(q)]) >= -1e-12).all()
            assert n > 1 or np.allclose(pi, q, rtol=1e-6)


@quietly
def test_grouping_classes_changes_little(monkeypatch: pytest.MonkeyPatch) -> None:
    log_q = np.log(probabilities("log-uniform", 900))
    groups = module.group_classes(log_q)
    for n in (3, 200, 850):
        monkeypatch.setattr(module, "MOST_POINTS", 1000)
        exact = module.Inclusion(groups, n).of(log_q)
        monkeypatch.setattr(module, "MOST_POINTS", 512)
        interpolated = module.Inclusion(groups, n).of(log_q)
        np.testing.assert_allclose(interpolated, exact, rtol=0, atol=1e-6)
        monkeypatch.setattr(module, "MOST_GROUPS", 600)
        grouped = module.group_classes(log_q)
        assert len(grouped.q) < 600
        monkeypatch.setattr(module, "MOST_GROUPS", 4096)
        np.testing.assert_allclose(module.Inclusion(grouped, n).of(log_q), exact, atol=1e-5)


# ---- bits ----


@EACH
def test_ids_are_the_same_everywhere(name: str, threads: Callable[[int], None]) -> None:
    """On every instruction set, with any number of threads."""
    sampler, hidden = make(name, 1000)
    cases: list[dict[str, Any]] = [
        {"n": 70_000 if not hidden else 700},
        {"n": 300, "exclude": np.arange(0, 900, 3)},
        {"n": 40, "unique": True},
        {"n": 20, "exclude": (np.arange(60), np.arange(0, 61, 4))},
    ]
    for case in cases:
        given = dict(hidden)
        if hidden and isinstance(case.get("exclude"), tuple):
            given = {"hidden": np.random.default_rng(7).normal(size=(15, 3))}
        threads(1)
        first = sampler.sample(**case, rng=KEY, **given)
        for name_of_isa in boltzmax.available_isas():
            for count in (1, 3):
                threads(count)
                with boltzmax.testing.use_isa(name_of_isa):
                    ids, log_q = sampler.sample(**case, rng=KEY, **given)
                assert (ids == first[0]).all()
                np.testing.assert_allclose(log_q, first[1], rtol=1e-14, atol=1e-14)


@EACH
def test_random_numbers_come_from_a_key(name: str) -> None:
    sampler, hidden = make(name, 1000)
    ids, _ = sampler.sample(50, rng=7, **hidden)
    assert (sampler.sample(60, rng=7, **hidden)[0][:50] == ids).all()
    assert (sampler.sample(50, rng=8, **hidden)[0] != ids).any()
    a, b = np.random.default_rng(1), np.random.default_rng(1)
    one, two = sampler.sample(50, rng=a, **hidden)[0], sampler.sample(50, rng=a, **hidden)[0]
    assert (one != two).any()
    assert (sampler.sample(50, rng=b, **hidden)[0] == one).all()
    assert (sampler.sample(50, **hidden)[0] != sampler.sample(50, **hidden)[0]).any()


@EACH
def test_pickles_draw_the_same(name: str) -> None:
    sampler, hidden = make(name, 300)
    other = pickle.loads(pickle.dumps(sampler))
    assert type(other) is type(sampler)
    assert type(sampler).__module__ == "boltzmax.candidates"
    for options in ({}, {"unique": True}, {"exclude": [1, 2]}):
        got, wanted = (s.sample(40, rng=9, **options, **hidden) for s in (other, sampler))
        assert (got[0] == wanted[0]).all()
        assert (got[1] == wanted[1]).all()
    assert other.nbytes == sampler.nbytes
    assert str(300) in repr(sampler)


# ---- arguments ----


@EACH
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n": -1}, ValueError, "n must be from 0 to 4294967295, got -1"),
        ({"n": 2.5}, TypeError, "n must be an integer, got 2.5"),
        ({"rng": "a"}, TypeError, "rng must be an integer, a numpy.random.Generator or None"),
        ({"rng": -1}, ValueError, "rng must be from 0"),
        ({"exclude": [3, 20]}, IndexError, "exclude 20 at position 1 is out of range for 20"),
        ({"exclude": [-1]}, IndexError, "exclude -1 at position 0 is out of range for 20"),
        ({"exclude": [0.5]}, TypeError, "exclude must be an array of integers, got dtype float64"),
        ({"exclude": [[1]]}, ValueError, "exclude must have one axis"),
        (
            {"exclude": ([1], [0, 1], [])},
            ValueError,
            r"ids or \(values, indptr\), got a tuple of 3",
        ),
        ({"exclude": ([1], [0, 2])}, ValueError, "indptr must end with the number of elements, 1"),
        ({"exclude": list(range(20))}, ValueError, "exclude leaves no class that could be drawn"),
        ({"n": 21, "unique": True}, ValueError, "n must be at most the number of classes that can"),
    ],
)
def test_bad_arguments(
    name: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    sampler, hidden = make(name, 20)
    with pytest.raises(error, match=message):
        sampler.sample(**({"n": 3} | options), **hidden)


def test_errors_name_the_row() -> None:
    sampler = UniformSampler(4)
    exclude = ([1, 0, 1, 2], [0, 1, 4])
    with pytest.raises(ValueError, match="can be drawn in row 1, 1, for unique candidates, got 2"):
        sampler.sample(2, unique=True, exclude=exclude)
    with pytest.raises(ValueError, match=r"\(rows,\) or \(rows, k\) for 2 rows of candidates"):
        sampler.log_expected_count([1, 2, 3], 2, exclude=exclude)
    with pytest.raises(IndexError, match="ids 4 at position 1 is out of range for 4 classes"):
        sampler.log_expected_count([1, 4], 2)
    with pytest.raises(TypeError, match="ids must be integers, got dtype float64"):
        sampler.log_expected_count([1.0], 2)
    with pytest.raises(ValueError, match=r"exclude\[0\], values, must have one axis"):
        sampler.sample(2, exclude=(1, 2))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: UniformSampler(0), ValueError, "n_classes must be from 1 to 4294967295, got 0"),
        (lambda: LogUniformSampler(2**32), ValueError, "n_classes must be from 1"),
        (lambda: LearnedSampler(1.5), TypeError, "n_classes must be an integer, got 1.5"),
        (lambda: LearnedSampler(3, smoothing=0), ValueError, "smoothing must be finite and above"),
        (lambda: LearnedSampler(30, smoothing=1e308), ValueError, "times 30 classes must be fin"),
        (lambda: UnigramSampler([1, -1]), ValueError, "not negative, got -1 for class 1"),
        (lambda: UnigramSampler([1, np.nan]), ValueError, "finite and not negative, got nan"),
        (lambda: UnigramSampler([np.inf]), ValueError, "finite and not negative, got inf"),
        (lambda: UnigramSampler([0, 0]), ValueError, "counts must not all be 0"),
        (lambda: UnigramSampler([]), ValueError, r"one number for each class, got shape \(0,\)"),
        (lambda: UnigramSampler([[1]]), ValueError, "one number for each class"),
        (lambda: UnigramSampler(["a"]), TypeError, "counts must be real numbers"),
        (lambda: UnigramSampler([1], power=-1), ValueError, "power must be finite and not neg"),
        (lambda: InBatchSampler([]), ValueError, r"ids must be \(B,\) with B > 0, got shape"),
        (lambda: InBatchSampler([0.5]), TypeError, "ids must be integers"),
        (lambda: InBatchSampler([5], [1, 2]), IndexError, "ids 5 at position 0 is out of range"),
        (lambda: LearnedSampler(3).update([3]), IndexError, "ids 3 at position 0 is out of range"),
    ],
)
def test_bad_samplers(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_refused_update_changes_nothing() -> None:
    sampler = LearnedSampler(3)
    with pytest.raises(IndexError):
        sampler.update([0, 1, 7])
    assert not sampler.counts.any()


def test_extreme_counts() -> None:
    """Rare classes keep their probabilities, to the last digit."""
    counts = np.array([1e300, 1e-300, 1.0, 0.0, 5e-324])
    sampler = UnigramSampler(counts, power=1.0)
    got = sampler.log_expected_count([0, 1, 2, 3, 4], 1)
    np.testing.assert_allclose(got[[0, 2]], [0.0, np.log(1e-300)])
    assert got[3] == -np.inf
    assert (sampler.sample(1000, rng=1)[0] == 0).all()
    flat = UnigramSampler([3, 0, 7], power=0.0).log_expected_count([0, 1, 2], 1)
    np.testing.assert_allclose(flat, [np.log(0.5), -np.inf, np.log(0.5)])


def test_rare_classes_keep_their_expected_counts() -> None:
    """Different candidates of weights over hundreds of decades, by enumeration of all subsets."""
    rng = np.random.default_rng(77)
    for decades in (10, 150):
        w = 10.0 ** rng.uniform(-decades, 0, 6)
        for excluded in ([], [int(rng.integers(6))]):
            q = w.copy()
            q[excluded] = 0.0
            for n in range(1, 6 - len(excluded)):
                got = UnigramSampler(w, power=1.0).log_expected_count(
                    np.arange(6), n, unique=True, exclude=excluded
                )
                with np.errstate(divide="ignore"):
                    exact = np.log(inclusion(q, n))
                np.testing.assert_allclose(got, exact, rtol=0, atol=1e-9)


def test_one_class() -> None:
    for sampler in (
        UniformSampler(1),
        LogUniformSampler(1),
        UnigramSampler([2]),
        LearnedSampler(1),
    ):
        for unique in (False, True):
            ids, log_q = sampler.sample(1, rng=1, unique=unique)
            assert ids.tolist() == [0]
            assert abs(log_q[0]) < 1e-15
    one = QuadraticKernelSampler(weight(1))
    assert one.sample(3, rng=1, hidden=np.ones(3))[0].tolist() == [0, 0, 0]
