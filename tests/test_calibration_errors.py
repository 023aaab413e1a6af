"""boltzmax.calibration: scores, calibration errors, intervals and diagrams."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import calibration_oracle as oracle
from boltzmax import _core
from boltzmax.calibration import (
    ace,
    brier_score,
    ece,
    ks_error,
    mce,
    nll,
    sharpness,
    smooth_ece,
)
from boltzmax.calibration.binning import equal_width_edges, equal_width_index

KINDS = ("top_label", "classwise", "marginal")
BINNINGS = ("equal_width", "equal_mass")


def pairs(n: int, seed: int = 0, power: float = 1.0) -> tuple[Any, Any]:
    """Probabilities, and events that happen with that probability to some power."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(size=n)
    return p, rng.uniform(size=n) < p**power


# ---- scores ----


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_scores_match_plain_forms(dtype: Any) -> None:
    z, y = oracle.over_confident(300, 7, dtype=dtype)
    p = oracle.softmax(z)
    one_hot = np.eye(7)[y]
    tolerance = 1e-12 if dtype == np.float64 else 2e-6
    assert nll(z, y) == pytest.approx(oracle.mean_nll(z, y), rel=tolerance)
    assert brier_score(z, y) == pytest.approx(
        float(np.square(p - one_hot).sum(axis=1).mean()), rel=tolerance
    )
    assert sharpness(z) == pytest.approx(float(np.square(p).sum(axis=1).mean()), rel=tolerance)


def test_scores_match_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    z, y = oracle.over_confident(200, 4)
    p = oracle.softmax(z).astype(float)
    w = np.random.default_rng(1).uniform(size=200)
    assert nll(p, y, from_probs=True, sample_weight=w) == pytest.approx(
        metrics.log_loss(y, p, sample_weight=w)
    )
    x, hit = pairs(200)
    assert brier_score(x, hit, from_probs=True, sample_weight=w) == pytest.approx(
        metrics.brier_score_loss(hit, x, sample_weight=w)
    )
    assert nll(x, hit, from_probs=True) == pytest.approx(metrics.log_loss(hit, x))


def test_single_numbers_are_class_1_of_two() -> None:
    x = np.random.default_rng(0).normal(size=100)
    y = (x + np.random.default_rng(1).logistic(size=100) > 0).astype(int)
    both = np.stack([np.zeros(100), x], axis=1)
    assert nll(x, y) == pytest.approx(nll(both, y))
    assert 2 * brier_score(x, y) == pytest.approx(brier_score(both, y))
    assert sharpness(x) == pytest.approx(sharpness(both))


def test_brier_score_of_certain_rows_keeps_its_digits() -> None:
    z = np.array([[40.0, 0.0], [45.0, 0.0]])
    wanted = np.mean(2 * np.exp([-80.0, -90.0]))
    assert brier_score(z, [0, 0]) == pytest.approx(wanted, rel=1e-12)


def test_calibrated_forecasts_have_a_brier_score_of_1_less_sharpness() -> None:
    z, y = oracle.over_confident(200_000, 3, factor=1.0)
    assert brier_score(z, y) == pytest.approx(1 - sharpness(z), abs=4 * 0.4 / math.sqrt(200_000))


def test_impossible_labels_have_an_infinite_loss() -> None:
    assert nll([[0.0, -np.inf]], [1]) == np.inf
    assert nll([[0.0, -np.inf], [0.0, 0.0]], [1, 0], sample_weight=[0, 1]) == pytest.approx(
        math.log(2)
    )


# ---- bins ----


@pytest.mark.parametrize("norm", [1, 2, "max"])
@pytest.mark.parametrize("binning", BINNINGS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [False, True])
def test_ece_matches_a_loop_over_rows(norm: Any, binning: str, kind: str, weighted: bool) -> None:
    z, y = oracle.over_confident(211, 3)
    w = np.random.default_rng(2).integers(0, 4, 211) / 2 if weighted else None
    found = ece(z, y, n_bins=7, binning=binning, norm=norm, kind=kind, sample_weight=w)
    p = np.asarray(oracle.softmax(z), float)
    assert found == pytest.approx(oracle.ece(p, y, 7, binning, norm, kind, w), abs=1e-12)
    if norm == 2:
        found = ece(
            z, y, n_bins=7, binning=binning, norm=2, kind=kind, sample_weight=w, debias=True
        )
        wanted = oracle.ece(p, y, 7, binning, norm, kind, w, debias=True)
        assert found == pytest.approx(wanted, abs=1e-12)


