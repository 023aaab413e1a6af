"""The class axis of losses and row_stats."""

from __future__ import annotations

import dataclasses
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import boltzmax
import loss_samples
from boltzmax.losses.registry import LOSSES

Array = npt.NDArray[Any]

SHAPE = (3, 4, 5)
WITH_AXIS = {name: loss for name, loss in LOSSES.items() if "axis" in loss.parameters}
WITH_GRAD = {name: loss.with_grad for name, loss in WITH_AXIS.items()}
LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "C": np.ascontiguousarray,
    "F": np.asfortranarray,
    "middle": lambda x: np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1),
    "strided": lambda x: np.repeat(x, 2, axis=0)[::2],
    "backwards": lambda x: np.ascontiguousarray(x[..., ::-1])[..., ::-1],
}
AXES = range(-3, 3)


def sample(axis: int, dtype: Any = np.float64) -> tuple[Array, Array, Array]:
    """Logits, targets (some of them ignored), and row weights."""
    logits = loss_samples.normal(*SHAPE).astype(dtype)
    rows = np.delete(SHAPE, axis)
    target = loss_samples.classes(SHAPE[axis], *rows)
    target.flat[::5] = -100
    return logits, target, loss_samples.positive(*rows)


def last(x: Array, axis: int) -> Array:
    """A copy with the classes on the last axis."""
    return np.ascontiguousarray(np.moveaxis(x, axis, -1))


def order(x: Array) -> list[int]:
    """The axes from the slowest to the fastest in memory."""
    return sorted(range(x.ndim), key=lambda d: -abs(x.strides[d]))


# ---- compared with PyTorch ----


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    "options", [{}, {"label_smoothing": 0.1}, {"weight": True}, {"weight": True, "ignore": 2}]
)
def test_cross_entropy_matches_torch(reduction: str, options: dict[str, Any]) -> None:
    """Its class axis is 1, for any number of axes after it."""
    torch = pytest.importorskip("torch")
    for shape in ((3, 4), (3, 4, 5), (2, 4, 3, 2), (4,)):
        axis = min(1, len(shape) - 1)
        logits = loss_samples.normal(*shape)
        target = loss_samples.classes(4, *np.delete(shape, axis))
        weight = loss_samples.positive(4) if "weight" in options else None
        ignore = options.get("ignore", -100)
        smoothing = options.get("label_smoothing", 0.0)
        expected = torch.nn.functional.cross_entropy(
            torch.tensor(logits),
            torch.tensor(target),
            weight=None if weight is None else torch.tensor(weight),
            ignore_index=ignore,
            label_smoothing=smoothing,
            reduction=reduction,
        )
        loss = boltzmax.cross_entropy(
            logits,
            target,
            weight=weight,
            ignore_index=ignore,
            label_smoothing=smoothing,
            reduction=reduction,
            axis=axis,
        )
        np.testing.assert_allclose(loss, expected.numpy(), rtol=1e-12, atol=1e-14)


def test_probability_targets_match_torch() -> None:
    """Soft targets and gradients have the layout of the logits."""
    torch = pytest.importorskip("torch")
    logits = loss_samples.normal(3, 4, 2, 5)
    target, weight = boltzmax.softmax(loss_samples.normal(3, 4, 2, 5), 1), loss_samples.positive(4)
    for smoothing in (0.0, 0.2):
        # PyTorch also divides by the number of rows.
        expected, d_expected = loss_samples.torch_gradient(
            lambda leaf, smoothing=smoothing: torch.nn.functional.cross_entropy(
                leaf, torch.tensor(target), weight=torch.tensor(weight), label_smoothing=smoothing
            ),
            logits,
        )
        loss, d_logits = boltzmax.cross_entropy_with_grad(
            logits, target, weight=weight, label_smoothing=smoothing, axis=1
        )
        assert loss == pytest.approx(expected, rel=1e-13)
        np.testing.assert_allclose(d_logits, d_expected, rtol=1e-11, atol=1e-16)


def test_nll_loss_matches_torch() -> None:
    torch = pytest.importorskip("torch")
    log_prob = boltzmax.log_softmax(loss_samples.normal(3, 4, 5), 1)
    _, target, _ = sample(1)
    weight = loss_samples.positive(4)
    expected, d_expected = loss_samples.torch_gradient(
        lambda leaf: torch.nn.functional.nll_loss(leaf, torch.tensor(target), torch.tensor(weight)),
        log_prob,
    )
    loss, d_log_prob = boltzmax.nll_loss_with_grad(log_prob, target, weight=weight, axis=1)
    assert loss == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(d_log_prob, d_expected, rtol=1e-13)


