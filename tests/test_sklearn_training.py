"""The classifiers for scikit-learn: how training ends, and in which precision."""

from __future__ import annotations

import tracemalloc
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import boltzmax
from classifier_samples import BOTH, CONTAINERS, DTYPES, SOLVERS, Array, Make, coefficients

pytest.importorskip("sklearn")

from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

from boltzmax.sklearn import HierarchicalSoftmaxClassifier, SoftmaxClassifier


@BOTH
@SOLVERS
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_no_error_state_of_numpy_matters(make: Make, solver: str, overlapping: Any) -> None:
    x, y = overlapping
    for unit in (1.0, 1e-160, 1e150):
        plain = make(solver=solver, max_iter=3, l2=0.0, random_state=0).fit(x * unit, y)
        with np.errstate(all="raise"):
            strict = make(solver=solver, max_iter=3, l2=0.0, random_state=0).fit(x * unit, y)
            likely = strict.predict_proba(1e3 * unit * x)
        assert np.array_equal(likely, plain.predict_proba(1e3 * unit * x), equal_nan=True)


# ---- how training ends ----


def ended(monkeypatch: pytest.MonkeyPatch, status: int, slope: float, nit: int) -> None:
    """Make SciPy's L-BFGS end this way."""

    def minimize(objective: Any, x: Array, **_: Any) -> SimpleNamespace:
        objective(x)
        jac = np.full(len(x), -slope)
        message = f"MESSAGE {status}: "
        return SimpleNamespace(x=x, jac=jac, status=status, message=message, nit=nit)

    monkeypatch.setattr("scipy.optimize.minimize", minimize)


@BOTH
@pytest.mark.parametrize("status", [0, 1, 2, 99])
@pytest.mark.parametrize("nit", [0, 7, 10])
def test_every_lbfgs_failure_is_reported(
    make: Make,
    status: int,
    nit: int,
    monkeypatch: pytest.MonkeyPatch,
    overlapping: tuple[Array, Array],
) -> None:
    """The gradient decides, not the status."""
    ended(monkeypatch, status, 2e-3, nit)
    after = "after max_iter=10 iterations" if nit == 10 else f"after {nit} iterations"
    with pytest.warns(ConvergenceWarning, match=after) as caught:
        make(max_iter=10, tol=1e-3).fit(*overlapping)
    told = str(caught[0].message)
    for words in (make.__name__, "tol=0.001", f"status {status}", f"MESSAGE {status};", "is 0.002"):
        assert words in told
    assert ("allow more, or raise tol or l2" in told) == (status == 1)
    assert ("centre features" in told) == (status != 1)
    assert caught[0].filename == __file__
    for slope, tol in ((9e-4, 1e-3), (1e-8, 0.0)):  # below tol, or below the resolution of doubles
        ended(monkeypatch, status, slope, nit)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            make(max_iter=10, tol=tol).fit(*overlapping)


def test_a_line_search_that_finds_nothing(overlapping: tuple[Array, Array]) -> None:
    """The gradient has the wrong sign."""

    def wrong(logits: Array, target: Array, sample_weight: Array) -> tuple[Any, Array]:
        loss, gradient = boltzmax.cross_entropy_with_grad(logits, target)
        return loss, -gradient

    with pytest.warns(ConvergenceWarning, match=r"after 0 iterations.*status 2, ABNORMAL"):
        SoftmaxClassifier(wrong).fit(*overlapping)


@BOTH
def test_early_stopping_is_not_a_failure(make: Make, overlapping: tuple[Array, Array]) -> None:
    for dtype in (np.float32, np.float64):
        model = make(early_stopping=True, tol=1e-9, solver="lbfgs", random_state=0, max_iter=10_000)
        model.fit(overlapping[0].astype(dtype), overlapping[1])
        assert len(model.validation_curve_) < 10_000


