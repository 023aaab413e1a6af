"""Trees and layers for tests, with slow, simple reference implementations."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from boltzmax import HierarchicalSoftmax, Tree
from boltzmax._lib.output_layer import OutputLayer

Array = NDArray[Any]

TAXONOMY = Tree.from_paths(["animal/cat", "animal/dog", "plant"])
PATHS = ["a/b/x", "a/b/y", "a/b/z", "c/d", "e/f/g/h", "i", "k/l", "k/m"]  # nodes of 1 to 5 children


def chain(n: int) -> Tree:
    """The deepest binary tree of n classes: each inner node has a leaf and the rest."""
    parents = np.empty(2 * n - 1, np.int64)
    parents[:n] = n + np.minimum(np.arange(n), n - 2)
    parents[n:] = np.arange(n - 1, 2 * n - 2)
    parents[n] = -1
    return Tree.from_parents(parents)


TREES = {
    "huffman": Tree.huffman(1 / np.arange(1, 24)),
    "ternary": Tree.huffman(1 / np.arange(1, 24), arity=3),
    "five": Tree.balanced(23, arity=5),
    "flat": Tree.from_parents([37] * 37 + [-1]),
    "mixed": Tree.from_paths(PATHS),
    "chain": chain(20),
    "one": Tree.balanced(1),
    "two": Tree.balanced(2),
}


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Any tree: every node but the root is a child of an earlier one."""
    n = draw(st.integers(2, 30))
    parents = [-1, *(draw(st.integers(0, i - 1)) for i in range(1, n))]
    return Tree.from_parents(parents)


def depth_first(tree: Tree) -> Iterator[int]:
    stack = [tree.n_classes]
    while stack:
        node = stack.pop()
        yield node
        stack += tree.children(node)[::-1].tolist()


def layer_on(
    tree: Tree, n_features: int = 7, dtype: Any = np.float32, bias: bool = True, seed: int = 0
) -> HierarchicalSoftmax:
    """A layer whose weights and biases are all different."""
    layer = HierarchicalSoftmax(tree, n_features, bias=bias, dtype=dtype, seed=seed)
    if layer.bias is not None:
        layer.bias[:] = np.random.default_rng(seed + 1).standard_normal(tree.n_units)
    return layer


def rows_for(layer: OutputLayer, n: int, seed: int = 2, scale: float = 1.0) -> tuple[Array, Array]:
    """Hidden vectors and targets."""
    rng = np.random.default_rng(seed)
    hidden = scale * rng.standard_normal((n, layer.n_features))
    return hidden.astype(layer.dtype), rng.integers(0, layer.n_classes, n)


def _bias(layer: HierarchicalSoftmax) -> Array:
    return np.zeros(layer.tree.n_units) if layer.bias is None else layer.bias.astype(float)


def node_log_probs(layer: HierarchicalSoftmax, h: Array) -> Array:
    """The log-probability of every node for one hidden vector, in float64."""
    tree, weight, bias = layer.tree, layer.weight.astype(float), _bias(layer)
    out = np.zeros(tree.n_nodes)
    for node in range(tree.n_classes, tree.n_nodes):
        first, last = tree.unit_offset[node - tree.n_classes :][:2]
        z = weight[first:last] @ h.astype(float) + bias[first:last]
        if len(z) == 1:
            each = -np.logaddexp(0, [-z[0], z[0]])
        else:
            each = z - np.logaddexp.reduce(z) if len(z) else np.zeros(1)
        out[tree.children(node)] = out[node] + each
    return out


def all_log_probs(layer: HierarchicalSoftmax, hidden: Array) -> Array:
    return np.array([node_log_probs(layer, h)[: layer.tree.n_classes] for h in hidden])


def gradient(
    layer: HierarchicalSoftmax, hidden: Array, target: Array, scale: Array
) -> tuple[Array, Array, Array, Array]:
    """Losses, d_hidden, dense d_weight and d_bias of sum_i scale_i loss_i, in float64."""
    tree, weight, bias = layer.tree, layer.weight.astype(float), _bias(layer)
    d_weight, d_bias = np.zeros(weight.shape), np.zeros(bias.shape)
    losses, d_hidden = np.zeros(len(hidden)), np.zeros(hidden.shape)
    for r, h in enumerate(hidden.astype(float)):
        path = tree.leaf_path(target[r])
        for node, below in itertools.pairwise(path):
            first, last = tree.unit_offset[node - tree.n_classes :][:2]
            units, slot = slice(first, last), tree.slot[below]
            z = weight[units] @ h + bias[units]
            if len(z) == 1:
                sign = 1 if slot == 0 else -1
                losses[r] += np.logaddexp(0, -sign * z[0])
                gain = np.array([-sign * np.exp(-np.logaddexp(0, sign * z[0]))])
            elif len(z):
                log_p = z - np.logaddexp.reduce(z)
                losses[r] -= log_p[slot]
                gain = np.exp(log_p) - (np.arange(len(z)) == slot)
            else:
                continue
            gain *= scale[r]
            d_weight[units] += np.outer(gain, h)
            d_bias[units] += gain
            d_hidden[r] += gain @ weight[units]
    return losses, d_hidden, d_weight, d_bias


def top(log_probs: Array, k: int, min_log_prob: float = -np.inf) -> tuple[Array, Array]:
    """The k largest of each row; ties go to the lower class."""
    order = np.argsort(-log_probs, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(log_probs, order, 1)
    enough = best >= min_log_prob
    return np.where(enough, order, -1), np.where(enough, best, -np.inf)
