"""The base class of layers that store weights: their initialization, checks and files."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from boltzmax._lib.arguments import as_flag, check_count
from boltzmax._lib.files import FileName, load_npz, write_npz
from boltzmax._lib.output_layer import (
    Array,
    Classes,
    Doubles,
    read_hidden,
    read_rate,
    read_sample_weight,
    read_target,
)
from boltzmax._lib.random import random_generator


def _aligned_zeros(shape: tuple[int, int], dtype: np.dtype[Any]) -> Array:
    """Return zeros aligned to a cache line: rows are read by vectors of that width."""
    line, size = 64, shape[0] * shape[1] * dtype.itemsize
    room = np.zeros(size + line, np.uint8)
    begin = -room.ctypes.data % line
    return room[begin : begin + size].view(dtype).reshape(shape)


class Step(NamedTuple):
    """The rows, targets, weights and learning rate of a training step."""

    hidden: Array
    classes: Classes
    sample_weight: Doubles
    rate: float


def overlaps(array: Array, *others: Array | None) -> bool:
    """Return whether an array may share memory with any of the others."""
    return any(np.may_share_memory(array, other) for other in others if other is not None)


def adagrad_rates(
    rate: float, squares: Doubles, eps: float, d_weight: Array, d_bias: Array | None
) -> Array:
    """Add the mean squares of the units' gradients to `squares`; return the rate of each unit."""
    total, width = np.einsum("ud,ud->u", d_weight, d_weight), d_weight.shape[1]
    if d_bias is not None:  # a bias is the weight of an extra feature that is always 1
        total += np.square(d_bias)
        width += 1
    squares += total / float(width)
    root = np.sqrt(squares) + eps
    return (rate / np.where(root > 0.0, root, 1.0)).astype(d_weight.dtype)


class UnitLayer(ABC):
    """A layer with a row of weights, and optionally a bias, for each of its units.

    The units of a full softmax are its classes, those of a tree the choices at its inner nodes.
    """

    _kind: ClassVar[str]  # the kind of its files
    _frame: ClassVar[str]  # what the arrays of a file have to match

    def __init__(
        self,
        n_units: int,
        n_features: int,
        bias: bool,
        dtype: DTypeLike,
        seed: int | np.random.Generator | None,
    ) -> None:
        self.n_features = check_count(n_features, "n_features", 1)
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise TypeError(f"dtype must be float32 or float64, got {self.dtype}")
        shape = (n_units, self.n_features)
        self.weight: Array = _aligned_zeros(shape, self.dtype)
        if seed is not None:
            rng = random_generator(seed, "seed")
            kind = np.float32 if self.dtype == np.float32 else np.float64
            self.weight[:] = rng.standard_normal(shape, kind)
            self.weight /= math.sqrt(self.n_features)
        self.bias: Array | None = np.zeros(n_units, self.dtype) if as_flag(bias, "bias") else None
        self._squares: Doubles | None = None  # Adagrad's sums, once it is used

    @property
    @abstractmethod
    def n_classes(self) -> int:
        """Return the number of classes."""

    @property
    @abstractmethod
    def _n_units(self) -> int: ...

    @abstractmethod
    def topk(self, hidden: ArrayLike, k: int, *, min_prob: float = 0.0) -> tuple[Classes, Array]:
        """Return the k likeliest classes of each row, and their log-probabilities."""

    def predict(self, hidden: ArrayLike) -> Classes:
        """Return the likeliest class of each row, (N,); -1 for a row with NaN."""
        return self.topk(hidden, 1)[0][:, 0]

    # ---- what goes in ----

    def _hidden(self, hidden: ArrayLike) -> Array:
        return read_hidden(hidden, self.n_features, self.dtype)

    def _target(self, target: ArrayLike, rows: int) -> Classes:
        return read_target(target, rows, self.n_classes)

    def _parameters(self) -> tuple[Array, Array | None]:
        """Return weight and bias; raise if they have been replaced by something invalid."""
        units = self._n_units
        self._check("weight", self.weight, (units, self.n_features))
        if self.bias is not None:
            self._check("bias", self.bias, (units,))
        return self.weight, self.bias

    def _check(self, name: str, array: Array, shape: tuple[int, ...]) -> None:
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

    def _read_step(
        self, hidden: ArrayLike, target: ArrayLike, lr: float, sample_weight: ArrayLike | None
    ) -> Step:
        """Read the arguments of a step, and check that it can be taken."""
        rate, parameters = read_rate(lr), self._parameters()
        self._check_writeable()
        x = self._hidden(hidden)
        if overlaps(x, *parameters):
            x = x.copy()  # the step must not change its own input
        classes = self._target(target, len(x))
        return Step(x, classes, read_sample_weight(sample_weight, len(x)), rate)

    def _sums_of_squares(self) -> Doubles:
        """Return Adagrad's sum of squares for each unit."""
        return np.zeros(self._n_units) if self._squares is None else self._squares

    # ---- files ----

    def save(self, path: FileName) -> None:
        """Write the whole layer to one ``.npz`` file, which appears only when complete."""
        write_npz(path, self._kind, self._arrays())

    @classmethod
    def load(cls, path: FileName) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            If the file is damaged or something else, has arrays that such a layer does not have, or
            negative sums of squares; the message names the file.
        """
        return load_npz(path, cls._kind, cls._from_file)

    @classmethod
    def _from_file(cls, arrays: dict[str, Array]) -> Self:
        layer = cls._from_arrays(arrays)
        unknown = arrays.keys() - layer._arrays().keys()
        if unknown:
            raise ValueError(f"not a layer: unknown arrays, {', '.join(sorted(unknown))}")
        if layer._squares is not None and (layer._squares < 0).any():
            raise ValueError("Adagrad's sums of squares must not be negative")
        return layer

    def _arrays(self) -> dict[str, Any]:
        arrays = {"weight": self.weight, "bias": self.bias, "squares": self._squares}
        return {name: array for name, array in arrays.items() if array is not None}

    @classmethod
    @abstractmethod
    def _new(cls, arrays: dict[str, Array], n_features: int, dtype: np.dtype[Any]) -> Self:
        """Return a layer without a bias, for weights (n_units, n_features) in `arrays`."""

    @classmethod
    def _from_arrays(cls, arrays: dict[str, Array]) -> Self:
        weight, bias, squares = (arrays.get(name) for name in ("weight", "bias", "squares"))
        if weight is None or weight.ndim != 2 or weight.dtype not in (np.float32, np.float64):
            raise ValueError("not a layer: no matrix of weights")
        layer = cls._new(arrays, max(weight.shape[1], 1), weight.dtype)
        if weight.shape != layer.weight.shape:
            raise ValueError(
                f"not a layer: weights of shape {weight.shape} do not fit {cls._frame}"
            )
        for name, array, dtype in (("bias", bias, weight.dtype), ("squares", squares, np.float64)):
            if array is not None and (array.shape != weight.shape[:1] or array.dtype != dtype):
                raise ValueError(f"not a layer: its {name} does not fit {cls._frame}")
        layer.weight[:] = weight
        layer.bias = None if bias is None else np.array(bias)
        layer._squares = None if squares is None else np.array(squares)
        return layer

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self)._from_arrays, (self._arrays(),)
