"""Imbalanced classes: weights, logit adjustment and resampling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import boltzmax
from boltzmax.losses.imbalance import (
    balanced_softmax,
    class_weights,
    logit_adjustment,
    resample_indices,
)

WEIGHTS = ("balanced", "effective_number", "sqrt")
SAMPLINGS = ("balanced", "over", "under")
COUNTS = st.lists(st.integers(0, 10**6), min_size=1, max_size=20).filter(any)
LABELS = st.lists(st.integers(-3, 3), min_size=1, max_size=60)


# ---- class_weights


def test_balanced_weights_match_scikit_learn() -> None:
    utils = pytest.importorskip("sklearn.utils.class_weight")
    labels = np.random.default_rng(0).choice(5, 1000, p=[0.7, 0.2, 0.05, 0.04, 0.01])
    peer = utils.compute_class_weight("balanced", classes=np.arange(5), y=labels)
    np.testing.assert_allclose(class_weights(np.bincount(labels)), peer, rtol=1e-15)


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.9, 0.999, 1 - 1e-9, 1 - 2**-53])
def test_effective_numbers_are_precise(beta: float) -> None:
    counts = [1, 7, 1000, 10**7]
    with mpmath.workdps(60):
        exact = [1 / (1 - mpmath.mpf(beta) ** n) for n in counts]
        expected = [float(4 * w / sum(exact)) for w in exact]
    weights = class_weights(counts, "effective_number", beta=beta)
    np.testing.assert_allclose(weights, expected, rtol=1e-14)


@given(COUNTS, st.sampled_from(WEIGHTS))
def test_weights_fall_with_counts(counts: list[int], method: str) -> None:
    n = np.array(counts)
    weights = class_weights(n, method)
    assert weights.dtype == np.float64
    assert ((weights > 0) == (n > 0)).all()
    by_size = weights[np.argsort(n, kind="stable")][(n == 0).sum() :]
    assert (np.diff(by_size) <= 1e-12 * by_size[:-1]).all()
    if method == "effective_number":
        np.testing.assert_allclose(weights.sum(), (n > 0).sum(), rtol=1e-12)
    else:
        np.testing.assert_allclose((n * weights).sum(), n.sum(), rtol=1e-12)


@pytest.mark.parametrize("method", WEIGHTS)
def test_classes_without_samples_change_nothing(method: str) -> None:
    some, all_of_them = class_weights([5, 2], method), class_weights([5, 0, 2, 0], method)
    np.testing.assert_array_equal(all_of_them, [some[0], 0, some[1], 0])


@pytest.mark.parametrize("method", WEIGHTS)
def test_one_class_has_weight_one(method: str) -> None:
    np.testing.assert_allclose(class_weights([7], method), [1.0], rtol=1e-15)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint64", "float16", "float32", ">i4", ">f8"])
def test_counts_of_any_dtype(dtype: str) -> None:
    np.testing.assert_allclose(class_weights(np.array([1, 3], dtype)), [2.0, 2 / 3])


BAD_COUNTS = [
    ([], "not empty"),
    ([[1, 2]], r"\(1, 2\)"),
    (3, "1-d"),
    ([1, -2], "-2 for class 1"),
    ([1.0, np.nan], "nan for class 1"),
    ([np.inf, 1.0], "inf for class 0"),
    ([0, 0], "all 0"),
]


@pytest.mark.parametrize(("counts", "message"), BAD_COUNTS)
@pytest.mark.parametrize(
    "function", [class_weights, logit_adjustment, lambda n: balanced_softmax(np.zeros(2), n)]
)
def test_bad_counts(function: Callable[[Any], Any], counts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        function(counts)


@pytest.mark.parametrize("counts", [["a"], [1j], [None], [True]])
def test_counts_that_are_not_numbers(counts: Any) -> None:
    with pytest.raises(TypeError, match="counts must be real numbers"):
        class_weights(counts)


@pytest.mark.parametrize("beta", [1.0, -0.1, 2, np.nan])
def test_bad_beta(beta: float) -> None:
    with pytest.raises(ValueError, match="beta must be at least 0 and less than 1, got"):
        class_weights([1, 2], "effective_number", beta=beta)


def test_unknown_methods() -> None:
    with pytest.raises(ValueError, match="'balanced', 'effective_number', 'sqrt', got 'log'"):
        class_weights([1, 2], "log")
    with pytest.raises(ValueError, match="'balanced', 'over', 'under', got 'smote'"):
        resample_indices([1, 2], "smote")


# ---- logit_adjustment and balanced_softmax


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.0, -1.0])
def test_adjustment_is_the_logarithm_of_the_prior(tau: float) -> None:
    counts = np.array([90, 9, 1])
    adjustment = logit_adjustment(counts, tau)
    assert adjustment.dtype == np.float64
    np.testing.assert_allclose(adjustment, tau * np.log(counts / 100), rtol=1e-15)
    assert not np.signbit(logit_adjustment([5], tau)).any()


def test_adjustment_needs_every_class() -> None:
    with pytest.raises(ValueError, match="class 1 has no samples"):
        logit_adjustment([3, 0, 4, 0])
    for tau in (np.nan, np.inf):
        with pytest.raises(ValueError, match="tau must be finite"):
            logit_adjustment([3, 4], tau)


@given(COUNTS, st.integers(0, 2**32 - 1))
def test_balanced_softmax_is_the_weighted_one(counts: list[int], seed: int) -> None:
    n = np.array(counts, float)
    x = 5 * np.random.default_rng(seed).standard_normal((3, n.size))
    terms = n * np.exp(x)
    expected = terms / terms.sum(-1, keepdims=True)
    np.testing.assert_allclose(balanced_softmax(x, counts), expected, rtol=1e-12)
    np.testing.assert_allclose(balanced_softmax(x.T, counts, axis=0), expected.T, rtol=1e-12)


def test_balanced_softmax_and_adjusted_logits_agree() -> None:
    x, counts = np.random.default_rng(0).standard_normal((4, 3)), [70, 20, 10]
    expected = boltzmax.softmax(x + logit_adjustment(counts))
    np.testing.assert_allclose(balanced_softmax(x, counts), expected, rtol=1e-14)


def test_balanced_softmax_keeps_the_dtype(dtype: np.dtype[Any]) -> None:
    x = np.random.default_rng(0).standard_normal((2, 4, 3)).astype(dtype)
    counts = [10**9, 10**6, 3, 0]
    p = balanced_softmax(x, counts, axis=1)
    assert p.dtype == x.dtype
    assert p.shape == x.shape
    assert not p[:, 3].any()
    expected = balanced_softmax(x.astype(np.float64), counts, axis=1).astype(dtype)
    np.testing.assert_array_equal(p, expected)
    assert balanced_softmax(np.array([1, 2]), [1, 1]).dtype == np.float64


def test_balanced_softmax_without_rows_and_of_one_class() -> None:
    assert balanced_softmax(np.zeros((0, 3), np.float32), [1, 2, 3]).shape == (0, 3)
    np.testing.assert_array_equal(balanced_softmax([[-800.0], [3.0]], [5]), [[1.0], [1.0]])


def test_balanced_softmax_errors() -> None:
    with pytest.raises(ValueError, match="counts has 2 classes, but axis -1 of logits 3"):
        balanced_softmax(np.zeros((2, 3)), [1, 2])
    with pytest.raises(np.exceptions.AxisError):
        balanced_softmax(np.zeros((2, 3)), [1, 2], axis=2)
    with pytest.raises(TypeError):
        balanced_softmax(np.zeros((2, 3)), [1, 2], axis=(0, 1))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="does not support dtype complex128"):
        balanced_softmax(np.zeros(2, complex), [1, 2])


# ---- resample_indices


@given(LABELS, st.sampled_from(SAMPLINGS), st.integers(0, 2**32 - 1))
def test_resampling(labels: list[int], method: str, seed: int) -> None:
    array = np.array(labels)
    drawn = resample_indices(labels, method, seed)
    assert drawn.dtype == np.int64
    classes, before = np.unique(array, return_counts=True)
    assert (np.unique(array[drawn]) == classes).all()
    after = np.array([(array[drawn] == c).sum() for c in classes])
    if method == "over":
        assert (after == before.max()).all()
    elif method == "under":
        assert (after == before.min()).all()
    else:
        assert after.sum() == len(labels)
        assert np.ptp(after) <= 1
    times = np.bincount(drawn, minlength=len(labels))
    for c, old, new in zip(classes, before, after, strict=True):
        of_class = times[array == c]
        assert of_class.max() <= 1 if new <= old else of_class.min() >= 1


def test_remainder_goes_to_the_largest_classes() -> None:
    labels = np.array([0] + [1] * 9 + [2] * 4)
    drawn = labels[resample_indices(labels, rng=0)]
    np.testing.assert_array_equal(np.bincount(drawn), [4, 5, 5])


@pytest.mark.parametrize("method", SAMPLINGS)
def test_seeds_are_reproducible(method: str) -> None:
    labels = np.array(list("abracadabra"))
    once = resample_indices(labels, method, 7)
    np.testing.assert_array_equal(once, resample_indices(labels, method, 7))
    generator = np.random.default_rng(7)
    np.testing.assert_array_equal(once, resample_indices(labels, method, generator))
    later = resample_indices(np.arange(100) % 3, method, generator)
    assert not np.array_equal(later, resample_indices(np.arange(100) % 3, method, 7))
    assert resample_indices(labels, method).size == once.size


def test_the_result_is_shuffled_and_varied() -> None:
    labels = np.repeat([0, 1], [900, 100])
    drawn = resample_indices(labels, "over", 0)
    assert 380 < labels[drawn][:900].sum() < 520
    assert np.bincount(drawn)[900:].max() > np.bincount(drawn)[900:].min()


@pytest.mark.parametrize("labels", [[0, 0, 1], ["b", "a", "b"], [True, False], [0.5, 1.5, 0.5]])
def test_labels_of_any_kind(labels: list[Any]) -> None:
    assert resample_indices(labels, rng=0).size == len(labels)


def test_odd_labels() -> None:
    assert resample_indices([], rng=0).dtype == np.int64
    assert resample_indices([], rng=0).shape == (0,)
    np.testing.assert_array_equal(np.sort(resample_indices([4, 4, 4], rng=0)), [0, 1, 2])
    for labels in ([[1, 2]], 3):
        with pytest.raises(ValueError, match="labels must be 1-d, got shape"):
            resample_indices(labels)