@BOTH
@pytest.mark.parametrize("early_stopping", [False, True])
def test_steps_of_adam_that_are_too_long(
    make: Make, early_stopping: bool, overlapping: tuple[Array, Array]
) -> None:
    x, y = overlapping
    model = make(
        solver="adam", learning_rate=1e5, early_stopping=early_stopping, tol=1e-2, random_state=0
    )
    with pytest.warns(ConvergenceWarning, match=r"untrained model has 1\..*; lower learning_rate"):
        model.fit(x, y)


@BOTH
def test_nothing_to_learn_is_not_a_failure(make: Make) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 4)), rng.integers(0, 3, 300)
    for early_stopping in (False, True):
        make(solver="adam", random_state=0, early_stopping=early_stopping, tol=1e-3).fit(x, y)


# ---- dtypes ----


@BOTH
@SOLVERS
@DTYPES
@CONTAINERS
def test_dtypes(
    make: Make, solver: str, dtype: type, container: Make, overlapping: tuple[Array, Array]
) -> None:
    x, y = overlapping
    model = make(solver=solver, tol=1e-2, random_state=0)
    for train in (model.fit, lambda x, y: make().partial_fit(x, y, classes=range(4))):
        model = train(container(x.astype(dtype)), y)
        assert coefficients(model).dtype == dtype
        intercept = model.layer_.bias if hasattr(model, "layer_") else model.intercept_
        assert intercept.dtype == dtype
        for asked in (np.float32, np.float64):
            # A tree's layer keeps its precision; scores of a matrix are promoted.
            wider = dtype if make is HierarchicalSoftmaxClassifier else np.result_type(dtype, asked)
            given = container(x.astype(asked))
            assert model.predict_proba(given).dtype == wider
            assert model.predict_log_proba(given).dtype == wider
            assert model.predict_topk(given, 2)[1].dtype == wider
            if make is SoftmaxClassifier:
                assert model.decision_function(given).dtype == wider
        other = np.float32 if dtype is np.float64 else np.float64
        model.partial_fit(container(x.astype(other)), y)
        assert coefficients(model).dtype == dtype


@BOTH
@CONTAINERS
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_lbfgs_on_float32_is_that_on_float64_rounded(
    make: Make,
    container: Make,
    fit_intercept: bool,
    monkeypatch: pytest.MonkeyPatch,
    overlapping: tuple[Array, Array],
) -> None:
    x, y = overlapping[0].astype(np.float32), overlapping[1]
    monkeypatch.setattr("boltzmax.sklearn.samples.CONVERTED", 30)
    monkeypatch.setattr("boltzmax.sklearn.samples.ROWS", 7)
    monkeypatch.setattr("boltzmax.sklearn.samples.BLOCK", 50)
    model = make(tol=1e-7, fit_intercept=fit_intercept)
    wanted = coefficients(model.fit(container(x.astype(np.float64)), y))
    found = coefficients(model.fit(container(x), y))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@BOTH
@CONTAINERS
def test_float32_is_not_copied_to_float64(
    make: Make, container: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boltzmax.sklearn.samples.BLOCK", 1 << 14)
    monkeypatch.setattr("boltzmax.sklearn.samples.CONVERTED", 1 << 12)
    rng = np.random.default_rng(0)
    x = container(rng.normal(size=(10_000, 64)).astype(np.float32))
    y = rng.integers(0, 2, 10_000)
    if make is HierarchicalSoftmaxClassifier:
        make = lambda **given: HierarchicalSoftmaxClassifier("clusters", **given)  # noqa: E731
    model = make(solver="lbfgs")
    tracemalloc.start()
    try:
        model.fit(x, y)
        model.predict_proba(x)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10_000 * 64 * 8


def test_samples_beyond_the_range_of_a_layer(overlapping: tuple[Array, Array]) -> None:
    x, y = overlapping
    model = HierarchicalSoftmaxClassifier().fit(x.astype(np.float32), y)
    far = np.full((1, 3), 1e300)
    for container in (np.asarray, sparse.csr_array):
        for ask in (model.predict, model.predict_proba, lambda x: model.predict_topk(x, 1)):
            with pytest.raises(ValueError, match=r"too large for dtype.*float32"):
                ask(container(far))
