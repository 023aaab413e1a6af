"""The contract of every output layer, `boltzmax._lib.output_layer`."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from boltzmax._lib.output_layer import OutputLayer
from layer_samples import (
    LAYERS,
    TOGETHER,
    D,
    V,
    all_layers,
    biased,
    both,
    dense,
    every_log_prob,
    own_layers,
    rows,
    state,
    tolerance,
)
from tree_samples import top

# ---- the interface


@own_layers
def test_methods(make: Callable[..., Any]) -> None:
    """All methods of the contract, with its parameters and defaults; options may be added."""
    layer = make()
    assert isinstance(layer, OutputLayer)
    for name, method in inspect.getmembers(OutputLayer, callable):
        if name.startswith("_"):
            continue
        asked = inspect.signature(method).parameters
        offered = inspect.signature(getattr(type(layer), name)).parameters
        for parameter in asked.values():
            mine = offered[parameter.name]
            assert (mine.kind, mine.default) == (parameter.kind, parameter.default), name
        added = [p for p in offered.values() if p.name not in asked]
        assert all(p.kind is p.KEYWORD_ONLY for p in added), name


@all_layers
@both
def test_sizes(make: Callable[..., Any], dtype: str) -> None:
    layer = make(dtype=dtype)
    assert (layer.n_classes, layer.n_features, layer.dtype) == (V, D, dtype)
    assert layer.weight.shape[1] == D
    assert layer.bias is None or layer.bias.shape == layer.weight.shape[:1]


# ---- probabilities


@all_layers
@both
@biased
def test_probabilities(make: Callable[..., Any], dtype: str, bias: bool) -> None:
    """They sum to 1, and `log_prob` and `loss` agree with them."""
    layer = make(dtype=dtype, bias=bias)
    hidden, target = rows(9, dtype)
    every = every_log_prob(layer, hidden)
    assert every.shape == (9, V)
    np.testing.assert_allclose(np.exp(every.astype(float)).sum(1), 1, **tolerance(dtype))
    each = layer.log_prob(hidden, target)
    assert (each.shape, each.dtype, every.dtype) == ((9,), dtype, dtype)
    np.testing.assert_allclose(each, every[range(9), target], **tolerance(dtype))
    assert layer.loss(hidden, target) == pytest.approx(-each.mean(dtype=float), rel=1e-6)


@own_layers
def test_weights_of_rows(make: Callable[..., Any]) -> None:
    layer = make(dtype="float64")
    hidden, target = rows(9, "float64")
    weight = np.linspace(0, 3, 9)
    want = -np.average(layer.log_prob(hidden, target), weights=weight)
    assert layer.loss(hidden, target, weight) == pytest.approx(want)
    assert layer.loss(hidden, target, 2.0) == pytest.approx(layer.loss(hidden, target))
    assert np.isnan(layer.loss(hidden, target, np.zeros(9)))


@all_layers
def test_hidden_of_any_kind(make: Callable[..., Any]) -> None:
    """Other dtypes, lists, strides and alignments give the same bits."""
    layer = make()
    hidden, target = rows(6)
    hidden = np.round(hidden * 4) / 4
    wide = np.zeros((12, 3 * D), np.float32)
    wide[::2, ::3] = hidden
    odd = np.frombuffer(bytearray(1) + hidden.tobytes(), np.float32, offset=1).reshape(6, D)
    want = layer.log_prob(hidden, target)
    layouts = [np.asfortranarray(hidden), wide[::2, ::3], hidden[::-1].copy()[::-1], odd]
    for x in (*layouts, hidden.astype(">f8"), hidden.astype(np.float16), hidden.tolist()):
        np.testing.assert_array_equal(layer.log_prob(x, target), want)
        np.testing.assert_array_equal(layer.predict(x), layer.predict(hidden))
    for y in (target.astype(np.uint8), target.tolist(), np.repeat(target, 2)[::2]):
        np.testing.assert_array_equal(layer.log_prob(hidden, y), want)


@all_layers
def test_no_rows(make: Callable[..., Any]) -> None:
    layer = make()
    hidden, target = rows(0)
    assert layer.log_prob(hidden, target).shape == layer.predict(hidden).shape == (0,)
    assert [a.shape for a in layer.topk(hidden, 2)] == [(0, 2), (0, 2)]
    assert np.isnan(layer.loss(hidden, target))
    gradient = layer.loss_with_grad(hidden, target)
    assert gradient.d_hidden.shape == (0, D)
    assert not np.any(gradient.d_weight)
    if isinstance(layer, OutputLayer):
        assert layer.log_prob_all(hidden).shape == (0, V)
        assert layer.sample(hidden).shape == (0,)
        before = layer.weight.copy()
        assert np.isnan(layer.sgd_step(hidden, target, 0.1)[0])
        np.testing.assert_array_equal(layer.weight, before)


@all_layers
def test_rows_with_nan(make: Callable[..., Any]) -> None:
    """They have no probabilities and no likeliest class; other rows are not affected."""
    layer = make()
    hidden, target = rows(5)
    clean = layer.log_prob(hidden, target), *layer.topk(hidden, 3)
    hidden[2, 1] = np.nan
    spoilt = layer.log_prob(hidden, target), *layer.topk(hidden, 3)
    others = [0, 1, 3, 4]
    for a, b in zip(clean, spoilt, strict=True):
        np.testing.assert_array_equal(a[others], b[others])
    assert np.isnan(spoilt[0][2])
    assert (spoilt[1][2] == -1).all()
    assert (spoilt[2][2] == -np.inf).all()
    assert layer.predict(hidden)[2] == -1
    assert np.isnan(layer.loss(hidden, target))


# ---- training


@all_layers
@biased
def test_gradients(make: Callable[..., Any], bias: bool) -> None:
    """Compared with finite differences of the loss."""
    layer = make(dtype="float64", bias=bias)
    hidden, target = rows(5, "float64")
    weighted = isinstance(layer, OutputLayer)
    args = (hidden, target, np.linspace(0.5, 2, 5)) if weighted else (hidden, target)
    gradient = layer.loss_with_grad(*args)
    assert gradient.loss == pytest.approx(layer.loss(*args))
    assert (gradient.d_bias is None) == (not bias)
    d_weight, d_bias = dense(layer, gradient)
    pairs = [(hidden, gradient.d_hidden), (layer.weight, d_weight)]
    pairs += [(layer.bias, d_bias)] if bias else []
    for array, analytic in pairs:
        for i in np.unique(np.linspace(0, array.size - 1, 25, dtype=int)):
            kept, ends = array.flat[i], []
            for shift in (1e-5, -1e-5):
                array.flat[i] = kept + shift
                ends.append(layer.loss(*args))
            array.flat[i] = kept
            numeric = (ends[0] - ends[1]) / 2e-5
            assert analytic.flat[i] == pytest.approx(numeric, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", LAYERS)
@biased
@pytest.mark.parametrize("weighted", [True, False])
def test_sgd_step(name: str, bias: bool, weighted: bool) -> None:
    """A step is the gradient of the sum of losses, times the rate."""
    layer = LAYERS[name](dtype="float64", bias=bias)
    hidden, target = rows(6, "float64")
    of_row = np.linspace(0.5, 2, 6) if weighted else None
    total = 6.0 if of_row is None else of_row.sum()
    expected = layer.loss_with_grad(hidden, target, of_row)
    d_weight, d_bias = dense(layer, expected)
    weight = layer.weight - 0.3 * total * d_weight
    biases = None if layer.bias is None else layer.bias - 0.3 * total * d_bias
    loss, d_hidden = layer.sgd_step(hidden, target, 0.3, of_row, **TOGETHER.get(name, {}))
    assert isinstance(loss, float)
    assert loss == pytest.approx(expected.loss)
    np.testing.assert_allclose(d_hidden, total * expected.d_hidden, rtol=1e-12)
    np.testing.assert_allclose(layer.weight, weight, rtol=1e-12, atol=1e-14)
    if biases is not None:
        np.testing.assert_allclose(layer.bias, biases, rtol=1e-12, atol=1e-14)


@own_layers
@both
@biased
def test_adagrad_step(make: Callable[..., Any], dtype: str, bias: bool) -> None:
    """The reference, row by row: the mean square of each unit's gradient sets its rate."""
    layer = make(dtype=dtype, bias=bias)
    weight = layer.weight.astype(float)
    biases = np.zeros(len(weight)) if layer.bias is None else layer.bias.astype(float)
    squares, eps = np.zeros(len(weight)), 1e-3
    for x, y in zip(*rows(8, dtype), strict=True):
        by_hand = layer.loss_with_grad(x[None], [y])
        d_weight, d_bias = dense(layer, by_hand)
        squares += (np.square(d_weight).sum(1) + np.square(d_bias)) / (D + bias)
        rate = 0.2 / (np.sqrt(squares) + eps)
        weight -= rate[:, None] * d_weight
        biases -= rate * d_bias
        loss, d_hidden = layer.adagrad_step(x[None], [y], 0.2, eps=eps)
        assert loss == pytest.approx(by_hand.loss, rel=1e-5)
        np.testing.assert_allclose(d_hidden, by_hand.d_hidden, **tolerance(dtype))
        np.testing.assert_allclose(layer.weight, weight, **tolerance(dtype))
        if layer.bias is not None:
            np.testing.assert_allclose(layer.bias, biases, **tolerance(dtype))


