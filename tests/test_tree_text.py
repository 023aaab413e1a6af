"""Trees as text, and as Graphviz graphs."""

from __future__ import annotations

import doctest
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltzmax import Tree
from boltzmax.trees import text as tree_text
from boltzmax.trees.plot import plot
from boltzmax.trees.text import render, to_dot
from tree_samples import TAXONOMY, depth_first, trees

PLAIN = Tree.from_parents([5, 5, 6, 4, -1, 6, 4])


def chain(n_inner: int) -> Tree:
    return Tree.from_parents(np.arange(-1, n_inner))


def test_examples() -> None:
    result = doctest.testmod(tree_text)
    assert result.attempted > 0
    assert result.failed == 0


# ---- render


def test_names_of_a_taxonomy_are_shown() -> None:
    expected = """\
node 3
|-- 2: plant
`-- animal
    |-- 0: animal/cat
    `-- 1: animal/dog"""
    assert render(TAXONOMY) == TAXONOMY.render() == expected


def test_numbers_replace_missing_names() -> None:
    expected = """\
node 4
|-- 3
`-- node 5
    |-- 2
    `-- node 6
        |-- 0
        `-- 1"""
    assert render(PLAIN) == expected


def test_bars_connect_siblings() -> None:
    tree = Tree.from_parents([3, 3, 4, 4, -1])
    expected = """\
node 3
|-- 2
`-- node 4
    |-- 0
    `-- 1"""
    assert render(tree) == expected
    tree = Tree.from_parents([4, 4, 5, 5, 6, 6, -1])
    expected = """\
node 4
|-- node 5
|   |-- 0
|   `-- 1
`-- node 6
    |-- 2
    `-- 3"""
    assert render(tree) == expected


def test_labels_take_precedence_over_names() -> None:
    text = render(TAXONOMY, labels=["Cat", 7, ""])
    assert re.findall(r"-- (\d.*)", text) == ["2", "0: Cat", "1: 7"]
    assert "animal" in text


def test_labels_keep_their_lines_and_letters() -> None:
    text = render(chain(1), labels=["a\nb\t\x1b[1m\u2028ü→"])
    assert text == "node 1\n`-- 0: a\\nb\\t\\x1b[1m\\u2028ü→"


@pytest.mark.parametrize(
    ("max_nodes", "last"),
    [
        (1, "... 4 more nodes"),
        (2, "... 3 more nodes"),
        (np.int64(4), "... 1 more node"),
        (5, "    `-- 1: animal/dog"),
    ],
)
def test_long_trees_are_cut(max_nodes: int, last: str) -> None:
    lines = render(TAXONOMY, max_nodes=max_nodes).splitlines()
    assert lines[:max_nodes] == render(TAXONOMY).splitlines()[:max_nodes]
    assert lines[-1] == last
    assert len(lines) == min(max_nodes + 1, 5)


@given(trees())
def test_text_contains_the_whole_tree(tree: Tree) -> None:
    """The parent of a line is the last line above it with less indentation."""
    above: list[int] = []
    nodes = []
    for line in render(tree).splitlines():
        match = re.fullmatch(r"((?:\|   |    )*)([|`]-- )?(?:node )?(\d+)", line)
        assert match
        depth = len(match[1]) // 4 + bool(match[2])
        node = int(match[3])
        above[depth:] = [node]
        nodes.append(node)
        assert tree.parent[node] == (above[-2] if depth else -1)
        siblings = tree.children(above[-2]) if depth else [node]
        assert match[2] == (None if not depth else "`-- " if node == siblings[-1] else "|-- ")
        for level, bar in enumerate(re.findall("....", match[1]), 1):
            passed = above[level] == tree.children(above[level - 1])[-1]
            assert bar == ("    " if passed else "|   ")
    assert nodes == list(depth_first(tree))


