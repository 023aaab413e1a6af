"""Logits in a dtype that the kernels support, and the destination of their gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import (
    axis_with_classes,
    checked_out,
    clashes,
    classes_last,
    repeats_elements,
)
from boltzmax._lib.numbers import scores

Array = NDArray[Any]


@dataclass(frozen=True)
class Logits:
    """Scores in a dtype that the kernels support, and their class axis."""

    array: Array
    axis: int

    @property
    def classes(self) -> int:
        """The number of classes."""
        return int(self.array.shape[self.axis])

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the rows."""
        return self.array.shape[: self.axis] + self.array.shape[self.axis + 1 :]

    def rows(self) -> Array:
        """Return a matrix whose rows are contiguous and aligned: a view if possible."""
        return self.rows_of(np.require(self.classes_last(self.array), requirements=("C", "A")))

    def classes_last(self, array: Array) -> Array:
        """Return a view of an array of the logits' shape, with the classes on the last axis."""
        return classes_last(array, self.axis)

    def rows_of(self, array: Array) -> Array:
        """Reshape an array whose classes are on the last axis to a matrix."""
        return array.reshape(-1, self.classes)


def read_logits(
    logits: ArrayLike, axis: SupportsIndex = -1, name: str = "logits", least: int = 1
) -> Logits:
    """Return scores of at least `least` classes in a dtype that the kernels support, or raise."""
    array = scores(logits, name)
    return Logits(array, axis_with_classes(array.shape, axis, name, least))


@dataclass(frozen=True)
class Gradient:
    """The destination of a gradient: an array of the logits' shape, and a matrix of its rows."""

    array: Array
    rows: Array
    logits: Logits
    is_direct: bool  # whether the matrix is a view of the array

    def deliver(self) -> Array:
        """Return the array once the matrix has been written."""
        if not self.is_direct:
            last = self.logits.classes_last(self.array)
            last[...] = self.rows.reshape(last.shape)
        return self.array


def gradient_of(logits: Logits, read: Array, out: Any) -> Gradient:
    """Return the destination of the gradient, `out` if given; `read` holds the logits' rows."""
    array = logits.array
    if out is None:
        out = _core.empty_like(array, array.dtype)
    else:
        checked_out(out, array.shape, array.dtype)
    last = logits.classes_last(out)
    if last.flags.c_contiguous and last.flags.aligned and not repeats_elements(out):
        rows = logits.rows_of(last)
        if not clashes(rows, read, elementwise=True):
            return Gradient(out, rows, logits, is_direct=True)
    return Gradient(out, np.empty(read.shape, read.dtype), logits, is_direct=False)
