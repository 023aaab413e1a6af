"""Binary cross-entropy, against PyTorch, central differences and its definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ulp
from boltzmax.losses.binary import (
    binary_cross_entropy_with_logits,
    binary_cross_entropy_with_logits_with_grad,
)
from loss_samples import differences, normal, positive, torch_gradient
from point_oracle import binary_losses, binary_slopes, close_sum, loss_dtype, ulps, wide

Array = npt.NDArray[Any]
INF, NAN = np.inf, np.nan


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weights", [(), ("weight",), ("pos_weight",), ("weight", "pos_weight")])
def test_binary_cross_entropy_matches_torch(reduction: str, weights: tuple[str, ...]) -> None:
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


def test_binary_cross_entropy_of_empty_arrays() -> None:
    x = np.zeros((0, 3), np.float32)
    assert np.isnan(binary_cross_entropy_with_logits(x, x))
    assert binary_cross_entropy_with_logits(x, x, reduction="sum") == 0
    assert binary_cross_entropy_with_logits_with_grad(x, x)[1].shape == (0, 3)


# ---- against the definition


def samples(n: int, dtype: np.dtype[Any], labels: bool) -> dict[str, Array]:
    """Logits of every size, with targets and weights."""
    rng = np.random.default_rng(n)
    x = rng.standard_normal(n) * 10.0 ** rng.uniform(-6, 2, n)
    z = rng.integers(0, 2, n) if labels else rng.uniform(0, 1, n)
    arrays = {"logits": x, "target": z, "weight": rng.uniform(0, 3, n)}
    arrays["pos_weight"] = rng.uniform(0, 3, n)
    return {name: array.astype(dtype) for name, array in arrays.items()}


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_elements(isa: str, dtype: np.dtype[Any], labels: bool, weighted: bool) -> None:
    arrays = samples(5003, dtype, labels)
    if not weighted:
        del arrays["weight"], arrays["pos_weight"]
    losses = binary_cross_entropy_with_logits(**arrays, reduction="none")
    result = loss_dtype(dtype)
    assert losses.dtype == result
    assert ulps(losses, binary_losses(**arrays), result) <= (2.7 if labels and not weighted else 6)

    _, gradient = binary_cross_entropy_with_logits_with_grad(**arrays, reduction="sum")
    assert gradient.dtype == dtype
    exact = binary_slopes(**arrays)
    z, w, v = (wide(arrays.get(name, 1)) for name in ("target", "weight", "pos_weight"))
    unit = np.finfo(result).eps * w * np.maximum(v * z, 1 - z)
    rounding = 0.51 * ulp.ulp(exact, dtype) if dtype.itemsize == 2 else 0
    assert np.all(np.abs(wide(gradient) - exact) <= rounding + 4 * unit + np.finfo(result).tiny)


def test_worst_elements(isa: str) -> None:
    """The bound in pointwise.hpp holds for a sample, and is reached at the worst inputs."""
    inputs = ("0x1.0a9a3p-5", "0x1.2859ep-6", "0x1.c82cep-6", "-0x1.0a111ap+2")
    worst = [float.fromhex(x) for x in inputs]
    least, most = np.array([2.0**-30, 104], np.float32).view(np.int32)
    sample = np.arange(least, most, 9973, dtype=np.int32).view(np.float32)
    x = np.concatenate([sample, -sample, np.array(worst, np.float32)])
    false = np.zeros_like(x)
    losses = binary_cross_entropy_with_logits(x, false, reduction="none")
    slopes = binary_cross_entropy_with_logits_with_grad(x, false, reduction="sum")[1]
    known = 2.6 if isa == "scalar" else 2.24
    assert known - 0.1 <= ulps(losses, binary_losses(x, false), x.dtype) <= known
    assert 2.4 <= ulps(slopes, binary_slopes(x, false), x.dtype) <= 2.41


@pytest.mark.parametrize("n", [1, 2, 9, 17, 100, 2048, 2049, 70_001])
def test_sums_and_means(isa: str, dtype: np.dtype[Any], n: int) -> None:
    arrays = samples(n, dtype, labels=False)
    exact = binary_losses(**arrays)
    close_sum(binary_cross_entropy_with_logits(**arrays, reduction="sum"), exact)
    mean = binary_cross_entropy_with_logits(**arrays)
    close_sum(mean, exact, n)
    loss, gradient = binary_cross_entropy_with_logits_with_grad(**arrays)
    assert loss == mean
    whole = binary_cross_entropy_with_logits_with_grad(**arrays, reduction="sum")[1]
    scale = np.abs(wide(whole)).max() / n
    assert np.abs(wide(gradient) - wide(whole) / n).max() <= 2 * scale * _eps(dtype)


def _eps(dtype: np.dtype[Any]) -> float:
    return ulp.FORMATS[dtype.name].eps


@pytest.mark.parametrize("target", ["bool", "i1", "u2", "i4", "i8", "f2", "f4", "f8", "g"])
@pytest.mark.parametrize("weight", ["u1", "f2", "f4", "f8"])
def test_arrays_of_several_dtypes(isa: str, dtype: np.dtype[Any], target: str, weight: str) -> None:
    """Computed in float64 if one of them is float64, otherwise in float32."""
    arrays = samples(333, dtype, labels=True)
    arrays["target"] = arrays["target"].astype(target)
    arrays["weight"] = (2 * arrays["weight"].astype(float)).round().astype(weight)
    doubles = "f8" in (weight, dtype.str[1:]) or target in ("f8", "g")
    losses = binary_cross_entropy_with_logits(**arrays, reduction="none")
    exact = binary_losses(**arrays)
    assert ulps(losses, exact, loss_dtype(dtype)) <= (0.51 if doubles and dtype != "f8" else 6)
    _, gradient = binary_cross_entropy_with_logits_with_grad(**arrays, reduction="sum")
    slopes = binary_slopes(**arrays)
    close = np.abs(wide(gradient) - slopes) <= 30 * _eps(loss_dtype(dtype)) + 0.6 * ulp.ulp(
        slopes, dtype
    )
    assert close.all()


@pytest.mark.parametrize("shape", [(), (1,), (5,), (3, 1), (4, 3, 5), (4, 1, 1)])
def test_weights_are_broadcast(shape: tuple[int, ...]) -> None:
    x, z = normal(4, 3, 5), np.random.default_rng(3).uniform(0, 1, (4, 3, 5))
    for dtype in ("float32", "float64"):
        weight = np.asarray(positive(*shape), dtype)
        full = np.broadcast_to(weight, x.shape).copy()
        for name in ("weight", "pos_weight"):
            ours, expected = (
                binary_cross_entropy_with_logits_with_grad(x.astype(dtype), z, **{name: w})
                for w in (weight, full)
            )
            assert ours[0] == expected[0]
            np.testing.assert_array_equal(ours[1], expected[1])


def test_special_values(isa: str, dtype: np.dtype[Any]) -> None:
    x = np.array([INF, -INF, NAN, 0.0, -0.0, 2.0, 2.0, INF, -INF] * 5).astype(dtype)
    z = np.array([1, 0, 1, 0.5, 0.5, NAN, 1, 0, 1] * 5).astype(dtype)
    w = np.array([1, 1, 0, 1, 1, 1, INF, 0, 0] * 5).astype(dtype)
    losses = binary_cross_entropy_with_logits(x, z, weight=w, reduction="none")
    exact = binary_losses(x, z, w)
    np.testing.assert_array_equal(np.isfinite(losses), np.isfinite(exact))
    np.testing.assert_allclose(losses, exact.astype(losses.dtype), rtol=1e-6)
    slopes = binary_cross_entropy_with_logits_with_grad(x, z, weight=w, reduction="sum")[1]
    np.testing.assert_allclose(slopes.astype(float), binary_slopes(x, z, w), rtol=1e-2, atol=1e-9)


def test_finite_losses_have_a_finite_mean(isa: str) -> None:
    x = np.full(4096, -3e38, np.float32)
    assert binary_cross_entropy_with_logits(x, np.ones_like(x)) == np.float32(3e38)
    assert binary_cross_entropy_with_logits(x, np.ones_like(x), reduction="sum") == INF
