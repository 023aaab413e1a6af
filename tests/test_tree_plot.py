"""Drawings of trees: positions of nodes and edges, and legible labels."""

from __future__ import annotations

import doctest
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boltzmax import Tree
from boltzmax.trees import plot as tree_plot
from boltzmax.trees.plot import plot
from tree_samples import PATHS, TAXONOMY, depth_first, trees

pytest.importorskip("matplotlib").use("Agg")
pyplot = pytest.importorskip("matplotlib.pyplot")
Figure = pytest.importorskip("matplotlib.figure").Figure

SAMPLES = {
    "taxonomy": Tree.from_paths(["animal/cat", "animal/bird/owl", "animal/bird/duck", "plant/oak"]),
    "paths": Tree.from_paths(PATHS),
    "line": Tree.from_parents(np.arange(-1, 14)),
    "flat": Tree.from_paths([f"class number {i}" for i in range(60)]),
    "wide": Tree.from_paths([f"group {i % 3}/class number {i}" for i in range(30)]),
    "long": Tree.from_paths(
        ["/".join([f"a long name of an inner node, {i % 2}", f"and one of its leaf, {i}"])
         for i in range(5)]
    ),
    "balanced": Tree.balanced(32),
    "huffman": Tree.huffman(2.0 ** np.arange(12)),
    "two": Tree.balanced(2),
    "200 leaves": Tree.from_paths([f"k{i % 8}/m{i % 40}/leaf{i}" for i in range(200)]),
}  # fmt: skip
every_sample = pytest.mark.parametrize("tree", SAMPLES.values(), ids=SAMPLES)


@pytest.fixture(autouse=True)
def close() -> Iterator[None]:
    yield
    pyplot.close("all")


@pytest.fixture
def axes() -> Any:
    return Figure().subplots()


def boxes(ax: Any) -> Any:
    """The corners of the labels, one row (left, bottom, right, top) for each node."""
    return np.array([text.get_window_extent().extents for text in ax.texts])


def outside(ax: Any, box: Any) -> float:
    """By how many pixels labels or nodes are outside a box."""
    texts = boxes(ax)
    places = ax.transData.transform([text.xy for text in ax.texts])
    low = np.minimum(texts[:, :2], places).min(axis=0)
    high = np.maximum(texts[:, 2:], places).max(axis=0)
    return float(np.concatenate([box.extents[:2] - low, high - box.extents[2:]]).max())


def crosses(box: Any, start: Any, end: Any) -> bool:
    """Whether a line passes through a box, by clipping it horizontally and vertically."""
    first, last = 0.0, 1.0
    for d in range(2):
        step, low, high = end[d] - start[d], box[d] - start[d], box[d + 2] - start[d]
        if step == 0:
            if low > 0 or high < 0:
                return False
            continue
        a, b = sorted((low / step, high / step))
        first, last = max(first, a), min(last, b)
    return first < last


def crossed(tree: Tree, ax: Any) -> list[tuple[int, int]]:
    """Inner nodes whose labels are crossed by an edge to their parents or children."""
    places = ax.transData.transform([text.xy for text in ax.texts])
    return [
        (node, other)
        for node, box in enumerate(boxes(ax))
        if node >= tree.n_classes
        for other in [
            *tree.children(node),
            *([tree.parent[node]] if tree.parent[node] >= 0 else []),
        ]
        if crosses(box, places[node], places[other])
    ]


def overlaps(ax: Any) -> list[tuple[str, str]]:
    """Labels that overlap."""
    left, bottom, right, top = boxes(ax).T
    meet = (left[:, None] < right) & (left < right[:, None])
    meet &= (bottom[:, None] < top) & (bottom < top[:, None])
    words = [text.get_text() for text in ax.texts]
    return [(words[a], words[b]) for a, b in zip(*np.nonzero(np.triu(meet, 1)), strict=True)]


def test_examples() -> None:
    result = doctest.testmod(tree_plot)
    assert result.attempted > 0
    assert result.failed == 0


def test_a_line_through_a_box() -> None:
    box = (2, 2, 4, 3)
    for start, end, expected in (
        ((0, 0), (6, 5), True),
        ((3, 0), (3, 9), True),
        ((0, 2.5), (3, 2.5), True),
        ((5, 0), (5, 9), False),
        ((0, 0), (3, 1.9), False),
        ((0, 3), (2, 9), False),
        ((3, 4), (9, 4), False),
    ):
        assert crosses(box, start, end) is expected
        assert crosses(box, end, start) is expected


# ---- labels


@every_sample
def test_labels_on_a_figure_of_their_own(tree: Tree) -> None:
    """All are complete; none is cut off, crossed by its node's edges, or overlaps another."""
    ax = tree.plot()
    figure = ax.figure
    assert len(ax.texts) == tree.n_nodes
    assert not any("\u2026" in text.get_text() for text in ax.texts)
    assert all(text.get_fontsize() >= 7 for text in ax.texts)
    for dpi in (figure.dpi, 60, 80, 300):  # resolutions for saving
        figure.set_dpi(dpi)
        figure.draw_without_rendering()
        assert outside(ax, figure.bbox) <= 0
        assert crossed(tree, ax) == []
        assert overlaps(ax) == []


