"""The arguments of softmax, log_softmax or logsumexp, checked."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from boltzmax._lib.arguments import (
    as_input,
    broadcast_mask,
    normalized_axes,
    row_temperature,
    working_dtype,
)

Array = NDArray[Any]
Axis = Any


class Call(NamedTuple):
    """A call whose arguments have been checked."""

    x: Array
    axes: tuple[int, ...]
    mask: NDArray[np.bool_] | None
    temperature: NDArray[np.float64] | None
    dtype: np.dtype[Any]

    @property
    def kept(self) -> tuple[int, ...]:
        """The axes that are not reduced."""
        return tuple(d for d in range(self.x.ndim) if d not in self.axes)

    @property
    def order(self) -> tuple[int, ...]:
        """All axes, the reduced ones last."""
        return self.kept + self.axes

    @property
    def has_zero_temperature(self) -> bool:
        """Whether some temperature is 0."""
        return self.temperature is not None and bool((self.temperature == 0.0).any())

    @property
    def converted(self) -> Array:
        """The scores in the dtype of the computation; longdouble is never narrowed."""
        dtype = self.x.dtype if self.x.dtype.char == "g" else self.dtype
        with np.errstate(all="ignore"):
            return self.x.astype(dtype, copy=False)

    def broadcast_temperature(self) -> Array | None:
        """Return the temperature with the reduced axes kept, for `numpy_path`."""
        return None if self.temperature is None else np.expand_dims(self.temperature, self.axes)

    def empty_rows(self) -> NDArray[np.bool_]:
        """Return which rows are all -inf, masked elements aside; the reduced axes are kept."""

        def are_empty(index: tuple[slice, ...]) -> NDArray[np.bool_]:
            counts: NDArray[np.bool_] = x[index] != -np.inf
            if self.mask is not None:
                counts &= self.mask[index]
            return np.logical_not(counts.any(axis=self.axes, keepdims=True))

        x, every = self.converted, slice(None)
        firsts = tuple(slice(1) if d in self.axes else every for d in range(x.ndim))
        empty = are_empty(firsts)  # most rows begin with a finite number, which decides
        return are_empty((every,) * x.ndim) if empty.any() else empty


def read_call(
    function: str,
    x: ArrayLike,
    axis: Axis,
    where: ArrayLike | None,
    temperature: ArrayLike,
    dtype: DTypeLike | None,
) -> Call:
    """Check the arguments of a function, or raise."""
    array = as_input(x)
    working = working_dtype(array, dtype, function)
    axes = normalized_axes(axis, array.ndim)
    return Call(
        array,
        axes,
        broadcast_mask(where, array),
        row_temperature(temperature, array, axes),
        working,
    )
