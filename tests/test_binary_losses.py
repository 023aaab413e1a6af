"""The loss of labels on their own, against PyTorch and central differences."""

from __future__ import annotations

import doctest
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltzmax import _binary_losses
from boltzmax._binary_losses import (
    binary_cross_entropy_with_logits,
    binary_cross_entropy_with_logits_with_grad,
)
from loss_samples import differences, normal, positive, torch_gradient

INF, NAN = np.inf, np.nan


def test_examples() -> None:
    result = doctest.testmod(_binary_losses)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weights", [(), ("weight",), ("pos_weight",), ("weight", "pos_weight")])
def test_binary_cross_entropy_is_that_of_torch(reduction: str, weights: tuple[str, ...]) -> None:
    torch = pytest.importorskip("torch")
    x, z = 3 * normal(5, 4), np.random.default_rng(3).uniform(0, 1, (5, 4)).round(1)
    values = {"weight": positive(5, 1), "pos_weight": positive(4)}
    options: dict[str, Any] = {name: values[name] for name in weights}
    tensors: dict[str, Any] = {name: torch.tensor(v) for name, v in options.items()}

    def peer(t: Any) -> Any:
        return torch.nn.functional.binary_cross_entropy_with_logits(
            t, torch.tensor(z), reduction=reduction, **tensors
        )

    ours = binary_cross_entropy_with_logits(x, z, reduction=reduction, **options)
    np.testing.assert_allclose(ours, peer(torch.tensor(x)).numpy(), rtol=1e-11)
    if reduction != "none":
        loss, gradient = binary_cross_entropy_with_logits_with_grad(
            x, z, reduction=reduction, **options
        )
        assert loss == ours
        np.testing.assert_allclose(gradient, torch_gradient(peer, x)[1], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("shape", [(), (4,), (3, 4), (2, 1, 3)])
def test_binary_gradient_is_the_derivative(reduction: str, shape: tuple[int, ...]) -> None:
    x, z = np.asarray(normal(*shape)), np.random.default_rng(3).uniform(0, 1, shape)
    options: dict[str, Any] = {"weight": positive(*shape), "pos_weight": 1.7}
    options["reduction"] = reduction
    _, gradient = binary_cross_entropy_with_logits_with_grad(x, z, **options)
    expected = differences(lambda v: binary_cross_entropy_with_logits(v, z, **options), x)
    np.testing.assert_allclose(gradient, expected, rtol=1e-7, atol=1e-8)


def test_binary_cross_entropy_of_any_logit() -> None:
    x = np.array([INF, -INF, 1e300, -1e300, 40.0, -40.0])
    ones = binary_cross_entropy_with_logits(x, np.ones(6), reduction="none")
    np.testing.assert_allclose(ones, [0, INF, 0, 1e300, np.exp(-40), 40], rtol=1e-15)
    zeros = binary_cross_entropy_with_logits(-x, np.zeros(6, bool), reduction="none")
    np.testing.assert_array_equal(zeros, ones)
    _, gradient = binary_cross_entropy_with_logits_with_grad(x, np.ones(6), reduction="sum")
    np.testing.assert_allclose(gradient, [0, -1, 0, -1, -np.exp(-40), -1], rtol=1e-15)
    assert np.isnan(binary_cross_entropy_with_logits([NAN, 1.0], [1, 1]))


@given(st.floats(-800, 800), st.floats(0, 1))
def test_binary_cross_entropy_is_symmetric(x: float, z: float) -> None:
    one = binary_cross_entropy_with_logits(x, z, reduction="sum")
    other = binary_cross_entropy_with_logits(-x, 1 - z, reduction="sum")
    np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)
    assert one >= 0


def test_binary_cross_entropy_of_nothing() -> None:
    x = np.zeros((0, 3), np.float32)
    assert np.isnan(binary_cross_entropy_with_logits(x, x))
    assert binary_cross_entropy_with_logits(x, x, reduction="sum") == 0
    assert binary_cross_entropy_with_logits_with_grad(x, x)[1].shape == (0, 3)
