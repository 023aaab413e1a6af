"""boltzmax.calibration: intervals, diagrams, and what all functions do with their arguments."""

from __future__ import annotations

import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import calibration_oracle as oracle
from boltzmax import calibration
from boltzmax.calibration import (
    brier_score,
    ece,
    ece_interval,
    nll,
    reliability_curve,
    sharpness,
)

BINNINGS = ("equal_width", "equal_mass")


def pairs(n: int, seed: int = 0, power: float = 1.0) -> tuple[Any, Any]:
    """Probabilities, and events that happen with that probability to some power."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(size=n)
    return p, rng.uniform(size=n) < p**power


# ---- intervals ----


@pytest.mark.parametrize("power", [1.0, 1.1, 2.0])
@pytest.mark.parametrize("n", [500, 3000])  # single rows, and groups of them
def test_intervals_contain_the_error_as_often_as_they_say(power: float, n: int) -> None:
    """Of uniform p, and events of probability p^power: 0 with a power of 1."""
    edges = np.linspace(0, 1, 11)
    antiderivative = edges**2 / 2 - edges ** (power + 1) / (power + 1)
    truth = float(np.abs(np.diff(antiderivative)).sum())
    inside, runs = 0, 60
    for seed in range(runs):
        p, hit = pairs(n, seed, power)
        low, high = ece_interval(
            p, hit, from_probs=True, n_bins=10, confidence=0.9, n_resamples=100, random_state=seed
        )
        inside += low <= truth + 1e-12 <= high + 2e-12
    assert inside >= 0.9 * runs - 3 * math.sqrt(runs * 0.09)


def test_intervals_are_reproducible() -> None:
    p, hit = pairs(3000, power=1.5)
    first = ece_interval(p, hit, from_probs=True, n_resamples=50)
    assert first == ece_interval(p, hit, from_probs=True, n_resamples=50)
    assert first != ece_interval(p, hit, from_probs=True, n_resamples=50, random_state=1)
    w = np.ones(3000)
    assert first == pytest.approx(
        ece_interval(p, hit, from_probs=True, n_resamples=50, sample_weight=w)
    )


# ---- diagrams ----


def test_reliability_curve_matches_scikit_learn() -> None:
    sk = pytest.importorskip("sklearn.calibration")
    p, hit = pairs(500, power=2.0)
    curve = reliability_curve(p, hit, from_probs=True, n_bins=10)
    share, mean = sk.calibration_curve(hit, p, n_bins=10)
    np.testing.assert_allclose(curve.accuracy, share)
    np.testing.assert_allclose(curve.confidence, mean)
    assert curve.ece == pytest.approx(ece(p, hit, from_probs=True, n_bins=10))
    assert (curve.low <= curve.accuracy + 1e-12).all()
    assert (curve.accuracy <= curve.high + 1e-12).all()


def test_wilsons_interval() -> None:
    """9 of 10: the example of Agresti & Coull (1998) has 0.596 and 0.982."""
    curve = reliability_curve([0.5] * 10, [1] * 9 + [0], from_probs=True)
    assert (curve.low[0].round(3), curve.high[0].round(3)) == (0.596, 0.982)


def test_diagram() -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    z, y = oracle.over_confident(500, 4)
    ax = Figure().subplots()
    found = calibration.plot_reliability(z, y, ax=ax, label="before")
    calibration.plot_reliability(z / 2.5, y, ax=ax, label="after", color="C1")
    assert found is ax
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["before", "after"]
    ax.figure.canvas.draw()


# ---- arguments ----

FUNCTIONS: dict[str, Any] = {
    name: getattr(calibration, name)
    for name in (
        *("nll", "brier_score", "ece", "mce", "ace", "ks_error", "smooth_ece", "ece_interval"),
        "reliability_curve",
    )
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    ("z", "y", "options", "words"),
    [
        ([[0.0, np.nan], [0.0, 1.0]], [0, 0], {}, "1 row has not, the first is row 0"),
        ([[0.0, 1.0], [-np.inf, -np.inf]], [0, 0], {}, "the first is row 1"),
        ([0.5, np.nan], [0, 0], {}, "the first is row 1"),
        ([[0.5, 0.2]], [0], {"from_probs": True}, "sum to 0.7 in row 0"),
        ([[0.5, 0.5]], [2], {}, "y 2 at position 0"),
        (np.zeros((0, 2)), [], {}, "at least 1 row"),
    ],
)
def test_bad_rows_are_refused(name: str, z: Any, y: Any, options: Any, words: str) -> None:
    with pytest.raises((ValueError, IndexError), match=words):
        FUNCTIONS[name](np.array(z), np.array(y, int), **options)


@pytest.mark.parametrize(
    ("function", "options", "error", "words"),
    [
        (ece, {"n_bins": 0}, ValueError, "n_bins must be from 1"),
        (ece, {"n_bins": 1.5}, TypeError, "n_bins must be an integer"),
        (ece, {"binning": "width"}, ValueError, "binning must be one of"),
        (ece, {"norm": 3}, ValueError, 'norm must be 1, 2 or "max", got 3'),
        (ece, {"kind": "top"}, ValueError, "kind must be one of"),
        (ece, {"debias": True}, ValueError, "debias needs norm=2, got norm=1"),
        (ece_interval, {"confidence": 1.0}, ValueError, "confidence must be between 0 and 1"),
        (ece_interval, {"method": "exact"}, ValueError, "method must be one of 'bootstrap'"),
        (ece_interval, {"n_resamples": 0}, ValueError, "n_resamples must be at least 1"),
        (ece_interval, {"random_state": "a"}, TypeError, "random_state must be a seed"),
        (reliability_curve, {"confidence": 0}, ValueError, "confidence must be between"),
    ],
)
def test_bad_options_are_refused(
    function: Any, options: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        function([[0.0, 1.0]], [0], **options)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_layouts_and_dtypes_agree(name: str, tmp_path: Path) -> None:
    z, y = oracle.over_confident(400, 3, dtype=np.float32)
    wanted = FUNCTIONS[name](z, y)
    np.save(tmp_path / "z.npy", z)
    for same in (
        np.asfortranarray(z),
        np.repeat(z, 2, axis=0)[::2],
        np.load(tmp_path / "z.npy", mmap_mode="r"),
        z.tolist(),
        z.astype(np.float64),
    ):
        np.testing.assert_allclose(
            np.hstack(plain(FUNCTIONS[name](same, y))), np.hstack(plain(wanted)), rtol=2e-5
        )


def plain(found: Any) -> Any:
    return [found.accuracy, found.ece] if hasattr(found, "accuracy") else [found]


def test_memory_maps_are_read_in_blocks(tmp_path: Path) -> None:
    z, y = oracle.over_confident(60_000, 200, dtype=np.float32)
    np.save(tmp_path / "z.npy", z)
    read = np.load(tmp_path / "z.npy", mmap_mode="r")
    tracemalloc.start()
    for function in (nll, brier_score, ece):
        function(read, y)
    ece(read, y, kind="classwise")
    sharpness(read)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6 < 0.7 * z.nbytes  # mostly one block, or two


@settings(deadline=None, max_examples=30)
@given(
    z=arrays(np.float64, (9, 4), elements=st.floats(-50, 50)),
    y=arrays(np.int64, 9, elements=st.integers(0, 3)),
)
def test_errors_are_within_0_and_1(z: Any, y: Any) -> None:
    for name in ("ece", "mce", "ace", "ks_error", "smooth_ece"):
        assert 0 <= FUNCTIONS[name](z, y) <= 1 + 1e-9
    low, high = ece_interval(z, y, n_resamples=10)
    assert 0 <= low <= high <= 1
