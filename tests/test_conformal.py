"""Conformal predictors: ranks in integers, the guarantee by simulation, measures."""

from __future__ import annotations

import pickle
import warnings
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from boltzmax._lib.random import uniform_numbers
from boltzmax._lib.rational import as_share, conformal_rank
from boltzmax.conformal import (
    APS,
    LAC,
    RAPS,
    SAPS,
    ClassConditional,
    ClusterConditional,
    PredictionSets,
    coverage,
    covgap,
    mean_set_size,
    plot_set_sizes,
    size_stratified_coverage,
)
from boltzmax.conformal.base import threshold_of

Array = NDArray[Any]
KINDS = [LAC, APS, RAPS, SAPS]


def sample(rows: int, classes: int = 10, seed: int = 0, scale: float = 2.0) -> tuple[Array, Array]:
    """Logits, and labels that are drawn from their softmax."""
    rng = np.random.default_rng(seed)
    z = scale * rng.normal(size=(rows, classes))
    return z, (z + rng.gumbel(size=z.shape)).argmax(axis=1)


def test_ranks_are_exact() -> None:
    for alpha in ("0.1", "0.05", "0.3", "0.01", "0.7", "1e-3"):
        share = as_share(float(alpha), "alpha")
        assert share == Fraction(alpha)
        for n in [*range(1, 200), 999, 10**12]:
            exact = -((-(n + 1) * (share.denominator - share.numerator)) // share.denominator)
            assert conformal_rank(n, share) == exact
    # In floats, the first rank would be too high: ceil(10 * (1 - 0.3)) is 8 if 0.3 is rounded down.
    assert conformal_rank(9, as_share(0.3, "alpha")) == 7
    assert conformal_rank(9, as_share(np.float32(0.1), "alpha")) == 9
    assert threshold_of(np.arange(8.0), Fraction(1, 10)) == np.inf
    assert threshold_of(np.arange(9.0), Fraction(1, 10)) == 8.0


@pytest.mark.parametrize("alpha", [0, 1, -0.1, 1.5, np.nan, np.inf, "0.1", None, [0.1]])
def test_bad_alpha(alpha: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="alpha must be"):
        LAC(alpha=alpha).fit(*sample(100))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_calibration_are_covered_as_the_rank_says(kind: Any) -> None:
    """Without random numbers, exactly `rank` labels are in their sets, ties aside."""
    for n in (99, 100, 501):
        z, y = sample(n, seed=n)
        predictor = kind(alpha=0.1, randomized=False).fit(z, y)
        assert predictor.predict(z).contain(y).sum() == conformal_rank(n, Fraction(1, 10))


@pytest.mark.parametrize("kind", KINDS)
def test_p_values_decide_membership(kind: Any) -> None:
    z, y = sample(1000)
    predictor = kind(alpha=0.15).fit(z[:400], y[:400])
    inside = predictor.predict(z[400:], first_row=7).contain(y[400:])
    p = predictor.p_values(z[400:], y[400:], first_row=7)
    np.testing.assert_array_equal(inside, p > 0.15)
    assert p.min() >= 1 / 401
    by_class = ClassConditional(kind(alpha=0.15)).fit(z[:400], y[:400])
    inside = by_class.predict(z[400:]).contain(y[400:])
    np.testing.assert_array_equal(inside, by_class.p_values(z[400:], y[400:]) > 0.15)


def test_raps_without_penalty_is_aps() -> None:
    z, y = sample(500)
    aps, raps = APS().fit(z, y), RAPS(lam=0).fit(z, y)
    assert aps.threshold_ == raps.threshold_
    np.testing.assert_array_equal(aps.predict(z).ids, raps.predict(z).ids)
    strict = RAPS(lam=0.2).fit(z, y).predict(z)
    assert strict.sizes.max() < aps.predict(z).sizes.max()


def test_probabilities_and_logits() -> None:
    z, y = sample(300)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    for kind in KINDS:
        a, b = kind().fit(z, y), kind(from_probs=True).fit(p, y)
        assert a.threshold_ == pytest.approx(b.threshold_, rel=1e-12)
        np.testing.assert_array_equal(a.predict(z).ids, b.predict(p).ids)
    with pytest.raises(ValueError, match="must be probabilities, got numbers"):
        APS(from_probs=True).fit(z, y)


def test_two_classes_in_one_column() -> None:
    z, y = sample(200, classes=2)
    one = APS().fit(z[:, 1] - z[:, 0], y)
    two = APS().fit(np.column_stack([0 * z[:, 0], z[:, 1] - z[:, 0]]), y)
    assert one.threshold_ == two.threshold_
    assert one.predict(z[:, 1] - z[:, 0]).n_classes == 2


@pytest.mark.parametrize("kind", KINDS)
def test_too_few_rows_give_full_sets(kind: Any) -> None:
    z, y = sample(8)
    with pytest.warns(UserWarning, match="8 rows are too few for alpha=0.1.*it takes 9 rows"):
        predictor = kind(alpha=0.1).fit(z, y)
    assert predictor.threshold_ == np.inf
    assert predictor.predict(z).sizes.tolist() == [10] * 8


@pytest.mark.parametrize(
    "make",
    [
        *KINDS,
        lambda **o: ClassConditional(LAC(**o)),
        lambda **o: ClusterConditional(LAC(**o), n_clusters=2),
    ],
)
def test_coverage_over_many_calibration_sets(make: Any) -> None:
    """The mean over calibration sets is between 1 - alpha and 1 - alpha + 1/(n + 1)."""
    n, sets, test, classes = 60, 250, 40, 3
    hits = np.empty(sets)
    for s in range(sets):
        z, y = sample(n + test, classes, seed=s)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            predictor = make(alpha=0.2, random_state=s).fit(z[:n], y[:n])
        hits[s] = coverage(predictor.predict(z[n:]), y[n:])
    error = hits.std() / np.sqrt(sets)
    assert hits.mean() > 0.8 - 3 * error
    slack = 1 / (n + 1) if make in KINDS else 0.08
    assert hits.mean() < 0.8 + slack + 3 * error


def test_each_class_is_covered() -> None:
    rng = np.random.default_rng(0)
    z, y = sample(40_000, 4, seed=1)
    z[:, 0] -= 2.0 * rng.random(len(z))  # the model underrates class 0
    half = len(z) // 2
    marginal = LAC().fit(z[:half], y[:half]).predict(z[half:])
    by_class = ClassConditional(LAC()).fit(z[:half], y[:half]).predict(z[half:])
    for c in range(4):
        of_class = y[half:] == c
        share = by_class.contain(y[half:])[of_class].mean()
        assert abs(share - 0.9) < 4 * np.sqrt(0.1 * 0.9 * 2 / of_class.sum())
    assert covgap(by_class, y[half:], 0.1) < covgap(marginal, y[half:], 0.1)


def test_clusters_of_classes() -> None:
    z, y = sample(20_000, 12, seed=2)
    z[:, :6] -= 2.0  # underrated
    half = len(z) // 2
    predictor = ClusterConditional(LAC(), n_clusters=2).fit(z[:half], y[:half])
    assert len(set(predictor.group_[:6])) == 1
    assert len(set(predictor.group_[6:])) == 1
    assert predictor.group_[0] != predictor.group_[6]
    hit = predictor.predict(z[half:]).contain(y[half:])
    for some in (y[half:] < 6, y[half:] >= 6):
        assert abs(hit[some].mean() - 0.9) < 4 * np.sqrt(0.09 * 2.5 / some.sum())
    with pytest.warns(UserWarning, match="too few"):
        tiny = ClusterConditional(LAC(alpha=0.01), n_clusters=3).fit(z[:60], y[:60])
    assert set(tiny.group_) == {3}


def test_random_numbers() -> None:
    z, y = sample(500)
    first = APS(random_state=3).fit(z, y)
    same, other = APS(random_state=3).fit(z, y), APS(random_state=4).fit(z, y)
    assert first.threshold_ == same.threshold_ != other.threshold_
    np.testing.assert_array_equal(first.predict(z).ids, same.predict(z).ids)
    assert not np.array_equal(first.predict(z).ids, first.predict(z, first_row=1).ids)
    again = pickle.loads(pickle.dumps(first))
    np.testing.assert_array_equal(first.predict(z).ids, again.predict(z).ids)
    with pytest.raises(TypeError, match="random_state must be an integer"):
        APS(random_state="a").fit(z, y)


def test_parameters() -> None:
    predictor = ClassConditional(RAPS(alpha=0.2, k_reg=3))
    assert predictor.get_params()["base__k_reg"] == 3
    predictor.set_params(base__k_reg=4)
    assert predictor.base.k_reg == 4
    with pytest.raises(ValueError, match="has no parameter 'k'"):
        predictor.set_params(k=1)
    clone = pytest.importorskip("sklearn.base").clone
    assert clone(predictor).base.alpha == 0.2


def test_bad_arguments() -> None:
    z, y = sample(50)
    with pytest.raises(ValueError, match="not fitted"):
        LAC().predict(z)
    with pytest.raises(IndexError, match="y 10 at position 3 is out of range"):
        LAC().fit(z, y + 1)
    with pytest.raises(ValueError, match="logits have 9 classes, but those of fit had 10"):
        LAC().fit(z, y).predict(z[:, :9])
    for options in ({"lam": -1}, {"lam": np.nan}, {"k_reg": -1}):
        with pytest.raises(ValueError, match="must be"):
            RAPS(**options).fit(z, y)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="weight must be"):
        SAPS(weight=np.inf).fit(z, y)
    with pytest.raises(TypeError, match="base must be"):
        ClassConditional("LAC").fit(z, y)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must have at least 1 row,"):
        LAC().fit(z[:0], y[:0])
    assert len(LAC(alpha=0.5).fit(z, y).predict(z[:0])) == 0


