"""The losses of boltzmax.cuda, on a device or on the emulated one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import boltzmax
import boltzmax.cuda as cuda
from device import OnDevice, needs_device, numbers


@needs_device
@pytest.mark.parametrize("n", [3, 200, 20_000, 60_000])
@pytest.mark.parametrize("name", ["float32", "float64", "float16"])
def test_losses_of_special_values(name: str, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on the CPU; small losses of 16-bit logits keep the digits of float32."""
    if n == 60_000:
        monkeypatch.setenv("BOLTZMAX_EMULATED_CLUSTERS", "0")  # too long for one block
    inf, nan = np.inf, np.nan
    x = numbers((7, n), name)
    x[0], x[1, 0], x[2, 1], x[3, 2], x[4, 0], x[5, 1] = -inf, inf, inf, nan, -inf, -inf
    x[6], x[6, 0] = -78.5, 1
    target = np.zeros(7, np.int64)
    loss = cuda.cross_entropy(x, target, reduction="none")
    expected = boltzmax.cross_entropy(x, target, reduction="none")
    _, gradient = cuda.cross_entropy_with_grad(x, target, reduction="sum")
    _, d_logits = boltzmax.cross_entropy_with_grad(x, target, reduction="sum")
    np.testing.assert_allclose(loss, expected, rtol=8 * np.finfo(expected.dtype).eps)
    eps = np.finfo(name).eps
    np.testing.assert_allclose(gradient, d_logits, rtol=8 * eps, atol=4 * eps)


@needs_device
def test_losses_of_many_rows() -> None:
    """Several blocks sum the losses."""
    logits, target = numbers((16_400, 1), np.float32), np.arange(16_400) % 3 - 1
    logits = np.concatenate([logits, np.zeros_like(logits)], 1)
    loss, gradient = cuda.cross_entropy_with_grad(logits, target)
    expected, d_logits = boltzmax.cross_entropy_with_grad(logits, target, ignore_index=-1)
    np.testing.assert_allclose(loss, expected, rtol=2e-7)
    np.testing.assert_allclose(gradient, d_logits, rtol=1e-5, atol=1e-7 / 16_400)