PROBABILITIES = st.one_of(
    st.floats(0, 1), st.integers(0, 20).map(lambda k: k / 20), st.sampled_from([0.0, 1.0, 1e-300])
)


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(st.tuples(PROBABILITIES, st.booleans(), st.integers(0, 3)), min_size=1),
    n_bins=st.integers(1, 20),
    binning=st.sampled_from(BINNINGS),
    norm=st.sampled_from([1, 2, "max"]),
    weighted=st.booleans(),
)
def test_bins_of_any_pairs(rows: Any, n_bins: int, binning: str, norm: Any, weighted: bool) -> None:
    p, hit, w = (np.array(column) for column in zip(*rows, strict=True))
    if not w.any():
        w[0] = 1
    weight = w if weighted else None
    value, bins = ece(
        p, hit, from_probs=True, n_bins=n_bins, binning=binning, norm=norm,
        sample_weight=weight, return_bins=True,
    )  # fmt: skip
    assert value == pytest.approx(
        oracle.ece(p, hit.astype(int), n_bins, binning, norm, "top_label", weight), abs=1e-12
    )
    assert (np.diff(bins.edges) >= 0).all()
    assert bins.weight.sum() == pytest.approx(w.sum() if weighted else len(p))


@pytest.mark.parametrize("n_bins", [1, 15, 128, 129, 1 << 20])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_of_bins(isa: str, n_bins: int, dtype: Any) -> None:
    """Blocks of 256 rows and what is left of one; on edges, out of range, and not a number."""
    edges = equal_width_edges(n_bins)
    for n in (1, 7, 255, 256, 257, 1000):
        p, hit = pairs(n)
        on_edges = np.round(p * n_bins) / n_bins
        odd = np.array([-0.0, 1.0, -5e-324, 1 + 1e-7, np.nan, np.inf, -np.inf, 0.5])[
            np.arange(n) % 8
        ]
        for numbers in (p, on_edges, np.where(p < 0.2, odd, p)):
            x = numbers.astype(dtype)
            valid = (x >= 0) & (x <= 1)
            sums = np.zeros((3, n_bins))
            assert _core.add_to_bins(x, hit, edges, sums) == np.count_nonzero(~valid)
            kept = x[valid].astype(np.float64)
            index = equal_width_index(kept, edges)
            for found, weight in zip(sums, (None, hit[valid], kept), strict=True):
                wanted = np.bincount(index, weight, minlength=n_bins)
                np.testing.assert_allclose(found, wanted, rtol=1e-13)


def test_bools_of_other_bits_are_bools() -> None:
    p, hit = pairs(300)
    odd = (hit.view(np.uint8) * 6).view(np.bool_)
    assert ece(p, odd, from_probs=True) == ece(p, hit, from_probs=True)


@pytest.mark.parametrize("n_bins", [1, 3, 10, 15, 49])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bins_of_equal_width_are_closed_on_the_right(n_bins: int, dtype: Any) -> None:
    edges = np.linspace(0, 1, n_bins + 1)
    p = np.concatenate([edges, np.nextafter(edges, 0), np.nextafter(edges, 1)]).astype(dtype)
    _, bins = ece(p, np.zeros(len(p), int), from_probs=True, n_bins=n_bins, return_bins=True)
    index = np.clip(np.digitize(p.astype(float), edges, right=True) - 1, 0, n_bins - 1)
    np.testing.assert_array_equal(bins.count, np.bincount(index, minlength=n_bins))


def test_0_and_1_belong_to_the_first_and_the_last_bin() -> None:
    _, bins = ece([0.0, 1.0, 1.0], [0, 1, 1], from_probs=True, return_bins=True)
    assert (bins.count[0], bins.count[-1], len(bins.count)) == (1, 2, 15)


def test_equal_probabilities_share_a_bin_of_equal_mass() -> None:
    p = np.repeat([0.25, 0.5, 0.75], [10, 70, 20])
    _, bins = ece(
        p, np.zeros(100, int), from_probs=True, n_bins=10, binning="equal_mass", return_bins=True
    )
    assert bins.count.tolist() == [10, 70, 20]
    np.testing.assert_array_equal(bins.confidence, [0.25, 0.5, 0.75])


