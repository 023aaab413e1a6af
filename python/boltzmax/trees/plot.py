"""A drawing of a tree of classes, in which no label is cut off or crossed by its node's edges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boltzmax.trees.text import Drawable, check_labels, check_size, node_text, plain

Floats = NDArray[np.float64]

_FONT_SIZES = (8, 7, 6, 5, 4)  # in points, the first that leaves every label its room
# The size of a node, what is around it and its label, and how far a leaf's label is from it, in
# points.
_MARKER, _MARGIN, _OFFSET = 4.0, 2.0, 6.0
_HINTING = 1.08  # how much wider letters may be where a figure is saved with other dots per inch
_LEVEL = 0.6  # from a node to its children, in inches
# A figure is at least of the size usual in Matplotlib.  It is as wide as the labels want up to the
# second, and as wide or high as leaves or levels want up to the third, where images end.
_SMALLEST, _WIDE, _LARGEST = (6.4, 4.8), 40.0, 200.0


def plot(
    tree: Drawable,
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
        Where to draw; by default on a new figure of ``matplotlib.pyplot``, of a size that suits
        the labels.
    labels : sequence, length n_classes, optional
        What to write beside the number of each class; by default its name, if the tree has names.
    max_nodes : int, default 1000
        How many nodes the tree may have.

    Returns
    -------
    matplotlib.axes.Axes
        The leaves are at x = 0, 1, 2, ... in depth-first order, an inner node is in the middle of
        its outer children, and y is the negative depth.  All labels lie within the axes: where
        there is little room they are small, and the middle of very long ones is left out.

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
    >>> from boltzmax.trees.plot import plot
    >>> ax = plot(Tree.balanced(4), ax=Figure().subplots(), labels=["ant", "bee", "cat", "dog"])
    >>> len(ax.texts)  # one per node
    7
    """
    check_labels(tree, labels)
    check_size(tree, max_nodes)
    try:
        from matplotlib.collections import LineCollection
    except ImportError as error:
        raise ImportError(
            'drawing a tree needs Matplotlib: pip install "boltzmax[demo]"'
        ) from error
    is_new = ax is None
    if is_new:
        from matplotlib import pyplot

        figure, ax = pyplot.subplots()
        figure.subplots_adjust(0, 0, 1, 1)
    places = np.stack([_abscissas(tree), -tree.node_depth.astype(np.float64)], axis=1)
    below = np.flatnonzero(tree.parent >= 0)
    lines = np.stack([places[tree.parent[below]], places[below]], axis=1)
    ax.add_collection(LineCollection(list(lines), colors="0.6", linewidths=0.8, zorder=1))
    n = tree.n_classes
    ax.plot(places[n:, 0], places[n:, 1], "o", color="0.3", markersize=_MARKER, zorder=2)
    ax.plot(places[:n, 0], places[:n, 1], "s", color="C0", markersize=_MARKER, zorder=2)
    ax.set_axis_off()
    _Labels(tree, places, ax, labels).fit(is_alone=is_new)
    return ax


def _abscissas(tree: Drawable) -> Floats:
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


