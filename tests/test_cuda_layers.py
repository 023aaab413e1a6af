"""Losses of layers and statistics of rows in boltzmax.cuda."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import boltzmax
import boltzmax.cuda as cuda
import boltzmax.cuda.losses
import ulp
from device import (
    Array,
    OnDevice,
    comparisons,
    dtype_of,
    needs_device,
    needs_emulation,
    numbers,
)

# ---- linear layers


def tolerance(dtype: np.dtype[Any]) -> dict[str, float]:
    eps = ulp.format_of(dtype).eps
    return {"rtol": 16 * eps, "atol": 32 * eps}  # of sums of a few terms


@needs_device
@pytest.mark.parametrize("tile", [2**24, 70])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("name", ulp.DTYPES)
def test_linear_cross_entropy(
    name: str, with_bias: bool, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one tile, and in tiles of many rows and few classes."""
    monkeypatch.setattr(boltzmax.cuda.losses, "TILE", tile)
    dtype = dtype_of(name)
    hidden, weight = numbers((7, 6), dtype), numbers((25, 6), dtype, 1) / dtype.type(6)
    bias = numbers((25,), dtype, 2) if with_bias else None
    target = np.array([0, 24, -1, 5, 23, 2, 2])
    wide = [None if a is None else a.astype(np.float64) for a in (hidden, weight, bias)]
    for reduction in ("mean", "sum"):
        options: dict[str, Any] = {"temperature": 1.3, "reduction": reduction}
        got = cuda.linear_cross_entropy_with_grad(hidden, weight, target, bias, **options)
        counted = target >= 0
        loss, d_hidden, d_weight, d_bias = boltzmax.linear_cross_entropy_with_grad(
            wide[0][counted], wide[1], target[counted], wide[2], **options
        )
        of_all = np.zeros(hidden.shape)
        of_all[counted] = d_hidden
        computed = np.float64 if name == "float64" else np.float32
        for mine, expected in zip(got, (loss, of_all, d_weight, d_bias), strict=True):
            if expected is None:
                assert mine is None
                continue
            assert mine.dtype == computed
            np.testing.assert_allclose(mine, expected, **tolerance(dtype))
        np.testing.assert_array_equal(
            cuda.linear_cross_entropy(hidden, weight, target, bias, **options), got[0]
        )
    each = cuda.linear_cross_entropy(hidden, weight, target, bias, reduction="none")
    assert each.shape == target.shape
    assert (each[target < 0] == 0).all()


@needs_device
def test_linear_cross_entropy_on_the_device() -> None:
    hidden, weight = numbers((2, 3, 4), np.float32), numbers((9, 4), np.float32, 1)
    target = np.array([[0, 1, 2], [8, 9, 4]])  # 9 is not a class
    each = cuda.linear_cross_entropy(
        OnDevice(hidden), OnDevice(weight), OnDevice(target), reduction="none"
    ).to_numpy()
    assert np.isnan(each[1, 1])
    logits = hidden @ weight.T
    expected = boltzmax.cross_entropy(logits[0], target[0], reduction="none")
    np.testing.assert_allclose(each[0], expected, rtol=1e-6)
    _, d_hidden, d_weight, d_bias = cuda.linear_cross_entropy_with_grad(
        OnDevice(hidden), OnDevice(weight), OnDevice(target)
    )
    assert np.isnan(d_hidden.to_numpy()[1, 1]).all()
    assert np.isfinite(d_hidden.to_numpy()[0]).all()
    assert np.isnan(d_weight.to_numpy()).all()
    assert d_bias is None


@needs_device
def test_linear_cross_entropy_of_no_rows() -> None:
    hidden, weight, target = np.zeros((0, 3)), np.ones((5, 3)), np.zeros(0, np.int64)
    bias = np.ones(5)
    loss, d_hidden, d_weight, d_bias = cuda.linear_cross_entropy_with_grad(
        hidden, weight, target, bias
    )
    assert np.isnan(loss)
    assert d_hidden.shape == (0, 3)
    assert (d_weight == 0).all()
    assert (d_bias == 0).all()
    assert cuda.linear_cross_entropy(hidden, weight, target, reduction="sum") == 0
    assert cuda.linear_cross_entropy(hidden, weight, target, reduction="none").shape == (0,)


