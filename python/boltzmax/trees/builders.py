"""Ways to arrange classes in a tree; each returns the parent of every node.

In all of them the classes are the nodes ``0 ... V-1``, the inner nodes follow, and the root has the
parent -1.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import quietly
from boltzmax._lib.numbers import real_numbers
from boltzmax._lib.random import random_generator

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

_ROUNDS = 10  # of 2-means; it stops by itself when no class changes sides
BATCH = 1 << 20  # most numbers in a batch of groups: 8 MiB of float64
# Up to this many classes a group may begin at any class; with more, at one of 16 places per group.
FEW_CLASSES = 2048
_PLACES_PER_GROUP = 16


# ---- from paths


def parents_of_paths(paths: Sequence[str], sep: str = "/") -> tuple[Indices, tuple[str, ...]]:
    r"""Arrange classes by their paths, like files in folders.

    Parameters
    ----------
    paths : sequence of str, length V
        ``paths[c]`` is the path of class c from the root, such as ``"animal/cat"``.
    sep : str, default "/"
        The separator of the components of a path.

    Returns
    -------
    parents : ndarray of int64, shape (n,)
        Class c is node c.  The inner nodes are the root, which is node V and above all paths, and
        the proper prefixes of paths in the order of their first appearance.
    names : tuple of str, length n
        The whole path of each node; the root has the empty name.

    Raises
    ------
    TypeError
        If `paths` is one string, or `sep` or a path is not a string.
    ValueError
        If there are no paths or `sep` is empty, if a path is empty or has an empty component, if
        two classes have the same path, or the path of a class is a prefix of another's (a class
        has to be a leaf).

    Notes
    -----
    The time is linear in the length of the paths and of the returned names.

    Examples
    --------
    >>> from boltzmax.trees.builders import parents_of_paths
    >>> parents, names = parents_of_paths(["animal/cat", "animal/dog", "plant"])
    >>> parents
    array([ 4,  4,  3, -1,  3])
    >>> names
    ('animal/cat', 'animal/dog', 'plant', '', 'animal')
    """
    classes = _checked_paths(paths, sep)
    root = len(classes)
    parents = [-1] * (root + 1)
    names = [*classes, ""]
    # Keys are (node, component), not prefixes: the prefixes of a path take quadratic space.
    nodes: dict[tuple[int, str], int] = {}
    first_class = {root: 0}  # some class below each inner node, for the messages
    for c, path in enumerate(classes):
        *above, last = path.split(sep)
        node = root
        for component in above:
            key = node, component
            child = nodes.get(key)
            if child is None:
                child = nodes[key] = len(parents)
                parents.append(node)
                names.append(component if node == root else names[node] + sep + component)
                first_class[child] = c
            elif child < root:
                raise _class_above(child, c, classes)
            node = child
        taken = nodes.setdefault((node, last), c)
        if taken >= root:
            raise _class_above(c, first_class[taken], classes)
        if taken != c:
            raise ValueError(f"classes {taken} and {c} have the same path {path!r}")
        parents[c] = node
    return np.array(parents, np.int64), tuple(names)


def _checked_paths(paths: Sequence[str], sep: str) -> list[str]:
    if not isinstance(sep, str):
        raise TypeError(f"sep must be a string, got {type(sep).__name__}")
    if not sep:
        raise ValueError("sep must not be empty")
    if isinstance(paths, str | bytes):
        raise TypeError(f"paths must be a sequence of strings, got the one {paths!r}")
    classes = list(paths)
    if not classes:
        raise ValueError("paths must not be empty: a tree has at least one class")
    for c, path in enumerate(classes):
        if not isinstance(path, str):
            raise TypeError(f"paths must be strings, got {type(path).__name__} for class {c}")
        if not path:
            raise ValueError(f"the path of class {c} is empty")
        if path.startswith(sep) or path.endswith(sep) or sep + sep in path:
            raise ValueError(f"the path {path!r} of class {c} has an empty component")
    return [str(path) for path in classes]  # not numpy.str_, whose repr is another


def _class_above(upper: int, lower: int, classes: list[str]) -> ValueError:
    return ValueError(
        f"class {upper} ({classes[upper]!r}) is an ancestor of class {lower} "
        f"({classes[lower]!r}); classes must be leaves"
    )


# ---- from class vectors


@quietly
def parents_of_clusters(
    class_vectors: ArrayLike, arity: int = 2, seed: int | np.random.Generator | None = 0
) -> Indices:
    r"""Arrange classes so that similar ones are close, by recursive splitting.

    Parameters
    ----------
    class_vectors : array_like, shape (V, D)
        One vector of real numbers for each class: for example the rows of a trained layer, or the
        mean input of each class.
    arity : int, default 2
        The maximum number of children of a node.
    seed : int or numpy.random.Generator, default 0
        Seeds the clustering.  The same seed gives the same tree.

    Returns
    -------
    ndarray of int64, shape (n,)
        The root is node V and the inner nodes are numbered level by level.  The number of
        levels, :math:`\lceil \log_{arity} V \rceil`, is the least possible.

    Raises
    ------
    TypeError
        If `class_vectors` is not made of real numbers, or `arity` is not an integer.
    ValueError
        If `class_vectors` is not 2-d, is empty or has a number that is not finite, or `arity` is
        less than 2.

    Notes
    -----
    A group of more than `arity` classes is split into `arity` groups whose sizes differ by one at
    most, by halving it, then its halves, and so on.  Each halving is 2-means with given sizes: it
    starts from a random class and the one farthest from it; classes are sorted by the difference of
    their squared distances to the two means, the order is cut, and the means are recomputed, at
    most 10 times.  For two means, that cut is the best assignment of these sizes, so no round makes
    the split worse.  (With the mean of the group at the origin, the means are on a line through it,
    and the difference is the scalar product with the sum of one side.)

    Time is :math:`O(V (D + \log V) \log V)` for any arity, memory two copies of the vectors in
    float64.  All groups of one level are split together, a batch at a time.

    References
    ----------
    Mnih & Hinton, "A scalable hierarchical distributed language model", NIPS 2008, split words into
    two clusters recursively, by the means of their contexts (with a mixture of two Gaussians; one
    variant halves the sorted responsibilities, as is done here with distances).

    Examples
    --------
    >>> from boltzmax.trees.builders import parents_of_clusters
    >>> parents = parents_of_clusters([[0.0], [10.0], [0.1], [10.1]])
    >>> bool(parents[0] == parents[2] != parents[1] == parents[3])
    True
    """
    vectors = _checked_vectors(class_vectors)
    k = operator.index(arity)
    if k < 2:
        raise ValueError(f"arity must be at least 2, got {arity!r}")
    rng = random_generator(seed, "seed")
    n_nodes = n_classes = len(vectors)
    order = np.arange(n_classes)  # every group is a slice of it
    owner = np.full(n_classes, -1)  # the lowest node so far above each position of `order`
    inner: list[Indices] = []
    starts, sizes = np.array([0]), np.array([n_classes])
    while starts.size:
        inner.append(owner[starts])
        places = np.repeat(starts - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())
        owner[places] = np.repeat(np.arange(n_nodes, n_nodes + starts.size), sizes)
        n_nodes += starts.size
        large = sizes > k
        starts, sizes = _split(vectors, order, starts[large], sizes[large], k, rng)
        starts, sizes = starts[sizes > 1], sizes[sizes > 1]  # a single class needs no node
    parents = np.concatenate([owner, *inner])
    parents[order] = owner
    return parents


def _checked_vectors(class_vectors: ArrayLike) -> Floats:
    """Return the vectors divided by the largest absolute value, so that no square overflows."""
    vectors = real_numbers(class_vectors, "class_vectors")
    if vectors.ndim != 2 or vectors.size == 0:
        raise ValueError(
            f"class_vectors must be 2-d, (classes, features), and not empty, got {vectors.shape}"
        )
    largest = max(vectors.max(), -vectors.min())
    if not np.isfinite(largest):
        c, j = np.argwhere(~np.isfinite(vectors))[0]
        raise ValueError(f"class_vectors must be finite, got {vectors[c, j]} at [{c}, {j}]")
    return vectors / largest if largest > 0.0 else vectors


def _split(
    vectors: Floats,
    order: Indices,
    starts: Indices,
    sizes: Indices,
    n_parts: int,
    rng: np.random.Generator,
) -> tuple[Indices, Indices]:
    """Split groups into parts whose sizes differ by one at most, reordering their classes."""
    parts = np.full_like(starts, n_parts)
    while (parts > 1).any():
        left_parts = (parts + 1) // 2
        size, rest = np.divmod(sizes, parts)
        cuts = left_parts * size + np.minimum(left_parts, rest)
        _halve(vectors, order, np.stack([starts, sizes, cuts]), rng)
        left, right = (starts, cuts, left_parts), (starts + cuts, sizes - cuts, parts - left_parts)
        halves = np.stack([left, right], axis=2).reshape(3, -1)
        # A group that was already one part has no right half.
        starts, sizes, parts = halves[:, halves[2] > 0]
    return starts, sizes


def _halve(vectors: Floats, order: Indices, groups: Indices, rng: np.random.Generator) -> None:
    """Reorder groups (start, size, cut) so that the first `cut` classes of each are one cluster."""
    # A level has few different sizes, and groups of one size form an array.
    for size, cut in np.unique(groups[1:], axis=1).T:
        if cut == size:
            continue
        alike = groups[0, (groups[1] == size) & (groups[2] == cut)]
        step = max(1, BATCH // (int(size) * vectors.shape[1]))
        for first in range(0, alike.size, step):
            places = alike[first : first + step, None] + np.arange(size)
            members = order[places]
            sides = _two_means(vectors[members], int(cut), rng)
            order[places] = np.take_along_axis(members, sides, axis=1)


def _two_means(x: Floats, cut: int, rng: np.random.Generator) -> Indices:
    """Sort the vectors of each group, (groups, size, D), into one cluster of `cut` and the rest."""
    n_groups, size, _ = x.shape
    groups = np.arange(n_groups)
    x -= x.mean(axis=1, keepdims=True)
    here = x[groups, rng.integers(size, size=n_groups)]
    squares = np.einsum("gsd,gsd->gs", x, x) - 2.0 * (x @ here[:, :, None])[:, :, 0]
    direction = x[groups, squares.argmax(axis=1)] - here
    left = np.zeros((n_groups, size))  # 1 where a vector belongs to the first cluster
    for _ in range(_ROUNDS):
        ranks = np.argsort((x @ direction[:, :, None])[:, :, 0], axis=1, kind="stable")
        before, left = left, np.zeros_like(left)
        np.put_along_axis(left, ranks[:, :cut], 1.0, axis=1)
        if np.array_equal(left, before):
            break
        direction = -(left[:, None, :] @ x)[:, 0, :]
    # Stable, so that the classes of a group stay in order.
    return np.argsort(-left, axis=1, kind="stable")


# ---- from counts


@quietly
def parents_of_two_levels(counts: ArrayLike) -> Indices:
    r"""Arrange classes in groups of similar frequency below the root.

    Parameters
    ----------
    counts : array_like, shape (V,)
        The frequency of each class, in any unit; finite and not negative.  If all are 0, the
        classes count as equally frequent.

    Returns
    -------
    ndarray of int64, shape (n,)
        The root is node V; the groups follow, the one of the most frequent classes first.  A class
        that is alone in its group is a child of the root.

    Raises
    ------
    TypeError
        If `counts` is not made of real numbers.
    ValueError
        If `counts` is not 1-d, empty, negative or not finite.

    Notes
    -----
    Let the root have K children, and group g have :math:`s_g` classes whose probabilities add up to
    :math:`P_g`.  A row costs :math:`K + \sum_g P_g s_g` scores in expectation, where a class that
    is a child of the root adds nothing to the sum.  The classes are sorted by falling count and
    cut where that cost is least, by dynamic programming over the positions of cuts.  As the cost of
    a group satisfies the quadrangle inequality, the best start of the last group never moves left
    when its end moves right, so few starts are tried for each end.

    Up to 2048 classes, a cut may be anywhere and the result is optimal.  With more, cuts are at 16
    positions per group and where the counts fall by more than a quarter, at a loss of less than
    0.1%.  The positions follow from many classes whose probability p changes slowly: s of them cost
    1 at the root and :math:`P s = p s^2` below it, which per class is least for
    :math:`s = 1/\sqrt{p}`, so that :math:`\sum_c \sqrt{p_c}` grows by one from cut to cut.  For
    equal counts these are :math:`\sqrt{V}` groups of :math:`\sqrt{V}`, and for rare classes the
    groups are larger.  The time is that of sorting, :math:`O(V \log V)`.

    References
    ----------
    Goodman, "Classes for fast maximum entropy training", ICASSP 2001,
    https://arxiv.org/abs/cs/0108006.  Hirschberg & Larmore, "The least weight subsequence problem",
    SIAM J. Comput. 16 (1987), for the quadrangle inequality in such problems.

    Examples
    --------
    >>> from boltzmax.trees.builders import parents_of_two_levels
    >>> parents_of_two_levels([1, 90, 1, 1, 2, 1, 2, 2])  # class 1 alone, the others in a group
    array([ 9,  8,  9,  9,  9,  9,  9,  9, -1,  8])
    """
    n = checked_counts(counts)
    n = n if n.any() else np.ones_like(n)
    order = np.argsort(-n, kind="stable")
    shares = n[order] / n.max()  # no overflow of the sum
    cuts = _cheapest_cuts(shares / shares.sum())
    sizes = np.diff(cuts)
    root = n.size
    group = root + np.cumsum(sizes > 1)
    parents = np.full(int(group[-1]) + 1, root, np.int64)
    parents[order] = np.repeat(np.where(sizes > 1, group, root), sizes)
    parents[root] = -1
    return parents


def checked_counts(counts: ArrayLike) -> Floats:
    """Return one count for each class, in float64."""
    n = real_numbers(counts, "counts")
    if n.ndim != 1 or n.size == 0:
        raise ValueError(f"counts must be 1-d, one per class and not empty, got {n.shape}")
    good = np.isfinite(n) & (n >= 0.0)
    if not good.all():
        c = int(good.argmin())
        raise ValueError(f"counts must be finite and not negative, got {n[c]} for class {c}")
    return np.ascontiguousarray(n)


def _cheapest_cuts(p: Floats) -> Indices:
    """Return where the groups begin, and V at the end, for descending probabilities (V,)."""
    places = _places_of_cuts(p)
    mass = np.concatenate([[0.0], np.cumsum(p)])[places]
    best = np.zeros(places.size)  # the least cost of the classes before each position
    begin = np.zeros(places.size, np.int64)  # the start of their last group
    low = 0
    for end in range(1, places.size):
        cost = (mass[end] - mass[low:end]) * (places[end] - places[low:end])
        if places[end] - places[end - 1] == 1:
            cost[-1] = 0.0  # a child of the root: no second softmax
        cost += best[low:end]
        low += int(cost.argmin())
        begin[end] = low
        best[end] = 1.0 + cost.min()
    cuts = [places.size - 1]
    while cuts[-1] > 0:
        cuts.append(int(begin[cuts[-1]]))
    return places[cuts[::-1]]


def _places_of_cuts(p: Floats) -> Indices:
    if p.size <= FEW_CLASSES:
        return np.arange(p.size + 1)
    groups = np.cumsum(np.sqrt(p))
    marks = np.arange(1.0, groups[-1] * _PLACES_PER_GROUP) / _PLACES_PER_GROUP
    places = np.searchsorted(groups, marks) + 1
    falls = np.flatnonzero(p[1:] < 0.75 * p[:-1]) + 1  # between these p changes slowly
    return np.unique(np.concatenate([[0], places, falls, [p.size]]))


def checked_arity(arity: int) -> int:
    """Return the arity if it is valid."""
    value = operator.index(arity)
    if not 2 <= value <= 2**20:
        raise ValueError(f"arity must be from 2 to 2**20, got {value}")
    return value
