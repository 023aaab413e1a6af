"""The structure of trees: construction, queries and errors."""

from __future__ import annotations

import heapq
import itertools
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltzmax import Tree
from tree_samples import TREES, chain

every_tree = pytest.mark.parametrize("tree", TREES.values(), ids=TREES.keys())


def check(tree: Tree) -> None:
    """Check that the arrays are consistent."""
    n = tree.n_classes
    assert tree.n_nodes == n + tree.n_inner == len(tree.parent) == len(tree.slot)
    assert tree.root == n
    assert tree.parent[n] == -1
    assert tree.slot[n] == tree.node_depth[n] == 0
    assert len(tree.child) == tree.n_nodes - 1
    assert len(tree.child_offset) == len(tree.unit_offset) == tree.n_inner + 1
    np.testing.assert_array_equal(np.sort(tree.child), np.delete(np.arange(tree.n_nodes), n))
    assert (np.diff(tree.parent[n:]) >= 0).all(), "not breadth first"
    counts = np.diff(tree.child_offset)
    assert counts.min() >= 1
    np.testing.assert_array_equal(
        np.diff(tree.unit_offset), np.where(counts == 1, 0, np.where(counts == 2, 1, counts))
    )
    above = np.repeat(np.arange(n, tree.n_nodes), counts)
    np.testing.assert_array_equal(tree.parent[tree.child], above)
    np.testing.assert_array_equal(
        tree.slot[tree.child],
        np.arange(len(tree.child)) - np.repeat(tree.child_offset[:-1], counts),
    )
    np.testing.assert_array_equal(tree.node_depth[tree.child], tree.node_depth[above] + 1)
    assert tree.depth == tree.node_depth[:n].max()
    assert tree.arity == counts.max()
    assert tree.n_units == tree.unit_offset[-1]
    assert tree.child_offset[0] == tree.unit_offset[0] == 0


@every_tree
def test_arrays_are_consistent(tree: Tree) -> None:
    check(tree)
    for name in ("parent", "slot", "node_depth", "child"):
        assert getattr(tree, name).dtype == np.int32
    for name in ("child_offset", "unit_offset"):
        assert getattr(tree, name).dtype == np.int64


@every_tree
def test_paths(tree: Tree) -> None:
    for node in range(tree.n_nodes):
        way = tree.ancestors(node).tolist()
        assert len(way) == tree.node_depth[node]
        for below, above in itertools.pairwise([node, *way]):
            assert below in tree.children(above)
        if node < tree.n_classes:
            assert tree.children(node).size == 0
            assert tree.leaf_path(node).tolist() == [*way[::-1], node]
    assert tree.ancestors(tree.root).size == 0


@every_tree
def test_nodes_out_of_range(tree: Tree) -> None:
    for node in (-1, tree.n_nodes, 2**40, -(2**70)):
        for method in (tree.children, tree.ancestors, tree.leaf_path):
            with pytest.raises(IndexError, match=str(node)):
                method(node)
    with pytest.raises(IndexError, match=f"class {tree.root} is out of range"):
        tree.leaf_path(tree.root)
    for odd in (0.0, "0", None):
        with pytest.raises(TypeError):
            tree.children(odd)  # type: ignore[arg-type]


# ---- huffman


def huffman(counts: list[float], arity: int) -> tuple[float, int]:
    """The least sum of counts times depths, and the depth of the shallowest optimal tree."""
    heap: list[tuple[float, int]] = [(c, 0) for c in counts]
    heap += [(0, -1)] * (-(len(heap) - 1) % (arity - 1))
    heapq.heapify(heap)
    cost = 0.0
    while len(heap) > 1:
        taken = [heapq.heappop(heap) for _ in range(arity)]
        merged = sum(c for c, _ in taken)
        cost += merged
        heapq.heappush(heap, (merged, 1 + max(d for _, d in taken)))
    return cost, heap[0][1]


@given(
    st.lists(st.integers(0, 30), min_size=2, max_size=60).filter(any),
    st.sampled_from([2, 3, 4, 7, 64, 2**20]),
)
def test_huffman_is_optimal(counts: list[int], arity: int) -> None:
    tree = Tree.huffman(counts, arity)
    check(tree)
    assert tree.n_classes == len(counts)
    assert 2 <= tree.arity <= arity
    cost, depth = huffman([float(c) for c in counts], min(arity, len(counts)))
    if arity <= len(counts):
        assert tree.expected_depth(counts) * sum(counts) == pytest.approx(cost, rel=1e-12)
    if arity == 2:
        assert tree.depth == depth


