"""Abstention: exact limits, curves, and the guarantees by simulation."""

from __future__ import annotations

import warnings
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import boltzmax
from boltzmax.selective import (
    HierarchicalAbstention,
    SelectiveClassifier,
    confidence,
)
from boltzmax.selective.abstention import safe_threshold
from boltzmax.selective.bounds import (
    binomial_cdf,
    clopper_pearson_ranks,
    hoeffding_ranks,
    starting_ranks,
)
from boltzmax.selective.hierarchical import allowed_errors

Array = NDArray[Any]
BOUNDS = ["clopper_pearson", "hoeffding", "conformal_risk_control"]


def sample(rows: int, classes: int = 5, seed: int = 0, scale: float = 4.0) -> tuple[Array, Array]:
    """Logits, and labels that are drawn from their softmax."""
    rng = np.random.default_rng(seed)
    z = scale * rng.normal(size=(rows, classes))
    return z, (z + rng.gumbel(size=z.shape)).argmax(axis=1)


# ---- limits


def test_binomial_tails_match_scipy() -> None:
    binom = pytest.importorskip("scipy.stats").binom
    for n in (1, 2, 10, 77, 1000, 123_456, 10**7):
        for p in (0.001, 0.01, 0.1, 0.5, 0.93):
            mean, sd = n * p, np.sqrt(n * p * (1 - p))
            for k in {0, int(mean), int(mean - 2 * sd), int(mean - 4 * sd), int(mean + 2 * sd)}:
                if 0 <= k <= n:
                    assert binomial_cdf(k, n, p) == pytest.approx(binom.cdf(k, n, p), rel=1e-9)
    assert binomial_cdf(-1, 5, 0.5) == 0.0
    assert binomial_cdf(5, 5, 0.5) == 1.0


def test_clopper_pearson_table() -> None:
    for target, delta in (("1/100", "1/20"), ("1/5", "1/100"), ("1/2", "1/3")):
        r, d = Fraction(target), Fraction(delta)
        ranks = clopper_pearson_ranks(20_000, r, d)
        assert (np.diff(ranks) > 0).all()
        for k in {0, 1, 2, len(ranks) // 2, len(ranks) - 1}:
            j = int(ranks[k])
            assert binomial_cdf(k, j, float(r)) <= float(d) < binomial_cdf(k, j - 1, float(r))
        assert binomial_cdf(len(ranks), 20_000, float(r)) > float(d)
    assert clopper_pearson_ranks(298, Fraction(1, 100), Fraction(1, 20)).tolist() == []
    assert clopper_pearson_ranks(299, Fraction(1, 100), Fraction(1, 20)).tolist() == [299]


def test_hoeffding_table() -> None:
    ranks = hoeffding_ranks(5000, Fraction(1, 10), Fraction(1, 20))
    k = np.arange(len(ranks))
    limit = k / ranks + np.sqrt(np.log(20) / (2 * ranks))
    assert (limit <= 0.1 + 1e-12).all()
    assert (k / (ranks - 1) + np.sqrt(np.log(20) / (2 * (ranks - 1))) > 0.1).all()


def test_starts_depend_on_the_number_of_rows_alone() -> None:
    r, d = Fraction(1, 100), Fraction(1, 20)
    assert starting_ranks(200, r, d, "clopper_pearson")[0] == []
    assert starting_ranks(400, r, d, "clopper_pearson")[0] == [299]
    assert starting_ranks(500, r, d, "clopper_pearson")[0] == [473]
    assert starting_ranks(20_000, r, d, "clopper_pearson")[0] == [10_000, 5_000, 2_500, 1_250]


# ---- the guarantees


@pytest.mark.parametrize("bound", BOUNDS)
def test_the_promised_risk_is_exceeded_seldom(bound: str) -> None:
    """Of many calibration sets, with a risk that is known: P(wrong | score s) = (1 - s) / 2.

    The score is uniform, so the answered rows have the risk (1 - t) / 4 with the threshold t, and
    the rows that are answered wrongly are (1 - t)^2 / 4 of all.
    """
    rng = np.random.default_rng(1)
    sets, n, target, delta = 400, 2000, Fraction(1, 10), Fraction(1, 10)
    risks = np.empty(sets)
    for i in range(sets):
        score = rng.random(n)
        wrong = rng.random(n) < (1 - score) / 2
        t = safe_threshold(score, wrong, target, delta, bound)
        of_all = bound == "conformal_risk_control"
        risks[i] = 0.0 if t == np.inf else (1 - t) ** (2 if of_all else 1) / 4
    if bound == "conformal_risk_control":
        assert risks.mean() <= 0.1 + 3 * risks.std() / np.sqrt(sets)
        assert risks.mean() > 0.09
    else:
        exceeded = (risks > 0.1).mean()
        assert exceeded <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / sets)
        assert risks.mean() > (0.05 if bound == "clopper_pearson" else 0.0)  # it is of use, too