def test_memory_maps(tmp_path: Any) -> None:
    z, y = sample(3000, 200)
    np.save(tmp_path / "z.npy", z)
    mapped = np.load(tmp_path / "z.npy", mmap_mode="r")
    a, b = APS().fit(z, y).predict(z), APS().fit(mapped, y).predict(mapped)
    np.testing.assert_array_equal(a.ids, b.ids)


def test_sets_as_a_container() -> None:
    sets = PredictionSets([0, 2, 2, 3], [0, 2, 1], [0.6, 0.3, 0.9], 3)  # type: ignore[arg-type]
    assert [s.tolist() for s in sets] == [[0, 2], [], [1]]
    assert sets[-1].tolist() == [1]
    assert sets.sizes.tolist() == [2, 0, 1]
    assert sets.contain([2, 0, 0]).tolist() == [True, False, False]
    assert coverage(sets, [2, 0, 1]) == pytest.approx(2 / 3)
    assert mean_set_size(sets) == 1.0
    with pytest.raises(IndexError, match="row 3 is out of range for 3 sets"):
        sets[3]
    with pytest.raises(ValueError, match="indptr must rise"):
        PredictionSets([1, 2], [0], [1.0], 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ids and probs must have 2 elements"):
        PredictionSets([0, 2], [0], [1.0], 2)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="sets must be PredictionSets"):
        coverage([[0]], [0])  # type: ignore[arg-type]
    empty = PredictionSets([0], [], [], 3)  # type: ignore[arg-type]
    assert np.isnan(coverage(empty, []))
    assert np.isnan(mean_set_size(empty))
    assert np.isnan(covgap(empty, [], 0.1))
    assert np.isnan(size_stratified_coverage(empty, []).worst)