@needs_device
@pytest.mark.parametrize("name", ["float32", "float16"])
def test_large_scores_of_a_linear_layer(name: str) -> None:
    """Losses from 0 to hundreds, and slopes that half precision would lose."""
    hidden = np.eye(3, 4, dtype=name) * 20
    weight = np.concatenate([np.eye(4, dtype=name) * 20, np.zeros((2000, 4), name)])
    loss, d_hidden, d_weight, _ = cuda.linear_cross_entropy_with_grad(
        hidden, weight, np.array([0, 2, 1]), reduction="sum"
    )
    expected = boltzmax.linear_cross_entropy_with_grad(
        hidden.astype(np.float64), weight.astype(np.float64), [0, 2, 1], reduction="sum"
    )
    np.testing.assert_allclose(loss, expected[0], rtol=1e-6)
    np.testing.assert_allclose(d_hidden, expected[1], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(d_weight, expected[2], rtol=1e-3, atol=1e-6)
    flat = np.zeros((1, 4), name)
    _, _, _, d_bias = cuda.linear_cross_entropy_with_grad(
        flat, np.zeros((60_000, 4), name), np.array([0]), np.zeros(60_000, name)
    )
    np.testing.assert_allclose(d_bias[1:], 1 / 60_000, rtol=2e-3)


@needs_device
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_ignored_rows_of_linear_layers(reduction: str) -> None:
    """Their gradient is 0 and they affect no other, whatever they contain."""
    hidden, weight = numbers((3, 4), np.float64), numbers((5, 4), np.float64, 1)
    target = np.array([2, -1, 4])
    hidden[1], weight[0, 1] = np.nan, -np.inf
    hidden[[0, 2], 1] = 1
    for labels in (target, np.full(3, -1)):
        _, d_hidden, d_weight, d_bias = cuda.linear_cross_entropy_with_grad(
            hidden, weight, labels, np.zeros(5), reduction=reduction
        )
        expected = boltzmax.linear_cross_entropy_with_grad(
            hidden, weight, labels, np.zeros(5), ignore_index=-1, reduction=reduction
        )
        if (labels < 0).all():
            expected = (None, np.zeros((3, 4)), np.zeros((5, 4)), np.zeros(5))
        assert (d_hidden[1] == 0).all()
        np.testing.assert_allclose(d_hidden, expected[1], atol=1e-12)
        np.testing.assert_allclose(d_weight, expected[2], atol=1e-12)
        np.testing.assert_allclose(d_bias, expected[3], atol=1e-12)


@needs_device
def test_linear_layer_errors() -> None:
    hidden, weight, target = np.zeros((2, 3)), np.zeros((5, 3)), np.zeros(2, np.int64)
    call = cuda.linear_cross_entropy
    with pytest.raises(ValueError, match=r"weight \(V, D\) with V > 0, got \(2, 3\) and \(5, 2\)"):
        call(hidden, weight[:, :2], target)
    with pytest.raises(ValueError, match=r"V > 0, got \(2, 3\) and \(0, 3\)"):
        call(hidden, weight[:0], target)
    with pytest.raises(ValueError, match=r"bias must have one number per class, \(5,\), got"):
        call(hidden, weight, target, np.zeros(4))
    with pytest.raises(TypeError, match="bias and hidden must have one dtype, got float32"):
        call(hidden, weight, target, np.zeros(5, np.float32))
    with pytest.raises(ValueError, match=r"one class for each row, shape \(2,\)"):
        call(hidden, weight, target[:1])
    with pytest.raises(ValueError, match="hidden must have features"):
        call(np.zeros((2, 0)), np.zeros((5, 0)), target)
    with pytest.raises(ValueError, match="temperature"):
        call(hidden, weight, target, temperature=0)
    with pytest.raises(ValueError, match="reduction"):
        cuda.linear_cross_entropy_with_grad(hidden, weight, target, reduction="none")
    with pytest.raises(ValueError, match="weight must be contiguous"):
        call(OnDevice(hidden), OnDevice(np.zeros((5, 6))[:, ::2]), OnDevice(target))
    with pytest.raises(TypeError, match="weight and hidden must both be"):
        call(hidden, OnDevice(weight), target)


# ---- statistics


def compare(got: boltzmax.RowStats, expected: boltzmax.RowStats, rtol: float) -> None:
    for name in ("top_ids", "target_rank"):
        assert (getattr(got, name) is None) == (getattr(expected, name) is None)
        if getattr(got, name) is not None:
            np.testing.assert_array_equal(getattr(got, name), getattr(expected, name), err_msg=name)
    for name in ("lse", "energy", "entropy", "top_log_probs", "target_log_prob"):
        mine, other = getattr(got, name), getattr(expected, name)
        if other is None:
            assert mine is None
            continue
        assert mine.dtype == other.dtype
        np.testing.assert_allclose(mine, other, rtol=rtol, atol=rtol, err_msg=name)


@needs_device
@pytest.mark.parametrize("n", [1, 2, 7, 256, 257, 5000])
@pytest.mark.parametrize("name", ulp.DTYPES)
def test_row_stats(name: str, n: int) -> None:
    dtype = dtype_of(name)
    logits = numbers((3, 2, n), dtype)
    logits[0, 0, : n // 2] = logits[0, 0, 0]  # ties
    target = np.random.default_rng(n).integers(n, size=(3, 2))
    for k, temperature in ((5, 1.0), (0, 0.3), (min(n, 12), 2.0)):
        got = cuda.row_stats(logits, target, k, temperature=temperature)
        expected = boltzmax.row_stats(logits, target, k, temperature=temperature)
        compare(got, expected, 1e-14 if name == "float64" else 1e-6)


@needs_device
def test_row_stats_of_special_rows() -> None:
    inf, nan = np.inf, np.nan
    logits = np.array(
        [
            [1, -inf, 3, -inf],
            [-inf, -inf, -inf, -inf],
            [1, nan, 3, 2],
            [1, inf, 3, inf],
            [0, 60, 0, 0],
            [-1e30, 1e30, 0, 0],
        ],
        np.float32,
    )
    target = np.array([0, 1, 2, 3, 0, 1])
    compare(cuda.row_stats(logits, target, 4), boltzmax.row_stats(logits, target, 4), 1e-6)
    odd = cuda.row_stats(logits, np.array([4, -1, 0, 0, 0, 0]), 0, entropy=False)
    assert odd.top_ids is None
    assert odd.entropy is None
    np.testing.assert_array_equal(odd.target_rank[:2], [0, 0])
    assert np.isnan(odd.target_log_prob[:2]).all()


@needs_device
@pytest.mark.parametrize("n", [17, 256, 300, 2049])
@pytest.mark.parametrize("name", ulp.DTYPES)
def test_row_stats_with_many_ranks(name: str, n: int) -> None:
    """Up to 16 ranks are found one after the other, more are selected and sorted: same bits."""
    dtype = dtype_of(name)
    logits = numbers((4, n), dtype)
    logits[1] = np.round(logits[1].astype(float))  # many ties
    logits[2] = np.where(np.arange(n) % 3 == 0, -0.0, 0.0)
    logits[3, n // 2 :] = -np.inf
    few = cuda.row_stats(logits, k=16)
    for k in sorted({17, n // 2 + 9, n - 1, n}):
        got = cuda.row_stats(logits, k=k)
        compare(got, boltzmax.row_stats(logits, k=k), 1e-14 if name == "float64" else 1e-6)
        np.testing.assert_array_equal(got.top_ids[:, :16], few.top_ids)
        np.testing.assert_array_equal(got.top_log_probs[:, :16], few.top_log_probs)
        for statistic in ("lse", "energy", "entropy"):
            np.testing.assert_array_equal(getattr(got, statistic), getattr(few, statistic))


@needs_device
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_row_stats_of_special_rows_with_many_ranks(dtype: str) -> None:
    logits = numbers((4, 400), dtype)
    logits[0, 7] = logits[0, 300] = np.nan
    logits[1, [5, 399]] = np.inf
    logits[2] = -np.inf
    logits[3] = np.nan
    for k in (60, 399, 400):
        compare(cuda.row_stats(logits, k=k), boltzmax.row_stats(logits, k=k), 1e-6)


@needs_device
def test_row_stats_of_strides_with_many_ranks() -> None:
    x = numbers((40, 3, 30), np.float32).transpose(1, 2, 0)[:, ::2]
    got, expected = cuda.row_stats(OnDevice(x), k=33), boltzmax.row_stats(x, k=33)
    np.testing.assert_array_equal(got.top_ids.to_numpy(), expected.top_ids)


@needs_emulation
def test_comparisons_of_row_stats() -> None:
    """All ranks of a long row take about n log2(n)^2 / 4 comparisons; n folds would take 2000 n."""
    n = 100_000
    logits = np.sort(numbers((1, n), np.float32), axis=1)
    order = np.argsort(-logits[0], kind="stable")
    steps = math.ceil(math.log2(n))
    for k in (n // 2, n - 1, n):
        found: list[Array] = []
        made = comparisons(lambda k=k, to=found: to.append(cuda.row_stats(logits, k=k).top_ids))
        np.testing.assert_array_equal(found[0][0], order[:k])
        assert 0 < made <= n * steps * (steps + 1) / 4 + 10 * n


@needs_device
def test_row_stats_of_strides() -> None:
    base: Array = numbers((6, 40, 4), np.float32)
    x = base.transpose(0, 2, 1)[::2, :, ::3]
    got, expected = cuda.row_stats(OnDevice(x), k=3), boltzmax.row_stats(x, k=3)
    np.testing.assert_array_equal(got.top_ids.to_numpy(), expected.top_ids)
    np.testing.assert_allclose(got.entropy.to_numpy(), expected.entropy, rtol=1e-5)
    assert got.target_rank is None
    with pytest.raises(ValueError, match="classes on the last axis"):
        cuda.row_stats(np.zeros((3, 0)))
    with pytest.raises(ValueError, match="k must be at least 0"):
        cuda.row_stats(np.zeros((3, 2)), k=-1)
    assert cuda.row_stats(np.zeros((0, 2))).lse.shape == (0,)