def test_ties_are_kept_together() -> None:
    """Scores of few levels, with risks below the target, at it and above it."""
    rng = np.random.default_rng(0)
    sets, n, exceeded = 400, 2000, 0
    for _ in range(sets):
        level = rng.integers(0, 4, n)  # the risk down to level 1 is at the target's edge
        wrong = rng.random(n) < np.array([0.5, 0.16, 0.02, 0.0])[level]
        t = safe_threshold(level * 1.0, wrong, Fraction(3, 50), Fraction(1, 10), "clopper_pearson")
        assert t in (1.0, 2.0, 3.0, np.inf)
        exceeded += t <= 1.0 and (0.16 + 0.02) / 3 > 0.06
    assert exceeded == 0
    assert (
        safe_threshold(
            np.ones(500), np.zeros(500, bool), Fraction(1, 100), Fraction(1, 20), "clopper_pearson"
        )
        == 1.0
    )


@pytest.mark.parametrize("bound", BOUNDS)
def test_classifier_on_new_rows(bound: str) -> None:
    z, y = sample(40_000)
    model = SelectiveClassifier(target_risk=0.05, bound=bound).fit(z[:20_000], y[:20_000])
    answer = model.predict(z[20_000:])
    answered, wrong = answer >= 0, answer != y[20_000:]
    risk = (wrong & answered).mean() if "control" in bound else wrong[answered].mean()
    assert 0.03 < risk < 0.055
    assert model.guaranteed_risk_ == 0.05
    assert abs(model.coverage_ - answered.mean()) < 0.02
    assert ("among all" in model.guarantee_) == ("control" in bound)
    np.testing.assert_array_equal(answer[answered], z[20_000:].argmax(axis=1)[answered])


@pytest.mark.parametrize(
    "score", ["max_prob", "margin", "entropy", "energy", "max_logit", "doctor"]
)
def test_every_score(score: str) -> None:
    z, y = sample(4000)
    model = SelectiveClassifier(target_risk=0.2, score=score).fit(z, y)
    z[7, 2], z[8] = np.nan, -np.inf
    answer = model.predict(z)
    assert (answer[7:9] == -1).all()
    assert (answer[confidence(z, score) >= model.threshold_] >= 0).all()


@settings(deadline=None, max_examples=60)
@given(
    bound=st.sampled_from(BOUNDS),
    rows=st.integers(1, 40),
    classes=st.integers(1, 4),
    seed=st.integers(0, 1000),
    target=st.sampled_from([Fraction(1, 1000), 0.2, 0.5, 1 - 1e-9]),
    kind=st.sampled_from(["ties", "equal", "right", "wrong", "masked", "huge"]),
)
def test_edges(bound: str, rows: int, classes: int, seed: int, target: Any, kind: str) -> None:
    """All rows of a score or none are answered, and as seldom wrongly as is needed in `fit`."""
    rng = np.random.default_rng(seed)
    z, y = np.round(rng.normal(size=(rows, classes))), rng.integers(0, classes, rows)
    if kind == "equal":
        z[:] = 0.0
    elif kind == "right":
        y = z.argmax(axis=1)
    elif kind == "wrong":
        y = (z.argmax(axis=1) + (classes > 1)) % classes
    elif kind == "masked":
        z[:, 1:] = -np.inf
    elif kind == "huge":
        z *= 1e300
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "no threshold has a risk")
        model = SelectiveClassifier(target_risk=target, bound=bound).fit(z, y)
        answer = model.predict(z)
    score = confidence(z)
    answered = answer >= 0
    np.testing.assert_array_equal(answered, score >= model.threshold_)
    np.testing.assert_array_equal(answer[answered], z.argmax(axis=1)[answered])
    assert model.coverage_ == answered.mean()
    assert np.isnan(model.guaranteed_risk_) == (model.threshold_ == np.inf)
    wrong = (answer != y)[answered]
    if bound == "conformal_risk_control":
        assert wrong.sum() + 1 <= target * (rows + 1) or not len(wrong)
    elif len(wrong):
        assert wrong.mean() <= target