def test_measures_by_hand() -> None:
    sets = PredictionSets([0, 1, 3, 6], [0, 0, 1, 0, 1, 2], np.ones(6), 4)  # type: ignore[arg-type]
    strata = size_stratified_coverage(sets, [0, 2, 2], sizes=[0, 2, 3])
    assert strata.count.tolist() == [1, 1, 1]
    assert strata.coverage.tolist() == [1, 0, 1]
    assert strata.low.tolist() == [0, 2, 3]
    assert strata.high.tolist() == [1, 2, 4]
    assert strata.worst == 0.0
    assert covgap(sets, [0, 2, 2], 0.25) == pytest.approx(100 * (0.25 + 0.25) / 2)
    with pytest.raises(ValueError, match="sizes must be integers that rise from 0"):
        size_stratified_coverage(sets, [0, 2, 2], sizes=[1, 2])


def test_plot() -> None:
    pytest.importorskip("matplotlib").use("agg")
    for classes in (10, 200):
        z, y = sample(200, classes, scale=0.3)
        axes = plot_set_sizes(APS().fit(z, y).predict(z))
        assert axes.get_ylabel() == "rows"


@pytest.mark.parametrize("kind", KINDS)
def test_the_base_of_groups_is_not_changed(kind: Any) -> None:
    z, y = sample(400, 4)
    base = kind(0.2).fit(z[:100], y[:100])
    before, sets = dict(vars(base)), base.predict(z)
    by_class, by_cluster = ClassConditional(base), ClusterConditional(base, 2)
    for predictor in (by_class, by_cluster):
        predictor.fit(z[:, :3], y % 3)
        assert predictor.base is base
        assert predictor.predict(z[:, :3]).n_classes == 3
    assert vars(base) == before
    np.testing.assert_array_equal(base.predict(z).ids, sets.ids)


