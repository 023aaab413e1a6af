"""What calibration maps learn, against plain forms and other libraries."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest

import calibration_oracle as oracle
from boltzmax._lib.scored import read_scores_and_labels
from boltzmax.calibration import (
    BetaCalibration,
    DirichletCalibration,
    EnsembleTemperatureScaling,
    HistogramBinning,
    IsotonicCalibration,
    MatrixScaling,
    PlattScaling,
    TemperatureScaling,
    VectorScaling,
    nll,
)
from boltzmax.calibration.ensemble import best_mixture
from boltzmax.calibration.estimator import ConvergenceWarning
from boltzmax.calibration.isotonic import isotonic_knots
from boltzmax.calibration.registry import METHODS

# ---- linear scalings ----

SCALINGS = {
    "vector": VectorScaling(),
    "matrix": MatrixScaling(off_diagonal_l2=0.03),
    "dirichlet": DirichletCalibration(off_diagonal_l2=0.03),
}


@pytest.mark.parametrize("name", SCALINGS)
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_of_scalings(name: str, weighted: bool) -> None:
    z, y = oracle.over_confident(40, 3)
    w = np.random.default_rng(0).uniform(size=40) if weighted else None
    data = read_scores_and_labels(z, y, sample_weight=w)
    scaling: Any = SCALINGS[name]
    size = int(np.prod(scaling._shape(3))) + 3
    x = np.random.default_rng(1).normal(size=size)
    _, gradient = scaling._loss(data, x)
    wanted = oracle.central_difference(lambda v: scaling._loss(data, v)[0], x)
    np.testing.assert_allclose(gradient, wanted, atol=1e-8)


@pytest.mark.parametrize("name", SCALINGS)
def test_scalings_are_at_a_minimum(name: str) -> None:
    z, y = oracle.over_confident(500, 3)
    fitted: Any = SCALINGS[name]
    fitted.fit(z, y)
    data = read_scores_and_labels(z, y)
    numbers = np.concatenate([fitted.weight_.reshape(-1), fitted.intercept_])
    _, gradient = fitted._loss(data, numbers)
    assert np.abs(gradient).max() <= 1e-6
    assert fitted.intercept_.mean() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("unit", [2.0**15, 2.0**100, 2.0**1000])
@pytest.mark.parametrize("useful", [False, True])
def test_the_unit_of_huge_logits_does_not_matter(unit: float, useful: bool) -> None:
    """The search for weights of 1e-30 takes few steps, and finds them."""
    z, y = oracle.over_confident(200, 5)
    if not useful:
        y = np.random.default_rng(0).integers(0, 5, 200)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wanted, found = VectorScaling().fit(z, y), VectorScaling().fit(unit * z, y)
    assert found.n_iter_ < 200
    np.testing.assert_allclose(unit * found.weight_, wanted.weight_, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.intercept_, wanted.intercept_, rtol=1e-3, atol=1e-4)


def test_masked_classes_do_not_end_the_search() -> None:
    """The loss is that for -1e3 in place of -1e9."""
    rng = np.random.default_rng(0)
    z, y = oracle.over_confident(2000, 4)
    z = z * [0.3, 1, 3, 1] + [1, 0, -2, 0]  # each class is wrong in its own way
    masked = z.copy()
    rows = rng.choice(2000, 20, replace=False)
    masked[rows, (y[rows] + 1) % 4] = -1e9
    losses = []
    for logits in (np.maximum(masked, -1e3), masked):
        p = VectorScaling().fit(logits, y).predict_proba(logits)
        losses.append(-np.log(p[np.arange(2000), y]).mean())
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)


def test_matrix_scaling_is_logistic_regression() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    z, y = oracle.over_confident(2000, 4)
    ours = MatrixScaling(off_diagonal_l2=0).fit(z, y).predict_proba(z)
    theirs = linear_model.LogisticRegression(C=1e12, tol=1e-10, max_iter=10_000).fit(z, y)
    np.testing.assert_allclose(ours, theirs.predict_proba(z), atol=1e-4)


def test_penalty_leaves_the_diagonal_alone() -> None:
    z, y = oracle.over_confident(2000, 4)
    fitted = MatrixScaling(off_diagonal_l2=1e6).fit(z, y)
    off = fitted.weight_ - np.diag(np.diag(fitted.weight_))
    assert np.abs(off).max() < 1e-6
    vector = VectorScaling().fit(z, y)
    np.testing.assert_allclose(np.diag(fitted.weight_), vector.weight_, atol=1e-4)


def test_separable_classes_are_a_warning() -> None:
    z = np.array([[1.0, 0.0], [0.0, 1.0]] * 20)
    with pytest.warns(ConvergenceWarning, match="has not converged after 5 steps"):
        VectorScaling(max_iter=5, tol=0.0).fit(z, np.arange(40) % 2)


@pytest.mark.parametrize(
    ("scaling", "error", "words"),
    [
        (VectorScaling(tol=-1), ValueError, "tol must be finite and not negative"),
        (VectorScaling(max_iter=0), ValueError, "max_iter must be at least 1"),
        (VectorScaling(max_iter=1.5), TypeError, "max_iter must be an integer"),  # type: ignore
        (MatrixScaling(off_diagonal_l2=-1), ValueError, "off_diagonal_l2 must be finite"),
        (DirichletCalibration(off_diagonal_l2=np.inf), ValueError, "off_diagonal_l2 must be"),
        (HistogramBinning(n_bins=0), ValueError, "n_bins must be"),
        (HistogramBinning(binning="no"), ValueError, "binning must be one of"),
    ],
)
def test_bad_parameters(scaling: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        scaling.fit([[0.0, 1.0]], [0])


# ---- maps of one probability ----


def test_platt_scaling_is_at_the_minimum_of_platts_loss() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    z, y = oracle.over_confident(300, 2)
    x = z[:, 1] - z[:, 0]
    n = y.sum()
    target = np.where(y == 1, (n + 1) / (n + 2), 1 / (300 - n + 2))

    def loss(v: Any) -> float:
        s = v[0] * x + v[1]
        return float((np.logaddexp(0, s) - target * s).sum())

    found = optimize.minimize(
        loss, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}
    )
    np.testing.assert_allclose(PlattScaling().fit(x, y).coef_[0], found.x, rtol=1e-5)


def test_beta_calibration_has_no_negative_coefficients() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(size=3000)
    y = rng.uniform(size=3000) < np.abs(p - 0.5)  # falls, then rises
    a, b, _ = BetaCalibration(from_probs=True).fit(p, y).coef_[0]
    assert min(a, b) == 0
    assert max(a, b) > 0


@pytest.mark.parametrize("weighted", [False, True])
def test_isotonic_regression_matches_scikit_learn(weighted: bool) -> None:
    isotonic = pytest.importorskip("sklearn.isotonic")
    rng = np.random.default_rng(0)
    for n in (1, 2, 10, 300):
        x = np.round(rng.normal(size=n), 1)
        y = rng.uniform(size=n) < 1 / (1 + np.exp(-x))
        w = rng.uniform(0.1, 2, size=n) if weighted else None
        theirs = isotonic.IsotonicRegression(out_of_bounds="clip").fit(x, y, sample_weight=w)
        knots, values = isotonic_knots(x, y, w)
        at = np.linspace(-4, 4, 500)
        np.testing.assert_allclose(np.interp(at, knots, values), theirs.predict(at), atol=1e-12)


def test_isotonic_regression_of_a_million_falling_numbers() -> None:
    """One block, however many steps lead there."""
    x = np.arange(200_000.0)
    _, values = isotonic_knots(x, 1 / (1 + x), None)
    np.testing.assert_allclose(values, np.mean(1 / (1 + x)))
    rises_last = np.where(x < 199_999, x % 2, 1.0)
    _, values = isotonic_knots(x, rises_last, None)
    assert (np.diff(values) >= 0).all()


def test_histogram_binning_counts() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(size=1000)
    y = rng.uniform(size=1000) < p**2
    fitted = HistogramBinning(n_bins=4, binning="equal_width", from_probs=True).fit(p, y)
    for b in range(4):
        inside = (p > b / 4) & (p <= (b + 1) / 4)
        wanted = (y[inside].sum() + 1) / (inside.sum() + 2)
        np.testing.assert_allclose(fitted.predict_proba(p[inside])[:, 1], wanted)


# ---- ensembles ----


def test_mixtures_meet_the_conditions_of_a_minimum() -> None:
    """The derivatives of the Lagrangian: 1 where a weight is used, at most 1 elsewhere."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        p = rng.dirichlet(rng.uniform(0.1, 2, size=3), size=60) + 1e-3
        weight = rng.uniform(size=60)
        w = best_mixture(p, weight)
        slope = (weight[:, None] * p / (p @ w)[:, None]).sum(axis=0) / weight.sum()
        assert w.sum() == pytest.approx(1)
        np.testing.assert_allclose(slope[w > 0], 1, atol=1e-5)
        assert (slope <= 1 + 1e-5).all()


