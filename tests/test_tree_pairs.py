"""Grouped steps of neighbouring rows, and pair steps, which update both sides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from boltzmax import HierarchicalSoftmax, Tree
from tree_samples import TREES, gradient, layer_on

both = pytest.mark.parametrize("dtype", ["float32", "float64"])
TOGETHER = 16


def runs(target: Any, most: int) -> list[slice]:
    """Runs of neighbouring rows with the same target, at most `most` rows each."""
    out, begin = [], 0
    for end in range(1, len(target) + 1):
        if end == len(target) or target[end] != target[begin] or end - begin == most:
            out.append(slice(begin, end))
            begin = end
    return out


def targets_in_runs(tree: Tree) -> Any:
    """Runs of every length up to more than the longest group."""
    rng = np.random.default_rng(3)
    return np.concatenate(
        [np.full(length, rng.integers(tree.n_classes)) for length in range(1, TOGETHER + 3)]
    )


def twin(layer: HierarchicalSoftmax) -> HierarchicalSoftmax:
    """The same layer in float64, to be trained by the reference."""
    slow = HierarchicalSoftmax(layer.tree, layer.n_features, dtype="float64")
    slow.weight[:] = layer.weight
    slow.bias = None if layer.bias is None else layer.bias.astype(float)
    return slow


def descend(slow: HierarchicalSoftmax, hidden: Any, target: Any, rate: float) -> tuple[Any, Any]:
    """One step in NumPy; returns the losses and the gradient of the hidden vectors."""
    losses, d_hidden, d_weight, d_bias = gradient(slow, hidden, target, np.ones(len(target)))
    slow.weight -= rate * d_weight
    if slow.bias is not None:
        slow.bias -= rate * d_bias
    return losses, d_hidden


def near(dtype: str) -> dict[str, float]:
    return {"rtol": 1e-4, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-11, "atol": 1e-13}


@both
@pytest.mark.parametrize("tree", ["mixed", "ternary", "huffman"])
@pytest.mark.parametrize("features", [1, 7, 16, 33, 67, 128, 200])
def test_grouped(tree: str, features: int, dtype: str, isa: str) -> None:
    layer = layer_on(TREES[tree], features, dtype)
    layer.weight /= np.sqrt(features)
    slow = twin(layer)
    target = targets_in_runs(layer.tree)
    hidden = np.random.default_rng(4).standard_normal((len(target), features)).astype(dtype)
    parts = [descend(slow, hidden[run], target[run], 0.05) for run in runs(target, TOGETHER)]
    loss, d_hidden = layer.sgd_step(hidden, target, 0.05, update="grouped")
    assert loss == pytest.approx(np.concatenate([p[0] for p in parts]).mean(), rel=1e-5)
    np.testing.assert_allclose(d_hidden, np.concatenate([p[1] for p in parts]), **near(dtype))
    np.testing.assert_allclose(layer.weight, slow.weight, **near(dtype))
    np.testing.assert_allclose(layer.bias, slow.bias, **near(dtype))


@both
@pytest.mark.parametrize("update", ["sequential", "grouped", "hogwild"])
@pytest.mark.parametrize("features", [1, 19, 128])
@pytest.mark.parametrize("bias", [True, False])
def test_pairs(features: int, update: str, dtype: str, bias: bool, isa: str) -> None:
    """A vector that occurs several times in a group takes all of its steps."""
    layer = layer_on(TREES["mixed"], features, dtype, bias)
    layer.weight /= np.sqrt(features)
    slow = twin(layer)
    rng = np.random.default_rng(5)
    target = targets_in_runs(layer.tree)
    ids = rng.integers(0, 9, len(target))
    vectors = rng.standard_normal((9, features)).astype(dtype)
    learnt, losses = vectors.astype(float), []
    for run in runs(target, 1 if update == "sequential" else TOGETHER):
        each, d_hidden = descend(slow, learnt[ids[run]], target[run], 0.05)
        losses.append(each)
        np.add.at(learnt, ids[run], -0.05 * d_hidden)
    loss = layer.pair_step(vectors, ids, target, 0.05, update=update)
    assert loss == pytest.approx(np.concatenate(losses).mean(), rel=1e-5)
    np.testing.assert_allclose(vectors, learnt, **near(dtype))
    np.testing.assert_allclose(layer.weight, slow.weight, **near(dtype))
    if layer.bias is not None:
        np.testing.assert_allclose(layer.bias, slow.bias, **near(dtype))


def test_pairs_have_the_same_bits_every_time() -> None:
    rng = np.random.default_rng(6)
    target, ids = rng.integers(0, 500, 3000), rng.integers(0, 50, 3000)
    results = []
    for cut in (3000, 1000):
        layer = HierarchicalSoftmax(Tree.huffman(np.arange(1, 501)), 24, seed=1)
        vectors = np.random.default_rng(7).standard_normal((50, 24), np.float32)
        for begin in range(0, 3000, cut):
            part = slice(begin, begin + cut)
            layer.pair_step(vectors, ids[part], target[part], 0.1)
        results.append((vectors, layer.weight))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


def test_pairs_learn() -> None:
    """Each of 40 words is followed by the next one."""
    ids = np.random.default_rng(8).integers(0, 40, 20000)
    target = (ids + 1) % 40
    layer = HierarchicalSoftmax(Tree.balanced(40), 16)
    vectors = np.random.default_rng(9).standard_normal((40, 16), np.float32)
    first = layer.pair_step(vectors, ids, target, 0.2)
    assert layer.pair_step(vectors, ids, target, 0.2) < first / 2
    np.testing.assert_array_equal(layer.predict(vectors), (np.arange(40) + 1) % 40)


def test_no_pairs() -> None:
    layer = layer_on(TREES["mixed"])
    assert np.isnan(layer.pair_step(np.ones((2, 7), np.float32), [], [], 0.1))


def test_odd_pairs() -> None:
    """Invalid pairs are refused, and nothing changes."""
    layer = layer_on(TREES["mixed"])
    before = layer.weight.copy()
    vectors = np.ones((3, 7), np.float32)
    refusals: list[tuple[type[Exception], str, Any, Any, Any]] = [
        (TypeError, "vectors must be an ndarray of float32", vectors.astype(float), [0], [0]),
        (TypeError, "vectors must be an ndarray of float32", vectors.tolist(), [0], [0]),
        (ValueError, r"vectors must be \(M, 7\), got shape \(3, 6\)", vectors[:, 1:], [0], [0]),
        (ValueError, "C-contiguous and writeable", np.asfortranarray(vectors), [0], [0]),
        (ValueError, "share memory", layer.weight, [0], [0]),
        (IndexError, "ids: 3 at position 1 is out of range for 3 vectors", vectors, [0, 3], [0, 0]),
        (IndexError, "ids: -1 at position 0", vectors, [-1], [0]),
        (TypeError, "ids must be integers", vectors, [0.5], [0]),
        (TypeError, "ids must be integers", vectors, [[0]], [0]),
        (ValueError, "target", vectors, [0, 1], [0]),
        (IndexError, "target", vectors, [0], [layer.tree.n_classes]),
    ]
    for error, message, table, ids, target in refusals:
        with pytest.raises(error, match=message):
            layer.pair_step(table, ids, target, 0.1)
    read_only = vectors.copy()
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match="C-contiguous and writeable"):
        layer.pair_step(read_only, [0], [0], 0.1)
    with pytest.raises(ValueError, match="lr must be finite"):
        layer.pair_step(vectors, [0], [0], np.nan)
    with pytest.raises(ValueError, match="update must be one of"):
        layer.pair_step(vectors, [0], [0], 0.1, update="batch")
    np.testing.assert_array_equal(layer.weight, before)
    assert (vectors == 1).all()