class _Labels:
    """The labels of a drawing, one for each node.

    Those of leaves hang down.  Those of inner nodes stand above them, on the side where the edge
    to the parent is not.  Lengths are in pixels; of pairs, the first is across, the second down.
    """

    before: Floats
    after: Floats

    def __init__(
        self, tree: Drawable, places: Floats, ax: Any, labels: Sequence[object] | None
    ) -> None:
        self.tree, self.places, self.ax, self.figure = tree, places, ax, ax.figure
        self.is_leaf = np.arange(tree.n_nodes) < tree.n_classes
        self.words = [plain(node_text(tree, v, labels)) for v in range(tree.n_nodes)]
        self.texts = [self._write(node) for node in range(tree.n_nodes)]

    def _write(self, node: int) -> Any:
        parent = int(self.tree.parent[node])
        to_parent = 0.0 if parent < 0 else self.places[parent, 0] - self.places[node, 0]
        if self.is_leaf[node]:
            place = {"xytext": (0, -_OFFSET), "ha": "center", "va": "top", "rotation": 90}
        elif parent < 0:
            place = {"xytext": (0, 5), "ha": "center", "va": "bottom"}
        elif to_parent > 0:
            place = {"xytext": (-4, 2), "ha": "right", "va": "bottom"}
        else:
            place = {"xytext": (4, 2), "ha": "left", "va": "bottom"}
        # Edges of other nodes that pass are covered.
        box = {"facecolor": self.figure.get_facecolor(), "edgecolor": "none", "pad": 0.5}
        return self.ax.annotate(
            _verbatim(self.words[node]),
            self.places[node],
            textcoords="offset points",
            bbox=box,
            **place,
        )

    def fit(self, is_alone: bool) -> None:
        """Make room: on a figure that is theirs alone, or in the axes as they are."""
        self._measure(_FONT_SIZES[0])
        before, after, fixed = self.before, self.after, self._points(_OFFSET)
        for font_size in _FONT_SIZES:
            # Letters shrink with their size, offsets do not.
            shrunk = font_size / _FONT_SIZES[0]
            self.before = fixed + shrunk * (before - fixed)
            self.after = fixed + shrunk * (after - fixed)
            if is_alone:
                self._resize()
            if self._wanted_level() <= self._unit(1) and self._wanted_width() <= self._unit(0):
                break
        self._measure(font_size)
        self._shorten_the_longest()
        self._set_limits()

    # ---- what there is ----

    def _points(self, points: float) -> float:
        return points * float(self.figure.dpi) / 72

    def _measure(self, font_size: float) -> None:
        """Note how far labels and nodes reach from the places of the nodes, on either side."""
        for text in self.texts:
            text.set_fontsize(font_size)
        self.ax.set(xlim=(-1, self.tree.n_classes), ylim=(self.places[:, 1].min() - 1, 1))
        at = self.ax.transData.transform(self.places)
        boxes = np.array([text.get_window_extent().extents for text in self.texts])
        least, margin = self._points(_MARKER / 2), self._points(_MARGIN)
        self.before = np.maximum(_HINTING * (at - boxes[:, :2]), least) + margin
        self.after = np.maximum(_HINTING * (boxes[:, 2:] - at), least) + margin

    def _room(self) -> tuple[float, float]:
        box = self.ax.get_window_extent()
        return box.width, box.height

    def _length(self, d: int, unit: float) -> float:
        """Return how long the axes must be if a unit of data is so many pixels."""
        at = unit * self.places[:, d]
        return float((at + self.after[:, d]).max() + (self.before[:, d] - at).max())

    def _unit(self, d: int) -> float:
        """Return the largest unit for which all is within the axes, in pixels."""
        low, high = 0.0, self._room()[d]
        room = high
        for _ in range(50):  # `_length` rises with the unit
            middle = (low + high) / 2
            low, high = (middle, high) if self._length(d, middle) <= room else (low, middle)
        return max(low, 1e-3)

    # ---- what is wanted ----

    def _leaf_width(self) -> float:
        """Return the least unit across for which no leaf's label meets the next."""
        return float((self.before + self.after)[self.is_leaf, 0].max())

    def _wanted_level(self) -> float:
        """Return the least distance of levels: a label, and half as much for its edges."""
        return 1.5 * float(self.after[~self.is_leaf, 1].max())

    def _neighbours(self) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Yield nodes whose labels stand side by side: those of a level, and leaves from above."""
        x, depth = self.places[:, 0], self.tree.node_depth
        end = depth + self.before[:, 1] / max(self._unit(1), self._wanted_level()) + 0.5
        for level in np.unique(depth):
            row = np.flatnonzero(
                (depth == level) | (self.is_leaf & (depth < level) & (end > level))
            )
            row = row[np.argsort(x[row])]
            yield row[:-1], row[1:]

    def _wanted_width(self) -> float:
        """Return the least unit across for which no label meets its neighbour."""
        x = self.places[:, 0]
        return max(
            float(((self.after[a, 0] + self.before[b, 0]) / (x[b] - x[a])).max(initial=0.0))
            for a, b in self._neighbours()
        )

    def _resize(self) -> None:
        """Give the figure the size that is wanted, and a little more, which rounding may take."""
        figure, dpi = self.figure, self.figure.dpi / 1.01
        height = self._length(1, max(_LEVEL * dpi, self._wanted_level())) / dpi
        figure.set_figheight(min(max(height, _SMALLEST[1]), _LARGEST))
        for_leaves = self._length(0, self._leaf_width()) / dpi
        for_all = self._length(0, self._wanted_width()) / dpi
        figure.set_figwidth(min(max(min(for_all, _WIDE), for_leaves, _SMALLEST[0]), _LARGEST))

    # ---- what must give way ----

    def _shorten(self, node: int, d: int, room: float) -> None:
        """Leave so much out of the middle of a label that it is not longer than `room`."""
        text, words = self.texts[node], self.words[node]
        kept = len(words)
        while kept and (length := text.get_window_extent().size[d]) > room:
            kept = min(kept - 1, int(kept * room / length))
            head = kept // 3
            text.set_text(_verbatim(words[:head] + "\u2026" + words[len(words) - kept + head :]))

    def _shorten_the_longest(self) -> None:
        """Let no label be so long that little is left for the tree."""
        for d, least in ((0, self._leaf_width()), (1, self._wanted_level())):
            if self._unit(d) < least:
                room = 0.4 * self._room()[d]
                for node in np.flatnonzero(self.before[:, d] + self.after[:, d] > room).tolist():
                    self._shorten(node, d, room / _HINTING - 2 * self._points(_OFFSET))
        self._measure(self.texts[0].get_fontsize())

    def _set_limits(self) -> None:
        for d, set_limits in enumerate((self.ax.set_xlim, self.ax.set_ylim)):
            unit, room = self._unit(d), self._room()[d]
            start = (self.places[:, d] - self.before[:, d] / unit).min()
            spare = (room - self._length(d, unit)) / unit  # where all nodes lie in one line
            set_limits(start - spare / 2, start - spare / 2 + room / unit)


def _verbatim(text: str) -> str:
    return text.replace("$", r"\$")  # no mathematics
