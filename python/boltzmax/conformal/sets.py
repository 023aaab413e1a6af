"""Prediction sets in compressed rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import as_integer, check_count
from boltzmax._lib.targets import NO_CLASS, Wanted, checked_targets

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class PredictionSets:
    """A set of classes for each row, in compressed rows (CSR).

    ``len(sets)`` is the number of rows, and ``sets[i]`` has the classes of row i, which iteration
    also yields. `scipy.sparse.csr_array((probs, ids, indptr))` is the same as a matrix.

    Attributes
    ----------
    indptr : ndarray of int64, shape (N + 1,)
        The set of row i is ``ids[indptr[i]:indptr[i + 1]]``.
    ids : ndarray of int32
        The classes, in increasing order in each row.
    probs : ndarray
        Their probabilities, float64 if the logits were, else float32.
    n_classes : int
        How many classes there are.

    Examples
    --------
    >>> from boltzmax.conformal import PredictionSets
    >>> sets = PredictionSets([0, 2, 3], [0, 2, 1], [0.6, 0.3, 0.9], 3)
    >>> sets[0], sets.sizes, sets.contain([2, 0])
    (array([0, 2], dtype=int32), array([2, 1]), array([ True, False]))
    """

    indptr: NDArray[np.int64]
    ids: NDArray[np.int32]
    probs: Array
    n_classes: int

    def __post_init__(self) -> None:
        n_classes = check_count(self.n_classes, "n_classes", 1, 2**31 - 1)
        indptr = _integers(self.indptr, "indptr").astype(np.int64, copy=False)
        given = _integers(self.ids, "ids")
        if given.size and not (given.min() >= 0 and given.max() < n_classes):
            place = int(((given < 0) | (given >= n_classes)).argmax())
            raise ValueError(
                f"ids must be classes from 0 to {n_classes - 1}, got {given.flat[place]} at "
                f"position {place}"
            )
        ids, probs = given.astype(np.int32, copy=False), np.asarray(self.probs)
        if indptr.ndim != 1 or not len(indptr) or indptr[0] != 0 or (np.diff(indptr) < 0).any():
            raise ValueError(
                "indptr must rise from 0, and have one number more than there are rows"
            )
        if ids.shape != (indptr[-1],) or probs.shape != ids.shape:
            raise ValueError(
                f"ids and probs must have {indptr[-1]} elements, as indptr says, got shapes "
                f"{ids.shape} and {probs.shape}"
            )
        for name, value in (("indptr", indptr), ("ids", ids), ("probs", probs)):
            object.__setattr__(self, name, value)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """How many classes each set has."""
        return np.diff(self.indptr)

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def __getitem__(self, row: SupportsIndex) -> NDArray[np.int32]:
        index = as_integer(row, "row")
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} is out of range for {len(self)} sets")
        index %= len(self)
        return self.ids[self.indptr[index] : self.indptr[index + 1]]

    def __iter__(self) -> Iterator[NDArray[np.int32]]:
        return (self[i] for i in range(len(self)))

    def contain(self, y: ArrayLike) -> NDArray[np.bool_]:
        """Return for each row whether its set contains its class in `y`."""
        labels = read_labels(self, y)
        hits = np.flatnonzero(self.ids == np.repeat(labels.astype(np.int32), self.sizes))
        found = np.zeros(len(self), np.bool_)
        found[np.searchsorted(self.indptr, hits, side="right") - 1] = True
        return found

    def __repr__(self) -> str:
        mean = len(self.ids) / len(self) if len(self) else 0.0
        return f"<PredictionSets of {len(self)} rows, {mean:.3g} of {self.n_classes} classes each>"


def unchecked_sets(
    indptr: NDArray[np.int64], ids: NDArray[np.int32], probs: Array, n_classes: int
) -> PredictionSets:
    """Return sets of arrays that are known to be valid; checks would read all of them."""
    made = object.__new__(PredictionSets)
    for name, value in zip(
        PredictionSets.__match_args__, (indptr, ids, probs, n_classes), strict=True
    ):
        object.__setattr__(made, name, value)
    return made


def _integers(values: Any, name: str) -> Array:
    array = np.asarray(values)
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got dtype {array.dtype}")
    return array if array.size else array.astype(np.int64)


def check_sets(sets: Any) -> None:
    """Raise unless these are prediction sets."""
    if not isinstance(sets, PredictionSets):
        raise TypeError(f"sets must be PredictionSets, got {type(sets).__name__}")


def read_labels(sets: PredictionSets, y: ArrayLike) -> NDArray[np.int64]:
    """Return one class for each set."""
    check_sets(sets)
    labels, _ = checked_targets(y, Wanted((len(sets),), sets.n_classes, name="y"), NO_CLASS)
    return labels