def test_infeasible_targets_say_so() -> None:
    z, y = sample(200)
    with pytest.warns(UserWarning, match="no threshold has a risk of at most 0.01 that these 200"):
        model = SelectiveClassifier(target_risk=0.01).fit(z, y)
    assert model.threshold_ == np.inf
    assert model.coverage_ == 0
    assert np.isnan(model.guaranteed_risk_)
    assert (model.predict(z) == -1).all()
    with pytest.warns(UserWarning, match="no threshold"):
        SelectiveClassifier(target_risk=0.01).fit(np.tile(z, (10, 1)), np.zeros(2000, int))


def test_estimators() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    z, y = sample(3000, 3)
    names = np.array(["cat", "dog", "eel"])
    for labels, kind in ((y, np.int64), (names[y], object)):
        estimator = linear_model.LogisticRegression().fit(z[:1000], labels[:1000])
        model = SelectiveClassifier(estimator, 0.1).fit(z[1000:], labels[1000:])
        answer = model.predict(z)
        assert answer.dtype == kind
        sure = answer != -1
        assert 0.5 < sure.mean() < 1
        assert set(answer[sure]) <= set(labels)
    with pytest.raises(ValueError, match="'cow' in row 0, which is no class"):
        model.fit(z[1000:], ["cow"] * 2000)
    with pytest.raises(TypeError, match="estimator must have predict_log_proba"):
        SelectiveClassifier(object()).fit(z, y)


def test_bad_arguments() -> None:
    z, y = sample(100)
    for options, what in (
        ({"target_risk": 0}, "target_risk must be between"),
        ({"confidence": 1}, "confidence must be between"),
        ({"bound": "chernoff"}, "bound must be one of"),
        ({"score": "msp"}, "score must be one of"),
    ):
        with pytest.raises(ValueError, match=what):
            SelectiveClassifier(**options).fit(z, y)  # type: ignore[arg-type]
    z[3, 1] = np.nan
    with pytest.raises(ValueError, match="1 row has not, the first is row 3"):
        SelectiveClassifier().fit(z, y)
    with pytest.raises(ValueError, match="needs logits, not probabilities"):
        confidence(z, "energy", from_probs=True)


# ---- trees


def test_nodes_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    for tree in (boltzmax.Tree.huffman(rng.integers(1, 50, 23)), boltzmax.Tree.balanced(17, 4)):
        z = 3 * rng.normal(size=(300, tree.n_classes))
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        y = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
        model = HierarchicalAbstention(tree, 0.1).fit(z, y)
        node_p = np.zeros((300, tree.n_nodes))
        for c in range(tree.n_classes):
            node_p[:, tree.leaf_path(c)] += p[:, [c]]
        wrong = 0
        for r, node in enumerate(model.predict(z)):
            v = tree.root
            while v >= tree.n_classes:
                child = max(tree.children(v).tolist(), key=lambda w: node_p[r, w])
                if not node_p[r, child] > model.threshold_ + 1e-12:
                    break
                v = child
            assert node == v
            wrong += v not in tree.leaf_path(int(y[r]))
        assert wrong / 300 == pytest.approx(model.risk_)
        assert wrong <= allowed_errors(300, Fraction(1, 10), Fraction(1, 20), "clopper_pearson")


