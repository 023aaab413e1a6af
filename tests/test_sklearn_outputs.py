"""The outputs of `SoftmaxClassifier` for many classes: adaptive and sampled."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("sklearn")

from scipy import sparse
from sklearn.base import clone

from boltzmax.adaptive import cutoffs
from boltzmax.sklearn import SoftmaxClassifier, flat

Array = NDArray[Any]
OUTPUTS = pytest.mark.parametrize("output", ["adaptive", "sampled"])
K, D = 40, 8
LEAST = {"adaptive": 0.8, "sampled": 0.9}  # accuracy; vectors of tails have two numbers


@pytest.fixture(autouse=True)
def cheap_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs with which even few classes have tails."""
    costs = cutoffs.Costs(call=1.0, least_rows=1.0)
    monkeypatch.setattr(cutoffs.best_cutoffs, "__kwdefaults__", {
        **(cutoffs.best_cutoffs.__kwdefaults__ or {}), "costs": costs,
    })  # fmt: skip


def data(n: int = 600, dtype: Any = np.float64) -> tuple[Array, Array]:
    """Samples around a point for each class, of classes as frequent as words, far from 0."""
    rng = np.random.default_rng(0)
    p = 1 / np.arange(1, K + 1)
    y = rng.permutation(K)[rng.choice(K, n, p=p / p.sum())]
    x = 3 * rng.standard_normal((K, D))[y] + 0.1 * rng.standard_normal((n, D))
    return (x * np.linspace(0.1, 10, D) + 30).astype(dtype), y * 7


def make(output: str, **options: Any) -> SoftmaxClassifier:
    return SoftmaxClassifier(output=output, random_state=0, **{"max_iter": 25, **options})


pytestmark = pytest.mark.filterwarnings("ignore:SoftmaxClassifier stopped")


@OUTPUTS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fit(output: str, dtype: Any) -> None:
    x, y = data(dtype=dtype)
    model = make(output).fit(x, y)
    assert model.score(x, y) > LEAST[output]
    assert model.solver_ == "adam"
    assert hasattr(model, "layer_") == (output == "adaptive")
    assert hasattr(model, "coef_") == (output == "sampled")
    if output == "adaptive":
        assert model.layer_.tails, "the test needs tails"
        assert model.layer_.dtype == dtype
    p = model.predict_proba(x)
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-4)
    np.testing.assert_array_equal(model.classes_[p.argmax(1)], model.predict(x))
    np.testing.assert_allclose(model.predict_log_proba(x), np.log(p), rtol=1e-3, atol=1e-4)
    classes, top = model.predict_topk(x, 3)
    np.testing.assert_array_equal(classes[:, 0], model.predict(x))
    np.testing.assert_allclose(top, -np.sort(-p, axis=1)[:, :3], rtol=1e-3, atol=1e-6)
    assert model.decision_function(x).shape == p.shape
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(x), p)
    np.testing.assert_array_equal(clone(model).fit(x, y).predict_proba(x), p)


@OUTPUTS
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_options(output: str, fit_intercept: bool) -> None:
    """Sparse samples, weights, held-out samples, a penalty."""
    x, y = data()
    x = x - 30
    model = make(output, early_stopping=True, l2=1e-3, fit_intercept=fit_intercept, tol=1e-3)
    weight = np.linspace(0.5, 1.5, len(y))
    model.fit(sparse.csr_array(x), y, weight)
    assert model.validation_curve_
    assert model.score(x, y) > LEAST[output] - 0.15
    near = model.predict_proba(x[:5])
    np.testing.assert_allclose(model.predict_proba(sparse.csr_array(x[:5])), near, rtol=1e-6)


@OUTPUTS
def test_partial_fit(output: str) -> None:
    x, y = data()
    model = make(output)
    for _ in range(25):
        model.partial_fit(x, y, classes=np.unique(y))
    assert model.score(x, y) > LEAST[output]
    again = make("full", max_iter=2).fit(x, y)
    again.set_params(output=output).fit(x, y)
    assert hasattr(again, "layer_") != hasattr(again, "coef_"), "nothing stays of an earlier fit"


@OUTPUTS
def test_training_goes_on_as_it_began(output: str) -> None:
    """Whatever `output` is now."""
    x, y = data(100)
    for before, after in ((output, "full"), ("full", output)):
        model = make(before).partial_fit(x, y, classes=np.unique(y))
        model.set_params(output=after).partial_fit(x, y)
        assert hasattr(model, "layer_") == (before == "adaptive")
        same = make(before).partial_fit(x, y, classes=np.unique(y)).partial_fit(x, y)
        np.testing.assert_array_equal(model.predict_proba(x), same.predict_proba(x))


def test_shifts_of_features_do_not_matter() -> None:
    """The projections of tails have no bias, but training is the same as with centred features."""
    x, y = data()
    one, other = (make("adaptive", max_iter=8).fit(x + shift, y) for shift in (0.0, 1000.0))
    np.testing.assert_allclose(other.loss_curve_, one.loss_curve_, rtol=1e-4)


def test_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Held-out losses and predictions need no more than a block of scores, and are the same."""
    x, y = data(200)

    def results() -> list[Any]:
        model = make("sampled", max_iter=2, early_stopping=True).fit(x, y)
        ids, top = model.predict_topk(x, 2)
        return [model.validation_curve_, model.predict(x), ids, top]

    whole, sizes = results(), []
    monkeypatch.setattr("boltzmax.sklearn.samples.BLOCK", 7 * K)
    scores = flat.scores_of
    monkeypatch.setattr(flat, "scores_of", lambda x, coef: sizes.append(len(x)) or scores(x, coef))
    for mine, other in zip(results(), whole, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-10)
    assert max(sizes) == 7


def test_sampled_losses_reach_those_of_all_classes() -> None:
    x, y = data()
    full, sampled = (make(o, solver="adam", max_iter=30).fit(x, y) for o in ("full", "sampled"))
    mine, its = (
        -np.mean(np.log(m.predict_proba(x)[np.arange(len(y)), np.searchsorted(m.classes_, y)]))
        for m in (sampled, full)
    )
    assert mine < its + 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "tree"}, "output must be one of 'full', 'adaptive', 'sampled', got 'tree'"),
        ({"output": np.zeros(2)}, "output must be one of"),
        ({"output": "adaptive", "solver": "lbfgs"}, "output='adaptive' needs solver='adam'"),
        (
            {"output": "sampled", "loss": "focal_loss"},
            "output='sampled' needs loss='cross_entropy'",
        ),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SoftmaxClassifier(**options).fit(*data(50))
