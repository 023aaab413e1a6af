"""A tree of classes as text, and as a Graphviz graph."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Drawable(Protocol):
    """The part of `boltzmax.Tree` that drawings need."""

    parent: NDArray[np.int32]
    node_depth: NDArray[np.int32]
    names: tuple[str, ...] | None

    @property
    def n_classes(self) -> int: ...  # noqa: D102

    @property
    def n_nodes(self) -> int: ...  # noqa: D102

    def children(self, node: int) -> NDArray[np.int32]: ...  # noqa: D102


def render(tree: Drawable, labels: Sequence[object] | None = None, max_nodes: int = 200) -> str:
    r"""Draw a tree in plain text, one node on each line.

    Parameters
    ----------
    tree : Tree
        The tree to draw.
    labels : sequence, length n_classes, optional
        What to write next to the number of each class; by default its name, if the tree has names.
    max_nodes : int, default 200
        How many nodes to draw; a last line states how many are left out.

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
    >>> from boltzmax.trees.text import render
    >>> print(render(Tree.from_paths(["animal/cat", "animal/dog", "plant"])))
    node 3
    |-- 2: plant
    `-- animal
        |-- 0: animal/cat
        `-- 1: animal/dog
    """
    check_labels(tree, labels)
    limit = _checked_limit(max_nodes)
    root = tree.n_classes
    lines = [plain(node_text(tree, root, labels))]
    # One entry per open node: its children, how many are drawn, and the prefix of their lines.
    open_nodes = [(tree.children(root), 0, "")]
    while open_nodes and len(lines) < limit:
        children, done, indent = open_nodes.pop()
        if done == len(children):
            continue
        child, last = int(children[done]), done + 1 == len(children)
        open_nodes.append((children, done + 1, indent))
        lines.append(f"{indent}{'`-- ' if last else '|-- '}{plain(node_text(tree, child, labels))}")
        if child >= tree.n_classes:
            below = indent + ("    " if last else "|   ")
            open_nodes.append((tree.children(child), 0, below))
    left_out = tree.n_nodes - len(lines)
    if left_out:
        lines.append(f"... {left_out} more node{'s' if left_out > 1 else ''}")
    return "\n".join(lines)


def to_dot(tree: Drawable, labels: Sequence[object] | None = None, max_nodes: int = 1000) -> str:
    r"""Write a tree in Graphviz's DOT language.

    Parameters
    ----------
    tree : Tree
        The tree to write.
    labels : sequence, length n_classes, optional
        What to write next to the number of each class; by default its name, if the tree has names.
    max_nodes : int, default 1000
        The maximum number of nodes the tree may have.

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
    >>> from boltzmax.trees.text import to_dot
    >>> print(to_dot(Tree.balanced(2), labels=["cat", "dog"]))
    digraph tree {
      0 [label="0: cat", shape=box];
      1 [label="1: dog", shape=box];
      2 [label="node 2"];
      2 -> 0;
      2 -> 1;
    }
    """
    check_labels(tree, labels)
    check_size(tree, max_nodes)
    lines = ["digraph tree {"]
    for node in range(tree.n_nodes):
        shape = ", shape=box" if node < tree.n_classes else ""
        lines.append(f"  {node} [label={_quoted(node_text(tree, node, labels))}{shape}];")
    for node in range(tree.n_classes, tree.n_nodes):
        lines += [f"  {node} -> {child};" for child in tree.children(node)]
    return "\n".join([*lines, "}"])


def node_text(tree: Drawable, node: int, labels: Sequence[object] | None) -> str:
    """Return the text of a node."""
    name = tree.names[node] if tree.names is not None else ""
    if node >= tree.n_classes:
        return name or f"node {node}"
    if labels is not None:
        name = str(labels[node])
    return f"{node}: {name}" if name else str(node)


def plain(text: str) -> str:
    """Escape line breaks and unprintable characters as Python does."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _quoted(text: str) -> str:
    # In labels, Graphviz interprets escapes like \N and entities like &amp;.
    lines = text.replace("\r\n", "\n").split("\n")
    safe = [
        plain(line).replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")
        for line in lines
    ]
    return '"' + "\\n".join(safe) + '"'


def check_labels(tree: Drawable, labels: Sequence[object] | None) -> None:
    """Raise unless there is one label per class."""
    if labels is not None and len(labels) != tree.n_classes:
        raise ValueError(
            f"labels must be one per class, {tree.n_classes} of them, got {len(labels)}"
        )


def _checked_limit(max_nodes: int) -> int:
    limit = operator.index(max_nodes)
    if limit < 1:
        raise ValueError(f"max_nodes must be at least 1, got {limit}")
    return limit


def check_size(tree: Drawable, max_nodes: int) -> None:
    """Raise if a tree has more than `max_nodes` nodes."""
    limit = _checked_limit(max_nodes)
    if tree.n_nodes > limit:
        raise ValueError(f"the tree has {tree.n_nodes} nodes, but max_nodes is {limit}")
