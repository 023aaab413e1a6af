"""Arrays without rows, and the mean over no rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import boltzmax
import every_function
import loss_samples
from boltzmax.losses.registry import LOSSES
from operations import GRADIENTS, MAPS

Array = npt.NDArray[Any]
WITH_GRAD = {name: loss.with_grad for name, loss in LOSSES.items() if "axis" in loss.parameters}


def empties(dtype: np.dtype[Any]) -> list[Array]:
    """Arrays without rows, some with strides of 0, some with those of the missing rows."""
    zero = np.zeros((), dtype)
    return [
        np.zeros((0, 2), dtype),
        np.zeros((0, 2), dtype, order="F"),
        np.zeros((3, 2), dtype)[:0],
        np.zeros((3, 4), dtype)[:0, ::2],
        np.broadcast_to(zero, (0, 2)),
        np.broadcast_to(np.zeros(2, dtype), (0, 2)),
        np.zeros((2, 0, 3), dtype),
        np.broadcast_to(zero, (2, 0, 3)),
        np.zeros((0, 2, 3), dtype).transpose(1, 0, 2),
        np.broadcast_to(zero, (4, 0, 1)),
    ]


def check_nothing(name: str, found: Any, x: Array, mean: float) -> None:
    """The mean is `mean`, the sum 0, or there are no losses; and no gradient."""
    function, reduction = name.split()
    loss = found[0] if function.endswith("with_grad") else found
    if reduction == "none":
        whole = LOSSES[function].per_element
        assert loss.shape == (x.shape if whole else x.shape[:-1]), name
        assert loss.size == 0
    elif reduction == "sum" or (reduction == "batchmean" and x.shape[0]):
        assert loss == 0.0, name
    else:
        np.testing.assert_equal(float(loss), mean, err_msg=name)
    if function.endswith("with_grad"):
        assert found[1].shape == x.shape
        for gradient in found[2:]:
            assert gradient is None or not gradient.any()


@pytest.mark.parametrize("empty", ["nan", "zero"])
def test_losses(dtype: np.dtype[Any], empty: str) -> None:
    """As in PyTorch, the mean is NaN and the sum 0; the mean is 0 if requested."""
    for x in empties(dtype):
        for name, call in every_function.losses(x, empty=empty):
            check_nothing(name, call(), x, 0.0 if empty == "zero" else np.nan)


def test_nan_is_the_default(dtype: np.dtype[Any]) -> None:
    for name, call in every_function.losses(np.zeros((0, 2), dtype)):
        check_nothing(name, call(), np.zeros((0, 2)), np.nan)


def test_everything_else(dtype: np.dtype[Any]) -> None:
    """The result has the same shape as with rows."""
    for x in empties(dtype):
        if x.shape[0]:
            continue  # reduced over the first axis, it has elements
        rows = dict(every_function.others(np.zeros((1, *x.shape[1:]), dtype)))
        for name, call in every_function.others(x):
            found = call()
            if name in (*MAPS, *GRADIENTS):
                assert found.shape == x.shape
            if name.startswith("linear"):
                first = found[0] if isinstance(found, tuple) else found
                like = rows[name]()
                like = like[0] if isinstance(like, tuple) else like
                assert first.shape == (0, *like.shape[1:])
            if name == "row_stats":
                assert found.lse.shape == (0,)
                assert found.top_ids.shape[0] == 0


def test_out_without_rows() -> None:
    for function in WITH_GRAD.values():
        for x in empties(np.dtype(np.float32)):
            out = np.empty(x.shape, np.float32)
            assert function(x, np.zeros(x.shape[:-1], int), out=out)[1] is out


def test_classes_on_the_first_axis() -> None:
    for function in WITH_GRAD.values():
        for x in (np.zeros((3, 0)), np.zeros((3, 0), order="F"), np.zeros((3, 2, 0))):
            loss, gradient = function(x, np.zeros(x.shape[1:], int), axis=0)
            assert np.isnan(loss)
            assert gradient.shape == x.shape


# ---- rows that do not count ----


@pytest.mark.parametrize("options", [{}, {"sample_weight": [1.0, 2.0]}])
@pytest.mark.parametrize("name", WITH_GRAD)
def test_all_ignored(name: str, options: dict[str, Any], dtype: np.dtype[Any]) -> None:
    """The sums are 0 for any `empty`; NaN in an ignored row does not matter."""
    x = np.array([[0.0, np.nan, 1.0], [1.0, 2.0, 3.0]], dtype)
    function = WITH_GRAD[name]
    for target in (np.full(2, -100), [-100, -100]):
        loss, gradient = function(x, target, empty="zero", **options)
        assert loss == 0.0
        assert not gradient.any()
        loss, gradient = function(x, target, **options)
        assert np.isnan(loss)
        assert not gradient.any()
        for empty in ("nan", "zero"):
            loss, gradient = function(x, target, reduction="sum", empty=empty, **options)
            assert loss == 0.0
            assert not gradient.any()


# The weight of the first row is 0, or cancels that of the second.
NO_WEIGHT: dict[str, Any] = {"sample_weight": [0.0, 0.0]}
NO_CLASS_WEIGHT: dict[str, Any] = {"weight": np.array([0.0, 0.0, 1.0])}
WEIGHTLESS = [
    (boltzmax.cross_entropy_with_grad, NO_CLASS_WEIGHT),
    (boltzmax.cross_entropy_with_grad, {"weight": [0, 0, 1]}),
    (boltzmax.cross_entropy_with_grad, NO_CLASS_WEIGHT | {"label_smoothing": 0.1}),
    (boltzmax.cross_entropy_with_grad, NO_CLASS_WEIGHT | {"softcap": 3.0}),
    (boltzmax.cross_entropy_with_grad, NO_WEIGHT),
    (boltzmax.cross_entropy_with_grad, {"sample_weight": [1.0, -1.0]}),
    (boltzmax.cross_entropy_with_grad, NO_WEIGHT | {"target": np.full((2, 3), 1 / 3)}),
    (boltzmax.focal_loss_with_grad, NO_WEIGHT),
    (boltzmax.nll_loss_with_grad, NO_CLASS_WEIGHT),
    (boltzmax.nll_loss_with_grad, NO_WEIGHT),
    (boltzmax.linear_cross_entropy_with_grad, NO_WEIGHT),
    (boltzmax.linear_cross_entropy_with_grad, {"class_weight": [0.0, 0.0, 1.0]}),
]


@pytest.mark.parametrize(("function", "options"), WEIGHTLESS)
def test_weights_that_sum_to_zero(function: Callable[..., Any], options: dict[str, Any]) -> None:
    """Such rows do not matter, even if they are NaN."""
    x = np.array([[np.nan, 1.0, 2.0], [3.0, 1.0, 2.0]])
    scores = "log_prob" if function is boltzmax.nll_loss_with_grad else "logits"
    given = {scores: x, "target": np.array([0, 1])} | options
    if function is boltzmax.linear_cross_entropy_with_grad:
        given = {"hidden": x, "weight": np.eye(3), "target": np.array([0, 1])} | options
        given["bias"] = np.zeros(3)
    loss, *gradients = function(**given, empty="zero")
    assert loss == 0.0
    for gradient in gradients:
        assert not gradient.any()
    assert np.isnan(function(**given)[0])
    plain = getattr(boltzmax, function.__name__.removesuffix("_with_grad"))
    assert plain(**given, empty="zero") == 0.0
    assert np.isnan(plain(**given))


def test_alpha_does_not_count_in_the_mean() -> None:
    """So a mean of losses of weight 0 is not a mean over no rows."""
    x, target = loss_samples.normal(2, 3), np.array([0, 1])
    for alpha in ([1.0, -1.0, 0.0], np.array([1.0, -1.0, 0.0])):
        expected = boltzmax.focal_loss(x, target, alpha=alpha)
        assert boltzmax.focal_loss(x, target, alpha=alpha, empty="zero") == expected != 0.0
        weighted = boltzmax.focal_loss(
            x, target, alpha=alpha, empty="zero", sample_weight=[1.0, 1.0]
        )
        assert weighted == pytest.approx(expected, rel=1e-14)


def test_empty_changes_no_other_result() -> None:
    """Bit for bit."""
    x = loss_samples.normal(4, 3)
    for (name, nan), (_, zero) in zip(
        every_function.losses(x), every_function.losses(x, empty="zero"), strict=True
    ):
        expected, found = nan(), zero()
        if not isinstance(expected, tuple):
            expected, found = (expected,), (found,)
        for a, b in zip(expected, found, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=name)


def test_errors() -> None:
    """The same message from every loss, on the fast path and the general one."""
    for bad in ("no", 0.0, None, np.nan):
        for name, call in every_function.losses(np.zeros((2, 3)), empty=bad):
            with pytest.raises(ValueError, match="empty must be one of 'nan', 'zero', got"):
                call()
            assert name
