"""The classifiers for scikit-learn: predictions, usage and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import boltzmax
from classifier_samples import BOTH, SOLVERS, Make
from conftest import RunPython, Split

pytest.importorskip("sklearn")

from scipy import sparse
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from boltzmax.sklearn import HierarchicalSoftmaxClassifier, SoftmaxClassifier

# ---- predicting ----


@BOTH
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
def test_topk(make: Make, container: Make, digits: Split) -> None:
    x, x_test, y, _ = digits
    names = np.array([f"digit {c}" for c in range(10)])
    model = make(l2=1e-2).fit(container(x), names[y])
    p = model.predict_proba(container(x_test))
    np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(container(x_test))), p, rtol=1e-9)
    for k in (1, 3, 10):
        classes, top = model.predict_topk(container(x_test), k)
        assert classes.shape == top.shape == (len(x_test), k)
        np.testing.assert_allclose(top, -np.sort(-p, axis=1)[:, :k], rtol=1e-6, atol=1e-12)
        column = np.searchsorted(model.classes_, classes)
        np.testing.assert_allclose(np.take_along_axis(p, column, 1), top, rtol=1e-6, atol=1e-12)
    np.testing.assert_array_equal(
        model.predict_topk(container(x_test), 1)[0][:, 0], model.predict(container(x_test))
    )


def test_decision_function(iris: Split) -> None:
    x, _, y, _ = iris
    model = SoftmaxClassifier().fit(x, y)
    np.testing.assert_allclose(
        boltzmax.softmax(model.decision_function(x)), model.predict_proba(x), rtol=1e-12
    )
    two = SoftmaxClassifier().fit(x, y == 2)
    assert two.decision_function(x).shape == (len(x),)
    np.testing.assert_array_equal(two.decision_function(x) > 0, two.predict(x))
    assert two.coef_.shape == (2, 4)
    assert not hasattr(HierarchicalSoftmaxClassifier(), "decision_function")


def test_float32_is_kept(digits: Split) -> None:
    x, x_test, y, _ = digits
    for make in (SoftmaxClassifier, HierarchicalSoftmaxClassifier):
        model = make(solver="adam", tol=1e-2, random_state=0).fit(x.astype(np.float32), y)
        assert model.predict_proba(x_test.astype(np.float32)).dtype == np.float32


@BOTH
def test_no_intercept(make: Make, digits: Split) -> None:
    x, _, y, _ = digits
    for solver in ("lbfgs", "adam"):
        model = make(fit_intercept=False, solver=solver, random_state=0).fit(x, y)
        assert model.score(x, y) > 0.85
        p = model.predict_proba(np.zeros_like(x))
        if make is SoftmaxClassifier:
            np.testing.assert_allclose(p, 0.1)
        else:
            assert model.layer_.bias is None


def test_parameter_search(iris: Split) -> None:
    x, _, y, _ = iris
    grid = {"softmaxclassifier__l2": [1e-4, 1e-2], "softmaxclassifier__class_weight": ["balanced"]}
    search = GridSearchCV(make_pipeline(StandardScaler(), SoftmaxClassifier()), grid, cv=3)
    assert search.fit(x, y).best_score_ > 0.9


@BOTH
@SOLVERS
def test_progress_bar(
    make: Make, solver: str, iris: Split, capfd: pytest.CaptureFixture[str]
) -> None:
    x, _, y, _ = iris
    make(solver=solver, random_state=0).fit(x, y)
    assert capfd.readouterr() == ("", "")
    pytest.importorskip("rich")
    make(solver=solver, random_state=0, verbose=True).fit(x, y)
    out, err = capfd.readouterr()
    assert out == ""
    assert make.__name__ in err
    assert "loss" in err
    assert "100%" in err


def test_solver_depends_on_size(monkeypatch: pytest.MonkeyPatch, iris: Split) -> None:
    x, _, y, _ = iris
    for make in (SoftmaxClassifier, HierarchicalSoftmaxClassifier):
        assert make().fit(x, y).solver_ == "lbfgs"
    for limit in ("_SMALL_WORK", "_SMALL_MODEL"):
        with monkeypatch.context() as patch:
            patch.setattr(f"boltzmax.sklearn.base.{limit}", 7)
            for make in (SoftmaxClassifier, HierarchicalSoftmaxClassifier):
                assert make(random_state=0).fit(x, y).solver_ == "adam"


# ---- errors ----


@BOTH
@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"solver": "sgd"}, ValueError, "solver must be one of"),
        ({"l2": -1.0}, ValueError, "l2"),
        ({"l2": "much"}, TypeError, "l2"),
        ({"tol": np.nan}, ValueError, "tol must be a number, got nan"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"batch_size": 1.5}, TypeError, "batch_size"),
        ({"max_iter": 0}, ValueError, "max_iter"),
        ({"n_iter_no_change": 0}, ValueError, "n_iter_no_change"),
        ({"validation_fraction": 1.0}, ValueError, "validation_fraction"),
        ({"early_stopping": "yes"}, TypeError, "early_stopping"),
        ({"fit_intercept": None}, TypeError, "fit_intercept"),
        ({"class_weight": "even"}, ValueError, "class_weight must be None"),
        ({"class_weight": {0: -1.0}}, ValueError, "class_weight must be finite and not negative"),
        ({"early_stopping": True, "validation_fraction": 0.999}, ValueError, "holds out all"),
    ],
)
def test_wrong_parameters(
    make: Make, params: dict[str, Any], error: type[Exception], message: str, iris: Split
) -> None:
    x, _, y, _ = iris
    with pytest.raises(error, match=message):
        make(**params).fit(x, y)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (SoftmaxClassifier("hinge"), ValueError, "loss must be callable or one of"),
        (SoftmaxClassifier(boltzmax.cross_entropy), TypeError, "must return a number and the grad"),
        (
            SoftmaxClassifier(lambda logits, target, sample_weight: (0.0, logits[0])),
            ValueError,
            "gradient of the shape of the logits",
        ),
        (
            SoftmaxClassifier(lambda logits, target, sample_weight: (np.nan, logits)),
            ValueError,
            "the loss became nan",
        ),
        (HierarchicalSoftmaxClassifier("oak"), ValueError, "tree must be a Tree or one of"),
        (HierarchicalSoftmaxClassifier(3), ValueError, "tree must be a Tree or one of"),
        (HierarchicalSoftmaxClassifier(arity=1), ValueError, "arity"),
        (HierarchicalSoftmaxClassifier(boltzmax.Tree.balanced(5)), ValueError, "has 5 leaves, but"),
    ],
)
def test_wrong_models(model: Any, error: type[Exception], message: str, iris: Split) -> None:
    x, _, y, _ = iris
    with pytest.raises(error, match=message):
        model.fit(x, y)


@BOTH
def test_wrong_data(make: Make, iris: Split) -> None:
    x, _, y, _ = iris
    with pytest.raises(ValueError, match="at least 2 classes, got 1 class"):
        make().fit(x, np.zeros(len(x)))
    with pytest.raises(ValueError, match="sample_weight must not be negative"):
        make().fit(x, y, sample_weight=-np.ones(len(x)))
    with pytest.raises(ValueError, match="sample_weight must have shape"):
        make().fit(x, y, sample_weight=np.ones(3))
    with pytest.raises(ValueError, match="weights of all samples are zero"):
        make(class_weight={0: 0, 1: 0, 2: 0}).fit(x, y)
    with pytest.raises(NotFittedError):
        make().predict_topk(x, 1)
    model = make().fit(x, y)
    for k in (0, 4, -1):
        with pytest.raises(ValueError, match="k must be from 1 to the number of classes, 3"):
            model.predict_topk(x, k)
    with pytest.raises(TypeError):
        model.predict_topk(x, 1.5)


@BOTH
def test_wrong_partial_fits(make: Make, iris: Split) -> None:
    x, _, y, _ = iris
    with pytest.raises(ValueError, match="first call of partial_fit needs classes"):
        make().partial_fit(x, y)
    with pytest.raises(ValueError, match="at least 2 classes, got 1"):
        make().partial_fit(x, y, classes=[0])
    with pytest.raises(ValueError, match=r"not among the classes: \[2\]"):
        make().partial_fit(x, y, classes=[0, 1])
    with pytest.raises(ValueError, match="needs all samples at once"):
        make(class_weight="balanced").partial_fit(x, y, classes=[0, 1, 2])
    model = make().partial_fit(x, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="must be those of the first call"):
        model.partial_fit(x, y, classes=[0, 1])


@BOTH
@SOLVERS
def test_too_few_iterations(make: Make, solver: str, digits: Split) -> None:
    x, _, y, _ = digits
    with pytest.warns(ConvergenceWarning, match="stopped after max_iter=2 iterations") as caught:
        model = make(solver=solver, max_iter=2, random_state=0).fit(x, y)
    assert model.n_iter_ == 2
    assert caught[0].filename == __file__


def test_scikit_learn_is_optional(run_python: RunPython) -> None:
    found = run_python("import sys, boltzmax; print('sklearn' in sys.modules)")
    assert found.stdout.strip() == "False", found.stderr
    blocked = "import sys; sys.modules['sklearn'] = None; import boltzmax.sklearn"
    found = run_python(blocked)
    assert found.returncode != 0
    assert 'pip install "boltzmax[demo]"' in found.stderr.splitlines()[-1]
