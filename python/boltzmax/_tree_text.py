"""A tree of classes as text, as a Graphviz graph and as a drawing."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from boltzmax._tree import Tree

Floats = NDArray[np.float64]


def render(tree: Tree, labels: Sequence[object] | None = None, max_nodes: int = 200) -> str:
    r"""Draw a tree in plain text, one node on each line.

    Parameters
    ----------
    tree : Tree
        What to draw.
    labels : sequence, length n_classes, optional
        What to write beside the number of each class; by default its name, if the tree has names.
    max_nodes : int, default 200
        How many nodes to draw; a last line tells how many are left out.

    Returns
    -------
    str
        Without a newline at the end.  An inner node is shown by its name, or by its number if it
        has none.  Characters that cannot be printed are written as in Python, ``\n``.

    Raises
    ------
    TypeError
        If `max_nodes` is not an integer.
    ValueError
        If there is not one label per class, or `max_nodes` is less than 1.

    Examples
    --------
    >>> from boltzmax import Tree
    >>> from boltzmax._tree_text import render
    >>> print(render(Tree.from_paths(["animal/cat", "animal/dog", "plant"])))
    node 3
    |-- 2: plant
    `-- animal
        |-- 0: animal/cat
        `-- 1: animal/dog
    """
    _check_labels(tree, labels)
    limit = _checked_limit(max_nodes)
    root = tree.n_classes
    lines = [_plain(_text(tree, root, labels))]
    # One entry per open node: its children, how many are drawn, and what precedes their lines.
    open_nodes = [(tree.children(root), 0, "")]
    while open_nodes and len(lines) < limit:
        children, done, indent = open_nodes.pop()
        if done == len(children):
            continue
        child, last = int(children[done]), done + 1 == len(children)
        open_nodes.append((children, done + 1, indent))
        lines.append(f"{indent}{'`-- ' if last else '|-- '}{_plain(_text(tree, child, labels))}")
        if child >= tree.n_classes:
            below = indent + ("    " if last else "|   ")
            open_nodes.append((tree.children(child), 0, below))
    left_out = tree.n_nodes - len(lines)
    if left_out:
        lines.append(f"... {left_out} more node{'s' if left_out > 1 else ''}")
    return "\n".join(lines)


def to_dot(tree: Tree, labels: Sequence[object] | None = None, max_nodes: int = 1000) -> str:
    r"""Write a tree in the language of Graphviz.

    Parameters
    ----------
    tree : Tree
        What to write.
    labels : sequence, length n_classes, optional
        What to write beside the number of each class; by default its name, if the tree has names.
    max_nodes : int, default 1000
        How many nodes the tree may have.

    Returns
    -------
    str
        A directed graph from the root to the classes, which are boxes.  ``dot -Tsvg`` draws it.

    Raises
    ------
    TypeError
        If `max_nodes` is not an integer.
    ValueError
        If the tree has more than `max_nodes` nodes, or there is not one label per class.

    Examples
    --------
    >>> from boltzmax import Tree
    >>> from boltzmax._tree_text import to_dot
    >>> print(to_dot(Tree.balanced(2), labels=["cat", "dog"]))
    digraph tree {
      0 [label="0: cat", shape=box];
      1 [label="1: dog", shape=box];
      2 [label="node 2"];
      2 -> 0;
      2 -> 1;
    }
    """
    _check_labels(tree, labels)
    _check_size(tree, max_nodes)
    lines = ["digraph tree {"]
    for node in range(tree.n_nodes):
        shape = ", shape=box" if node < tree.n_classes else ""
        lines.append(f"  {node} [label={_quoted(_text(tree, node, labels))}{shape}];")
    for node in range(tree.n_classes, tree.n_nodes):
        lines += [f"  {node} -> {child};" for child in tree.children(node)]
    return "\n".join([*lines, "}"])


def plot(
    tree: Tree,
    ax: Any = None,
    labels: Sequence[object] | None = None,
    max_nodes: int = 1000,
) -> Any:
    """Draw a tree with Matplotlib.

    Parameters
    ----------
    tree : Tree
        What to draw.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure of ``matplotlib.pyplot``.
    labels : sequence, length n_classes, optional
        What to write beside the number of each class; by default its name, if the tree has names.
    max_nodes : int, default 1000
        How many nodes the tree may have.

    Returns
    -------
    matplotlib.axes.Axes
        The leaves are at x = 0, 1, 2, ... in depth-first order, an inner node is in the middle of
        its outer children, and y is the negative depth.

    Raises
    ------
    ImportError
        If Matplotlib is not installed.
    TypeError
        If `max_nodes` is not an integer.
    ValueError
        If the tree has more than `max_nodes` nodes, or there is not one label per class.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from boltzmax import Tree
    >>> from boltzmax._tree_text import plot
    >>> ax = plot(Tree.balanced(4), ax=Figure().subplots(), labels=["ant", "bee", "cat", "dog"])
    >>> len(ax.texts)  # one per node
    7
    """
    _check_labels(tree, labels)
    _check_size(tree, max_nodes)
    try:
        from matplotlib.collections import LineCollection
    except ImportError as error:
        raise ImportError(
            'drawing a tree needs Matplotlib: pip install "boltzmax[demo]"'
        ) from error
    if ax is None:
        from matplotlib import pyplot

        _, ax = pyplot.subplots()
    places = np.stack([_abscissas(tree), -tree.node_depth.astype(np.float64)], axis=1)
    below = np.flatnonzero(tree.parent >= 0)
    lines = np.stack([places[tree.parent[below]], places[below]], axis=1)
    ax.add_collection(LineCollection(list(lines), colors="0.6", linewidths=0.8, zorder=1))
    n = tree.n_classes
    ax.plot(places[n:, 0], places[n:, 1], "o", color="0.3", markersize=4, zorder=2)
    ax.plot(places[:n, 0], places[:n, 1], "s", color="C0", markersize=4, zorder=2)
    for node, place in enumerate(places):
        ax.annotate(
            _plain(_text(tree, node, labels)).replace("$", r"\$"),  # no mathematics
            place,
            xytext=(0, -6 if node < n else 6),
            textcoords="offset points",
            ha="center",
            va="top" if node < n else "bottom",
            rotation=90 if node < n else 0,
            fontsize=8,
        )
    ax.margins(0.05, 0.15)
    ax.set_axis_off()
    return ax


def _abscissas(tree: Tree) -> Floats:
    x = np.zeros(tree.n_nodes)
    stack = [tree.n_classes]
    n_leaves = 0
    while stack:
        node = stack.pop()
        if node < tree.n_classes:
            x[node] = n_leaves
            n_leaves += 1
        else:
            stack += tree.children(node)[::-1].tolist()
    # Inner nodes are numbered breadth first: children have the greater numbers.
    for node in range(tree.n_nodes - 1, tree.n_classes - 1, -1):
        children = tree.children(node)
        x[node] = (x[children[0]] + x[children[-1]]) / 2
    return x


def _text(tree: Tree, node: int, labels: Sequence[object] | None) -> str:
    name = tree.names[node] if tree.names is not None else ""
    if node >= tree.n_classes:
        return name or f"node {node}"
    if labels is not None:
        name = str(labels[node])
    return f"{node}: {name}" if name else str(node)


def _plain(text: str) -> str:
    """Write what would break a line, or cannot be seen, as Python does."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _quoted(text: str) -> str:
    # Graphviz takes \N and its like as well as &amp; in a label for something else.
    lines = text.replace("\r\n", "\n").split("\n")
    safe = [
        _plain(line).replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")
        for line in lines
    ]
    return '"' + "\\n".join(safe) + '"'


def _check_labels(tree: Tree, labels: Sequence[object] | None) -> None:
    if labels is not None and len(labels) != tree.n_classes:
        raise ValueError(
            f"labels must be one per class, {tree.n_classes} of them, got {len(labels)}"
        )


def _checked_limit(max_nodes: int) -> int:
    limit = operator.index(max_nodes)
    if limit < 1:
        raise ValueError(f"max_nodes must be at least 1, got {limit}")
    return limit


def _check_size(tree: Tree, max_nodes: int) -> None:
    limit = _checked_limit(max_nodes)
    if tree.n_nodes > limit:
        raise ValueError(f"the tree has {tree.n_nodes} nodes, but max_nodes is {limit}")