def test_ensembles_find_a_mixture() -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(scale=2, size=(40_000, 4))
    y = (honest + rng.gumbel(size=honest.shape)).argmax(axis=1)
    y = np.where(rng.uniform(size=len(y)) < 0.2, rng.integers(4, size=len(y)), y)
    fitted = EnsembleTemperatureScaling().fit(honest, y)
    alone = TemperatureScaling().fit(honest, y)
    assert nll(fitted.transform(honest), y) < nll(alone.transform(honest), y) - 0.002
    assert fitted.weights_[2] == pytest.approx(0.2, abs=0.03)
    order = np.argsort(honest, axis=1)
    new = np.take_along_axis(fitted.transform(honest), order, axis=1)
    assert (np.diff(new, axis=1) >= 0).all()


# ---- scikit-learn ----

# In these checks, y is not a column of X: three classes and two columns, or one.
LABELS_ARE_COLUMNS = "labels must be columns of the logits"
EXPECTED = dict.fromkeys(
    (
        *("check_estimators_overwrite_params", "check_estimators_fit_returns_self"),
        *("check_readonly_memmap_input", "check_sample_weights_not_an_array"),
        *("check_sample_weights_shape", "check_sample_weights_not_overwritten"),
        "check_sample_weights_pandas_series",
        *("check_estimators_nan_inf", "check_fit2d_1feature", "check_dtype_object"),
        "check_sample_weights_pandas_series",
    ),
    LABELS_ARE_COLUMNS,
) | {
    "check_fit1d": "single numbers are the logits of two classes",
    "check_fit2d_predict1d": "single numbers are the logits of two classes",
    "check_estimators_empty_data_messages": "the message is about classes, not features",
    "check_all_zero_sample_weights_error": "the message is ours",
    "check_requires_y_none": "the message is ours",
}
EXPECTED_OF = {
    "dirichlet": {"check_sample_weight_equivalence_on_dense_data": "equal within tol, not 1e-7"}
}


