"""The likeliest classes, samples, and nodes that are certain enough."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltzmax import HierarchicalSoftmax, Tree
from tree_samples import TREES, chain, layer_on, rows_for, top

every_tree = pytest.mark.parametrize("tree", TREES.values(), ids=TREES.keys())
CHOICES = {name: tree for name, tree in TREES.items() if tree.n_units > 0}
every_choice = pytest.mark.parametrize("tree", CHOICES.values(), ids=CHOICES.keys())
both = pytest.mark.parametrize("dtype", ["float32", "float64"])


def check_top(layer: HierarchicalSoftmax, hidden: Any, k: int, **options: Any) -> None:
    ids, log_probs = layer.topk(hidden, k, **options)
    want = top(layer.log_prob_all(hidden), k)
    assert (ids.dtype, log_probs.dtype) == (np.int64, layer.dtype)
    np.testing.assert_array_equal(ids, want[0])
    np.testing.assert_array_equal(log_probs, want[1])


@both
@every_tree
@pytest.mark.parametrize("scale", [0.0, 1e-7, 1.0, 100.0])
def test_topk_is_exact(tree: Tree, dtype: str, scale: float, isa: str) -> None:
    layer = layer_on(tree, dtype=dtype)
    hidden = rows_for(layer, 8, scale=scale)[0]
    for k in {1, min(3, tree.n_classes), tree.n_classes}:
        check_top(layer, hidden, k)
        check_top(layer, hidden, k, beam=tree.n_nodes)
        check_top(layer, hidden, k, beam=2**62)
    np.testing.assert_array_equal(layer.predict(hidden), layer.log_prob_all(hidden).argmax(1))


@both
@every_tree
@pytest.mark.parametrize("bias", [True, False])
def test_ties_go_to_the_lower_class(tree: Tree, dtype: str, bias: bool) -> None:
    """Zero weights: leaves of one depth are equal."""
    layer = HierarchicalSoftmax(tree, 4, dtype=dtype, bias=bias)
    for k in range(1, tree.n_classes + 1):
        check_top(layer, np.ones((2, 4)), k)
        check_top(layer, np.ones((2, 4)), k, beam=tree.n_nodes)


@given(st.data())
def test_topk_on_coarse_weights(data: st.DataObject) -> None:
    """Ties of all kinds: few distinct values, random trees."""
    n = data.draw(st.integers(2, 40))
    above = [-1, *(data.draw(st.integers(0, i - 1)) for i in range(1, n))]
    tree = Tree.from_parents(above)
    layer = HierarchicalSoftmax(tree, 2, dtype=data.draw(st.sampled_from(["f4", "f8"])))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    layer.weight[:] = rng.integers(-1, 2, layer.weight.shape) * rng.choice([1, 1e-8, 30, 1000])
    hidden = rng.integers(-2, 3, (3, 2))
    check_top(layer, hidden, data.draw(st.integers(1, tree.n_classes)))
    check_top(layer, hidden, tree.n_classes, beam=n)


@both
@pytest.mark.parametrize("arity", [2, 3])
@pytest.mark.parametrize("scale", [0.3, 2.0, 10.0])
def test_many_classes(arity: int, scale: float, dtype: str, isa: str) -> None:
    """More open nodes than are expanded together, so that most are queued."""
    for tree in (Tree.balanced(700, arity), Tree.huffman(1 / np.arange(1, 701), arity)):
        layer = layer_on(tree, dtype=dtype)
        hidden = rows_for(layer, 5, scale=scale)[0]
        for k in (1, 5, 200, 700):
            check_top(layer, hidden, k)
        assert (layer.topk_visited(hidden, 700).visited == tree.n_nodes - 1).all()
        assert (layer.topk_visited(hidden, 1).visited < tree.n_nodes - 1).all()


@both
def test_min_prob(dtype: str) -> None:
    layer = layer_on(TREES["ternary"], dtype=dtype)
    hidden = rows_for(layer, 20)[0]
    every = layer.log_prob_all(hidden)
    for min_prob in (1e-9, 0.01, 0.1, 0.5, 0.99):
        for options in ({}, {"beam": 100}):
            got = layer.topk(hidden, 23, min_prob=min_prob, **options)
            want = top(every, 23, math.log(min_prob))
            np.testing.assert_array_equal(got[0], want[0])
            np.testing.assert_array_equal(got[1], want[1])
    sure = HierarchicalSoftmax(Tree.balanced(4), 1, bias=False, dtype=dtype)
    assert sure.topk([[1]], 4, min_prob=0.25)[0].tolist() == [[0, 1, 2, 3]]
    assert sure.topk([[1]], 4, min_prob=0.26)[0].tolist() == [[-1] * 4]
    assert sure.topk([[1]], 4, min_prob=0.26)[1].tolist() == [[-np.inf] * 4]


@pytest.mark.parametrize("beam", [1, 2, 5])
def test_narrow_beams(beam: int) -> None:
    """Their results are correct and in order, but may miss better classes."""
    layer = layer_on(Tree.huffman(1 / np.arange(1, 101), arity=3))
    hidden = rows_for(layer, 30)[0]
    every = layer.log_prob_all(hidden)
    ids, log_probs, visited = layer.topk_visited(hidden, 10, beam=beam)
    best = top(every, 10)[1]
    for row in range(30):
        found = ids[row][ids[row] >= 0]
        assert 0 < len(found) == len(set(found.tolist()))
        assert (ids[row][len(found) :] == -1).all()
        assert (log_probs[row][len(found) :] == -np.inf).all()
        np.testing.assert_array_equal(log_probs[row][: len(found)], every[row, found])
        assert (log_probs[row] <= best[row]).all()
        assert (np.diff(log_probs[row][: len(found)]) <= 0).all()
    assert (visited <= 3 * beam * layer.tree.depth).all()


def test_peaked_distributions_visit_few_nodes() -> None:
    tree = Tree.balanced(10_000)
    layer = HierarchicalSoftmax(tree, 1, bias=False)
    layer.weight[:] = 1
    visited = layer.topk_visited([[20.0]], 1)[2]
    assert visited.dtype == np.int64
    assert 2 * (tree.depth - 1) <= visited[0] <= 2 * tree.depth
    assert layer.topk_visited([[20.0]], 5)[2][0] <= 20 * tree.depth
    assert layer.topk_visited([[0.0]], 1)[2][0] == tree.n_nodes - 1


def test_deep_trees() -> None:
    layer = layer_on(chain(50_000), 3)
    hidden = rows_for(layer, 3)[0]
    check_top(layer, hidden, 5)
    check_top(layer, hidden, 5, beam=2)
    assert (layer.predict_node(hidden, 0.0)[0] < 50_000).all()


@pytest.mark.parametrize("k", [0, -1, 9, 2**70])
def test_k_out_of_range(k: int) -> None:
    with pytest.raises(ValueError, match=f"k must be from 1 to 8, got {k}"):
        layer_on(TREES["mixed"]).topk(np.zeros((1, 7)), k)


def test_other_options() -> None:
    layer = layer_on(TREES["mixed"])
    hidden = np.zeros((1, 7))
    for beam in (0, -1):
        with pytest.raises(ValueError, match="beam must be at least 1"):
            layer.topk(hidden, 1, beam=beam)
    for p in (-0.1, 1.1, np.nan):
        for ask in (layer.topk, layer.predict_node):
            with pytest.raises(ValueError, match="min_prob must be from 0 to 1"):
                ask(hidden, *([1] if ask == layer.topk else []), min_prob=p)
    with pytest.raises(TypeError):
        layer.topk(hidden, 1.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        layer.topk(hidden, 1, beam=1.0)  # type: ignore[arg-type]


def test_beam_of_any_size() -> None:
    check_top(layer_on(TREES["mixed"]), np.ones((1, 7)), 3, beam=2**70)


# ---- rows with NaN or infinities


@both
@every_choice
def test_rows_with_nan(tree: Tree, dtype: str, isa: str) -> None:
    """Probabilities are NaN, there are no top classes, and other rows are not affected."""
    layer = layer_on(tree, dtype=dtype)
    hidden = rows_for(layer, 3)[0]
    good = layer.topk(hidden, 2), layer.log_prob_all(hidden), layer.predict_node(hidden, 0.5)
    hidden[1, 3] = np.nan
    ids, log_probs = layer.topk(hidden, 2)
    np.testing.assert_array_equal(layer.log_prob_all(hidden)[1], np.nan)
    np.testing.assert_array_equal(layer.log_prob(hidden, [0, 0, 0])[1], np.nan)
    for row in (0, 2):
        np.testing.assert_array_equal(ids[row], good[0][0][row])
        np.testing.assert_array_equal(log_probs[row], good[0][1][row])
        np.testing.assert_array_equal(layer.log_prob_all(hidden)[row], good[1][row])
    sample = layer.sample(hidden, 0, errors="mark")
    np.testing.assert_array_equal(sample < 0, [False, True, False])
    np.testing.assert_array_equal(sample[::2], layer.sample(rows_for(layer, 3)[0], 0)[::2])
    assert sample.max() < tree.n_classes
    with pytest.raises(ValueError, match=r"neither NaN nor \+inf for row 1$"):
        layer.sample(hidden, 0)
    assert layer.predict_node(hidden, 0.5)[0][1] == tree.root
    assert layer.predict(hidden)[1] == -1
    for beam in (None, 3):
        ids, log_probs = layer.topk(hidden, 2, beam=beam)
        assert ids[1].tolist() == [-1, -1]
        assert log_probs[1].tolist() == [-np.inf, -np.inf]


@both
def test_infinite_scores(dtype: str, isa: str) -> None:
    """Certain choices; impossible classes are still classes."""
    layer = HierarchicalSoftmax(Tree.balanced(4), 1, bias=False, dtype=dtype)
    layer.weight[:] = 1
    for infinite, order in ((np.inf, [0, 1, 2, 3]), (-np.inf, [3, 0, 1, 2])):
        hidden = np.array([[infinite]])
        assert layer.log_prob_all(hidden)[0, order].tolist() == [0, -np.inf, -np.inf, -np.inf]
        assert layer.topk(hidden, 1)[0].tolist() == [[order[0]]]
        assert layer.predict(hidden)[0] == order[0]
        assert layer.sample(np.repeat(hidden, 50, axis=0), 0).tolist() == [order[0]] * 50
        assert layer.predict_node(hidden, 1.0)[0][0] == order[0]


# ---- sampling


@both
@pytest.mark.parametrize("name", ["huffman", "ternary", "mixed", "flat"])
def test_frequencies(name: str, dtype: str, isa: str) -> None:
    """Chi-square of 20000 draws: five standard deviations are allowed."""
    layer = layer_on(TREES[name], dtype=dtype)
    hidden = np.repeat(rows_for(layer, 1)[0], 20_000, axis=0)
    drawn = np.bincount(layer.sample(hidden, 7), minlength=layer.tree.n_classes)
    expected = 20_000 * np.exp(layer.log_prob_all(hidden[:1])[0].astype(float))
    usual = expected > 5
    observed = np.append(drawn[usual], drawn[~usual].sum())
    expected = np.append(expected[usual], expected[~usual].sum() + 1e-9)
    degrees = len(expected) - 1
    chi_square = ((observed - expected) ** 2 / np.maximum(expected, 1)).sum()
    assert abs(chi_square - degrees) < 5 * math.sqrt(2 * degrees) + 5


def test_draws_are_repeatable() -> None:
    layer = layer_on(TREES["huffman"])
    hidden = rows_for(layer, 200)[0]
    first = layer.sample(hidden, 5)
    assert first.dtype == np.int64
    np.testing.assert_array_equal(layer.sample(hidden, 5), first)
    np.testing.assert_array_equal(layer.sample(hidden, np.random.default_rng(5)), first)
    assert (layer.sample(hidden, 6) != first).any()
    rng = np.random.default_rng(5)
    assert (layer.sample(hidden, rng) != layer.sample(hidden, rng)).any()
    layer.sample(hidden)


def test_impossible_classes_are_not_drawn() -> None:
    layer = HierarchicalSoftmax(Tree.balanced(9, 3), 1)
    assert layer.bias is not None
    layer.bias[:] = [0, -np.inf, 0, 0, 0, -np.inf, -np.inf, 0, 0, 0, 0, -np.inf]
    drawn = set(layer.sample(np.zeros((2000, 1)), 0).tolist())
    possible = np.flatnonzero(np.isfinite(layer.log_prob_all([[0.0]])[0])).tolist()
    assert drawn == set(possible)
    assert 0 < len(possible) < 9


# ---- predict_node


@both
@every_tree
def test_predict_node(tree: Tree, dtype: str, isa: str) -> None:
    layer = layer_on(tree, dtype=dtype)
    hidden = rows_for(layer, 30)[0]
    every = layer.node_log_prob(hidden)
    for min_prob in (0.0, 0.2, 0.5, 0.9, 1.0):
        nodes, log_probs = layer.predict_node(hidden, min_prob)
        assert (nodes.dtype, log_probs.dtype) == (np.int64, dtype)
        least = math.log(min_prob) if min_prob else -np.inf
        for row, got in enumerate(nodes):
            node = tree.root
            while len(children := tree.children(node)):
                best = children[every[row, children].argmax()]
                if every[row, best] < least:
                    break
                node = best
            assert got == node
            assert log_probs[row] == every[row, node]
            if min_prob == 0:
                assert got < tree.n_classes
