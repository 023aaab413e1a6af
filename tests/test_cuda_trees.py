"""The hierarchical layer of boltzmax.cuda, compared with that of the CPU."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import boltzmax
import boltzmax.cuda as cuda
from device import (
    Array,
    OnDevice,
    comparisons,
    dtype_of,
    needs_device,
    needs_emulation,
    numbers,
)

RNG = np.random.default_rng(5)
TREES = {
    "balanced": boltzmax.Tree.balanced(13),
    "huffman": boltzmax.Tree.huffman(RNG.integers(1, 1000, 40)),
    "wide": boltzmax.Tree.balanced(140, arity=135),
    "two levels": boltzmax.Tree.two_level(np.arange(1, 50)),
    "one class": boltzmax.Tree.from_parents([-1, 0]),
    "mixed": boltzmax.Tree.from_parents([5, 5, 5, 6, 6, 7, 8, -1, 7, 8]),
}


def layers(name: str, dtype: Any, features: int = 9) -> tuple[Any, Any, Array]:
    """A layer on the CPU, the same on the device, and hidden vectors."""
    tree = TREES[name]
    weight = numbers((tree.n_units, features), dtype, 1)
    bias = numbers((tree.n_units,), dtype, 2)
    wide = np.float64 if np.dtype(dtype) == np.float64 else np.float32
    own = boltzmax.HierarchicalSoftmax(tree, features, dtype=wide)
    own.weight[:], own.bias[:] = weight, bias  # type: ignore[index]
    hidden = numbers((7, features), dtype, 3)
    return own, cuda.HierarchicalSoftmax(tree, weight, bias), hidden


@needs_device
@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_log_prob(name: str, dtype: str) -> None:
    own, layer, hidden = layers(name, dtype_of(dtype))
    target = RNG.integers(own.tree.n_classes, size=len(hidden))
    got = layer.log_prob(hidden, target)
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    assert got.dtype == own.dtype
    np.testing.assert_allclose(got, own.log_prob(hidden, target), rtol=tolerance, atol=tolerance)
    for reduction in ("mean", "sum"):
        loss = layer.loss(hidden, target, reduction=reduction)
        expected = -getattr(np, reduction)(got, dtype=np.float64)
        np.testing.assert_allclose(loss, expected, rtol=1e-6)


@needs_device
@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients(name: str, dtype: str) -> None:
    own, layer, hidden = layers(name, dtype)
    target = RNG.integers(own.tree.n_classes, size=len(hidden))
    expected = own.loss_with_grad(hidden, target)
    loss, d_hidden, d_weight, d_bias = layer.loss_with_grad(hidden, target)
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == "float32" else {"atol": 1e-12}
    np.testing.assert_allclose(loss, expected.loss, **tolerance)
    np.testing.assert_allclose(d_hidden, expected.d_hidden, **tolerance)
    np.testing.assert_allclose(d_weight[expected.unit_ids], expected.d_weight, **tolerance)
    np.testing.assert_allclose(d_bias[expected.unit_ids], expected.d_bias, **tolerance)
    others = np.setdiff1d(np.arange(own.tree.n_units), expected.unit_ids)
    assert (d_weight[others] == 0).all()


@needs_device
@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_targets_on_the_device(name: str, dtype: str) -> None:
    """The host does not check them: some rows are left out, and one target is not a class."""
    _, host, hidden = layers(name, dtype)
    layer = cuda.HierarchicalSoftmax(host.tree, OnDevice(host.weight), OnDevice(host.bias))
    target = RNG.integers(host.n_classes, size=len(hidden))
    target[0] = -1
    loss, d_hidden, _, _ = layer.loss_with_grad(OnDevice(hidden), OnDevice(target))
    assert (d_hidden.to_numpy()[0] == 0).all()
    expected = host.loss_with_grad(hidden[1:], target[1:])
    np.testing.assert_allclose(loss.to_numpy(), expected.loss, rtol=1e-6)
    np.testing.assert_array_equal(
        layer.predict(OnDevice(hidden)).to_numpy(), host.topk(hidden, 1)[0][:, 0]
    )
    target[1] = host.n_classes
    loss, d_hidden, _, _ = layer.loss_with_grad(OnDevice(hidden), OnDevice(target))
    assert np.isnan(loss.to_numpy())
    assert np.isnan(d_hidden.to_numpy()[1]).all()
    assert np.isfinite(d_hidden.to_numpy()[2:]).all()
    log_prob = layer.log_prob(OnDevice(hidden), OnDevice(target)).to_numpy()
    assert log_prob[0] == 0
    assert np.isnan(log_prob[1])


@needs_device
@pytest.mark.parametrize("name", TREES)
def test_topk(name: str) -> None:
    own, layer, hidden = layers(name, np.float64)
    for k in {1, min(3, own.tree.n_classes), min(15, own.tree.n_classes)}:
        for min_prob in (0.0, 0.02):
            ids, log_probs = layer.topk(hidden, k, min_prob=min_prob)
            expected_ids, expected = own.topk(hidden, k, min_prob=min_prob)
            np.testing.assert_array_equal(ids, expected_ids)
            np.testing.assert_allclose(log_probs, expected, rtol=1e-10, atol=1e-12)


@needs_device
def test_topk_of_ties_and_nan() -> None:
    tree = TREES["huffman"]
    layer = cuda.HierarchicalSoftmax(tree, np.zeros((tree.n_units, 2), np.float32))
    own = boltzmax.HierarchicalSoftmax(tree, 2)
    hidden = np.array([[0, 1], [np.nan, 0]], np.float32)
    for k in (2, 40):
        for mine, other in zip(layer.topk(hidden, k), own.topk(hidden, k), strict=True):
            np.testing.assert_array_equal(mine, other)


@needs_device
def test_topk_of_classes_equal_after_rounding() -> None:
    tree = boltzmax.Tree.balanced(3, arity=3)
    weight, bias = np.zeros((3, 2), np.float32), np.array([1e-9, 3e-9, 2e-9], np.float32)
    layer = cuda.HierarchicalSoftmax(tree, weight, bias)
    for k, expected in ((1, [0]), (2, [0, 1]), (3, [0, 1, 2])):
        np.testing.assert_array_equal(layer.topk(np.zeros((1, 2), np.float32), k)[0], [expected])


def deep_tree(classes: int) -> boltzmax.Tree:
    """A chain: each inner node has one leaf, and the next inner node; the last has two leaves."""
    inner = np.arange(classes, 2 * classes - 1)
    parents = np.concatenate([inner, inner[-1:], [-1], inner[:-1]])
    return boltzmax.Tree.from_parents(parents)


@needs_device
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "tree",
    [
        boltzmax.Tree.balanced(600),
        boltzmax.Tree.balanced(500, arity=500),
        boltzmax.Tree.balanced(700, arity=26),
        deep_tree(200),
    ],
    ids=["binary", "flat", "two levels", "deep"],
)
def test_topk_of_many_classes(tree: boltzmax.Tree, dtype: str) -> None:
    rng = np.random.default_rng(4)
    own = boltzmax.HierarchicalSoftmax(tree, 3, dtype=dtype, bias=False)
    own.weight[:] = np.round(rng.standard_normal(own.weight.shape) * 2) / 2  # ties
    layer = cuda.HierarchicalSoftmax(tree, own.weight)
    hidden = np.array([[1, 0.5, -1], [0, 0, 0], [0, np.nan, 0]], dtype)
    every = own.log_prob_all(hidden)
    for k in (1, 130, tree.n_classes - 1, tree.n_classes):
        ids, log_probs = layer.topk(hidden, k)
        assert (ids[2] == -1).all()
        for row in range(2):
            chosen = ids[row]
            assert len(set(chosen)) == k
            # Sorted, of equal ones the lowest class first; and no other class is likelier.
            np.testing.assert_array_equal(np.lexsort((chosen, -log_probs[row])), np.arange(k))
            np.testing.assert_allclose(log_probs[row], every[row, chosen], rtol=1e-5)
            np.testing.assert_allclose(log_probs[row], -np.sort(-every[row])[:k], rtol=1e-5)


@needs_device
def test_ties_of_many_classes() -> None:
    """The lowest classes are taken, in whatever order the search meets them."""
    tree = boltzmax.Tree.balanced(512)
    layer = cuda.HierarchicalSoftmax(tree, np.zeros((tree.n_units, 2), np.float32))
    for k in (3, 200, 511):
        np.testing.assert_array_equal(layer.topk(np.zeros((1, 2)), k)[0], [np.arange(k)])


@needs_emulation
@pytest.mark.parametrize(
    "tree", [boltzmax.Tree.balanced(4096), boltzmax.Tree.balanced(4096, arity=4096)]
)
def test_comparisons_of_topk(tree: boltzmax.Tree) -> None:
    """A node takes a fold of 128 threads and some steps of a heap, a class steps of a heap.

    A search of all open nodes for the best would take millions of comparisons more.
    """
    n, inner, steps = tree.n_classes, tree.n_nodes - tree.n_classes, 12
    weight = np.random.default_rng(6).standard_normal((tree.n_units, 1)).astype(np.float32)
    layer = cuda.HierarchicalSoftmax(tree, weight)
    most = inner * (128 * 7 + 4 * steps) + n * steps * (steps + 1) / 4 + n * (2 * steps + 2)
    for k in (n - 1, n):
        made = comparisons(lambda k=k: layer.topk(np.ones((1, 1), np.float32), k))
        assert 0 < made <= most


@needs_device
def test_on_the_device() -> None:
    own, _, hidden = layers("huffman", np.float32)
    layer = cuda.HierarchicalSoftmax(own.tree, OnDevice(own.weight.copy()))
    target = np.arange(7)
    expected = boltzmax.HierarchicalSoftmax(own.tree, 9, bias=False)
    expected.weight[:] = own.weight
    loss, d_hidden, d_weight, d_bias = layer.loss_with_grad(OnDevice(hidden), OnDevice(target))
    np.testing.assert_allclose(loss.to_numpy(), expected.loss(hidden, target), rtol=1e-5)
    assert d_hidden.shape == hidden.shape
    assert d_weight.shape == own.weight.shape
    assert d_bias is None
    ids, _ = layer.topk(OnDevice(hidden), 2)
    np.testing.assert_array_equal(ids.to_numpy(), expected.topk(hidden, 2)[0])
    empty = layer.topk(OnDevice(np.zeros((0, 9), np.float32)), 2)[0]
    assert empty.shape == (0, 2)


@needs_device
def test_copies_leave_device_memory_out() -> None:
    _, layer, hidden = layers("huffman", np.float32)
    ids, _ = layer.topk(hidden, 2)
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(copied.topk(hidden, 2)[0], ids)


@needs_device
def test_concurrent_first_calls() -> None:
    _, layer, hidden = layers("huffman", np.float32)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: layer.topk(hidden, 2)[0], range(16)))
    for ids in found:
        np.testing.assert_array_equal(ids, found[0])


@needs_device
def test_refusals() -> None:
    _, layer, hidden = layers("balanced", np.float32)
    target = np.zeros(7, np.int64)
    with pytest.raises(TypeError, match="tree must be"):
        cuda.HierarchicalSoftmax("tree", layer.weight)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"hidden must be \(N, 9\), got shape \(7, 8\)"):
        layer.log_prob(hidden[:, :8], target)
    of_device = cuda.HierarchicalSoftmax(layer.tree, OnDevice(layer.weight))
    with pytest.raises(TypeError, match="weight and hidden must have one dtype"):
        of_device.log_prob(OnDevice(hidden.astype(np.float64)), OnDevice(target))
    with pytest.raises(TypeError, match="must both be NumPy arrays, or both be on a device"):
        layer.log_prob(OnDevice(hidden), OnDevice(target))
    with pytest.raises(TypeError, match="must both be NumPy arrays, or both be on a device"):
        layer.log_prob(hidden, OnDevice(target))
    with pytest.raises(ValueError, match="k must be from 1 to 13, got 14"):
        layer.topk(hidden, 14)
    with pytest.raises(ValueError, match="min_prob"):
        layer.topk(hidden, 1, min_prob=2)
    with pytest.raises(ValueError, match=r"one class for each row, shape \(7,\)"):
        layer.loss(hidden, target[:3])
    with pytest.raises(ValueError, match="reduction"):
        layer.loss_with_grad(hidden, target, reduction="none")
    short = cuda.HierarchicalSoftmax(layer.tree, layer.weight[:3])
    with pytest.raises(ValueError, match="for this tree"):
        short.log_prob(hidden, target)
