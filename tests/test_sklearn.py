"""The classifiers for scikit-learn: its estimator checks, training and losses."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import boltzmax
from classifier_samples import BOTH, SOLVERS, Array, Make
from conftest import RunPython, Split

pytest.importorskip("sklearn")

from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from boltzmax.sklearn import HierarchicalSoftmaxClassifier, SoftmaxClassifier

ESTIMATORS = [
    SoftmaxClassifier(),
    SoftmaxClassifier("focal_loss"),
    SoftmaxClassifier("balanced_softmax"),
    HierarchicalSoftmaxClassifier(),
    HierarchicalSoftmaxClassifier("clusters", arity=3),
]


@parametrize_with_checks(ESTIMATORS)  # type: ignore[untyped-decorator]
def test_scikit_learn_checks(estimator: Any, check: Callable[..., None]) -> None:
    check(estimator)


CHECK_IN_FULL = """
import warnings
from sklearn.utils.estimator_checks import check_estimator
from boltzmax.sklearn import HierarchicalSoftmaxClassifier, SoftmaxClassifier
warnings.simplefilter("ignore")  # of estimators that are stopped early
for estimator in (SoftmaxClassifier(), HierarchicalSoftmaxClassifier()):
    results = check_estimator(estimator, on_skip=None)
    print(len(results), {result["status"] for result in results})