@given(st.lists(st.floats(0, 1e300), min_size=2, max_size=40), st.integers(2, 5))
def test_frequent_classes_are_nearer_the_root(counts: list[float], arity: int) -> None:
    tree = Tree.huffman(counts, arity)
    depth = tree.node_depth[: tree.n_classes]
    for a, b in itertools.combinations(range(len(counts)), 2):
        if counts[a] != counts[b]:
            low, high = (a, b) if counts[a] < counts[b] else (b, a)
            assert depth[low] >= depth[high]


@pytest.mark.parametrize("counts", [[0] * 100, [1] * 100, [0.5] * 100])
@pytest.mark.parametrize(("arity", "depth"), [(2, 7), (3, 5), (10, 2), (100, 1), (1000, 1)])
def test_ties_are_shallow(counts: list[float], arity: int, depth: int) -> None:
    assert Tree.huffman(counts, arity).depth == depth


def test_huffman_of_extremes() -> None:
    assert Tree.huffman([3]).n_units == 0
    assert Tree.huffman([3]).depth == 1
    assert Tree.huffman(2.0 ** -np.arange(1000)).depth == 999
    check(Tree.huffman([np.finfo(float).max] * 9))
    assert Tree.huffman(np.array([True, False])) == Tree.balanced(2)


@pytest.mark.filterwarnings("error")
def test_expected_depth() -> None:
    tree = chain(4)
    assert tree.expected_depth([1, 1, 1, 1]) == 2.25
    assert tree.expected_depth([0, 0, 0, 5]) == 3
    assert tree.expected_depth([7, 0, 0, 0]) == 1
    with pytest.raises(ValueError, match="4 elements, got 3"):
        tree.expected_depth([1, 1, 1])
    with pytest.raises(ValueError, match="all be zero"):
        tree.expected_depth([0] * 4)


@pytest.mark.filterwarnings("error")
def test_expected_depth_under_huge_counts() -> None:
    assert chain(4).expected_depth([1e308] * 4) == pytest.approx(2.25)