def failed_checks(estimator: Any) -> dict[str, Any]:
    """Return the names and errors of scikit-learn's checks that fail."""
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = checks.check_estimator(estimator, on_fail=None)
    return {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}


@pytest.mark.parametrize("method", METHODS)
def test_scikit_learn_checks_of_maps(method: str) -> None:
    expected = EXPECTED | EXPECTED_OF.get(method, {})
    failed = failed_checks(METHODS[method]())
    assert failed.keys() <= expected.keys(), {k: v for k, v in failed.items() if k not in expected}


def test_scikit_learn_checks_of_a_classifier() -> None:
    pytest.importorskip("sklearn")
    from sklearn.linear_model import LogisticRegression

    from boltzmax.calibration import CalibratedClassifier

    assert not failed_checks(CalibratedClassifier(LogisticRegression(), cv=3))


@pytest.mark.parametrize("method", METHODS)
def test_calibrated_classifiers(method: str) -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    from sklearn.naive_bayes import GaussianNB

    from boltzmax.calibration import calibrated

    x, y = datasets.make_classification(
        1200, 12, n_informative=4, n_redundant=6, n_classes=3, random_state=0
    )
    names = np.array(["ant", "bee", "cat"])[y]
    plain = GaussianNB().fit(x[:800], names[:800])
    model = calibrated(GaussianNB(), method, cv=3).fit(x[:800], names[:800])
    p = model.predict_proba(x[800:])
    if method == "isotonic":
        p = (p + 1e-4) / (1 + 3e-4)
    assert list(model.classes_) == ["ant", "bee", "cat"]
    assert nll(p, y[800:], from_probs=True) < nll(plain.predict_log_proba(x[800:]), y[800:]) - 0.1
    assert set(model.predict(x[800:])) <= set(names)