@own_layers
@pytest.mark.parametrize("step", ["sgd_step", "adagrad_step"])
def test_steps_learn(make: Callable[..., Any], step: str) -> None:
    """A vector for each class with noise; a rate of 0 changes nothing."""
    rng = np.random.default_rng(0)
    target = rng.integers(0, V, 200)
    hidden = 3 * rng.standard_normal((V, D))[target] + 0.1 * rng.standard_normal((200, D))
    layer = make()
    before, loss = layer.weight.copy(), layer.loss(hidden, target)
    getattr(layer, step)(hidden, target, 0)
    np.testing.assert_array_equal(layer.weight, before)
    for _ in range(60):
        getattr(layer, step)(hidden, target, 0.005 if step == "sgd_step" else 0.3)
    assert layer.loss(hidden, target) < loss / 3


@own_layers
@pytest.mark.parametrize("step", ["sgd_step", "adagrad_step"])
def test_hidden_may_be_the_weights(make: Callable[..., Any], step: str) -> None:
    """Tied vectors: a step reads them as they were before the call."""
    layer, other = make(), make()
    target = np.arange(4)
    a = getattr(layer, step)(layer.weight[:4], target, 0.5)
    b = getattr(other, step)(other.weight[:4].copy(), target, 0.5)
    assert a[0] == b[0]
    np.testing.assert_array_equal(a[1], b[1])
    np.testing.assert_array_equal(layer.weight, other.weight)


