"""Temperature scaling: its derivatives, its search, its bounds."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import boltzmax
import calibration_oracle as oracle
from boltzmax import _core
from boltzmax.calibration import (
    TemperatureScaling,
    nll,
)
from boltzmax.calibration.estimator import ConvergenceWarning


def exact_derivatives(z: Any, y: Any, temperature: float, weight: Any = None) -> tuple[Any, Any]:
    z = z.astype(np.longdouble)
    p = oracle.softmax(z / np.longdouble(temperature))
    w = np.ones(len(y)) if weight is None else weight
    d = z - z[np.arange(len(y)), y][:, None]
    d = np.where(p == 0, 0, d)
    first, second = (p * d).sum(axis=1), (p * d * d).sum(axis=1)
    return float((w * first).sum()), float((w * (second - first**2)).sum())


@pytest.mark.parametrize("n", [1, 2, 3, 7, 16, 17, 24, 25, 33, 63, 64, 65, 100, 257, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_derivatives(isa: str, n: int, dtype: Any) -> None:
    rng = np.random.default_rng(n)
    z = (rng.normal(scale=4, size=(37, n)) + 100).astype(dtype)
    z[3, 0] = -np.inf
    if n > 2:
        z[4, 1] = -1e30
    y = rng.integers(0, n, 37)
    y[3] = n - 1
    z[3, n - 1] = 1.0
    y[4] = 0
    w = rng.uniform(size=37)
    for temperature in (0.1, 1.0, 3.0):
        for weight in (None, w):
            found = _core.temperature_derivatives(z, y, weight, temperature)
            wanted = exact_derivatives(z, y, temperature, weight)
            size = 37 * float(np.abs(z[z > -1e29] - 100).max())
            eps = float(np.finfo(dtype).eps)
            assert found[0] == pytest.approx(wanted[0], abs=6 * eps * size)
            assert found[1] == pytest.approx(wanted[1], abs=12 * eps * size**2 / 37)


@pytest.mark.parametrize("n", [5, 70])
def test_rows_without_probabilities_have_no_derivatives(isa: str, n: int) -> None:
    for bad in (np.nan, np.inf):
        z = np.zeros((20, n), np.float32)
        z[7, n // 2] = bad
        assert np.isnan(_core.temperature_derivatives(z, np.zeros(20, int), None, 1.0)).all()
    z[7] = -np.inf
    assert np.isnan(_core.temperature_derivatives(z, np.zeros(20, int), None, 1.0)).all()


def test_threads_and_strides_change_no_bit() -> None:
    z, y = oracle.over_confident(20_000, 12, dtype=np.float32)
    wanted = _core.temperature_derivatives(z, y, None, 1.5)
    threads = boltzmax.get_num_threads()
    try:
        for count in (1, 2, 3):
            boltzmax.set_num_threads(count)
            assert _core.temperature_derivatives(z, y, None, 1.5) == wanted
    finally:
        boltzmax.set_num_threads(threads)


@pytest.mark.parametrize(
    ("target", "weight", "words"),
    [
        (np.array([0, 3]), None, "a target is out of range"),
        (np.array([0, -1]), None, "a target is out of range"),
        (np.array([0]), None, "target does not fit"),
        (np.array([0.0, 1.0]), None, "target does not fit"),
        (np.array([0, 1]), np.ones(3), "weight does not fit"),
    ],
)
def test_compiled_derivatives_check_their_arguments(target: Any, weight: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        _core.temperature_derivatives(np.zeros((2, 3)), target, weight, 1.0)


@pytest.mark.parametrize("k", [2, 10, 60])
@pytest.mark.parametrize("factor", [0.01, 0.3, 1.0, 8.0, 500.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_temperature_is_exact(k: int, factor: float, weighted: bool) -> None:
    z, y = oracle.over_confident(400, k, factor)
    w = np.random.default_rng(0).uniform(size=400) if weighted else None
    fitted = TemperatureScaling().fit(z, y, sample_weight=w)
    assert fitted.temperature_ == pytest.approx(oracle.best_temperature(z, y, w), rel=1e-10)
    assert fitted.n_iter_ <= 9
    narrow = TemperatureScaling().fit(z.astype(np.float32), y, sample_weight=w)
    assert narrow.temperature_ == pytest.approx(fitted.temperature_, rel=3e-6)


def test_a_sample_leaves_few_reads() -> None:
    z, y = oracle.over_confident(100_000, 5, 4.0, dtype=np.float32)
    fitted = TemperatureScaling().fit(z, y)
    assert fitted.n_iter_ <= 4
    p = nll(z / fitted.temperature_, y)
    assert p <= min(nll(z / (fitted.temperature_ * f), y) for f in (0.999, 1.001))


def test_a_far_offset_does_not_matter() -> None:
    z, y = oracle.over_confident(500, 6)
    wanted = TemperatureScaling().fit(z, y).temperature_
    assert TemperatureScaling().fit(z + 2.0**20, y).temperature_ == pytest.approx(wanted, rel=1e-8)


@pytest.mark.parametrize("bounds", [(1e-6, 1e6), (0.05, 20.0)])
def test_bounds(bounds: Any) -> None:
    z, _ = oracle.over_confident(300, 4)
    for y, bound in ((z.argmax(axis=1), bounds[0]), (z.argmin(axis=1), bounds[1])):
        with pytest.warns(ConvergenceWarning, match=re.escape(f"the bound, {bound:g}")):
            fitted = TemperatureScaling(bounds=bounds).fit(z, y)
        assert fitted.temperature_ == bound
        assert fitted.n_iter_ <= 25


def test_one_wrong_row_of_many_has_a_temperature() -> None:
    """The sample that the search begins on may be all right."""
    z, _ = oracle.over_confident(50_000, 3)
    y = z.argmax(axis=1)
    y[1] = z[1].argmin()
    fitted = TemperatureScaling().fit(z, y)
    assert fitted.temperature_ == pytest.approx(oracle.best_temperature(z, y), rel=1e-9)


@pytest.mark.parametrize("bounds", [(1, 1), (2, 1), (1e-7, 1), (1, 1e7), (1, np.nan)])
def test_bad_bounds(bounds: Any) -> None:
    with pytest.raises(ValueError, match="bounds must be increasing, within 1e-06 to 1e"):
        TemperatureScaling(bounds=bounds).fit([[0.0, 1.0]], [0])
    with pytest.raises(TypeError, match="bounds must be two numbers"):
        TemperatureScaling(bounds=3.0).fit([[0.0, 1.0]], [0])  # type: ignore[arg-type]


def test_impossible_labels_are_named() -> None:
    with pytest.raises(ValueError, match="class 1, the label of row 1, has the logit -inf"):
        TemperatureScaling().fit([[0.0, 1.0], [0.0, -np.inf]], [0, 1])
    with pytest.raises(ValueError, match="has the probability 0; pass logits, or clip it"):
        TemperatureScaling(from_probs=True).fit([0.0, 1.0], [0, 0])


@settings(deadline=None, max_examples=100)
@given(
    seed=st.integers(0, 1000),
    n=st.integers(1, 30),
    k=st.integers(1, 5),
    scale=st.one_of(st.floats(1e-3, 1e3), st.sampled_from([1e-300, 1e-30, 1e30, 1e300])),
    labels=st.sampled_from(["any", "right", "wrong", "one"]),
    ties=st.booleans(),
)
def test_temperature_of_any_rows(
    seed: int, n: int, k: int, scale: float, labels: str, ties: bool
) -> None:
    """At a bound, or at a minimum; no other warning than that of a bound."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, k))
    z = (np.round(z) if ties else z) * scale
    y = {
        "any": rng.integers(0, k, n),
        "right": z.argmax(axis=1),
        "wrong": z.argmin(axis=1),
        "one": np.zeros(n, np.int64),
    }[labels]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = TemperatureScaling().fit(z, y)
        p = fitted.predict_proba(z)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
    t = fitted.temperature_
    assert 1e-6 <= t <= 1e6
    if 1e-6 < t < 1e6:
        around = [nll(z / (t * f), y) for f in (0.99, 1.0, 1.01)]
        assert around[1] <= min(around) + 1e-12