def test_deep_and_wide_trees() -> None:
    deep = chain(5000)
    assert render(deep, max_nodes=3000).endswith("\n... 2001 more nodes")
    assert render(deep, max_nodes=5001).splitlines()[-1] == " " * 4 * 4999 + "`-- 0"
    wide = Tree.balanced(100_000, arity=2**20)
    assert render(wide).splitlines()[-2:] == ["|-- 198", "... 99801 more nodes"]


# ---- to_dot


def unquote(text: str) -> str:
    """Read a label as Graphviz does."""
    text = re.sub(r'\\(["\\n])', lambda m: "\n" if m[1] == "n" else m[1], text)
    return text.replace("&amp;", "&")


def read_dot(text: str) -> tuple[dict[int, str], set[int], list[tuple[int, int]]]:
    """The labels of nodes, which nodes are boxes, and the edges."""
    lines = text.split("\n")
    assert (lines[0], lines[-1]) == ("digraph tree {", "}")
    labels, boxes, edges = {}, set(), []
    for line in lines[1:-1]:
        if match := re.fullmatch(r"  (\d+) -> (\d+);", line):
            edges.append((int(match[1]), int(match[2])))
            continue
        match = re.fullmatch(r'  (\d+) \[label="((?:[^"\\]|\\.)*)"(, shape=box)?\];', line)
        assert match, line
        labels[int(match[1])] = unquote(match[2])
        if match[3]:
            boxes.add(int(match[1]))
    return labels, boxes, edges


@given(trees(), st.data())
def test_graph_is_the_tree(tree: Tree, data: st.DataObject) -> None:
    n = tree.n_classes
    texts = data.draw(st.lists(st.text('ab"\\\n&;<N> ', min_size=1), min_size=n, max_size=n))
    labels, boxes, edges = read_dot(to_dot(tree, labels=texts))
    assert boxes == set(range(n))
    assert sorted(labels) == list(range(tree.n_nodes))
    assert [labels[c] for c in range(n)] == [f"{c}: {text}" for c, text in enumerate(texts)]
    assert all(labels[v] == f"node {v}" for v in range(n, tree.n_nodes))
    expected = [(int(tree.parent[v]), v) for v in range(tree.n_nodes) if v != n]
    assert sorted(edges) == sorted(expected)


def test_labels_are_escaped() -> None:
    text = to_dot(chain(1), labels=['"\\N"\r\n&amp;<b>\x00'])
    assert '[label="0: \\"\\\\N\\"\\n&amp;amp;<b>\\\\x00", shape=box]' in text


def test_names_are_in_the_graph() -> None:
    labels, _, _ = read_dot(TAXONOMY.to_dot())
    assert labels == {0: "0: animal/cat", 1: "1: animal/dog", 2: "2: plant", 3: "node 3"} | {
        4: "animal"
    }


# ---- all


@pytest.mark.parametrize("draw", [render, to_dot, plot])
def test_labels_must_be_one_per_class(draw: Any) -> None:
    with pytest.raises(ValueError, match="one per class, 3 of them, got 2"):
        draw(TAXONOMY, labels=["a", "b"])


@pytest.mark.parametrize("draw", [render, to_dot, plot])
def test_limit_must_be_a_positive_integer(draw: Any) -> None:
    for small in (0, -1):
        with pytest.raises(ValueError, match=f"max_nodes must be at least 1, got {small}"):
            draw(TAXONOMY, max_nodes=small)
    for other in (2.0, None, "3"):
        with pytest.raises(TypeError, match="integer"):
            draw(TAXONOMY, max_nodes=other)


@pytest.mark.parametrize("draw", [to_dot, plot])
def test_large_trees_are_refused(draw: Any) -> None:
    with pytest.raises(ValueError, match="the tree has 5 nodes, but max_nodes is 4"):
        draw(TAXONOMY, max_nodes=4)
    with pytest.raises(ValueError, match="the tree has 1001 nodes, but max_nodes is 1000"):
        draw(chain(1000))
