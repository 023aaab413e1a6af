"""The losses of sparse maps, and the entmax package."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import boltzmax

pytestmark = pytest.mark.usefixtures("strict")


def test_losses_are_zero_at_their_minimum(isa: str) -> None:
    """For a class beyond the margin, and for probabilities that are the map's own."""
    x = np.zeros((3, 40), np.float32)
    x[:, 4] = [1.0, 2.0, 50.0]
    assert (boltzmax.sparsemax_loss(x, [4, 4, 4], reduction="none") == 0).all()
    assert (boltzmax.entmax15_loss(x[1:], [4, 4], reduction="none") == 0).all()
    z = np.random.default_rng(0).normal(size=(5, 40))
    for alpha in (1.0, 1.2, 1.5, 2.0, 4.0):
        y = boltzmax.entmax(z, alpha)
        loss, slope = boltzmax.entmax_loss_with_grad(z, y, alpha=alpha)
        assert abs(loss) < 1e-14
        assert np.abs(slope).max() < 1e-15


def test_losses_are_never_negative_and_convex_losses_of_a_shift() -> None:
    rng = np.random.default_rng(1)
    z, y = rng.normal(size=(50, 12)), boltzmax.softmax(rng.normal(size=(50, 12)))
    for alpha in (1.0, 1.3, 1.5, 2.0, 3.0):
        loss = boltzmax.entmax_loss(z, y, alpha=alpha, reduction="none")
        assert (loss > 0).all()
        shifted = boltzmax.entmax_loss(z + 5, y, alpha=alpha, reduction="none")
        np.testing.assert_allclose(shifted, loss, rtol=1e-12)


def test_the_loss_with_alpha_1_is_the_cross_entropy() -> None:
    rng = np.random.default_rng(2)
    z, classes = rng.normal(size=(6, 9)), rng.integers(9, size=6)
    np.testing.assert_allclose(
        boltzmax.entmax_loss(z, classes, alpha=1.0), boltzmax.cross_entropy(z, classes), rtol=1e-13
    )


@pytest.mark.parametrize("alpha", [1.0, 1.3, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("total", [0.0, 0.4, 1.0, 2.5])
def test_targets_of_any_sum(alpha: float, total: float) -> None:
    """Value and gradient agree, and do not change with a shift; alpha = 1 is cross-entropy."""
    rng = np.random.default_rng(3)
    z, y = rng.normal(size=(4, 7)), total * boltzmax.softmax(rng.normal(size=(4, 7)))
    loss, slope = boltzmax.entmax_loss_with_grad(z, y, alpha=alpha, reduction="sum")
    step, want = 1e-6, np.empty_like(z)
    for i in np.ndindex(z.shape):
        ends = []
        for shift in (step, -step):
            moved = z.copy()
            moved[i] += shift
            ends.append(boltzmax.entmax_loss(moved, y, alpha=alpha, reduction="sum"))
        want[i] = (ends[0] - ends[1]) / (2 * step)
    np.testing.assert_allclose(slope, want, atol=2e-8)
    np.testing.assert_allclose(slope.sum(axis=1), 0, atol=1e-14)
    shifted = boltzmax.entmax_loss(z + 100, y, alpha=alpha, reduction="sum")
    np.testing.assert_allclose(shifted, loss, rtol=1e-12, atol=1e-12)
    if alpha == 1.0:
        entropy = -(y * np.log(np.where(y > 0, y, 1))).sum()
        cross = boltzmax.cross_entropy(z, y, reduction="sum")
        np.testing.assert_allclose(loss, cross - entropy, atol=1e-12)


def test_losses_of_special_rows() -> None:
    z = np.array([[0.0, -np.inf], [np.nan, 0.0], [-np.inf, 0.0]])
    got = boltzmax.sparsemax_loss(z, [0, 0, 0], reduction="none")
    np.testing.assert_array_equal(got, [0.0, np.nan, np.inf])
    with pytest.raises(ValueError, match=r"alpha must be from 1 to 50, got 0\.5"):
        boltzmax.entmax_loss(z, [0, 0, 0], alpha=0.5)


# ---- the entmax package ----


def test_values_of_the_entmax_package() -> None:
    entmax: Any = pytest.importorskip("entmax")
    torch: Any = pytest.importorskip("torch")
    z = np.random.default_rng(5).normal(size=(20, 60))
    target = np.random.default_rng(6).integers(60, size=20)
    x, t = torch.tensor(z), torch.tensor(target)
    pairs = [
        (boltzmax.sparsemax(z), entmax.sparsemax(x, dim=-1)),
        (boltzmax.entmax15(z), entmax.entmax15(x, dim=-1)),
        (boltzmax.entmax(z, 1.3), entmax.entmax_bisect(x, alpha=1.3, dim=-1, n_iter=100)),
        (boltzmax.sparsemax_loss(z, target, reduction="none"), entmax.sparsemax_loss(x, t)),
        (boltzmax.entmax15_loss(z, target, reduction="none"), entmax.entmax15_loss(x, t)),
    ]
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-8, atol=1e-10)
