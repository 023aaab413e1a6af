"""Errors of output layers: the same messages from all, and nothing changes."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from layer_samples import (
    MADE,
    D,
    V,
    all_layers,
    own_layers,
    rows,
    state,
)

HIDDEN, TARGET = rows(3)
BAD_HIDDEN: list[tuple[Any, type[Exception], str]] = [
    (np.zeros(D), ValueError, f"hidden must be (N, {D}), got shape ({D},)"),
    (np.zeros((3, D + 1)), ValueError, f"hidden must be (N, {D}), got shape (3, {D + 1})"),
    (np.zeros((1, 3, D)), ValueError, f"hidden must be (N, {D}), got shape (1, 3, {D})"),
    (3.0, ValueError, f"hidden must be (N, {D}), got shape ()"),
    (np.zeros((3, D), complex), TypeError, "hidden must be real numbers, got dtype complex128"),
    (np.full((3, D), "a"), TypeError, "hidden must be real numbers, got dtype <U1"),
    (None, TypeError, "hidden is None, not an array of numbers"),
    (
        np.ma.zeros((3, D)),
        TypeError,
        "hidden is a masked array; pass its data, and a weight of 0 at the mask",
    ),
]
ONE_EACH = "target must have one class for each row, shape (3,), got shape "
BAD_TARGETS: list[tuple[Any, type[Exception], str]] = [
    ([0, V, 1], IndexError, f"target {V} at position 1 is out of range for {V} classes"),
    (
        np.array([0, 1, V]),
        IndexError,
        f"target {V} at position 2 is out of range for {V} classes",
    ),
    (np.array([-1, 0, 0]), IndexError, f"target -1 at position 0 is out of range for {V} classes"),
    ([0, 0, -100], IndexError, f"target -100 at position 2 is out of range for {V} classes"),
    (
        np.array([2**64 - 1, 0, 0], np.uint64),
        IndexError,
        f"target {2**64 - 1} at position 0 is out of range for {V} classes",
    ),
    ([0, 1], ValueError, ONE_EACH + "(2,)"),
    ([[0, 1, 2]], ValueError, ONE_EACH + "(1, 3)"),
    (0, ValueError, ONE_EACH + "()"),
    (
        [0.0, 1.0, 2.0],
        TypeError,
        "target must be integers of shape (3,), got float64 of shape (3,)",
    ),
    (
        np.ma.zeros(3, int),
        TypeError,
        "target is a masked array; pass its data",
    ),
]
BAD_WEIGHTS: list[tuple[Any, type[Exception], str]] = [
    (
        [1.0, 2.0],
        ValueError,
        "sample_weight of shape (2,) does not broadcast to one per row, (3,)",
    ),
    ("abc", TypeError, "sample_weight must be real numbers, got dtype <U3"),
]
BAD_RATES: list[tuple[Any, type[Exception], str]] = [
    (np.nan, ValueError, "lr must be finite, got nan"),
    (-np.inf, ValueError, "lr must be finite, got -inf"),
]
BAD_COUNTS: list[tuple[Any, type[Exception], str]] = [
    (0, ValueError, f"k must be from 1 to {V}, got 0"),
    (V + 1, ValueError, f"k must be from 1 to {V}, got {V + 1}"),
    (2.0, TypeError, "k must be an integer, got 2.0"),
]
STEPS = ("sgd_step", "adagrad_step")


def refused(
    layer: Any, error: type[Exception], message: str, method: str, *args: Any, **options: Any
) -> None:
    """Check that a call raises exactly this message, and that nothing has changed."""
    if not hasattr(layer, method):
        return
    before = state(layer)
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        getattr(layer, method)(*args, **options)
    assert state(layer) == before, method


@all_layers
@pytest.mark.parametrize(("hidden", "error", "message"), BAD_HIDDEN)
def test_bad_hidden(
    make: Callable[..., Any], hidden: Any, error: type[Exception], message: str
) -> None:
    layer = make()
    for method in ("log_prob", "loss", "loss_with_grad"):
        refused(layer, error, message, method, hidden, TARGET)
    for method in ("log_prob_all", "predict", "sample"):
        refused(layer, error, message, method, hidden)
    refused(layer, error, message, "topk", hidden, 2)
    for method in STEPS:
        refused(layer, error, message, method, hidden, TARGET, 0.1)


@all_layers
@pytest.mark.parametrize(("target", "error", "message"), BAD_TARGETS)
def test_bad_targets(
    make: Callable[..., Any], target: Any, error: type[Exception], message: str
) -> None:
    layer = make()
    for method in ("log_prob", "loss", "loss_with_grad"):
        refused(layer, error, message, method, HIDDEN, target)
    for method in STEPS:
        refused(layer, error, message, method, HIDDEN, target, 0.1)


@own_layers
@pytest.mark.parametrize(("weight", "error", "message"), BAD_WEIGHTS)
def test_bad_weights_of_rows(
    make: Callable[..., Any], weight: Any, error: type[Exception], message: str
) -> None:
    layer = make()
    for method in ("loss", "loss_with_grad"):
        refused(layer, error, message, method, HIDDEN, TARGET, weight)
    for method in STEPS:
        refused(layer, error, message, method, HIDDEN, TARGET, 0.1, weight)


@own_layers
@pytest.mark.parametrize(("lr", "error", "message"), BAD_RATES)
def test_bad_rates(make: Callable[..., Any], lr: Any, error: type[Exception], message: str) -> None:
    for method in STEPS:
        refused(make(), error, message, method, HIDDEN, TARGET, lr)


@own_layers
def test_bad_eps(make: Callable[..., Any]) -> None:
    message = "eps must be from 0 to 1e+30, got -1"
    refused(make(), ValueError, message, "adagrad_step", HIDDEN, TARGET, 0.1, eps=-1)


@all_layers
@pytest.mark.parametrize(("k", "error", "message"), BAD_COUNTS)
def test_bad_counts(make: Callable[..., Any], k: Any, error: type[Exception], message: str) -> None:
    refused(make(), error, message, "topk", HIDDEN, k)


@all_layers
@pytest.mark.parametrize("p", [-0.1, 1.5, np.nan])
def test_bad_probabilities(make: Callable[..., Any], p: float) -> None:
    message = f"min_prob must be from 0 to 1, got {p}"
    refused(make(), ValueError, message, "topk", HIDDEN, 1, min_prob=p)


@pytest.mark.parametrize("kind", MADE)
def test_construction(kind: Any) -> None:
    make = partial(MADE[kind], V)
    for n in (0, -1):
        with pytest.raises(ValueError, match=f"^n_features must be at least 1, got {n}$"):
            make(n)
    for dtype in ("float16", "int32", ">f4", "longdouble", "complex128"):
        with pytest.raises(TypeError, match=r"^dtype must be float32 or float64, got "):
            make(3, dtype=dtype)
    assert not make(3).weight.any()
    assert make(3, bias=False).bias is None
    a, b = (make(400, seed=5, dtype="f8").weight for _ in range(2))
    np.testing.assert_array_equal(a, b)
    assert a.std() == pytest.approx(1 / 20, rel=0.05)
    assert a.ctypes.data % 64 == 0


@own_layers
@pytest.mark.parametrize("name", ["weight", "bias"])
def test_replaced_arrays(make: Callable[..., Any], name: str) -> None:
    """Valid replacements are used, others are refused with a message."""
    good = getattr(make(), name)
    if good is None:
        pytest.skip("the layer has no bias")
    for bad, error, message in (
        (good.tolist(), TypeError, f"{name} must be an ndarray, got list"),
        (good.astype(float), TypeError, f"{name} must be float32, got float64"),
        (good[:-1].copy(), ValueError, f"{name} must be C-contiguous and aligned, of shape "),
        (np.repeat(good, 2, 0)[::2], ValueError, f"{name} must be C-contiguous and aligned"),
    ):
        layer = make()
        setattr(layer, name, bad)
        for ask in (
            lambda x: x.log_prob(HIDDEN, TARGET),
            lambda x: x.topk(HIDDEN, 1),
            lambda x: x.sgd_step(HIDDEN, TARGET, 0.1),
        ):
            with pytest.raises(error, match=f"^{re.escape(message)}"):
                ask(layer)


@own_layers
@pytest.mark.parametrize("name", ["weight", "bias"])
@pytest.mark.parametrize("step", STEPS)
def test_read_only_arrays(make: Callable[..., Any], name: str, step: str) -> None:
    layer = make()
    if getattr(layer, name) is None:
        pytest.skip("the layer has no bias")
    getattr(layer, name).flags.writeable = False
    refused(layer, ValueError, f"{name} is read-only", step, HIDDEN, TARGET, 0.1)