def test_a_fit_that_raises_changes_nothing() -> None:
    z, y = sample(300)
    bad = np.where(np.arange(300)[:, None] == 7, np.nan, z)
    predictor = APS().fit(z, y)
    by_class = ClassConditional(APS(0.5)).fit(z, y)
    before = [p.predict(z).ids for p in (predictor, by_class)]
    predictor.random_state = by_class.base.random_state = 5
    for p, ids in zip((predictor, by_class), before, strict=True):
        with pytest.raises(ValueError, match="the first is row 7"):
            p.fit(bad, y)
        np.testing.assert_array_equal(p.predict(z).ids, ids)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (([0, 1], [3], [1.0], 3), ValueError, "ids must be classes from 0 to 2, got 3 at position"),
        (([0, 2], [0, -1], [1.0, 1.0], 3), ValueError, "got -1 at position 1"),
        (([0, 1], [0.5], [1.0], 3), TypeError, "ids must be integers, got dtype float64"),
        (([0, 1.5], [0], [1.0], 3), TypeError, "indptr must be integers"),
        (([0, 1], [0], [1.0], 0), ValueError, "n_classes must be from 1"),
    ],
)
def test_bad_sets(arguments: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        PredictionSets(*arguments)


def test_measures_need_sets() -> None:
    for measure in (mean_set_size, plot_set_sizes):
        with pytest.raises(TypeError, match="sets must be PredictionSets, got list"):
            measure([[0]])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="clustering_share must be between 0 and 1, got 1"):
        ClusterConditional(LAC(), 2, clustering_share=1).fit(*sample(50))


@settings(deadline=None, max_examples=40)
@given(
    make=st.sampled_from([*KINDS, lambda *a, **o: ClassConditional(LAC(*a, **o))]),
    alpha=st.sampled_from([Fraction(1, 10**6), 0.1, 0.5, 1 - 1e-9]),
    classes=st.integers(1, 4),
    rows=st.integers(1, 12),
    seed=st.integers(0, 3),
    kind=st.sampled_from(["ties", "equal", "all right", "all wrong", "masked", "huge"]),
    randomized=st.booleans(),
)
def test_edges(
    make: Any, alpha: Any, classes: int, rows: int, seed: int, kind: str, randomized: bool
) -> None:
    """A label is in its set exactly if its p-value says so, and the sets of full rows are full."""
    rng = np.random.default_rng(seed)
    z, y = np.round(rng.normal(size=(rows, classes))), rng.integers(0, classes, rows)
    if kind == "equal":
        z[:] = 0.0
    elif kind in ("all right", "all wrong"):
        z[:] = 0.0
        z[np.arange(rows), y] = 50.0 if kind == "all right" else -50.0
    elif kind == "masked":
        z[:, 1:] = -np.inf
    elif kind == "huge":
        z *= 1e300
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predictor = make(alpha, randomized=randomized).fit(z, y)
    sets, p = predictor.predict(z), predictor.p_values(z, y)
    share = as_share(alpha, "alpha")
    np.testing.assert_array_equal(sets.contain(y), [Fraction(v) > share for v in exact(p, rows)])
    if getattr(predictor, "threshold_", 0.0) == np.inf:
        assert (sets.sizes == classes).all()
    assert ((sets.probs >= 0) & (sets.probs <= 1)).all()


def exact(p: Array, rows: int) -> list[Fraction]:
    """The fractions, of at most rows + 1 parts, that p-values are."""
    return [Fraction(float(v)).limit_denominator(rows + 1) for v in p]


@pytest.mark.parametrize("kind", [RAPS, SAPS])
def test_parameters_that_change_need_a_new_fit(kind: Any) -> None:
    z, y = sample(400)
    predictor, by_class = kind().fit(z, y), ClassConditional(kind()).fit(z, y)
    before = [(p.predict(z).ids, p.p_values(z, y)) for p in (predictor, by_class)]
    changed = {"randomized": False, "from_probs": True, "random_state": 9, "alpha": 0.5}
    changed |= {"lam": 3.0, "k_reg": 0} if kind is RAPS else {"weight": 3.0}
    predictor.set_params(**changed)
    by_class.base.set_params(**changed)
    for p, (ids, values) in zip((predictor, by_class), before, strict=True):
        np.testing.assert_array_equal(p.predict(z).ids, ids)
        np.testing.assert_array_equal(p.p_values(z, y), values)
    predictor.set_params(from_probs=False).fit(z, y)
    assert not np.array_equal(predictor.predict(z).ids, before[0][0])


def test_random_numbers_of_a_row_depend_on_nothing_else() -> None:
    u = uniform_numbers(7, 5, 1000, 1, 3)
    assert ((u >= 0) & (u < 1)).all()
    np.testing.assert_array_equal(u[3:5, 1], uniform_numbers(7, 8, 2, 2)[:, 0])
    assert len(np.unique(u)) == u.size
    assert not np.isin(uniform_numbers(8, 5, 1000, 1, 3), u).any()
    # Beyond 32 bits of the row and of the element, and around the last row.
    far = uniform_numbers(7, 2**64 - 1, 2, 2**32 + 1)[:, 0]
    assert far[1] == uniform_numbers(7, 0, 1, 2**32 + 1)[0, 0] != uniform_numbers(7, 0, 1, 1)[0, 0]
    for x in u.T:
        assert abs(x.mean() - 0.5) < 4 / np.sqrt(12 * len(x))