# ---- compared with the last axis ----


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("name", WITH_AXIS)
def test_losses_match_the_last_axis(name: str, axis: int, dtype: np.dtype[Any]) -> None:
    """The same bits for any layout and options."""
    logits, target, sample_weight = sample(axis, dtype)
    function = LOSSES[name].function
    weight_name = LOSSES[name].class_weight
    weight = {} if weight_name is None else {weight_name: loss_samples.positive(SHAPE[axis])}
    for options in ({}, {"sample_weight": sample_weight}, weight):
        for reduction in ("mean", "sum", "none"):
            expected = function(last(logits, axis), target, reduction=reduction, **options)
            for lay in LAYOUTS.values():
                loss = function(lay(logits), target, reduction=reduction, axis=axis, **options)
                assert np.shape(loss) == np.shape(expected)
                np.testing.assert_array_equal(loss, expected)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("name", WITH_GRAD)
def test_gradients_match_the_last_axis(name: str, axis: int, dtype: np.dtype[Any]) -> None:
    """In the shape and memory order of the logits, into any `out`, even over the logits."""
    logits, target, sample_weight = sample(axis, dtype)
    for options in ({}, {"sample_weight": sample_weight}):
        loss, d_last = WITH_GRAD[name](last(logits, axis), target, **options)
        expected = np.moveaxis(d_last, -1, axis)
        for lay in LAYOUTS.values():
            x = lay(logits)
            found, gradient = WITH_GRAD[name](x, target, axis=axis, **options)
            assert found == loss
            assert order(gradient) == order(x)
            np.testing.assert_array_equal(gradient, expected)
            for other in LAYOUTS.values():
                out = other(np.zeros_like(logits))
                assert WITH_GRAD[name](x, target, axis=axis, out=out, **options)[1] is out
                np.testing.assert_array_equal(out, expected)
            x = lay(logits.copy())
            WITH_GRAD[name](x, target, axis=axis, out=x, **options)
            np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize("axis", AXES)
def test_probabilities_along_any_axis(axis: int, dtype: np.dtype[Any]) -> None:
    logits = loss_samples.normal(*SHAPE).astype(dtype)
    target = boltzmax.softmax(loss_samples.normal(*SHAPE, seed=1), axis)
    options: dict[str, Any]
    for options in ({}, {"softcap": 3.0, "label_smoothing": 0.1}):
        loss, d_last = boltzmax.cross_entropy_with_grad(
            last(logits, axis), last(target, axis), **options
        )
        for lay in LAYOUTS.values():
            found, gradient = boltzmax.cross_entropy_with_grad(
                lay(logits), lay(target), axis=axis, **options
            )
            assert found == loss
            np.testing.assert_array_equal(gradient, np.moveaxis(d_last, -1, axis))


@pytest.mark.parametrize("axis", AXES)
def test_row_stats_along_any_axis(axis: int, dtype: np.dtype[Any]) -> None:
    """The k largest are on the last axis, for any class axis."""
    logits, target, _ = sample(axis, dtype)
    target = np.where(target < 0, 0, target)
    expected = boltzmax.row_stats(last(logits, axis), target, 2)
    for lay in LAYOUTS.values():
        stats = boltzmax.row_stats(lay(logits), target, 2, axis=axis)
        for field in dataclasses.fields(stats):
            np.testing.assert_array_equal(
                getattr(stats, field.name), getattr(expected, field.name), err_msg=field.name
            )
        assert stats.top_ids is not None
        assert stats.top_ids.shape == (*target.shape, 2)
        np.testing.assert_array_equal(stats.argmax, logits.argmax(axis))


@pytest.mark.parametrize(
    "function",
    [boltzmax.kl_divergence_with_grad, boltzmax.binary_cross_entropy_with_logits_with_grad],
)
def test_elements_keep_their_order(function: Callable[..., Any]) -> None:
    """Elementwise losses have no axis; their gradients keep the memory order of the scores."""
    x, p = loss_samples.log_probs(*SHAPE), loss_samples.positive(*SHAPE) / 2
    _, expected = function(x, p)
    for lay in LAYOUTS.values():
        for target in (p, p.astype(np.longdouble)):  # on both paths
            _, gradient = function(lay(x), target)
            assert order(gradient) == order(lay(x))
            np.testing.assert_array_equal(gradient, expected)


