"""Losses of log-probabilities, against PyTorch and central differences; arguments of all losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltzmax.losses.binary import (
    binary_cross_entropy_with_logits,
    binary_cross_entropy_with_logits_with_grad,
)
from boltzmax.losses.divergence import kl_divergence, kl_divergence_with_grad
from boltzmax.losses.nll import nll_loss, nll_loss_with_grad
from loss_samples import classes, differences, log_probs, normal, positive, torch_gradient

Array = npt.NDArray[Any]
INF, NAN = np.inf, np.nan
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", ">i4")
WITH_GRAD: tuple[Callable[..., Any], ...] = (
    nll_loss_with_grad,
    kl_divergence_with_grad,
    binary_cross_entropy_with_logits_with_grad,
)


# ---- nll_loss


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignore_index", [-100, 2])
def test_nll_loss_matches_torch(reduction: str, weighted: bool, ignore_index: int) -> None:
    torch = pytest.importorskip("torch")
    x, target = log_probs(4, 3, 5), classes(5, 4, 3)
    target[1, 2] = ignore_index
    weight = positive(5) if weighted else None
    options: dict[str, Any] = {"ignore_index": ignore_index, "reduction": reduction}
    peer = torch.nn.functional.nll_loss(
        torch.tensor(np.moveaxis(x, -1, 1)),
        torch.tensor(target),
        weight=torch.tensor(weight) if weighted else None,
        **options,
    )
    ours = nll_loss(x, target, weight=weight, **options)
    np.testing.assert_allclose(ours, peer.numpy(), rtol=1e-13)
    assert np.shape(ours) == peer.shape


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_nll_gradient_matches_torch(reduction: str) -> None:
    torch = pytest.importorskip("torch")
    x, target, weight = log_probs(6, 4), classes(4, 6), positive(4)
    target[2] = -100
    peer = torch_gradient(
        lambda t: torch.nn.functional.nll_loss(
            t, torch.tensor(target), weight=torch.tensor(weight), reduction=reduction
        ),
        x,
    )
    ours = nll_loss_with_grad(x, target, weight=weight, reduction=reduction)
    np.testing.assert_allclose(ours[0], peer[0], rtol=1e-13)
    np.testing.assert_allclose(ours[1], peer[1], rtol=1e-13)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5), (3, 1)])
def test_nll_gradient_is_the_derivative(reduction: str, shape: tuple[int, ...]) -> None:
    x, target = log_probs(*shape), classes(shape[-1], *shape[:-1])
    options: dict[str, Any] = {"weight": positive(shape[-1]), "reduction": reduction}
    options["sample_weight"] = positive(*shape[:-1], seed=5)
    loss, gradient = nll_loss_with_grad(x, target, **options)
    assert loss == nll_loss(x, target, **options)
    expected = differences(lambda v: nll_loss(v, target, **options), x)
    np.testing.assert_allclose(gradient, expected, atol=1e-9)


def test_sample_weights_multiply() -> None:
    x, target = log_probs(6, 3), classes(3, 6)
    weight, each = positive(3), positive(6, seed=9)
    w = weight[target] * each
    losses = -w * x[np.arange(6), target]
    options: dict[str, Any] = {"weight": weight, "sample_weight": each}
    np.testing.assert_allclose(nll_loss(x, target, reduction="none", **options), losses)
    np.testing.assert_allclose(nll_loss(x, target, reduction="sum", **options), losses.sum())
    np.testing.assert_allclose(nll_loss(x, target, **options), losses.sum() / w.sum())


@pytest.mark.parametrize("shape", [(), (1,), (3,), (4, 1), (4, 3)])
def test_sample_weights_are_broadcast(shape: tuple[int, ...]) -> None:
    x, target, weight = log_probs(4, 3, 5), classes(5, 4, 3), positive(*shape)
    full = np.broadcast_to(weight, (4, 3)).copy()
    ours = nll_loss_with_grad(x, target, sample_weight=weight)
    expected = nll_loss_with_grad(x, target, sample_weight=full)
    assert ours[0] == expected[0]
    np.testing.assert_array_equal(ours[1], expected[1])
    assert nll_loss(x, target, sample_weight=2) == nll_loss(x, target)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 2**32 - 1))
def test_integer_weights_are_repetitions(times: list[int], seed: int) -> None:
    x, target = log_probs(len(times), 4, seed=seed), classes(4, len(times), seed=seed)
    rows = np.repeat(np.arange(len(times)), times)
    repeated = nll_loss(x[rows], target[rows])
    weighted = nll_loss(x, target, sample_weight=times)
    np.testing.assert_allclose(weighted, repeated, rtol=1e-12)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_targets_of_every_integer_dtype(dtype: str) -> None:
    x, target = log_probs(6, 4), classes(4, 6)
    assert nll_loss(x, target.astype(dtype)) == nll_loss(x, target)
    ignored = nll_loss(x, target.astype(dtype), ignore_index=3)
    assert ignored == nll_loss(x[target != 3], target[target != 3])
    wide = log_probs(2, 1000)
    assert nll_loss(wide, np.array([100, 7], dtype)) == nll_loss(wide, [100, 7])
    with pytest.raises(IndexError, match="target 4 at position 1 is out of range for 4 classes"):
        nll_loss(x[:3], np.array([0, 4, 5], dtype))


def test_targets_out_of_range() -> None:
    x = np.zeros((2, 3, 4))
    with pytest.raises(IndexError, match=r"target -1 at position \(1, 0\)"):
        nll_loss(x, [[0, 1, 2], [-1, 3, 9]])
    with pytest.raises(IndexError, match=f"target {2**63 + 5} at position 0"):
        nll_loss(x[0, :1], np.array([2**63 + 5], np.uint64))
    with pytest.raises(IndexError, match="target 4 is out of range"):
        nll_loss(x[0, 0], 4)
    with pytest.raises(IndexError, match="for 0 classes"):
        nll_loss(np.zeros((1, 0)), [0])


def test_no_counted_rows() -> None:
    x, ignored = log_probs(2, 3), [-100, -100]
    assert np.isnan(nll_loss(x, ignored))
    assert nll_loss(x, ignored, reduction="sum") == 0
    np.testing.assert_array_equal(nll_loss(x, ignored, reduction="none"), [0, 0])
    np.testing.assert_array_equal(nll_loss_with_grad(x, ignored)[1], np.zeros((2, 3)))
    loss, gradient = nll_loss_with_grad(np.zeros((2, 0)), ignored, reduction="sum")
    assert loss == 0
    assert gradient.shape == (2, 0)


def test_no_rows() -> None:
    x = np.zeros((0, 3), np.float32)
    assert np.isnan(nll_loss(x, []))
    assert nll_loss(x, np.zeros(0, int), reduction="sum") == 0
    assert nll_loss(x, [], reduction="none").shape == (0,)
    assert nll_loss_with_grad(x, [])[1].shape == (0, 3)


def test_ignored_and_weightless_rows_may_be_infinite() -> None:
    x = np.array([[-INF, 0.0], [NAN, 1.0], [-1.0, -2.0]])
    assert nll_loss(x, [-100, -100, 0]) == 1
    assert nll_loss(x[[0, 2]], [0, 0], sample_weight=[0, 1]) == 1
    assert nll_loss(x, [0, -100, 1]) == INF
    assert np.isnan(nll_loss(x, [1, 0, 1], sample_weight=[0, 0, 1]))


# ---- kl_divergence


@pytest.mark.parametrize("reduction", ["batchmean", "mean", "sum", "none"])
@pytest.mark.parametrize("log_target", [False, True])
@pytest.mark.filterwarnings("ignore:reduction")
def test_kl_divergence_matches_torch(reduction: str, log_target: bool) -> None:
    torch = pytest.importorskip("torch")
    x, p = log_probs(4, 3, 5), log_probs(4, 3, 5, seed=1)
    if not log_target:
        p = np.exp(p)
        p[0, 0] = [1, 0, 0, 0, 0]
    peer = torch.nn.functional.kl_div(
        torch.tensor(x), torch.tensor(p), reduction=reduction, log_target=log_target
    )
    ours = kl_divergence(x, p, reduction=reduction, log_target=log_target)
    np.testing.assert_allclose(ours, peer.numpy(), rtol=1e-12, atol=1e-15)
    assert np.shape(ours) == peer.shape
    if reduction != "none":
        loss, gradient = kl_divergence_with_grad(x, p, reduction=reduction, log_target=log_target)
        peer_loss, peer_gradient = torch_gradient(
            lambda t: torch.nn.functional.kl_div(
                t, torch.tensor(p), reduction=reduction, log_target=log_target
            ),
            x,
        )
        assert loss == ours
        np.testing.assert_allclose(loss, peer_loss, rtol=1e-12)
        np.testing.assert_allclose(gradient, peer_gradient, rtol=1e-12)


@pytest.mark.parametrize("reduction", ["batchmean", "mean", "sum"])
@pytest.mark.parametrize("log_target", [False, True])
@pytest.mark.parametrize("shape", [(), (4,), (3, 4), (2, 3, 4), (3, 1)])
def test_kl_gradient_is_the_derivative(
    reduction: str, log_target: bool, shape: tuple[int, ...]
) -> None:
    x, p = normal(*shape), normal(*shape, seed=1) if log_target else positive(*shape)
    options: dict[str, Any] = {"reduction": reduction, "log_target": log_target}
    _, gradient = kl_divergence_with_grad(x, p, **options)
    expected = differences(lambda v: kl_divergence(v, p, **options), np.asarray(x))
    np.testing.assert_allclose(gradient, expected, rtol=1e-8, atol=1e-8)


@given(st.integers(1, 8), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_divergence_is_nonnegative_and_zero_for_equal_arguments(
    rows: int, n: int, seed: int
) -> None:
    x, y = log_probs(rows, n, seed=seed), log_probs(rows, n, seed=seed + 1)
    assert kl_divergence(x, np.exp(y)) >= -1e-12
    assert kl_divergence(x, x, log_target=True) == 0
    np.testing.assert_allclose(
        kl_divergence(x, y, log_target=True), kl_divergence(x, np.exp(y)), atol=1e-12
    )


def test_zero_times_the_logarithm_of_zero() -> None:
    x, p = np.array([-INF, 0.0, -INF, NAN]), np.array([0.0, 0.0, 0.5, 0.0])
    np.testing.assert_array_equal(kl_divergence(x, p, reduction="none"), [0, 0, INF, NAN])
    log_p = np.array([-INF, -INF, -1.0, -INF])
    ours = kl_divergence(x, log_p, log_target=True, reduction="none")
    np.testing.assert_array_equal(ours, [0, 0, INF, NAN])


def test_divergence_broadcasts_p() -> None:
    x, p = log_probs(5, 3), np.array([0.5, 0.25, 0.25])
    assert kl_divergence(x, p) == kl_divergence(x, np.tile(p, (5, 1)))
    _, gradient = kl_divergence_with_grad(x, p)
    np.testing.assert_array_equal(gradient, np.tile(-p / 5, (5, 1)))
    assert np.isnan(kl_divergence(x[:0], p))
    assert kl_divergence_with_grad(x[:0], p)[1].shape == (0, 3)


# ---- all


def arguments(function: Callable[..., Any], x: Array) -> tuple[Array, Array]:
    """Valid arguments of the shape and dtype of `x`."""
    if "nll" in function.__name__:
        return x, classes(x.shape[-1], *x.shape[:-1])
    return x, np.random.default_rng(7).uniform(0, 1, x.shape)


@pytest.mark.parametrize("function", WITH_GRAD)
def test_dtypes(function: Callable[..., Any], dtype: np.dtype[Any]) -> None:
    x, target = arguments(function, log_probs(50, 6).astype(dtype))
    loss, gradient = function(x, target)
    exact, exact_gradient = function(x.astype(np.float64), target)
    assert loss.dtype == (dtype if dtype.itemsize >= 4 else np.float32)
    assert isinstance(loss, np.generic)
    assert loss == loss.dtype.type(exact)
    assert gradient.dtype == dtype
    assert gradient.shape == x.shape
    np.testing.assert_array_equal(gradient, exact_gradient.astype(dtype))


@pytest.mark.parametrize("function", WITH_GRAD)
def test_layouts_and_byte_orders(function: Callable[..., Any]) -> None:
    x, target = arguments(function, log_probs(6, 5))
    loss, gradient = function(x, target)
    wide = np.zeros((12, 10))
    wide[::2, ::2] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    for same in (np.asfortranarray(x), wide[::2, ::2], x.astype(">f8"), x.tolist(), read_only):
        again = function(same, target)
        assert again[0] == loss
        np.testing.assert_array_equal(again[1], gradient)
        assert again[1].dtype == np.float64


@pytest.mark.parametrize("function", WITH_GRAD)
def test_out(function: Callable[..., Any]) -> None:
    x, target = arguments(function, log_probs(6, 5))
    loss, gradient = function(x, target)
    strided = np.full((6, 10), 7.0)[:, ::2]
    for out in (np.full_like(x, 7), strided, x.copy()):
        given_x = out if np.array_equal(out, x) else x  # in place, too
        again = function(given_x, target, out=out)
        assert again[0] == loss
        assert again[1] is out or np.shares_memory(again[1], out)
        np.testing.assert_array_equal(out, gradient)
    with pytest.raises(ValueError, match="out has shape"):
        function(x, target, out=np.empty((5, 6)))
    with pytest.raises(TypeError, match="out has dtype"):
        function(x, target, out=np.empty((6, 5), np.float32))


@pytest.mark.parametrize("function", WITH_GRAD)
def test_bad_reductions(function: Callable[..., Any]) -> None:
    x, target = arguments(function, log_probs(6, 5))
    with pytest.raises(ValueError, match="a gradient needs a scalar"):
        function(x, target, reduction="none")
    with pytest.raises(ValueError, match=r"reduction must be one of .*'sum', 'none', got 'max'"):
        function(x, target, reduction="max")


@pytest.mark.parametrize("function", WITH_GRAD)
@pytest.mark.parametrize("dtype", ["complex128", "longdouble", "U3", "O"])
def test_bad_dtypes(function: Callable[..., Any], dtype: str) -> None:
    x, target = arguments(function, np.ones((6, 5)))
    with pytest.raises(TypeError, match="must be float16, float32, float64, bfloat16 or integers"):
        function(x.astype(dtype), target)


@pytest.mark.parametrize("function", WITH_GRAD)
@pytest.mark.parametrize("dtype", ["int8", "uint64", "bool"])
def test_integers_become_float64(function: Callable[..., Any], dtype: str) -> None:
    x, target = arguments(function, np.eye(5, dtype=dtype))
    loss, gradient = function(x.astype(np.float64), target)
    for same in (x, x.tolist()):
        again = function(same, target)
        assert again[0] == loss
        assert again[0].dtype == again[1].dtype == np.float64
        np.testing.assert_array_equal(again[1], gradient)


@pytest.mark.parametrize("function", WITH_GRAD)
def test_masked_arrays(function: Callable[..., Any]) -> None:
    x, target = arguments(function, log_probs(6, 5))
    with pytest.raises(TypeError, match="masked array"):
        function(np.ma.array(x), target)
    with pytest.raises(TypeError, match="masked array"):
        function(x, np.ma.array(target))


def test_bad_shapes() -> None:
    x = np.zeros((4, 3))
    for target in ([0, 1], [[0], [1], [2], [0]], 1):
        with pytest.raises(ValueError, match="target must have one class for each row"):
            nll_loss(x, target)
    with pytest.raises(ValueError, match="classes on the last axis"):
        nll_loss(np.float64(1), 0)
    with pytest.raises(ValueError, match=r"weight must have one number per class, \(3,\), got"):
        nll_loss(x, [0] * 4, weight=[1, 2])
    with pytest.raises(ValueError, match=r"sample_weight of shape \(2,\) does not broadcast to"):
        nll_loss(x, [0] * 4, sample_weight=[1, 2])
    with pytest.raises(ValueError, match=r"p of shape .* does not broadcast to log_q"):
        kl_divergence(x, np.zeros((2, 3)))
    with pytest.raises(ValueError, match="target must have the shape of logits"):
        binary_cross_entropy_with_logits(x, np.zeros(3))
    for name in ("weight", "pos_weight"):
        with pytest.raises(ValueError, match=f"{name} of shape"):
            binary_cross_entropy_with_logits(x, x, **{name: np.ones(4)})  # type: ignore[arg-type]


def test_targets_that_are_not_integers() -> None:
    for target in ([0.0, 1.0], [True, False], ["a", "b"], [0, None]):
        with pytest.raises(TypeError, match="target must be integers of shape"):
            nll_loss(np.zeros((2, 3)), target)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="ignore_index must be an integer"):
        nll_loss(np.zeros((1, 3)), [0], ignore_index=0.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="weight must be real numbers"):
        nll_loss(np.zeros((1, 3)), [0], weight=["a", "b", "c"])