@pytest.mark.parametrize("binning", BINNINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_repetitions(binning: str, kind: str) -> None:
    z, y = oracle.over_confident(150, 3)
    w = np.random.default_rng(0).integers(0, 4, 150)
    again = np.repeat(np.arange(150), w)
    found = ece(z, y, binning=binning, kind=kind, sample_weight=w)
    assert found == pytest.approx(ece(z[again], y[again], binning=binning, kind=kind), abs=1e-12)


def test_debiased_errors_of_calibrated_pairs_average_to_0() -> None:
    """Squares, that is; the plug-in error squared is 15 / n * mean of a (1 - a)."""
    squares = []
    for seed in range(200):
        p, hit = pairs(500, seed)
        _, bins = ece(p, hit, from_probs=True, norm=2, return_bins=True)
        n, a = bins.effective_count, bins.accuracy
        squares.append((bins.weight / 500 * (bins.gap**2 - a * (1 - a) / (n - 1))).sum())
        plain = ece(p, hit, from_probs=True, norm=2)
        debiased = ece(p, hit, from_probs=True, norm=2, debias=True)
        assert debiased == pytest.approx(math.sqrt(max(squares[-1], 0)), abs=1e-12)
        assert plain > debiased
    error = np.std(squares) / math.sqrt(len(squares))
    assert abs(np.mean(squares)) < 4 * error


def test_a_bin_of_one_row_gets_no_correction() -> None:
    assert ece([0.25], [1], from_probs=True, norm=2, debias=True) == 0.75


def test_maximum_and_adaptive_errors() -> None:
    z, y = oracle.over_confident(300, 4)
    assert mce(z, y, n_bins=6) == ece(z, y, n_bins=6, norm="max")
    p = np.asarray(oracle.softmax(z), float)
    wanted = []
    for c in range(4):
        bins = oracle.binned(p[:, c], y == c, np.ones(300), 6, "equal_mass")
        wanted.append(np.mean([abs(a - b) for _, a, b, _ in bins]))
    assert ace(z, y, n_bins=6) == pytest.approx(np.mean(wanted), abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("binning", BINNINGS)
def test_bins_of_classes_have_a_row_for_each(kind: str, binning: str) -> None:
    z, y = oracle.over_confident(60, 5)
    _, bins = ece(z, y, n_bins=4, kind=kind, binning=binning, return_bins=True)
    shape = (4,) if kind == "top_label" else (5, 4)
    assert bins.count.shape == bins.gap.shape == shape
    assert bins.count.sum() == (60 if kind == "top_label" else 300)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.5])
def test_one_row_and_one_class(value: float) -> None:
    assert ece([value], [1], from_probs=True) == 1 - value
    assert ks_error([value], [1], from_probs=True) == 1 - value
    one_class = np.zeros((3, 1))
    for kind in KINDS:
        assert ece(one_class, [0, 0, 0], kind=kind) == 0.0
    assert (nll(one_class, [0] * 3), smooth_ece(one_class, [0] * 3)) == (0.0, 0.0)


def test_all_right_and_all_wrong() -> None:
    sure = np.array([[1.0, 0.0]] * 5)
    for error in (ece, mce, ks_error, smooth_ece, ace):
        assert error(sure, [0] * 5, from_probs=True) == 0.0
    assert ece(sure, [1] * 5, from_probs=True) == ks_error(sure, [1] * 5, from_probs=True) == 1.0


# ---- errors without bins ----


@pytest.mark.parametrize("weighted", [False, True])
def test_ks_error(weighted: bool) -> None:
    p, hit = pairs(400, power=2.0)
    p = np.round(p, 2)
    w = np.random.default_rng(1).uniform(size=400) if weighted else np.ones(400)
    sums = [(w * (p - hit))[p <= t].sum() for t in np.unique(p)]
    found = ks_error(p, hit, from_probs=True, sample_weight=w if weighted else None)
    assert found == pytest.approx(np.abs(sums).max() / w.sum(), abs=1e-12)


def smoothed_size(p: Any, residual: Any, width: float) -> float:
    """The definition: reflected Gaussian kernels, integrated on a fine mesh."""
    t = np.linspace(0, 1, 4001)
    density = np.zeros_like(t)
    for shift in range(-4, 5):
        for image in (p + 2 * shift, -p + 2 * shift):
            z = (t[:, None] - image[None, :]) / width
            density += (residual * np.exp(-z * z / 2)).sum(axis=1)
    density /= width * math.sqrt(2 * math.pi) * len(p)
    return float(np.trapezoid(np.abs(density), t))


@pytest.mark.parametrize("power", [1.0, 1.3, 4.0])
def test_smooth_ece_is_the_fixed_point(power: float) -> None:
    p, hit = pairs(300, power=power)
    p[:20], p[20:30] = 1.0, 0.0
    value = smooth_ece(p, hit, from_probs=True)
    assert smoothed_size(p, hit - p, value) == pytest.approx(value, rel=1e-3)


def test_smooth_ece_is_near_the_true_error() -> None:
    """For events of probability p^2, the mean of p - p^2 is 1/6."""
    p, hit = pairs(200_000, power=2.0)
    assert smooth_ece(p, hit, from_probs=True) == pytest.approx(1 / 6, abs=0.01)
    w = np.ones(200_000)
    assert smooth_ece(p, hit, from_probs=True, sample_weight=w) == pytest.approx(
        smooth_ece(p, hit, from_probs=True), rel=1e-9
    )


def test_a_tiny_smooth_error_is_found() -> None:
    """One wrong row of 2,000 that are sure."""
    p, hit = np.ones(2_000), np.ones(2_000, bool)
    hit[0] = False
    assert smooth_ece(p, hit, from_probs=True) == pytest.approx(5e-4, rel=1e-3)
