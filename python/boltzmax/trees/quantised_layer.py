"""The hierarchical layer with weights of few bits, which answers but does not learn."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from boltzmax import _core
from boltzmax._lib.arguments import check_count
from boltzmax._lib.bad_rows import are_marked, refuse_bad_rows
from boltzmax._lib.files import FileName
from boltzmax._lib.mapped import map_npz, write_mapped
from boltzmax._lib.output_layer import Array, Classes, read_min_prob
from boltzmax._lib.random import random_generator
from boltzmax._lib.read_only import ReadOnlyLayer
from boltzmax.linear.quantised import QuantizedLinear
from boltzmax.trees.tree import Tree
from boltzmax.trees.weights import TreeWeights, read_beam

_KIND = "boltzmax quantised hierarchical softmax, version 1"


class QuantizedHierarchicalSoftmax(ReadOnlyLayer):
    """A softmax over the leaves of a tree whose weights have few bits.

    `HierarchicalSoftmax.quantize` returns it. It has the methods of that layer; those that train
    raise a TypeError. `log_prob` and `loss` decode the weights on the paths to the targets;
    `log_prob_all`, `topk`, `predict` and `sample` decode all of them, and keep them for the call
    alone.

    Parameters
    ----------
    tree : Tree
    units : QuantizedLinear
        The weights and biases of the units of the tree.
    dtype : {float32, float64}
        The dtype of hidden vectors and results.

    Attributes
    ----------
    tree, units, dtype, n_classes, n_features
        As given.
    nbytes : int
        The bytes of weights, biases and bounds.

    Examples
    --------
    >>> import numpy as np, boltzmax
    >>> layer = boltzmax.HierarchicalSoftmax(boltzmax.Tree.balanced(100), 32, seed=0)
    >>> small = layer.quantize(8)
    >>> hidden = np.ones((2, 32))
    >>> bool(abs(small.loss(hidden, [3, 4]) - layer.loss(hidden, [3, 4])) < 0.05)
    True
    """

    def __init__(self, tree: Tree, units: QuantizedLinear, dtype: DTypeLike = np.float32) -> None:
        if not isinstance(tree, Tree):
            raise TypeError(f"tree must be a boltzmax.Tree, got {type(tree).__name__}")
        if not isinstance(units, QuantizedLinear):
            raise TypeError(f"units must be a QuantizedLinear, got {type(units).__name__}")
        if units.n_classes != tree.n_units:
            raise ValueError(f"the tree has {tree.n_units} units, but {units.n_classes} are given")
        self.tree, self.units, self.n_features = tree, units, units.n_features
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise TypeError(f"dtype must be float32 or float64, got {self.dtype}")

    @property
    def n_classes(self) -> int:
        """The number of leaves."""
        return self.tree.n_classes

    @property
    def nbytes(self) -> int:
        """The bytes of weights, biases and bounds."""
        return self.units.nbytes

    def _weights(self, ids: Classes | None = None) -> TreeWeights:
        """Return the weights, decoded: of all units, or of some, and zeros for the others."""
        bias = self.units._bias[: self.tree.n_units].astype(self.dtype)
        if ids is None:
            weight = self.units.dequantize().astype(self.dtype, copy=False)
        else:
            # Memory for the zeros is not touched, so the system does not provide it.
            weight = np.zeros((self.tree.n_units, self.n_features), self.dtype)
            if len(ids):
                weight[ids] = self.units._rows(ids)
        return TreeWeights(self.tree._handle, weight, bias)

    def _log_prob(self, x: Array, classes: Classes) -> Array:
        units = _core.touched_units(self.tree._handle, classes)
        return self._weights(units).log_prob(x, classes, np.float64)

    def log_prob_all(self, hidden: ArrayLike) -> Array:
        """Return the log-probability of every class, (N, n_classes)."""
        x, is_bad = self._finite(hidden)
        log_probs = self._weights().log_prob_of_nodes(x, self.tree.n_classes)
        log_probs[is_bad] = np.nan
        return log_probs

    def topk(
        self, hidden: ArrayLike, k: int, *, beam: int | None = None, min_prob: float = 0.0
    ) -> tuple[Classes, Array]:
        """Return the k likeliest classes of each row, and their log-probabilities.

        See `HierarchicalSoftmax.topk`.
        """
        count = check_count(k, "k", 1, self.tree.n_classes)
        width, least = read_beam(beam, self.tree.n_nodes), read_min_prob(min_prob)
        x, is_bad = self._finite(hidden)
        ids, log_probs = self._weights().top(x, count, width, least).pair()
        ids[is_bad], log_probs[is_bad] = -1, -np.inf
        return ids, log_probs

    def sample(
        self,
        hidden: ArrayLike,
        rng: int | np.random.Generator | None = None,
        *,
        errors: str = "raise",
    ) -> Classes:
        """Draw a class for each row, (N,).

        A row that is not finite is a ValueError that names it, or, with errors="mark", has the
        class -1.
        """
        marks = are_marked(errors)
        x, is_bad = self._finite(hidden)
        seeds = random_generator(rng).integers(2**64, size=len(x), dtype=np.uint64)
        drawn = np.where(is_bad, -1, self._weights().sample(x, seeds))
        if not marks:
            refuse_bad_rows(drawn < 0, drawn.shape)
        return drawn

    # ---- files ----

    def save(self, path: FileName) -> None:
        """Write the layer to one file, which appears only when complete."""
        tree = {f"tree_{name}": np.asarray(a) for name, a in self.tree.to_arrays().items()}
        dtype = {"dtype": np.zeros(0, self.dtype)}
        write_mapped(path, _KIND, {**tree, **dtype, **self.units._arrays()})

    @classmethod
    def load(cls, path: FileName, *, verify: bool = True) -> Self:
        """Map what `save` wrote into memory, read-only.

        See `QuantizedLinear.load`, also for the errors.
        """

        def make(arrays: dict[str, Array]) -> Any:
            names = [name for name in arrays if name.startswith("tree_")]
            tree = Tree.from_arrays({name[5:]: np.array(arrays.pop(name)) for name in names})
            dtype = arrays.pop("dtype").dtype
            return cls(tree, QuantizedLinear._from_arrays(arrays, verify), dtype)

        layer: Self = map_npz(path, _KIND, make, verify=verify)
        return layer

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.tree, self.units, self.dtype)

    def __repr__(self) -> str:
        return f"QuantizedHierarchicalSoftmax({self.tree!r}, {self.units!r}, dtype={self.dtype})"