def test_out_that_overlaps() -> None:
    """`out` is written after everything has been read."""
    target = np.zeros((4, 5), int)
    for name, function in WITH_GRAD.items():
        memory = loss_samples.normal(3 * 4 * 5 + 1)
        logits, out = memory[:-1].reshape(3, 4, 5), memory[1:].reshape(3, 4, 5)
        _, expected = function(logits.copy(), target, axis=0)
        function(logits, target, axis=0, out=out)
        np.testing.assert_array_equal(out, expected, err_msg=name)


def test_every_isa(isa: str) -> None:
    logits, target, _ = sample(0, np.float32)
    loss, gradient = boltzmax.cross_entropy_with_grad(logits, target, axis=0)
    wide = last(logits.astype(float), 0)
    assert loss == pytest.approx(loss_samples.cross_entropy(wide, target, {}), rel=1e-6)
    np.testing.assert_allclose(gradient.sum(0), 0.0, atol=1e-7)


# ---- copies ----


@pytest.mark.parametrize("axis", [-1, 1, 0])
def test_contiguous_classes_are_not_copied(axis: int) -> None:
    """The last axis, and the first axis of a Fortran array."""
    rows, k = 2000, 100
    shape = (k, rows) if axis == 0 else (rows, k)
    logits = np.zeros(shape, order="F" if axis == 0 else "C")
    target, weight = np.zeros(rows, int), np.ones(rows)
    calls: list[Callable[[], Any]] = [
        lambda: boltzmax.cross_entropy(logits, target, sample_weight=weight, axis=axis),
        lambda: boltzmax.focal_loss(logits, target, sample_weight=weight, axis=axis),
        lambda: boltzmax.nll_loss(logits, list(target), sample_weight=weight, axis=axis),
        lambda: boltzmax.row_stats(logits, list(target), 1, axis=axis),
    ]
    for call in calls:
        call()
        tracemalloc.start()
        call()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < logits.nbytes / 2


# ---- errors ----


@pytest.mark.parametrize(
    "function",
    [*(loss.function for loss in WITH_AXIS.values()), *WITH_GRAD.values(), boltzmax.row_stats],
)
def test_axis_errors(function: Callable[..., Any]) -> None:
    logits, target = np.zeros((2, 3)), np.zeros(2, int)
    for axis in (2, -3, 10**30):
        with pytest.raises(np.exceptions.AxisError, match=f"axis {axis} is out of bounds"):
            function(logits, target, axis=axis)
    for bad in (1.0, "1", None, (1,)):
        with pytest.raises(TypeError, match="axis must be an int, got"):
            function(logits, target, axis=bad)
    with pytest.raises(TypeError, match="positional"):
        function(logits, target, *[None] * 12)
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        function(logits, target, axis=0)
    # Anything with __index__.
    assert function(logits, target, axis=np.int8(-1)) is not None


def test_balanced_softmax_raises_the_same_errors() -> None:
    with pytest.raises(TypeError, match=r"axis must be an int, got 1\.0"):
        boltzmax.balanced_softmax(np.zeros((2, 3)), [1, 2, 3], axis=1.0)  # type: ignore[arg-type]
    with pytest.raises(np.exceptions.AxisError, match="axis 2 is out of bounds"):
        boltzmax.balanced_softmax(np.zeros((2, 3)), [1, 2, 3], axis=2)


def test_messages_name_the_given_shapes() -> None:
    """Messages show the shapes of the given arrays, not of their views."""
    logits = np.zeros((2, 3, 4))
    with pytest.raises(ValueError, match="classes on axis 1, got shape"):
        boltzmax.cross_entropy(np.zeros((2, 0, 4)), np.zeros((2, 4), int), axis=1)
    with pytest.raises(ValueError, match=r"shape \(2, 4\), got shape \(2,\)"):
        boltzmax.cross_entropy(logits, np.zeros(2, int), axis=1)
    with pytest.raises(TypeError, match=r"shape \(2, 4\) or probabilities of shape \(2, 3, 4\)"):
        boltzmax.cross_entropy(logits, np.zeros((2, 4, 3)), axis=1)
    with pytest.raises(ValueError, match=r"out has shape \(2, 4, 3\).*shape \(2, 3, 4\)"):
        boltzmax.cross_entropy_with_grad(
            logits, np.zeros((2, 4), int), axis=1, out=np.zeros((2, 4, 3))
        )
    with pytest.raises(IndexError, match=r"target 3 at position \(1, 3\) is out of range for 3"):
        boltzmax.cross_entropy(logits, [[0, 0, 0, 0], [0, 0, 0, 3]], axis=1)
    with pytest.raises(ValueError, match="one number per class"):
        boltzmax.cross_entropy(logits, np.zeros((2, 4), int), axis=1, weight=np.ones(4))