@pytest.mark.parametrize("bound", BOUNDS)
def test_the_risk_of_nodes_is_exceeded_seldom(bound: str) -> None:
    tree = boltzmax.Tree.balanced(8)
    z, y = sample(60_000, 8, seed=3, scale=2.0)
    sets, n, risks = 150, 300, []
    for i in range(sets):
        part = slice(i * n, (i + 1) * n)
        model = HierarchicalAbstention(tree, 0.1, 0.9, bound=bound).fit(z[part], y[part])
        node = model.predict(z[-10_000:])
        right = node == tree.root
        for level in range(1, 4):
            above = np.array([tree.leaf_path(c)[min(level, 3)] for c in range(8)])[y[-10_000:]]
            right |= node == above
        risks.append(1 - right.mean())
    if bound == "conformal_risk_control":
        assert np.mean(risks) < 0.1 + 3 * np.std(risks) / np.sqrt(sets) + 0.006
        assert np.mean(risks) > 0.08
    else:
        assert np.mean(np.array(risks) > 0.1 + 0.006) <= 0.1 + 3 * np.sqrt(0.09 / sets)


def test_few_rows_answer_with_the_root() -> None:
    tree = boltzmax.Tree.balanced(5)
    z, y = sample(30)
    with pytest.warns(UserWarning, match="every answer will be the root"):
        model = HierarchicalAbstention(tree).fit(z, y)
    assert (model.predict(z) == tree.root).all()
    assert model.guaranteed_risk_ == 0.0
    z[0, 0] = np.nan
    model = HierarchicalAbstention(tree, 0.3).fit(*sample(200))
    assert model.predict(z)[0] == tree.root
    with pytest.raises(ValueError, match="logits have 4 classes, but the tree has 5"):
        model.predict(z[:, :4])
    with pytest.raises(TypeError, match="tree must be a Tree"):
        HierarchicalAbstention(None).fit(z, y)  # type: ignore[arg-type]


# ---- scores


def test_confidence_by_hand() -> None:
    z = np.array([[2.0, 1.0, 0.0], [700.0, 0.0, -700.0]])
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    wanted = {
        "max_prob": p[:, 0],
        "margin": p[:, 0] - p[:, 1],
        "entropy": (p * np.log(np.maximum(p, 1e-300))).sum(axis=1),
        "energy": np.log(np.exp(z - z.max(axis=1, keepdims=True)).sum(axis=1)) + z[:, 0],
        "max_logit": z[:, 0],
        "doctor": (p**2).sum(axis=1),
    }
    for score, values in wanted.items():
        np.testing.assert_allclose(confidence(z, score), values, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(
            confidence(z.astype(np.float32), score), values, rtol=1e-5, atol=1e-6
        )
    assert confidence(z[:0], "margin").shape == (0,)
    assert confidence([[1.0], [2.0]], "margin").tolist() == [1.0, 1.0]


def test_a_fit_that_raises_changes_nothing() -> None:
    z, y = sample(1000, 3)
    model = SelectiveClassifier(target_risk=0.2).fit(z, y)
    before = model.predict(z)
    for bad_z, bad_y in ((z[:, :2], y), (np.full((4, 9), np.nan), [0, 1, 2, 0])):
        with pytest.raises((ValueError, IndexError)):
            model.fit(bad_z, bad_y)
        np.testing.assert_array_equal(model.predict(z), before)


class Fixed:
    """A classifier whose scores are what is passed."""

    def __init__(self, classes: Any) -> None:
        self.classes_ = np.array(classes)

    def decision_function(self, x: Array) -> Array:
        return x


def test_estimators_whose_scores_or_classes_do_not_fit() -> None:
    z, y = sample(100, 6)
    with pytest.raises(ValueError, match="scores have 6 columns, but it has 4 classes"):
        SelectiveClassifier(Fixed(range(4))).fit(z, y % 4)  # as for pairs of classes
    for classes in ([-1, 1], [-1.0, 1.0]):
        with pytest.raises(ValueError, match="is -1, which would mean no answer"):
            SelectiveClassifier(Fixed(classes)).fit(z[:, 0], np.where(y > 2, 1, -1))
    with pytest.raises(TypeError, match="y must be classes of the estimator, int64, got object"):
        SelectiveClassifier(Fixed([0, 1])).fit(z[:, 0], [None] * 100)