@every_sample
@pytest.mark.parametrize("shape", [(1, 1), (2, 3)])
def test_labels_in_axes_of_the_caller(tree: Tree, shape: tuple[int, int]) -> None:
    figure = Figure()
    ax = figure.subplots(*shape, squeeze=False)[-1, -1]
    before = ax.get_position().bounds
    assert tree.plot(ax) is ax
    assert ax.get_position().bounds == before
    assert tuple(figure.get_size_inches()) == tuple(Figure().get_size_inches())
    assert outside(ax, ax.get_window_extent()) <= 0
    assert crossed(tree, ax) == []
    figure.set_dpi(300)
    figure.draw_without_rendering()
    assert outside(ax, figure.bbox) <= 0


@settings(max_examples=15, deadline=None)
@given(trees(), st.sampled_from([1, 8, 40]))
def test_labels_of_any_tree(tree: Tree, length: int) -> None:
    labels = ["x" * length] * tree.n_classes
    try:
        for ax in (tree.plot(labels=labels), tree.plot(Figure().subplots(), labels=labels)):
            assert outside(ax, ax.get_window_extent()) <= 0
            assert crossed(tree, ax) == []
    finally:
        pyplot.close("all")


def test_long_labels_are_shortened_in_the_middle(axes: Any) -> None:
    labels = ["short", "begin " + "very " * 200 + "end$", "0" * 5000]
    TAXONOMY.plot(axes, labels=labels)
    words = [text.get_text() for text in axes.texts[:3]]
    assert words[0] == "0: short"
    assert words[1].startswith("1: begin ")
    assert "\u2026" in words[1]
    assert words[1].endswith(" end\\$")
    assert outside(axes, axes.get_window_extent()) <= 0
    ax = TAXONOMY.plot(labels=labels)  # a figure grows up to a limit
    assert outside(ax, ax.figure.bbox) <= 0
    assert max(ax.figure.get_size_inches()) <= 200


def test_drawings_next_to_others() -> None:
    """Existing drawings in the axes do not matter, and other axes are not changed."""
    figure = Figure(dpi=80, facecolor="yellow")
    first, second = figure.subplots(1, 2)
    second.plot([0, 50], [3, 4])
    limits = second.get_xlim()
    SAMPLES["taxonomy"].plot(first)
    assert second.get_xlim() == limits
    assert outside(first, first.get_window_extent()) <= 0
    face = first.texts[0].get_bbox_patch().get_facecolor()
    assert tuple(face) == tuple(figure.get_facecolor())


# ---- nodes and edges


def places_of(ax: Any) -> dict[str, tuple[float, float]]:
    return {text.get_text(): text.xy for text in ax.texts}


def test_drawing_has_leaves_side_by_side(axes: Any) -> None:
    assert plot(Tree.from_parents([5, 5, 6, 4, -1, 6, 4]), axes) is axes
    places = {label: tuple(map(float, xy)) for label, xy in places_of(axes).items()}
    assert places == {
        "node 4": (0.875, 0),
        "3": (0, -1),
        "node 5": (1.75, -1),
        "2": (1, -2),
        "node 6": (2.5, -2),
        "0": (2, -3),
        "1": (3, -3),
    }


@settings(max_examples=25, deadline=None)  # figures are slow
@given(trees())
def test_drawing_is_the_tree(tree: Tree) -> None:
    ax = Figure().subplots()
    plot(tree, ax, labels=[f"class {c}" for c in range(tree.n_classes)])
    n = tree.n_classes
    texts = [f"{c}: class {c}" for c in range(n)] + [f"node {v}" for v in range(n, tree.n_nodes)]
    places = places_of(ax)
    xy = np.array([places[text] for text in texts])
    np.testing.assert_array_equal(xy[:, 1], -tree.node_depth)
    leaves = [node for node in depth_first(tree) if node < n]
    np.testing.assert_array_equal(xy[leaves, 0], np.arange(n))
    lines = {tuple(map(tuple, line)) for line in ax.collections[0].get_segments()}
    ends = {(tuple(xy[tree.parent[v]]), tuple(xy[v])) for v in range(tree.n_nodes) if v != n}
    assert lines == ends
    for v in range(n, tree.n_nodes):
        below = xy[tree.children(v), 0]
        assert below.min() <= xy[v, 0] <= below.max()


def test_drawing_can_be_saved(axes: Any, tmp_path: Any) -> None:
    TAXONOMY.plot(axes, labels=["$x", "a_$b$", "\\frac{"])
    axes.figure.savefig(tmp_path / "tree.png")
    assert (tmp_path / "tree.png").read_bytes().startswith(b"\x89PNG")


def test_drawing_makes_its_own_figure() -> None:
    ax = plot(TAXONOMY)
    assert ax.figure in [pyplot.figure(i) for i in pyplot.get_fignums()]


def test_matplotlib_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.collections", None)
    with pytest.raises(ImportError, match=r'pip install "boltzmax\[demo\]"'):
        plot(TAXONOMY)