"""


def test_no_scikit_learn_check_is_skipped(run_python: RunPython) -> None:
    """Some need pandas, and one needs SciPy imported with array API support."""
    done = run_python(CHECK_IN_FULL, env={"SCIPY_ARRAY_API": "1"}, timeout=300)
    assert re.fullmatch(r"(\d{2,} \{'passed'\}\n){2}", done.stdout), done


@pytest.fixture(scope="module")
def uneven() -> tuple[Array, Array]:
    """Four overlapping classes of 70, 20, 7 and 3 per cent."""
    x, y = make_classification(
        2000,
        6,
        n_informative=5,
        n_redundant=0,
        n_classes=4,
        n_clusters_per_class=1,
        weights=[0.7, 0.2, 0.07, 0.03],
        class_sep=0.7,
        random_state=0,
    )
    return x, y


# ---- training ----


@SOLVERS
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize(
    ("make", "iris_margin", "digits_margin"),
    [
        (SoftmaxClassifier, 0.03, 0.02),
        # A tree has fewer coefficients, and they are linear: it has to fit the data.
        (partial(HierarchicalSoftmaxClassifier, "clusters"), 0.03, 0.08),
        (partial(HierarchicalSoftmaxClassifier, "clusters", arity=4), 0.03, 0.08),
    ],
)
def test_as_good_as_logistic_regression(
    make: Make,
    iris_margin: float,
    digits_margin: float,
    scaled: bool,
    solver: str,
    iris: Split,
    digits: Split,
) -> None:
    for data, margin in ((iris, iris_margin), (digits, digits_margin)):
        x, x_test, y, y_test = data
        scale = StandardScaler() if scaled else "passthrough"
        usual = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x, y)
        ours = make_pipeline(scale, make(solver=solver, random_state=0)).fit(x, y)
        assert ours.score(x_test, y_test) >= usual.score(x_test, y_test) - margin
        assert ours.score(x, y) > 0.95


def test_optimum_matches_logistic_regression(iris: Split) -> None:
    x, x_test, y, _ = iris
    usual = LogisticRegression(C=2.0, tol=1e-8, max_iter=10000).fit(x, y)
    ours = SoftmaxClassifier(l2=1 / (2.0 * len(x)), tol=1e-8).fit(x, y)
    np.testing.assert_allclose(ours.coef_, usual.coef_, atol=1e-5)
    np.testing.assert_allclose(ours.predict_proba(x_test), usual.predict_proba(x_test), atol=1e-5)


@BOTH
def test_solvers_agree(make: Make, iris: Split) -> None:
    x, _, y, _ = iris
    full = make(l2=0.01, solver="lbfgs", tol=1e-8).fit(x, y)
    batches = make(l2=0.01, solver="adam", tol=1e-7, random_state=0).fit(x, y)
    np.testing.assert_allclose(full.predict_proba(x), batches.predict_proba(x), atol=0.02)
    assert full.loss_curve_[-1] == pytest.approx(batches.loss_curve_[-1], rel=1e-2)


@BOTH
def test_scales_and_offsets_of_features_do_not_matter(make: Make, iris: Split) -> None:
    """Without a penalty, the optimum is the same; the test is that it is found."""
    x, _, y, _ = iris
    strange = x * [1e-4, 1.0, 1e5, 10.0] + [0.0, 1e4, -1e6, 3.0]
    plain = make(l2=0.0, solver="adam", max_iter=50, tol=0.0, random_state=0)
    with pytest.warns(ConvergenceWarning):
        p = clone(plain).fit(x, y).predict_proba(x)
    with pytest.warns(ConvergenceWarning):
        np.testing.assert_allclose(
            clone(plain).fit(strange, y).predict_proba(strange), p, atol=1e-3
        )


@BOTH
@SOLVERS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sparse_matches_dense(make: Make, solver: str, dtype: type, digits: Split) -> None:
    x, x_test, y, _ = digits
    x, x_test = x.astype(dtype), x_test.astype(dtype)
    model = make(solver=solver, l2=1e-2, random_state=0, max_iter=300)
    dense = clone(model).fit(x, y)
    for container in (sparse.csr_array, sparse.csr_matrix, sparse.coo_array):
        same = clone(model).fit(container(x), y)
        wanted = dense.predict_proba(x_test)
        found = same.predict_proba(container(x_test))
        np.testing.assert_allclose(found, wanted, atol=1e-3 if dtype == np.float64 else 2e-2)
        np.testing.assert_allclose(same.predict_proba(x_test), found, atol=1e-5)


def test_blocks_of_sparse_rows(monkeypatch: pytest.MonkeyPatch, iris: Split) -> None:
    x, x_test, y, _ = iris
    model = HierarchicalSoftmaxClassifier(tol=1e-6, early_stopping=True, random_state=0)
    whole = clone(model).fit(x, y)
    monkeypatch.setattr("boltzmax.sklearn.samples.BLOCK", 4 * 7)
    parts = clone(model).fit(sparse.csr_array(x), y)
    np.testing.assert_allclose(
        parts.predict_proba(sparse.csr_array(x_test)), whole.predict_proba(x_test), atol=1e-4
    )


@pytest.mark.parametrize("loss", ["cross_entropy", "focal_loss", "balanced_softmax"])
def test_losses(loss: str, uneven: tuple[Array, Array]) -> None:
    x, y = uneven
    model = SoftmaxClassifier(loss).fit(x, y)
    logits = model.decision_function(x)
    if loss == "balanced_softmax":
        logits += boltzmax.logit_adjustment(np.bincount(y))
    function = boltzmax.focal_loss if loss == "focal_loss" else boltzmax.cross_entropy
    penalty = 0.5 * model.l2 * np.square(model.coef_).sum()
    assert model.loss_curve_[-1] == pytest.approx(function(logits, y) + penalty, rel=1e-6)


def test_custom_loss(iris: Split) -> None:
    x, _, y, _ = iris
    named = SoftmaxClassifier("focal_loss").fit(x, y)
    own = SoftmaxClassifier(partial(boltzmax.focal_loss_with_grad, gamma=2.0)).fit(x, y)
    np.testing.assert_array_equal(named.coef_, own.coef_)
    other = SoftmaxClassifier(partial(boltzmax.focal_loss_with_grad, gamma=0.5)).fit(x, y)
    assert not np.allclose(named.coef_, other.coef_)


def recalls(model: Any, x: Array, y: Array) -> Array:
    return np.array([np.mean(model.predict(x)[y == c] == c) for c in np.unique(y)])


@BOTH
def test_class_weight(make: Make, uneven: tuple[Array, Array]) -> None:
    x, y = uneven
    if make is HierarchicalSoftmaxClassifier:
        make = partial(make, "balanced")  # sample weights would change a Huffman tree
    plain, balanced = make().fit(x, y), make(class_weight="balanced").fit(x, y)
    assert recalls(balanced, x, y).mean() > recalls(plain, x, y).mean() + 0.05
    given = dict(enumerate(boltzmax.class_weights(np.bincount(y))))
    for same in (
        make(class_weight=given).fit(x, y),
        make().fit(x, y, sample_weight=np.array(list(given.values()))[y]),
    ):
        np.testing.assert_allclose(same.predict_proba(x), balanced.predict_proba(x), atol=1e-4)


def test_balanced_softmax_is_fair(uneven: tuple[Array, Array]) -> None:
    x, y = uneven
    plain, fair = SoftmaxClassifier().fit(x, y), SoftmaxClassifier("balanced_softmax").fit(x, y)
    assert recalls(fair, x, y).mean() > recalls(plain, x, y).mean() + 0.05


# ---- trees ----


def test_trees(digits: Split) -> None:
    x, _, y, _ = digits
    make = partial(HierarchicalSoftmaxClassifier, solver="adam", tol=1e-2)
    counts = np.bincount(y)
    assert make("huffman", random_state=0).fit(x, y).tree_ == boltzmax.Tree.huffman(counts)
    assert make("balanced", arity=3).fit(x, y).tree_ == boltzmax.Tree.balanced(10, arity=3)
    clusters = make("clusters", random_state=0).fit(x, y)
    assert clusters.tree_ == make("clusters", random_state=0).fit(sparse.csr_array(x), y).tree_
    tree = boltzmax.Tree.two_level(counts)
    model = make(tree, random_state=0).fit(x, y)
    assert model.tree_ == tree
    assert model.layer_.tree == tree
    assert clone(model).fit(x, y).score(x, y) > 0.9


def test_huffman_uses_weights() -> None:
    x, y = np.arange(12.0)[:, None], np.arange(12) % 4
    weight = np.array([1.0, 10.0, 100.0, 1000.0])
    model = HierarchicalSoftmaxClassifier().fit(x, y, sample_weight=weight[y])
    assert list(model.tree_.node_depth[:4]) == [3, 3, 2, 1]
    later = HierarchicalSoftmaxClassifier().partial_fit(x, y, range(6), sample_weight=weight[y])
    assert later.tree_ == boltzmax.Tree.huffman([4, 31, 301, 3001, 1, 1])


# ---- partial_fit ----


@BOTH
def test_partial_fit(make: Make, digits: Split) -> None:
    x, x_test, y, y_test = digits
    model = make(random_state=0) if make is SoftmaxClassifier else make("clusters", random_state=0)
    for _ in range(20):
        for start in range(0, len(x), 300):
            part = slice(start, start + 300)
            model.partial_fit(x[part], y[part], classes=np.arange(10))
    assert model.score(x_test, y_test) > 0.87
    assert model.n_iter_ == 20 * 3
    before = model.predict_proba(x_test)
    model.partial_fit(sparse.csr_array(x[:10]), y[:10], sample_weight=np.ones(10))
    assert not np.array_equal(before, model.predict_proba(x_test))


@BOTH
def test_partial_fit_begins_with_any_samples(make: Make, iris: Split) -> None:
    """One sample at a time, at first from a single class."""
    x, _, y, _ = iris
    model, order = make(random_state=0), np.argsort(y, kind="stable")
    for i in order:
        model.partial_fit(x[i : i + 1], y[i : i + 1], classes=[0, 1, 2])
    assert np.isfinite(model.predict_proba(x)).all()
    for i in np.tile(np.random.default_rng(0).permutation(len(x)), 5):
        model.partial_fit(x[i : i + 1], y[i : i + 1])
    assert model.score(x, y) > 0.85


@BOTH
def test_partial_fit_continues_from_fit(make: Make, iris: Split) -> None:
    x, _, y, _ = iris
    for solver in ("lbfgs", "adam"):
        model = make(solver=solver, random_state=0).fit(x, y)
        before = model.score(x, y)
        assert abs(model.partial_fit(x, y).score(x, y) - before) < 0.1


@BOTH
@SOLVERS
def test_early_stopping(make: Make, solver: str, digits: Split) -> None:
    x, x_test, y, y_test = digits
    plain = make(solver=solver, random_state=0)
    early = clone(plain).set_params(early_stopping=True, validation_fraction=0.2).fit(x, y)
    late = plain.fit(x, y)
    assert late.validation_curve_ is None
    assert len(early.validation_curve_) == len(early.loss_curve_) == early.n_iter_
    assert early.n_iter_ < late.n_iter_
    assert early.score(x_test, y_test) > late.score(x_test, y_test) - 0.03
    best = int(np.argmin(early.validation_curve_))
    assert early.n_iter_ - best >= early.n_iter_no_change


def test_early_stopping_keeps_the_best(iris: Split) -> None:
    x, _, y, _ = iris
    seen = []

    def spy(logits: Array, target: Array, sample_weight: Array) -> tuple[Any, Array]:
        loss, gradient = boltzmax.cross_entropy_with_grad(
            logits, target, sample_weight=sample_weight
        )
        if len(target) == 15:
            seen.append((float(loss), logits.copy()))
        return loss, gradient

    model = SoftmaxClassifier(spy, early_stopping=True, validation_fraction=0.2, random_state=1)
    model.fit(x, y)
    assert [loss for loss, _ in seen] == model.validation_curve_
    best = min(seen, key=lambda pair: pair[0])[1]
    logits = model.decision_function(x)
    assert all(np.isclose(logits, row, rtol=0, atol=1e-9).all(axis=1).any() for row in best)


@BOTH
@pytest.mark.parametrize("early_stopping", [False, True])
def test_seeds(make: Make, early_stopping: bool, digits: Split) -> None:
    x, x_test, y, _ = digits

    def run(seed: Any) -> bytes:
        model = make(
            solver="adam", random_state=seed, early_stopping=early_stopping, tol=1e-2, max_iter=50
        )
        found: bytes = model.fit(x, y).predict_proba(x_test).tobytes()
        return found

    assert run(3) == run(3) == run(np.random.RandomState(3))
    assert run(3) != run(4)


@BOTH
@SOLVERS
def test_pickle(make: Make, solver: str, iris: Split) -> None:
    x, x_test, y, _ = iris
    model = make(solver=solver, random_state=0).fit(x, y)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        twin = pickle.loads(pickle.dumps(model, protocol))
        assert twin.predict_proba(x_test).tobytes() == model.predict_proba(x_test).tobytes()
    model.partial_fit(x, y)
    twin.partial_fit(x, y)
    assert twin.predict_proba(x_test).tobytes() == model.predict_proba(x_test).tobytes()