def test_calibrated_classifier_that_is_fitted_already() -> None:
    pytest.importorskip("sklearn")
    from sklearn.datasets import make_classification
    from sklearn.frozen import FrozenEstimator
    from sklearn.svm import SVC, LinearSVC

    from boltzmax.calibration import CalibratedClassifier

    x, y = make_classification(600, random_state=0)
    inner = LinearSVC().fit(x[:300], y[:300])
    model = CalibratedClassifier(FrozenEstimator(inner), "platt").fit(x[300:], y[300:])
    scores = inner.decision_function(x)
    wanted = PlattScaling().fit(scores[300:], y[300:]).predict_proba(scores)
    np.testing.assert_allclose(model.predict_proba(x), wanted)
    w = np.random.default_rng(0).uniform(size=600)
    model = CalibratedClassifier(LinearSVC(), TemperatureScaling(bounds=(0.01, 100)))
    assert model.fit(x, y, sample_weight=w).calibration_.bounds == (0.01, 100)
    pairs = SVC(decision_function_shape="ovo")
    x, y = make_classification(200, n_informative=5, n_classes=4, random_state=0)
    with pytest.raises(ValueError, match="a decision_function of pairs of classes"):
        CalibratedClassifier(pairs).fit(x, y)
    with pytest.raises(ValueError, match="method must be a calibration map or one of 'temp"):
        CalibratedClassifier(LinearSVC(), "warmth").fit(x, y)
    with pytest.raises(ValueError, match="its from_probs is True"):
        CalibratedClassifier(LinearSVC(), TemperatureScaling(from_probs=True)).fit(x, y)


def test_without_scikit_learn(run_python: Any) -> None:
    done = run_python(
        "import sys\n"
        "sys.modules['sklearn'] = None\n"
        "from boltzmax.calibration import *\n"
        "m = TemperatureScaling().fit([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], [0, 1, 1])\n"
        "assert m.get_params() == {'from_probs': False, 'bounds': (1e-06, 1e6)}\n"
        "assert m.set_params(from_probs=True).from_probs\n"
        "assert m.fit_transform([0.3, 0.6, 0.7], [0, 1, 0]).shape == (3,)\n"
        "print(m)\n"
    )
    assert done.stdout.strip() == "TemperatureScaling(from_probs=True, bounds=(1e-06, 1000000.0))"


def test_progress_of_many_classes() -> None:
    """Maps of each class see as many rows as there are, in groups of columns."""
    z, y = oracle.over_confident(400, 12)
    fitted = IsotonicCalibration().fit(z, y)
    assert fitted.lengths_.shape == (12,)
    assert math.isclose(fitted.predict_proba(z).sum(), 400)
