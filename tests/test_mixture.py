"""Mixtures of softmaxes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import boltzmax

pytestmark = pytest.mark.usefixtures("strict")

Array = np.ndarray[Any, Any]
EPS = {"float32": 2.0**-23, "float64": 2.0**-52, "float16": 2.0**-10, "bfloat16": 2.0**-7}


@np.errstate(under="ignore")
def exact(z: Array, a: Array) -> Array:
    """Log-probabilities in long double, from finite logits."""
    z, a = z.astype(np.longdouble), a.astype(np.longdouble)

    def log_softmax(x: Array) -> Array:
        shifted = x - x.max(axis=-1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))

    terms = log_softmax(z) + log_softmax(a)[..., np.newaxis]
    largest = terms.max(axis=-2, keepdims=True)
    return np.log(np.exp(terms - largest).sum(axis=-2)) + largest[..., 0, :]


@np.errstate(under="ignore")
def sample(shape: tuple[int, ...], dtype: Any, scale: float = 1.0) -> tuple[Array, Array]:
    rng = np.random.default_rng(shape[-1])
    return (rng.normal(size=shape) * scale).astype(dtype), rng.normal(size=shape[:-1]).astype(dtype)


@pytest.mark.parametrize("scale", [1.0, 10.0, 300.0, 5000.0])
def test_values(isa: str, dtype: np.dtype[Any], scale: float) -> None:
    for m, k in ((1, 1), (2, 3), (3, 17), (8, 64), (5, 100), (2, 1000)):
        z, a = sample((4, m, k), dtype, scale)
        got, want = boltzmax.mixture_log_softmax(z, a), exact(z, a)
        assert got.dtype == dtype
        size = np.maximum(np.abs(want), np.abs(z).max() if dtype == np.float64 else 1)
        error = np.abs(got.astype(np.longdouble) - want) / np.maximum(size, 1)
        assert error.max() <= 2 * EPS[dtype.name]


def test_logits_far_from_zero(isa: str) -> None:
    z, a = sample((3, 4, 50), np.float32)
    got = boltzmax.mixture_log_softmax(z + np.float32(2.0**20), a)
    want = exact(z + np.float32(2.0**20), a)
    assert np.abs(got - want).max() <= 1e-6


def test_long_rows(isa: str) -> None:
    z, a = sample((2, 3, 140_000), np.float32)
    got = boltzmax.mixture_log_softmax(z, a)
    assert np.abs(got - exact(z, a)).max() <= 4e-6


def test_one_component_is_log_softmax(isa: str, dtype: np.dtype[Any]) -> None:
    z, a = sample((6, 1, 90), dtype)
    want = boltzmax.log_softmax(z[:, 0].astype(np.longdouble))
    got = boltzmax.mixture_log_softmax(z, a)
    assert np.abs(got - want).max() <= 2 * EPS[dtype.name] * np.abs(want).max()


def test_components_of_weight_0_do_not_count(isa: str, dtype: np.dtype[Any]) -> None:
    z, a = sample((3, 4, 30), dtype)
    a[:, 1] = -np.inf
    others = [0, 2, 3]
    want = boltzmax.mixture_log_softmax(z[:, others], a[:, others])
    for value in (0.0, -np.inf, np.inf, np.nan):
        z[:, 1] = value
        assert (boltzmax.mixture_log_softmax(z, a) == want).all()


def test_special_values(isa: str, dtype: np.dtype[Any]) -> None:
    z, a = sample((4, 2, 20), dtype)
    z[0, :, 3] = -np.inf
    z[1, 0, 5] = np.nan
    z[2, 1, 5] = np.inf
    a[3] = -np.inf
    y = boltzmax.mixture_log_softmax(z, a).astype(float)
    assert y[0, 3] == -np.inf
    assert np.isfinite(np.delete(y[0], 3)).all()
    assert np.isnan(y[1:]).all()


def test_bits_do_not_depend_on_the_batch_or_on_threads(
    isa: str, threads: Callable[[int], None]
) -> None:
    z, a = sample((40, 5, 1000), np.float32)
    threads(1)
    want = boltzmax.mixture_log_softmax(z, a)
    threads(4)
    assert (boltzmax.mixture_log_softmax(z, a) == want).all()
    assert (boltzmax.mixture_log_softmax(z[7:9], a[7:9]) == want[7:9]).all()


def test_shapes_layouts_and_results(isa: str) -> None:
    z, a = sample((2, 3, 4, 5), np.float32)
    want = boltzmax.mixture_log_softmax(z, a)
    assert want.shape == (2, 3, 5)
    assert (boltzmax.mixture_log_softmax(np.asfortranarray(z), a) == want).all()
    out = np.empty_like(want)
    assert boltzmax.mixture_log_softmax(z, a, out=out) is out
    assert (out == want).all()
    double = boltzmax.mixture_log_softmax(z.astype(np.float64), a)
    assert (boltzmax.mixture_log_softmax(z, a, dtype=np.float64) == double).all()
    assert boltzmax.mixture_log_softmax(z.astype(np.longdouble), a).dtype == np.longdouble
    assert boltzmax.mixture_log_softmax(z[0, 0], a[0, 0]).shape == (5,)
    assert boltzmax.mixture_log_softmax(z[:0], a[:0]).shape == (0, 3, 5)
    assert boltzmax.mixture_log_softmax(z[..., :0], a).shape == (2, 3, 0)


def test_gradients_are_the_derivatives(isa: str) -> None:
    rng = np.random.default_rng(0)
    z, a, dy = rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 3)), rng.normal(size=(2, 5))
    dz, da = boltzmax.mixture_log_softmax_backward(dy, z, a)
    step = 1e-6

    def loss(z: Array, a: Array) -> float:
        return float((boltzmax.mixture_log_softmax(z, a) * dy).sum())

    for index in np.ndindex(z.shape):
        bump = np.zeros_like(z)
        bump[index] = step
        difference = (loss(z + bump, a) - loss(z - bump, a)) / (2 * step)
        assert dz[index] == pytest.approx(difference, abs=1e-8)
    for index in np.ndindex(a.shape):
        shift = np.zeros_like(a)
        shift[index] = step
        difference = (loss(z, a + shift) - loss(z, a - shift)) / (2 * step)
        assert da[index] == pytest.approx(difference, abs=1e-8)


def test_gradients_of_masked_classes_and_components(dtype: np.dtype[Any]) -> None:
    z, a = sample((2, 3, 6), dtype)
    z[0, :, 2] = -np.inf
    a[1, 0] = -np.inf
    dz, da = boltzmax.mixture_log_softmax_backward(np.ones((2, 6), dtype), z, a)
    assert dz.dtype == da.dtype == dtype
    assert (dz[0, :, 2] == 0).all()
    assert (dz[1, 0] == 0).all()
    assert da[1, 0] == 0
    assert np.isfinite(dz.astype(float)).all()


def test_torch_agrees() -> None:
    torch = pytest.importorskip("torch")
    z, a = sample((3, 4, 20), np.float64)
    dy = np.random.default_rng(1).normal(size=(3, 20))
    tz, ta = (torch.from_numpy(t).requires_grad_() for t in (z, a))
    y = torch.logsumexp(torch.log_softmax(tz, -1) + torch.log_softmax(ta, -1)[..., None], -2)
    y.backward(torch.from_numpy(dy))
    np.testing.assert_allclose(boltzmax.mixture_log_softmax(z, a), y.detach().numpy(), rtol=1e-13)
    dz, da = boltzmax.mixture_log_softmax_backward(dy, z, a)
    np.testing.assert_allclose(dz, tz.grad.numpy(), rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(da, ta.grad.numpy(), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize(
    ("z", "a", "words"),
    [
        ((3,), (), r"shape \(\.\.\., M, K\)"),
        ((2, 0, 3), (2, 0), "M of at least 1"),
        ((2, 3, 4), (2, 4), r"mixture_logits has shape \(2, 4\), but .* need \(2, 3\)"),
    ],
)
def test_bad_shapes_are_refused(z: tuple[int, ...], a: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        boltzmax.mixture_log_softmax(np.zeros(z), np.zeros(a))
    with pytest.raises(ValueError, match=words):
        boltzmax.mixture_log_softmax_backward(np.zeros(4), np.zeros(z), np.zeros(a))


def test_bad_arrays_are_refused() -> None:
    z, a = np.zeros((2, 3, 4)), np.zeros((2, 3))
    with pytest.raises(ValueError, match="dy has shape"):
        boltzmax.mixture_log_softmax_backward(np.zeros((2, 3)), z, a)
    with pytest.raises(ValueError, match="out has shape"):
        boltzmax.mixture_log_softmax(z, a, out=np.zeros((2, 3)))
    with pytest.raises(TypeError, match="mixture_logits must be real"):
        boltzmax.mixture_log_softmax(z, a + 1j)
