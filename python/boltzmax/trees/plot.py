"""Draw a tree of classes such that no label is cut off or crossed by its node's edges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boltzmax.trees.text import Drawable, check_labels, check_size, node_text, plain

Floats = NDArray[np.float64]

_FONT_SIZES = (8, 7, 6, 5, 4)  # in points; the first at which every label fits is used
# The size of a node, the margin around it and its label, and the distance of a leaf's label, in
# points.
_MARKER, _MARGIN, _OFFSET = 4.0, 2.0, 6.0
_HINTING = 1.08  # how much wider letters may be if a figure is saved at another resolution
_LEVEL = 0.6  # from a node to its children, in inches
# A figure has at least Matplotlib's default size.  It grows in width to fit the labels up to the
# second size, and in either direction to fit leaves or levels up to the third, the limit of images.
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
        The tree to draw.
    ax : matplotlib.axes.Axes, optional
        The axes to draw on; by default those of a new ``matplotlib.pyplot`` figure, sized to fit
        the labels.
    labels : sequence, length n_classes, optional
        What to write next to the number of each class; by default its name, if the tree has names.
    max_nodes : int, default 1000
        The maximum number of nodes the tree may have.

    Returns
    -------
    matplotlib.axes.Axes
        The leaves are at x = 0, 1, 2, ... in depth-first order, an inner node is midway between its
        outermost children, and y is the negative depth.  All labels are within the axes: if there
        is little room they are small, and very long ones are shortened in the middle.

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

    Those of leaves hang down.  Those of inner nodes are above them, on the side away from the edge
    to the parent.  Lengths are in pixels; in pairs, the first is horizontal, the second vertical.
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
        # The label covers edges of other nodes that pass behind it.
        box = {"facecolor": self.figure.get_facecolor(), "edgecolor": "none", "pad": 0.5}
        return self.ax.annotate(
            _verbatim(self.words[node]),
            self.places[node],
            textcoords="offset points",
            bbox=box,
            **place,
        )

    def fit(self, is_alone: bool) -> None:
        """Make room for the labels: resize a figure of their own, or fit the axes as they are."""
        self._measure(_FONT_SIZES[0])
        before, after, fixed = self.before, self.after, self._points(_OFFSET)
        for font_size in _FONT_SIZES:
            # Letters shrink with the font size, offsets do not.
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

    # ---- measurements ----

    def _points(self, points: float) -> float:
        return points * float(self.figure.dpi) / 72

    def _measure(self, font_size: float) -> None:
        """Measure how far labels and nodes extend from the nodes' positions, on either side."""
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
        """Return how long the axes must be if a unit of data is `unit` pixels."""
        at = unit * self.places[:, d]
        return float((at + self.after[:, d]).max() + (self.before[:, d] - at).max())

    def _unit(self, d: int) -> float:
        """Return the largest unit, in pixels, for which everything is within the axes."""
        low, high = 0.0, self._room()[d]
        room = high
        for _ in range(50):  # bisection: `_length` increases with the unit
            middle = (low + high) / 2
            low, high = (middle, high) if self._length(d, middle) <= room else (low, middle)
        return max(low, 1e-3)

    # ---- desired sizes ----

    def _leaf_width(self) -> float:
        """Return the smallest horizontal unit for which no leaf's label touches the next."""
        return float((self.before + self.after)[self.is_leaf, 0].max())

    def _wanted_level(self) -> float:
        """Return the smallest distance between levels: a label, and half as much for its edges."""
        return 1.5 * float(self.after[~self.is_leaf, 1].max())

    def _neighbours(self) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Yield nodes whose labels are side by side: those of a level, with leaves from above."""
        x, depth = self.places[:, 0], self.tree.node_depth
        end = depth + self.before[:, 1] / max(self._unit(1), self._wanted_level()) + 0.5
        for level in np.unique(depth):
            row = np.flatnonzero(
                (depth == level) | (self.is_leaf & (depth < level) & (end > level))
            )
            row = row[np.argsort(x[row])]
            yield row[:-1], row[1:]

    def _wanted_width(self) -> float:
        """Return the smallest horizontal unit for which no label touches its neighbour."""
        x = self.places[:, 0]
        return max(
            float(((self.after[a, 0] + self.before[b, 0]) / (x[b] - x[a])).max(initial=0.0))
            for a, b in self._neighbours()
        )

    def _resize(self) -> None:
        """Give the figure the desired size, and a little more to allow for rounding."""
        figure, dpi = self.figure, self.figure.dpi / 1.01
        height = self._length(1, max(_LEVEL * dpi, self._wanted_level())) / dpi
        figure.set_figheight(min(max(height, _SMALLEST[1]), _LARGEST))
        for_leaves = self._length(0, self._leaf_width()) / dpi
        for_all = self._length(0, self._wanted_width()) / dpi
        figure.set_figwidth(min(max(min(for_all, _WIDE), for_leaves, _SMALLEST[0]), _LARGEST))

    # ---- shortening ----

    def _shorten(self, node: int, d: int, room: float) -> None:
        """Shorten a label in the middle until it is not longer than `room`."""
        text, words = self.texts[node], self.words[node]
        kept = len(words)
        while kept and (length := text.get_window_extent().size[d]) > room:
            kept = min(kept - 1, int(kept * room / length))
            head = kept // 3
            text.set_text(_verbatim(words[:head] + "\u2026" + words[len(words) - kept + head :]))

    def _shorten_the_longest(self) -> None:
        """Shorten labels that would leave too little room for the tree."""
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
            spare = (room - self._length(d, unit)) / unit  # if all nodes are in one line
            set_limits(start - spare / 2, start - spare / 2 + room / unit)


def _verbatim(text: str) -> str:
    return text.replace("$", r"\$")  # not mathtext