# ---- the likeliest classes, and others


@all_layers
@both
@pytest.mark.parametrize("k", [1, 5, V])
def test_topk(make: Callable[..., Any], dtype: str, k: int) -> None:
    layer = make(dtype=dtype)
    hidden = rows(9, dtype)[0]
    every = every_log_prob(layer, hidden)
    for min_prob in (0.0, 0.04, 1.0):
        ids, log_probs = layer.topk(hidden, k, min_prob=min_prob)
        least = np.log(min_prob) if min_prob else -np.inf
        want_ids, want = top(every, k, least)
        assert (ids.dtype, log_probs.dtype) == (np.int64, dtype)
        np.testing.assert_array_equal(ids, want_ids)
        np.testing.assert_allclose(log_probs, want, **tolerance(dtype))
    np.testing.assert_array_equal(layer.predict(hidden), every.argmax(1))


@own_layers
@both
def test_samples(make: Callable[..., Any], dtype: str) -> None:
    """Frequencies match probabilities: a chi-square statistic that exceeds 54 in 1 of 10,000."""
    layer = make(dtype=dtype)
    hidden = rows(1, dtype)[0]
    n = 20_000
    ids = layer.sample(np.repeat(hidden, n, axis=0), 5)
    assert (ids.shape, ids.dtype) == ((n,), np.int64)
    expected = n * np.exp(layer.log_prob_all(hidden).astype(float))[0]
    found = np.bincount(ids, minlength=V)
    assert (np.square(found - expected) / expected).sum() < 54