@needs_device
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("n", [2, 100, 3001, 20_000])
@pytest.mark.parametrize("name", ["float32", "float64", "float16"])
def test_cross_entropy(name: str, n: int, reduction: str) -> None:
    logits = numbers((5, n), name)
    target = np.array([0, 1, -1, n - 1, n // 2], np.int64)
    options: dict[str, Any] = {"reduction": reduction, "temperature": 1.5}
    loss, gradient = cuda.cross_entropy_with_grad(logits, target, **options)
    expected, d_logits = boltzmax.cross_entropy_with_grad(
        logits, target, ignore_index=-1, **options
    )
    eps = np.finfo(name).eps
    loose = {"rtol": 8 * np.finfo("float64" if name == "float64" else "float32").eps}
    np.testing.assert_allclose(loss, expected, **loose)
    np.testing.assert_allclose(gradient, d_logits, rtol=8 * eps, atol=4 * eps)
    assert gradient.dtype == logits.dtype
    np.testing.assert_array_equal(cuda.cross_entropy(logits, target, **options), loss)
    each = cuda.cross_entropy(logits, target, reduction="none", temperature=1.5)
    expected_each = boltzmax.cross_entropy(
        logits, target, reduction="none", temperature=1.5, ignore_index=-1
    )
    np.testing.assert_allclose(each, expected_each, **loose)
    on_device = OnDevice(logits)
    loss, gradient = cuda.cross_entropy_with_grad(
        on_device, OnDevice(target), out=on_device, **options
    )
    assert gradient is on_device
    np.testing.assert_allclose(loss.to_numpy(), expected, **loose)
    np.testing.assert_allclose(on_device.to_numpy(), d_logits, rtol=8 * eps, atol=4 * eps)


@needs_device
def test_cross_entropy_of_invalid_targets() -> None:
    logits = numbers((3, 4), np.float32)
    target = np.array([1, 4, -5])
    loss = cuda.cross_entropy(logits, target, reduction="none")
    assert np.isfinite(loss[0])
    assert np.isnan(loss[1])
    assert loss[2] == 0
    total, gradient = cuda.cross_entropy_with_grad(logits, target, reduction="sum")
    assert np.isnan(total)
    assert np.isfinite(gradient[0]).all()
    assert np.isnan(gradient[1]).all()
    assert (gradient[2] == 0).all()
    assert np.isnan(cuda.cross_entropy(logits, np.full(3, -1)))


@needs_device
@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 40, 3)])
@pytest.mark.parametrize("name", ["float32", "float64", "float16"])
def test_classes_along_any_axis(name: str, shape: tuple[int, ...]) -> None:
    """As on the CPU, for any strides."""
    logits = numbers(shape, name)
    eps = np.finfo(name).eps
    loose = {"rtol": 8 * np.finfo("float64" if name == "float64" else "float32").eps}
    for axis in (0, 1, -1):
        rows = np.delete(shape, axis)
        target = np.random.default_rng(0).integers(-1, shape[axis], rows)
        known = np.where(target < 0, 0, target)
        expected, d_logits = boltzmax.cross_entropy_with_grad(
            logits, target, ignore_index=-1, axis=axis
        )
        each = boltzmax.cross_entropy(logits, target, ignore_index=-1, axis=axis, reduction="none")
        stats = boltzmax.row_stats(logits, known, 2, axis=axis)
        for x in (logits, np.ascontiguousarray(logits.T).T):
            loss, gradient = cuda.cross_entropy_with_grad(x, target, axis=axis)
            np.testing.assert_allclose(loss, expected, **loose)
            np.testing.assert_allclose(gradient, d_logits, rtol=8 * eps, atol=4 * eps)
            found = cuda.cross_entropy(x, target, axis=axis, reduction="none")
            np.testing.assert_allclose(found, each, **loose)
            told = cuda.row_stats(x, known, 2, axis=axis)
            np.testing.assert_array_equal(told.top_ids, stats.top_ids)
            np.testing.assert_array_equal(told.target_rank, stats.target_rank)
            np.testing.assert_allclose(told.lse, stats.lse, atol=1e-6, **loose)
            on_device = OnDevice(x)
            cuda.cross_entropy_with_grad(on_device, OnDevice(target), axis=axis, out=on_device)
            np.testing.assert_allclose(on_device.to_numpy(), d_logits, rtol=8 * eps, atol=4 * eps)


@needs_device
def test_mean_over_no_rows() -> None:
    for logits, target in (
        (np.zeros((2, 3)), np.full(2, -1)),
        (np.zeros((0, 3)), np.zeros(0, int)),
        (np.full((2, 3), np.nan), np.full(2, -1)),
    ):
        assert np.isnan(cuda.cross_entropy(logits, target))
        loss, gradient = cuda.cross_entropy_with_grad(logits, target, empty="zero")
        assert loss == 0.0
        assert not gradient.any()
        assert cuda.cross_entropy(logits, target, reduction="sum") == 0.0
    logits, target = numbers((4, 3), np.float64), np.array([0, -1, 1, 2])
    loss = cuda.cross_entropy(logits, target)
    assert cuda.cross_entropy(logits, target, empty="zero") == loss


@needs_device
def test_errors_of_axis_and_empty() -> None:
    logits, target = np.zeros((2, 3)), np.zeros(2, int)
    for function in (cuda.cross_entropy, cuda.cross_entropy_with_grad, cuda.row_stats):
        with pytest.raises(np.exceptions.AxisError, match="axis 2 is out of bounds"):
            function(logits, target, axis=2)
        with pytest.raises(TypeError, match="axis must be an int, got"):
            function(logits, target, axis=1.0)
        with pytest.raises(ValueError, match=r"classes on axis 0, got shape \(0, 2\)"):
            function(np.zeros((0, 2)), target, axis=0)
        with pytest.raises(ValueError, match=r"one class for each row, shape \(3,\)"):
            function(logits, target, axis=0)
    for loss in (cuda.cross_entropy, cuda.cross_entropy_with_grad):
        with pytest.raises(ValueError, match="empty must be one of 'nan', 'zero', got 0"):
            loss(logits, target, empty=0)
