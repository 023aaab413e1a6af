"""Trees of classes: a structure of arrays, with several builders."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import quietly
from boltzmax._lib.files import load_npz, write_npz
from boltzmax._lib.numbers import unmasked_ids
from boltzmax.trees import builders, plot, text
from boltzmax.trees.builders import checked_arity, checked_counts

Ids = NDArray[np.int32]
Offsets = NDArray[np.int64]

KIND = "boltzmax tree, version 1"


class Tree:
    """An immutable tree whose leaves are the classes.

    Nodes are numbered: 0 to ``n_classes - 1`` are the leaves, a leaf's number being its class; the
    inner nodes follow, breadth first from the root, which is ``n_classes``. A layer has no weights
    for a node with one child, one row for a node with two (a logistic unit), and a row per child
    for a node with more (a softmax).

    Use a class method to construct one: `huffman`, `balanced`, `two_level`, `from_clusters`,
    `from_paths` or `from_parents`.

    Attributes
    ----------
    n_classes, n_inner, n_nodes, n_units : int
        The numbers of leaves, inner nodes, nodes and rows of weights.
    depth, arity : int
        The length of the longest path from the root to a leaf, in edges; the largest number of
        children of a node.
    parent, slot, node_depth : ndarray of int32, shape (n_nodes,)
        For every node: its parent (-1 for the root), its position among its siblings, its depth.
    child_offset, child : ndarray of int64 and int32
        The children of inner node v are ``child[child_offset[i]:child_offset[i + 1]]`` with
        ``i = v - n_classes``.
    unit_offset : ndarray of int64, shape (n_inner + 1,)
        Where the weights of every inner node begin.
    names : tuple of str or None
        A name for each node.

    Examples
    --------
    >>> import boltzmax
    >>> tree = boltzmax.Tree.huffman([5, 2, 1, 1])
    >>> tree.leaf_path(0).tolist(), tree.leaf_path(3).tolist()
    ([4, 0], [4, 5, 6, 3])
    >>> tree.depth, round(tree.expected_depth([5, 2, 1, 1]), 3)
    (3, 1.667)
    """

    parent: Ids
    slot: Ids
    node_depth: Ids
    child: Ids
    child_offset: Offsets
    unit_offset: Offsets
    names: tuple[str, ...] | None
    _handle: object  # the compiled tree, of which the arrays are views

    def __init__(self) -> None:
        raise TypeError("make a Tree with Tree.huffman, .balanced, .two_level, .from_...")

    @classmethod
    def from_parents(cls, parents: ArrayLike, *, names: Sequence[str] | None = None) -> Tree:
        """Construct the tree in which node i is a child of ``parents[i]``.

        Parameters
        ----------
        parents : array_like of int, shape (n,)
            The parent of every node, -1 for the root. Nodes without children are the leaves: in
            the order of their numbers they become classes 0, 1, ...
        names : sequence of str, shape (n,), optional
            A name for every node, in the same order.

        Raises
        ------
        TypeError
            If `parents` are not integers, or a name is not a string.
        ValueError
            For cycles, several roots or none, parents out of range, fewer than two nodes, or the
            wrong number of names.

        Examples
        --------
        >>> import boltzmax
        >>> boltzmax.Tree.from_parents([3, 3, 4, 4, -1]).leaf_path(1).tolist()
        [3, 4, 1]
        """
        array = unmasked_ids(parents, "parents")
        if array.dtype.kind not in "iu":
            raise TypeError(f"parents must be integers, got dtype {array.dtype}")
        if array.ndim != 1:
            raise ValueError(f"parents must have one dimension, got shape {array.shape}")
        if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
            raise ValueError(f"parents: {array.max()} is out of range")
        return cls._build(np.ascontiguousarray(array, np.int64), names)

    @classmethod
    def _build(cls, parents: NDArray[np.int64], names: Sequence[str] | None = None) -> Tree:
        handle, parent, slot, child_offset, child, unit_offset, depth, origin = _core.make_tree(
            parents
        )
        arrays: dict[str, Any] = {"parent": parent, "slot": slot, "node_depth": depth}
        arrays |= {"child": child, "child_offset": child_offset, "unit_offset": unit_offset}
        for array in arrays.values():
            array.flags.writeable = False
        ordered = None
        if names is not None:
            if len(names) != len(parents):
                raise ValueError(f"{len(parents)} nodes need as many names, got {len(names)}")
            for name in names:
                if not isinstance(name, str):
                    raise TypeError(f"names must be strings, got {name!r}")
            ordered = tuple(names[i] for i in origin)
        tree = object.__new__(cls)
        tree.__dict__.update(arrays, names=ordered, _handle=handle)  # bypasses __setattr__
        return tree

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Tree is immutable: {name} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a Tree is immutable: {name} cannot be deleted")

    @classmethod
    def huffman(cls, counts: ArrayLike, arity: int = 2) -> Tree:
        """Construct the tree of least expected depth: frequent classes are near the root.

        Parameters
        ----------
        counts : array_like, shape (n_classes,)
            How often each class occurs: not negative; zeros are allowed.
        arity : int, default 2
            The largest number of children of a node.

        Notes
        -----
        D. A. Huffman, "A Method for the Construction of Minimum-Redundancy Codes", Proc. IRE
        40(9), 1952; for words, Mikolov et al., arXiv:1301.3781. O(n log n); ties in favour of the
        lower class and of shallow trees.

        Examples
        --------
        >>> import boltzmax
        >>> boltzmax.Tree.huffman([1, 1, 1, 1, 1], arity=3).depth
        2
        """
        return cls._build(_core.huffman_parents(checked_counts(counts), checked_arity(arity)))

    @classmethod
    def balanced(cls, n_classes: int, arity: int = 2) -> Tree:
        """Construct a tree whose leaves, in order, have depths that differ by at most one.

        Parameters
        ----------
        n_classes : int
            The number of classes.
        arity : int, default 2
            The largest number of children of a node.

        Examples
        --------
        >>> import boltzmax
        >>> boltzmax.Tree.balanced(1000).depth
        10
        """
        n = operator.index(n_classes)
        if not 0 < n <= 2**30:
            raise ValueError(f"n_classes must be from 1 to 2**30, got {n}")
        return cls._build(_core.balanced_parents(n, checked_arity(arity)))

    @classmethod
    def two_level(cls, counts: ArrayLike) -> Tree:
        """Construct a tree of groups of classes, sized to cost least under the counts.

        See Goodman, "Classes for Fast Maximum Entropy Training", ICASSP 2001. About sqrt(n) groups
        of about sqrt(n) classes if all counts are equal; frequent classes get smaller groups.

        Parameters
        ----------
        counts : array_like, shape (n_classes,)
            How often each class occurs.

        Examples
        --------
        >>> import boltzmax
        >>> boltzmax.Tree.two_level([1] * 100).depth
        2
        """
        return cls._build(builders.parents_of_two_levels(checked_counts(counts)))

    @classmethod
    def from_clusters(cls, class_vectors: ArrayLike, arity: int = 2, seed: int = 0) -> Tree:
        """Construct a tree in which similar classes are neighbours: balanced k-means, top down.

        Parameters
        ----------
        class_vectors : array_like, shape (n_classes, n_features)
            A vector for each class: its mean, or its row of a trained layer.
        arity : int, default 2
            The largest number of children of a node.
        seed : int, default 0
            The seed of the first centres.

        Examples
        --------
        >>> import boltzmax
        >>> tree = boltzmax.Tree.from_clusters([[0.0], [9.0], [0.1], [9.1]])
        >>> tree.parent[0] == tree.parent[2], tree.parent[1] == tree.parent[3]
        (np.True_, np.True_)
        """
        return cls._build(builders.parents_of_clusters(class_vectors, checked_arity(arity), seed))

    @classmethod
    def from_paths(cls, paths: Sequence[str], sep: str = "/") -> Tree:
        """Construct the tree of a taxonomy.

        Parameters
        ----------
        paths : sequence of str
            Class c is the leaf ``paths[c]``, below the nodes that its path names.
        sep : str, default "/"
            The separator between the names of a path.

        Examples
        --------
        >>> import boltzmax
        >>> tree = boltzmax.Tree.from_paths(["animal/cat", "animal/dog", "plant"])
        >>> [tree.names[v] for v in tree.ancestors(1)]
        ['animal', '']
        """
        parents, names = builders.parents_of_paths(paths, sep)
        return cls._build(parents, names)

    @property
    def n_nodes(self) -> int:
        """The number of nodes, leaves and inner ones."""
        return len(self.parent)

    @property
    def n_inner(self) -> int:
        """The number of inner nodes."""
        return len(self.child_offset) - 1

    @property
    def n_classes(self) -> int:
        """The number of leaves."""
        return self.n_nodes - self.n_inner

    @property
    def n_units(self) -> int:
        """The number of rows of weights of a layer on this tree."""
        return int(self.unit_offset[-1])

    @property
    def root(self) -> int:
        """The number of the root."""
        return self.n_classes

    @property
    def depth(self) -> int:
        """The length of the longest path from the root to a leaf, in edges."""
        return int(self.node_depth.max())

    @property
    def arity(self) -> int:
        """The largest number of children of a node."""
        return int(np.diff(self.child_offset).max())

    @quietly
    def expected_depth(self, counts: ArrayLike) -> float:
        """Return the mean depth of the leaves under the counts of the classes."""
        weight = checked_counts(counts)
        if len(weight) != self.n_classes:
            raise ValueError(f"counts must have {self.n_classes} elements, got {len(weight)}")
        if not weight.any():
            raise ValueError("counts must not all be zero")
        weight = weight / weight.max()  # so that no sum of them overflows
        return float(weight @ self.node_depth[: self.n_classes] / weight.sum())

    def children(self, node: int) -> Ids:
        """Return the children of a node; a leaf has none."""
        i = self._node(node) - self.n_classes
        if i < 0:
            return self.child[:0]
        return self.child[self.child_offset[i] : self.child_offset[i + 1]]

    def ancestors(self, node: int) -> Ids:
        """Return the ancestors of a node, the nearest first, the root last."""
        above = int(self.parent[self._node(node)])
        way = []
        while above >= 0:
            way.append(above)
            above = int(self.parent[above])
        return np.array(way, np.int32)

    def leaf_path(self, class_id: int) -> Ids:
        """Return the nodes from the root to the leaf of a class, both included."""
        leaf = self._node(class_id)
        if leaf >= self.n_classes:
            raise IndexError(f"class {class_id} is out of range for {self.n_classes} classes")
        return np.append(self.ancestors(leaf)[::-1], np.int32(leaf))

    def _node(self, node: int) -> int:
        index = operator.index(node)
        if not 0 <= index < self.n_nodes:
            raise IndexError(f"node {node} is out of range for {self.n_nodes} nodes")
        return index

    def render(self, labels: Sequence[str] | None = None, max_nodes: int = 200) -> str:
        """Return a drawing as text, one node on each line.

        Examples
        --------
        >>> import boltzmax
        >>> text = boltzmax.Tree.balanced(3).render()
        """
        return text.render(self, labels, max_nodes)

    def to_dot(self, labels: Sequence[str] | None = None, max_nodes: int = 1000) -> str:
        """Return a drawing in Graphviz's DOT language."""
        return text.to_dot(self, labels, max_nodes)

    def plot(
        self, ax: Any = None, labels: Sequence[str] | None = None, max_nodes: int = 1000
    ) -> Any:
        """Draw with matplotlib, and return the axes."""
        return plot.plot(self, ax, labels, max_nodes)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the tree to one ``.npz`` file, which appears only when it is complete."""
        write_npz(path, KIND, self.to_arrays())

    def to_arrays(self) -> dict[str, Any]:
        """Return the arrays that files and pickles hold."""
        import json  # here, since few programs that import the package have names in files

        arrays: dict[str, Any] = {"parent": self.parent}
        if self.names is not None:
            arrays["names"] = np.frombuffer(json.dumps(self.names).encode(), np.uint8)
        return arrays

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Tree:
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            If the file is damaged or something else; the message names the file.
        """
        return load_npz(path, KIND, cls.from_arrays)

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Tree:
        """Return the tree that `to_arrays` described; ValueError if the arrays do not fit."""
        import json

        parent, packed = arrays.get("parent"), arrays.get("names")
        if parent is None or parent.ndim != 1 or parent.dtype != np.int32:
            raise ValueError("not a tree: no array of parents")
        if packed is not None and (packed.ndim != 1 or packed.dtype != np.uint8):
            raise ValueError("not a tree: its names are not text")
        try:
            names = None if packed is None else json.loads(packed.tobytes())
            if not isinstance(names, list | None):
                raise TypeError("its names are not a list")
            tree = cls._build(parent.astype(np.int64), names)
        except (TypeError, RecursionError) as error:
            raise ValueError(f"not a tree: {error}") from None
        if not np.array_equal(tree.parent, parent):
            raise ValueError("not a tree: its nodes are not in order")
        return tree

    def __reduce__(self) -> tuple[Any, ...]:
        return Tree.from_arrays, (self.to_arrays(),)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tree):
            return NotImplemented
        return self.names == other.names and np.array_equal(self.parent, other.parent)

    def __hash__(self) -> int:
        return hash((self.n_classes, self.n_inner, self.parent.tobytes()))

    def __repr__(self) -> str:
        return f"<Tree of {self.n_classes} classes, {self.n_inner} inner nodes, depth {self.depth}>"