@own_layers
def test_samples_are_reproducible(make: Callable[..., Any]) -> None:
    layer = make()
    hidden = rows(50)[0]
    first = layer.sample(hidden, 3)
    np.testing.assert_array_equal(layer.sample(hidden, 3), first)
    rng = np.random.default_rng(3)
    np.testing.assert_array_equal(layer.sample(hidden, rng), first)
    assert (layer.sample(hidden, rng) != first).any(), "a generator advances"
    assert (layer.sample(hidden) != layer.sample(hidden)).any(), "the seed is random"


@own_layers
@both
def test_rows_that_cannot_be_drawn_from(make: Callable[..., Any], dtype: str) -> None:
    layer = make(dtype=dtype)
    hidden = rows(5, dtype)[0]
    want = layer.sample(hidden, 3)
    hidden[2, 1] = np.nan
    with pytest.raises(ValueError, match=r"neither NaN nor \+inf for row 2$"):
        layer.sample(hidden, 3)
    want[2] = -1
    np.testing.assert_array_equal(layer.sample(hidden, 3, errors="mark"), want)
    with pytest.raises(ValueError, match="errors must be"):
        layer.sample(hidden, 3, errors="ignore")


# ---- copies and files


@own_layers
@both
@biased
def test_copies(make: Callable[..., Any], dtype: str, bias: bool, tmp_path: Path) -> None:
    """The same bits now and after further steps, and no shared memory."""
    layer = make(dtype=dtype, bias=bias)
    hidden, target = rows(6, dtype)
    for learned in (False, True):
        if learned:
            layer.adagrad_step(hidden, target, 0.1)
        layer.save(tmp_path / "layer")
        before = state(layer)
        loaded, pickled = type(layer).load(tmp_path / "layer"), pickle.loads(pickle.dumps(layer))
        for other in (loaded, pickled, copy.copy(layer), copy.deepcopy(layer)):
            assert type(other) is type(layer)
            assert state(other) == before
            for mine, its in zip(layer.topk(hidden, V), other.topk(hidden, V), strict=True):
                np.testing.assert_array_equal(mine, its)
            again = copy.deepcopy(layer)
            step = hidden, target, 0.1
            assert other.adagrad_step(*step)[0] == again.adagrad_step(*step)[0]
            assert state(other) == state(again)
            assert state(layer) == before


@own_layers
def test_layers_that_have_diverged_are_saved_as_they_are(
    make: Callable[..., Any], tmp_path: Path
) -> None:
    layer = make()
    hidden, target = rows(3)
    hidden[1] = np.nan
    layer.adagrad_step(hidden, target, 0.1)
    layer.save(tmp_path / "layer")
    assert state(type(layer).load(tmp_path / "layer")) == state(layer)


@own_layers
def test_files_of_other_layers(make: Callable[..., Any], tmp_path: Path) -> None:
    layer = make()
    for name, other in LAYERS.items():
        if type(other()) is not type(layer):
            other().save(tmp_path / name)
            with pytest.raises(ValueError, match=r"damaged or not a boltzmax .*softmax, version"):
                type(layer).load(tmp_path / name)
