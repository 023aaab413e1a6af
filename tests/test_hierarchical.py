"""The probabilities of a layer on a tree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

import boltzmax
from boltzmax import HierarchicalSoftmax, Tree
from tree_samples import TREES, all_log_probs, chain, layer_on, node_log_probs, rows_for

Array = np.ndarray[Any, Any]

every_tree = pytest.mark.parametrize("tree", TREES.values(), ids=TREES.keys())
both = pytest.mark.parametrize("dtype", ["float32", "float64"])


def exact(layer: HierarchicalSoftmax, h: Array, target: int) -> tuple[mpmath.mpf, float]:
    """log p(target), and the error that rounded scores may cause.

    A score is a sum of D products and a bias: at most D + 2 roundings of half an ULP. A choice has
    at most twice the error of its scores. Every choice may add 4 ULP of a double.
    """
    tree, total, bound = layer.tree, mpmath.mpf(0), 0.0
    path = tree.leaf_path(target)
    bias = np.zeros(tree.n_units) if layer.bias is None else layer.bias
    for node, below in zip(path[:-1].tolist(), path[1:].tolist(), strict=True):
        first, last = tree.unit_offset[node - tree.n_classes :][:2]
        z, size = [], 0.0
        for unit in range(first, last):
            terms = [
                mpmath.mpf(float(a)) * float(b) for a, b in zip(layer.weight[unit], h, strict=1)
            ]
            terms.append(mpmath.mpf(float(bias[unit])))
            z.append(mpmath.fsum(terms))
            size = max(size, float(sum(map(abs, terms))))
        if len(z) == 1:
            z.append(mpmath.mpf(0))
        if z:
            log_p = z[tree.slot[below]] - mpmath.log(mpmath.fsum(map(mpmath.exp, z)))
            total += log_p
            unit_roundoff = float(np.finfo(layer.dtype).eps) / 2
            bound += 2 * (len(h) + 2) * unit_roundoff * size
            bound += 4 * 2.0**-52 * (1e-300 + float(abs(log_p)))
    return total, bound + float(np.finfo(layer.dtype).eps) / 2 * float(abs(total))


@both
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1000.0])
@pytest.mark.parametrize("name", ["ternary", "mixed", "chain", "two"])
def test_log_prob_is_accurate(name: str, scale: float, dtype: str, isa: str) -> None:
    layer = layer_on(TREES[name], dtype=dtype)
    hidden, target = rows_for(layer, 6, scale=scale)
    with mpmath.workdps(60 + int(scale)):
        for h, c, got in zip(hidden, target, layer.log_prob(hidden, target), strict=True):
            want, bound = exact(layer, h, c)
            assert abs(want - float(got)) <= bound, (want, got)


@both
def test_large_scores(dtype: str, isa: str) -> None:
    """Scores of 1,000, where exp overflows: no warning, no NaN, and all digits of tiny results."""
    layer = HierarchicalSoftmax(Tree.balanced(2), 1, bias=False, dtype=dtype)
    layer.weight[:] = 1
    z = np.array([[1000.0], [-1000.0], [40.0], [-40.0], [700.0], [0.0]], dtype)
    got = layer.log_prob(z, np.zeros(6, int))
    want = [-np.log1p(np.exp(-x)) if x > -1 else x - np.log1p(np.exp(x)) for x in z[:, 0].tolist()]
    np.testing.assert_allclose(
        got, np.array(want, dtype), rtol=2 * np.finfo(dtype).eps, atol=1e-323
    )
    assert got[2] < 0  # -exp(-40), not 0
    flat = HierarchicalSoftmax(Tree.balanced(3, 3), 3, bias=False, dtype=dtype)
    flat.weight[:] = np.eye(3)
    np.testing.assert_array_equal(
        flat.log_prob_all(np.array([[1000.0, -1000.0, 0.0]])), [[0, -2000, -1000]]
    )


@both
@every_tree
def test_probabilities_sum_to_one(tree: Tree, dtype: str, isa: str) -> None:
    """Within a few ULP for every level."""
    layer = layer_on(tree, dtype=dtype)
    for scale in (0.1, 3.0, 300.0):
        log_probs = layer.log_prob_all(rows_for(layer, 20, scale=scale)[0])
        assert log_probs.dtype == dtype
        assert log_probs.max() <= 0
        total = np.exp(log_probs.astype(np.longdouble)).sum(axis=1)
        # A log-probability l is rounded by |l| eps / 2, and p |l| is less than 1 / e.
        bound = np.finfo(dtype).eps * (1 + np.log(tree.n_classes)) + 4e-16 * (tree.depth + 1)
        np.testing.assert_allclose(total.astype(float), 1, rtol=0, atol=bound)


@both
@every_tree
@pytest.mark.parametrize("bias", [True, False])
def test_all_methods_agree(tree: Tree, dtype: str, bias: bool, isa: str) -> None:
    layer = layer_on(tree, dtype=dtype, bias=bias)
    hidden, target = rows_for(layer, 9)
    every = layer.log_prob_all(hidden)
    nodes = layer.node_log_prob(hidden)
    for c in range(tree.n_classes):
        np.testing.assert_array_equal(layer.log_prob(hidden, np.full(9, c)), every[:, c])
    np.testing.assert_array_equal(nodes[:, : tree.n_classes], every)
    np.testing.assert_allclose(every, all_log_probs(layer, hidden), rtol=3e-5, atol=3e-6)
    loss = -every[range(9), target].mean(dtype=float)
    assert layer.loss(hidden, target) == pytest.approx(loss, rel=1e-6)
    ids, log_probs = layer.topk(hidden, tree.n_classes)
    np.testing.assert_array_equal(np.take_along_axis(every, ids, 1), log_probs)
    np.testing.assert_array_equal(layer.predict(hidden), every.argmax(1))


@both
@every_tree
def test_inner_nodes_sum_their_leaves(tree: Tree, dtype: str) -> None:
    layer = layer_on(tree, dtype=dtype)
    hidden = rows_for(layer, 9)[0]
    nodes = layer.node_log_prob(hidden)
    every = layer.log_prob_all(hidden).astype(float)
    below: dict[int, list[int]] = {}
    for c in range(tree.n_classes):
        for node in tree.ancestors(c).tolist():
            below.setdefault(node, []).append(c)
    assert (nodes[:, tree.root] == 0).all()
    for node, leaves in below.items():
        want = np.logaddexp.reduce(every[:, leaves], axis=1)
        np.testing.assert_allclose(nodes[:, node], want, rtol=4 * np.finfo(dtype).eps, atol=4e-7)
    np.testing.assert_allclose(nodes[0], node_log_probs(layer, hidden[0]), rtol=3e-5, atol=3e-6)


@pytest.mark.parametrize("n_features", [1, 2, 3, 8, 15, 16, 17, 31, 33, 64, 65, 300])
def test_any_number_of_features(n_features: int, isa: str) -> None:
    for tree in (TREES["mixed"], TREES["huffman"]):
        layer = layer_on(tree, n_features)
        hidden = rows_for(layer, 5)[0]
        every = layer.log_prob_all(hidden)
        np.testing.assert_allclose(every, all_log_probs(layer, hidden), rtol=1e-4, atol=1e-5)
        for c in range(tree.n_classes):
            np.testing.assert_array_equal(layer.log_prob(hidden, [c] * 5), every[:, c])


@both
def test_bits_depend_neither_on_batch_nor_on_threads(
    dtype: str, isa: str, threads: Callable[[int], None]
) -> None:
    layer = layer_on(Tree.huffman(1 / np.arange(1, 301), arity=3), 50, dtype)
    hidden, target = rows_for(layer, 700)
    weight = np.linspace(0, 2, 700)

    def answers() -> list[bytes]:
        gradient = layer.loss_with_grad(hidden, target, weight)
        found = layer.topk_visited(hidden, 4)
        several = [
            *gradient[1:],
            *found,
            *layer.topk(hidden, 4, beam=3),
            *layer.predict_node(hidden, 0.3),
            layer.log_prob(hidden, target),
            layer.log_prob_all(hidden),
            layer.sample(hidden, 3),
        ]
        return [a.tobytes() for a in several if a is not None] + [repr(gradient.loss).encode()]

    threads(1)
    expected = answers()
    for n in (2, 3):
        threads(n)
        assert answers() == expected
    every, each = layer.log_prob_all(hidden), layer.log_prob(hidden, target)
    for rows in (slice(0, 1), slice(3, 10), slice(699, None)):
        np.testing.assert_array_equal(layer.log_prob_all(hidden[rows]), every[rows])
        np.testing.assert_array_equal(layer.log_prob(hidden[rows], target[rows]), each[rows])


def test_deep_and_wide_trees() -> None:
    deep = layer_on(chain(100_000), 2)
    hidden = rows_for(deep, 2)[0]
    assert deep.log_prob(hidden, [99_999, 0]).shape == (2,)
    sums = np.exp(deep.log_prob_all(hidden).astype(float)).sum(1)
    np.testing.assert_allclose(sums, 1, atol=1e-6)
    wide = layer_on(Tree.from_parents([100_000] * 100_000 + [-1]), 2)
    scores = rows_for(wide, 2)[0] @ wide.weight.T + wide.bias
    want = boltzmax.log_softmax(scores.astype(float))
    np.testing.assert_allclose(wide.log_prob_all(rows_for(wide, 2)[0]), want, rtol=1e-5)
