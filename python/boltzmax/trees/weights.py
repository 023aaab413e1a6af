"""The layer's weights on their tree: how they begin, what comes in, and how they are kept."""

from __future__ import annotations

import math
import operator
from os import PathLike
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import is_float
from boltzmax._lib.files import read_npz, write_npz
from boltzmax._lib.numbers import per_row, unmasked
from boltzmax._lib.targets import NO_CLASS, Wanted, checked_targets
from boltzmax.trees.tree import Tree

Array = NDArray[Any]
Doubles = NDArray[np.float64]

KIND = "boltzmax hierarchical softmax, version 1"


def _aligned_zeros(shape: tuple[int, int], dtype: np.dtype[Any]) -> Array:
    """Return zeros that begin a cache line: rows are read by vectors as wide as that."""
    line, size = 64, shape[0] * shape[1] * dtype.itemsize
    room = np.zeros(size + line, np.uint8)
    begin = -room.ctypes.data % line
    return room[begin : begin + size].view(dtype).reshape(shape)


class TreeLayer:
    """Units for the inner nodes of a tree: see `HierarchicalSoftmax`."""

    def __init__(
        self,
        tree: Tree,
        n_features: int,
        *,
        bias: bool = True,
        dtype: DTypeLike = np.float32,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        if not isinstance(tree, Tree):
            raise TypeError(f"tree must be a boltzmax.Tree, got {type(tree).__name__}")
        self.tree = tree
        self.n_features = operator.index(n_features)
        if self.n_features < 1:
            raise ValueError(f"n_features must be at least 1, got {n_features}")
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise TypeError(f"dtype must be float32 or float64, got {self.dtype}")
        shape = (tree.n_units, self.n_features)
        self.weight: Array = _aligned_zeros(shape, self.dtype)
        if seed is not None:
            rng = np.random.default_rng(seed)
            kind = np.float32 if self.dtype == np.float32 else np.float64
            self.weight[:] = rng.standard_normal(shape, kind)
            self.weight /= math.sqrt(self.n_features)
        self.bias: Array | None = np.zeros(tree.n_units, self.dtype) if bias else None
        self._squares: Doubles | None = None  # Adagrad's, once that is used

    # ---- what goes in ----

    def _layer(self) -> tuple[Any, Array, Array | None]:
        units = self.tree.n_units
        self._check("weight", self.weight, (units, self.n_features))
        if self.bias is not None:
            self._check("bias", self.bias, (units,))
        return self.tree._handle, self.weight, self.bias

    def _gradient(
        self, x: Array, classes: NDArray[np.int64], scale: Doubles
    ) -> tuple[Doubles, Array, NDArray[np.int64], Array, Array | None]:
        """Return the losses of rows, and the gradient of their sum, each times its scale."""
        layer = self._layer()
        units = _core.touched_units(layer[0], classes)
        each, d_hidden = np.empty(len(x)), np.empty_like(x)
        d_weight = np.zeros((len(units), self.n_features), self.dtype)
        d_bias = None if self.bias is None else np.zeros(len(units), self.dtype)
        _core.layer_loss_gradient(
            *layer, x, classes, scale, each, d_hidden, units, d_weight, d_bias
        )
        return each, d_hidden, units, d_weight, d_bias

    def _check(self, name: str, array: Array, shape: tuple[int, ...]) -> None:
        """Refuse what somebody has put in the place of the weights, if it is not like them."""
        if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
            raise TypeError(f"{name} must be an ndarray, got {type(array).__name__}")
        if array.dtype != self.dtype:
            raise TypeError(f"{name} must be {self.dtype}, got {array.dtype}")
        if array.shape != shape or not (array.flags.c_contiguous and array.flags.aligned):
            raise ValueError(
                f"{name} must be C-contiguous and aligned, of shape {shape}; got {array.shape}"
            )

    def _check_writeable(self) -> None:
        for name, array in (("weight", self.weight), ("bias", self.bias)):
            if array is not None and not array.flags.writeable:
                raise ValueError(f"{name} is read-only")

    def _hidden(self, hidden: ArrayLike) -> Array:
        array = unmasked(hidden, "hidden")
        if array.dtype.kind not in "iub" and not is_float(array.dtype):
            raise TypeError(f"hidden must be real numbers, got dtype {array.dtype}")
        if array.ndim != 2 or array.shape[1] != self.n_features:
            raise ValueError(f"hidden must be (N, {self.n_features}), got shape {array.shape}")
        with np.errstate(all="ignore"):
            return np.ascontiguousarray(array, self.dtype)

    def _target(self, target: ArrayLike, rows: int) -> NDArray[np.int64]:
        return checked_targets(target, Wanted((rows,), self.tree.n_classes), NO_CLASS)[0]

    def _scale(self, sample_weight: ArrayLike | None, rows: int) -> Doubles:
        return np.ascontiguousarray(per_row(sample_weight, (rows,)))

    # ---- files ----

    def save(self, path: str | PathLike[str]) -> None:
        """Write the layer and its tree to one ``.npz``, which takes its name when complete."""
        write_npz(path, KIND, self._arrays())

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read what `save` wrote; ValueError if the file is damaged or something else."""
        return cls._from_arrays(read_npz(path, KIND))

    def _arrays(self) -> dict[str, Any]:
        arrays = {f"tree_{name}": array for name, array in self.tree.to_arrays().items()}
        arrays["weight"] = self.weight
        if self.bias is not None:
            arrays["bias"] = self.bias
        if self._squares is not None:
            arrays["squares"] = self._squares
        return arrays

    @classmethod
    def _from_arrays(cls, arrays: dict[str, Array]) -> Self:
        tree = Tree.from_arrays(
            {name[5:]: array for name, array in arrays.items() if name.startswith("tree_")}
        )
        weight, bias, squares = (arrays.get(name) for name in ("weight", "bias", "squares"))
        if weight is None or weight.ndim != 2 or weight.dtype not in (np.float32, np.float64):
            raise ValueError("not a layer: no matrix of weights")
        if len(weight) != tree.n_units or weight.shape[1] < 1:
            raise ValueError(f"not a layer: weights of shape {weight.shape} do not fit the tree")
        for name, array, dtype in (("bias", bias, weight.dtype), ("squares", squares, np.float64)):
            if array is not None and (array.shape != (tree.n_units,) or array.dtype != dtype):
                raise ValueError(f"not a layer: its {name} does not fit the tree")
        layer = cls(tree, weight.shape[1], bias=False, dtype=weight.dtype)
        layer.weight[:] = weight
        layer.bias = None if bias is None else np.array(bias)
        layer._squares = None if squares is None else np.array(squares)
        return layer

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self)._from_arrays, (self._arrays(),)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.tree!r}, {self.n_features}, dtype={self.dtype})"