@pytest.mark.parametrize(
    ("counts", "error", "message"),
    [
        ([], ValueError, "one per class"),
        ([[1, 2]], ValueError, "(1, 2)"),
        ([1, -1], ValueError, "-1.0 for class 1"),
        ([1, np.nan], ValueError, "nan for class 1"),
        ([np.inf, 1], ValueError, "inf for class 0"),
        (["a", "b"], TypeError, "counts must be real numbers"),
        ([1j], TypeError, "complex"),
        (np.ma.array([1, 2], mask=[0, 1]), TypeError, "masked"),
    ],
)
def test_invalid_counts(counts: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        Tree.huffman(counts)


@pytest.mark.parametrize("arity", [1, 0, -2, 2**20 + 1, 2**70])
def test_arity_out_of_range(arity: int) -> None:
    for build in (lambda: Tree.huffman([1, 2], arity), lambda: Tree.balanced(2, arity)):
        with pytest.raises(ValueError, match=f"got {arity}"):
            build()
    with pytest.raises(TypeError):
        Tree.balanced(2, 2.0)  # type: ignore[arg-type]


# ---- balanced


@given(st.integers(1, 300), st.integers(2, 20))
def test_balanced(n: int, arity: int) -> None:
    tree = Tree.balanced(n, arity)
    check(tree)
    depths = tree.node_depth[:n]
    assert np.ptp(depths) <= 1
    assert tree.arity == min(n, arity)
    least = max(1, next(d for d in itertools.count() if arity**d >= n))
    assert tree.depth == least


@pytest.mark.parametrize("n", [0, -1, 2**30 + 1, 2**70])
def test_balanced_of_invalid_sizes(n: int) -> None:
    with pytest.raises(ValueError, match=f"got {n}"):
        Tree.balanced(n)


# ---- from_parents


@given(st.data())
def test_any_parents(data: st.DataObject) -> None:
    """A randomly renumbered tree keeps its shape and the order of its leaves."""
    n = data.draw(st.integers(2, 40))
    above = [-1, *(data.draw(st.integers(0, i - 1)) for i in range(1, n))]
    number = data.draw(st.permutations(range(n)))
    parents = np.empty(n, np.int64)
    for i, p in enumerate(above):
        parents[number[i]] = -1 if p < 0 else number[p]
    names = [f"node {i}" for i in range(n)]
    tree = Tree.from_parents(parents, names=names)
    check(tree)
    assert tree.names is not None
    origin = [int(name[5:]) for name in tree.names]
    leaves = [i for i in range(n) if i not in parents]
    assert origin[: tree.n_classes] == leaves
    for node, old in enumerate(origin):
        assert parents[old] == (-1 if node == tree.root else origin[tree.parent[node]])
    again = Tree.from_parents(tree.parent, names=tree.names)
    assert again == tree


@pytest.mark.parametrize(
    ("parents", "message"),
    [
        ([-1], "two nodes at least, got 1"),
        ([0], "two nodes at least, got 1"),
        ([-1, -1], "two roots, node 0 and node 1"),
        ([2, 2, -1, -1], "two roots, node 2 and node 3"),
        ([1, 0], "no root"),
        ([0, 0], "no root"),
        ([-1, 1], "a cycle"),
        ([-1, 0, 3, 2], "a cycle: the root cannot be reached from node 2"),
        ([4, 4, 3, 2, -1], "a cycle"),
        ([2, 3, -1], "node 1 has the parent 3"),
        ([2, -2, -1], "node 1 has the parent -2"),
        ([2, 2**40, -1], "node 1 has the parent 1099511627776"),
        ([2**32, -1], "node 0 has the parent"),
        ([[1, -1]], "one dimension, got shape (1, 2)"),
        (3, "one dimension, got shape ()"),
        (np.array([2**64 - 1, 0], np.uint64), "out of range"),
        (np.zeros(0, np.int64), "two nodes at least, got 0"),
    ],
)
def test_invalid_parents(parents: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Tree.from_parents(parents)


def test_no_parents_at_all() -> None:
    """Fewer than two nodes are a ValueError, even as a list."""
    with pytest.raises(ValueError, match="two nodes"):
        Tree.from_parents([])


@pytest.mark.parametrize("parents", [[1.0, -1.0], [True, False], ["1", "-1"], [None, 1], [2**70]])
def test_parents_that_are_not_integers(parents: Any) -> None:
    with pytest.raises(TypeError, match="parents must be integers"):
        Tree.from_parents(parents)


def test_masked_parents() -> None:
    """Masked arrays are refused, as for counts, targets and hidden vectors."""
    with pytest.raises(TypeError, match="masked"):
        Tree.from_parents(np.ma.array([2, 2, -1], mask=[1, 0, 0]))


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", ">i4", ">i8"])
def test_parents_of_any_dtype(dtype: str) -> None:
    array = np.array([3, 3, 4, 4, -1], dtype)
    assert Tree.from_parents(array) == Tree.from_parents([3, 3, 4, 4, -1])
    assert Tree.from_parents(np.repeat(array, 2)[::2]) == Tree.from_parents(array)


def test_names() -> None:
    tree = Tree.from_parents([1, 2, -1, 1], names=["a", "b", "c", "d"])
    assert tree.names == ("a", "d", "c", "b")
    with pytest.raises(ValueError, match="2 nodes need as many names, got 1"):
        Tree.from_parents([1, -1], names=["a"])
    with pytest.raises(TypeError, match="names must be strings, got 3"):
        Tree.from_parents([1, -1], names=["a", 3])  # type: ignore[list-item]


# ---- size


def test_deep_chains() -> None:
    tree = chain(100_000)
    check(tree)
    assert tree.depth == 99_999
    assert tree.leaf_path(99_999).size == 100_000
    single = Tree.from_parents(np.r_[np.arange(1, 100_000), -1])
    assert (single.n_classes, single.n_units, single.depth) == (1, 0, 99_999)


def test_million_classes() -> None:
    check(Tree.balanced(10**6))
    counts = 1 / np.arange(1.0, 10**6 + 1)
    tree = Tree.huffman(counts, arity=4)
    p = counts / counts.sum()
    entropy = -(p @ np.log(p)) / np.log(4)
    assert entropy <= tree.expected_depth(counts) < entropy + 1


# ---- immutable


def test_arrays_are_read_only() -> None:
    tree = Tree.balanced(5)
    for name in ("parent", "slot", "node_depth", "child", "child_offset", "unit_offset"):
        array = getattr(tree, name)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True
    with pytest.raises(ValueError, match="read-only"):
        tree.children(tree.root)[0] = 1
    with pytest.raises(TypeError, match=r"Tree\.huffman"):
        Tree()


@pytest.mark.parametrize(
    "name", ["parent", "slot", "child", "child_offset", "unit_offset", "names"]
)
def test_attributes_cannot_be_replaced(name: str) -> None:
    """The core trusts them: replacements of the same size could make it read out of bounds."""
    tree = Tree.balanced(5)
    with pytest.raises(AttributeError):
        setattr(tree, name, getattr(tree, name))


def test_equality_and_hash() -> None:
    tree = Tree.balanced(5)
    assert tree == Tree.balanced(5)
    assert hash(tree) == hash(Tree.balanced(5))
    assert tree != Tree.balanced(6)
    assert tree != Tree.balanced(5, arity=3)
    assert tree != "a tree"
    named = Tree.from_parents([1, -1], names=["a", "b"])
    assert named != Tree.from_parents([1, -1])
    assert named != Tree.from_parents([1, -1], names=["a", "c"])
    assert len({tree, Tree.balanced(5), named}) == 2
    assert repr(tree) == "<Tree of 5 classes, 4 inner nodes, depth 3>"
