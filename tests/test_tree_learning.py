"""Losses, gradients and steps of a layer on a tree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltzmax import HierarchicalSoftmax, Tree
from tree_samples import TREES, gradient, layer_on, node_log_probs, rows_for

every_tree = pytest.mark.parametrize("tree", TREES.values(), ids=TREES.keys())
both = pytest.mark.parametrize("dtype", ["float32", "float64"])
with_and_without_bias = pytest.mark.parametrize("bias", [True, False])
UPDATES = ("sequential", "batch", "hogwild")


def dense(layer: HierarchicalSoftmax, units: Any, part: Any) -> Any:
    """A sparse gradient in the shape of the weights."""
    full = np.zeros((layer.tree.n_units, *part.shape[1:]))
    full[units] = part
    return full


def tolerance(dtype: str) -> dict[str, float]:
    return {"rtol": 2e-5, "atol": 2e-6} if dtype == "float32" else {"rtol": 1e-12, "atol": 1e-14}


# ---- gradients


@both
@every_tree
@with_and_without_bias
@pytest.mark.parametrize("n", [1, 3, 600])
def test_gradient(tree: Tree, dtype: str, bias: bool, n: int, isa: str) -> None:
    """Rows of one batch and of several, with repeated targets."""
    if n == 600 and tree is not TREES["mixed"]:
        n = 40
    layer = layer_on(tree, 5, dtype, bias)
    hidden, target = rows_for(layer, n)
    weight = np.random.default_rng(1).random(n) * (np.arange(n) != 1)
    for given_weight, scale in ((None, np.full(n, 1 / n)), (weight, weight / weight.sum())):
        loss, d_hidden, units, d_weight, d_bias = layer.loss_with_grad(hidden, target, given_weight)
        losses, *want = gradient(layer, hidden, target, scale)
        assert loss == pytest.approx(losses @ scale, rel=1e-5 if dtype == "float32" else 1e-12)
        assert loss == layer.loss(hidden, target, given_weight)
        assert d_hidden.dtype == d_weight.dtype == dtype
        assert units.dtype == np.int64
        assert (np.diff(units) > 0).all()
        np.testing.assert_allclose(d_hidden, want[0], **tolerance(dtype))
        np.testing.assert_allclose(dense(layer, units, d_weight), want[1], **tolerance(dtype))
        if d_bias is None:
            assert not bias
        else:
            np.testing.assert_allclose(dense(layer, units, d_bias), want[2], **tolerance(dtype))
        on_the_way = {
            u
            for c in target
            for v in tree.ancestors(c) - tree.n_classes
            for u in range(tree.unit_offset[v], tree.unit_offset[v + 1])
        }
        assert units.tolist() == sorted(on_the_way)


@given(st.integers(0, 2**32), st.sampled_from(sorted(TREES)), st.integers(1, 4))
def test_central_differences(seed: int, name: str, n: int) -> None:
    layer = layer_on(TREES[name], 3, "float64", seed=seed)
    assert layer.bias is not None
    hidden, target = rows_for(layer, n, seed)
    weight = np.random.default_rng(seed).random(n) + 0.1
    _, d_hidden, units, d_weight, d_bias = layer.loss_with_grad(hidden, target, weight)
    assert d_bias is not None
    step = 1e-6

    def slope(array: Any, index: Any) -> float:
        ends = []
        for sign in (1, -1):
            before = array[index]
            array[index] = before + sign * step
            ends.append(layer.loss(hidden, target, weight))
            array[index] = before
        return (ends[0] - ends[1]) / (2 * step)

    rng = np.random.default_rng(seed)
    i, j = rng.integers(n), rng.integers(3)
    assert d_hidden[i, j] == pytest.approx(slope(hidden, (i, j)), abs=1e-7)
    for array, part in ((layer.weight, d_weight), (layer.bias, d_bias)):
        full = dense(layer, units, part)
        for unit in rng.integers(0, max(1, len(full)), 4 * bool(len(full))):
            index = (unit, j) if array.ndim == 2 else (unit,)
            assert full[index] == pytest.approx(slope(array, index), abs=1e-7)


@pytest.mark.filterwarnings("error")
def test_no_rows() -> None:
    layer = layer_on(TREES["mixed"])
    before = layer.weight.copy()
    loss, d_hidden, units, d_weight, d_bias = layer.loss_with_grad(np.zeros((0, 7)), [])
    assert np.isnan(loss)
    assert d_bias is not None
    assert (d_hidden.shape, units.shape, d_weight.shape) == ((0, 7), (0,), (0, 7))
    for update in UPDATES:
        assert np.isnan(layer.sgd_step(np.zeros((0, 7)), [], 0.1, update=update)[0])
    np.testing.assert_array_equal(layer.weight, before)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("update", UPDATES)
def test_rows_of_weight_zero(update: str) -> None:
    """They change nothing."""
    layer = layer_on(TREES["mixed"])
    hidden, target = rows_for(layer, 6)
    before = layer.weight.copy()
    loss, d_hidden = layer.sgd_step(hidden, target, 0.1, np.zeros(6), update=update)
    assert np.isnan(loss)
    assert not d_hidden.any()
    np.testing.assert_array_equal(layer.weight, before)
    other = layer_on(TREES["mixed"])
    layer.sgd_step(hidden, target, 0.1, np.arange(6) > 2, update=update)
    other.sgd_step(hidden[3:], target[3:], 0.1, update=update)
    np.testing.assert_array_equal(layer.weight, other.weight)


def test_infinite_losses_of_weight_zero() -> None:
    """They count as 0, as in cross_entropy."""
    layer = HierarchicalSoftmax(Tree.balanced(2), 1, bias=False)
    layer.weight[:] = 1e30
    hidden = np.array([[1e30], [0.0]], np.float32)
    assert layer.loss(hidden, [1, 1]) == np.inf
    want = pytest.approx(np.log(2))
    assert layer.loss(hidden, [1, 1], [0, 1]) == want
    assert layer.loss_with_grad(hidden, [1, 1], [0, 1])[0] == want
    assert layer.sgd_step(hidden, [1, 1], 0.0, [0, 1])[0] == want


@pytest.mark.parametrize("update", ["sequential", "grouped", "batch", "hogwild"])
@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_rows_of_weight_zero_need_not_be_finite(update: str, bad: float) -> None:
    """They do not change the weights; a NaN loss is still returned."""
    layer, other = layer_on(TREES["mixed"]), layer_on(TREES["mixed"])
    hidden, target = rows_for(layer, 6)
    target[:] = target[0]
    hidden[[0, 3]] = bad
    keep = np.isfinite(hidden).all(1)
    for part in layer.loss_with_grad(hidden, target, keep)[1:]:
        assert np.isfinite(part).all()
    _, d_hidden = layer.sgd_step(hidden, target, 0.1, keep, update=update)
    _, want = other.sgd_step(hidden[keep], target[keep], 0.1, update=update)
    np.testing.assert_array_equal(layer.weight, other.weight)
    np.testing.assert_array_equal(d_hidden[keep], want)
    assert not d_hidden[~keep].any()


@pytest.mark.parametrize("weight", [[1, 2], np.ones((6, 1)), np.ones(7)])
def test_weights_of_other_shapes(weight: Any) -> None:
    layer = layer_on(TREES["mixed"])
    hidden, target = rows_for(layer, 6)
    for ask in (layer.loss, layer.loss_with_grad):
        with pytest.raises(ValueError, match="sample_weight"):
            ask(hidden, target, weight)
    with pytest.raises(ValueError, match="sample_weight"):
        layer.sgd_step(hidden, target, 0.1, weight)


# ---- steps


@both
@every_tree
@with_and_without_bias
def test_sequential(tree: Tree, dtype: str, bias: bool, isa: str) -> None:
    """Compared with row-by-row steps in NumPy."""
    layer = layer_on(tree, 5, dtype, bias)
    slow = layer_on(tree, 5, "float64", bias)
    slow.weight[:] = layer.weight
    hidden, target = rows_for(layer, 25)
    weight = np.linspace(0, 1, 25)
    losses, d_hiddens = [], []
    for h, c, w in zip(hidden, target, weight, strict=True):
        loss, d_hidden, d_weight, d_bias = gradient(slow, h[None], np.array([c]), np.array([w]))
        losses.append(loss[0])
        d_hiddens.append(d_hidden[0])
        slow.weight -= 0.3 * d_weight
        if slow.bias is not None:
            slow.bias -= 0.3 * d_bias
    again = layer_on(tree, 5, dtype, bias)
    loss, d_hidden = layer.sgd_step(hidden, target, 0.3, weight)
    assert loss == pytest.approx(np.average(losses, weights=weight), rel=1e-5)
    np.testing.assert_allclose(d_hidden, d_hiddens, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.weight, slow.weight, rtol=1e-4, atol=1e-5)
    if layer.bias is not None:
        np.testing.assert_allclose(layer.bias, slow.bias, rtol=1e-4, atol=1e-5)
    again.sgd_step(hidden[:10], target[:10], 0.3, weight[:10])
    again.sgd_step(hidden[10:], target[10:], 0.3, weight[10:])
    np.testing.assert_array_equal(again.weight, layer.weight)


@both
@with_and_without_bias
def test_batch(dtype: str, bias: bool, isa: str) -> None:
    """One step along the sum of the gradients from loss_with_grad."""
    layer = layer_on(TREES["ternary"], 5, dtype, bias)
    hidden, target = rows_for(layer, 30)
    weight = np.linspace(0, 1, 30)
    loss, d_hidden, units, d_weight, d_bias = layer.loss_with_grad(hidden, target, weight)
    total, near = weight.sum(), tolerance(dtype)
    want = layer.weight - 0.1 * total * dense(layer, units, d_weight)
    want_bias = None if d_bias is None else layer.bias - 0.1 * total * dense(layer, units, d_bias)
    got = layer.sgd_step(hidden, target, 0.1, weight, update="batch")
    assert got[0] == loss
    np.testing.assert_allclose(got[1], d_hidden * total, **near)
    np.testing.assert_allclose(layer.weight, want, **near)
    if want_bias is not None:
        np.testing.assert_allclose(layer.bias, want_bias, **near)


@both
@every_tree
def test_adagrad(tree: Tree, dtype: str, isa: str) -> None:
    """Row-wise sums of the mean squares of gradients, in NumPy; without a bias."""
    layer = layer_on(tree, 5, dtype, bias=False)
    slow = layer_on(tree, 5, "float64", bias=False)
    slow.weight[:] = layer.weight
    hidden, target = rows_for(layer, 25)
    squares = np.zeros(tree.n_units)
    for h, c in zip(hidden, target, strict=True):
        _, _, d_weight, _ = gradient(slow, h[None], np.array([c]), np.ones(1))
        squares += (d_weight**2).mean(1)
        slow.weight -= (0.3 / (np.sqrt(squares) + 1e-3))[:, None] * d_weight
    layer.adagrad_step(hidden[:9], target[:9], 0.3, eps=1e-3)
    layer.adagrad_step(hidden[9:], target[9:], 0.3, eps=1e-3)
    np.testing.assert_allclose(layer.weight, slow.weight, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1e-3])
def test_adagrad_moves_biases_by_about_the_rate(scale: float) -> None:
    """Even for tiny hidden vectors, which the gradient of a bias does not depend on."""
    layer = HierarchicalSoftmax(Tree.balanced(4), 3)
    layer.adagrad_step(np.full((1, 3), scale), [0], 0.1)
    assert layer.bias is not None
    assert 0 < np.abs(layer.bias).max() <= 0.5


@pytest.mark.parametrize("eps", [0.0, 1e-10])
@pytest.mark.parametrize("update", ["sequential", "hogwild"])
def test_adagrad_of_nothing(eps: float, update: str) -> None:
    """A gradient of zero gives no step, not 0 / 0."""
    layer = layer_on(TREES["mixed"])
    hidden, target = rows_for(layer, 4)
    before = layer.weight.copy()
    layer.adagrad_step(hidden, target, 0.1, np.zeros(4), eps=eps, update=update)
    np.testing.assert_array_equal(layer.weight, before)


@pytest.mark.parametrize("eps", [np.nan, -1.0, np.inf])
def test_adagrad_of_odd_eps(eps: float) -> None:
    layer = layer_on(TREES["mixed"])
    before = layer.weight.copy()
    with pytest.raises(ValueError, match="eps"):
        layer.adagrad_step(*rows_for(layer, 4), 0.1, eps=eps)
    np.testing.assert_array_equal(layer.weight, before)


def test_odd_options() -> None:
    layer = layer_on(TREES["mixed"])
    rows = rows_for(layer, 4)
    before = layer.weight.copy()
    for lr in (np.nan, np.inf, -np.inf):
        for step in (layer.sgd_step, layer.adagrad_step):
            with pytest.raises(ValueError, match="lr must be finite"):
                step(*rows, lr)
    with pytest.raises(ValueError, match=r"one of .*'hogwild', 'batch'.*, got 'all'"):
        layer.sgd_step(*rows, 0.1, update="all")
    with pytest.raises(ValueError, match="got 'batch'"):
        layer.adagrad_step(*rows, 0.1, update="batch")
    np.testing.assert_array_equal(layer.weight, before)
    layer.sgd_step(*rows, 0)
    np.testing.assert_array_equal(layer.weight, before)


@pytest.mark.parametrize("step", ["sequential", "batch", "hogwild", "adagrad", "wild adagrad"])
@pytest.mark.parametrize("arity", [2, 5])
def test_steps_learn(step: str, arity: int) -> None:
    """50 classes, each a different vector with noise."""
    rng = np.random.default_rng(0)
    target = rng.integers(0, 50, 2000)
    hidden = rng.standard_normal((50, 60))[target] + 0.1 * rng.standard_normal((2000, 60))
    layer = HierarchicalSoftmax(Tree.huffman(np.bincount(target), arity), 60)
    for _ in range(10):
        if step == "batch":
            for part in np.split(np.arange(2000), 40):
                layer.sgd_step(hidden[part], target[part], 0.1, update="batch")
        elif "adagrad" in step:
            update = "hogwild" if "wild" in step else "sequential"
            layer.adagrad_step(hidden, target, 0.1, update=update)
        else:
            layer.sgd_step(hidden, target, 0.1, update=step)
    assert (layer.predict(hidden) == target).mean() > 0.95
    assert layer.loss(hidden, target) < 0.3


def test_steps_on_one_class() -> None:
    """There is nothing to learn, and nothing to write to."""
    layer = layer_on(TREES["one"])
    for update in UPDATES:
        loss, d_hidden = layer.sgd_step(np.ones((3, 7)), [0] * 3, 0.1, update=update)
        assert loss == 0
        assert not d_hidden.any()
    assert layer.adagrad_step(np.ones((3, 7)), [0] * 3, 0.1)[0] == 0
    assert node_log_probs(layer, np.ones(7)).tolist() == [0, 0]
