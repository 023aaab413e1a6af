"""Rows of scores with labels and weights, as calibration and abstention read them.

Scores are logits, or probabilities where the caller says so: which of the two is never guessed from
the values. One row is read at a time, or a block of them, so that memory maps need not fit into
memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import as_flag, quietly
from boltzmax._lib.numbers import array_of_shape, as_float64, scores, unmasked
from boltzmax._lib.targets import NO_CLASS, Wanted, checked_targets

Array = NDArray[Any]
Classes = NDArray[np.int64]
Doubles = NDArray[np.float64]

_MOST_WEIGHT = 1e150
_BLOCK_BYTES = 1 << 23  # of a block of rows: large enough to be shared among threads


@dataclass(frozen=True)
class Scored:
    """Rows of scores, and what is known about them.

    `array` is a matrix (N, K), or has one number per row for two classes: the logit x of class 1,
    where class 0 has the logit 0, or its probability. `labels` and `weights` are None if they were
    not given.
    """

    array: Array
    from_probs: bool
    labels: Classes | None
    weights: Doubles | None
    name: str = "logits"

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return len(self.array)

    @property
    def is_binary(self) -> bool:
        """Whether rows are single numbers, for class 1 of two."""
        return self.array.ndim == 1

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return 2 if self.is_binary else int(self.array.shape[1])

    def blocks(self) -> Iterator[slice]:
        """Yield slices of rows of which temporary copies are small."""
        step = max(1, _BLOCK_BYTES // (self.n_classes * self.array.itemsize))
        for start in range(0, self.n_rows, step):
            yield slice(start, min(self.n_rows, start + step))

    @quietly
    def logits(self, rows: slice) -> Array:
        """Return the logits of some rows, (n, K), contiguous and aligned: a view if possible.

        Those of probabilities are their logarithms. Rows of which no probabilities can be made are
        an error only there; `check_finite` finds them among logits.
        """
        part = self.array[rows]
        if not self.from_probs:
            part = _with_zero(part) if self.is_binary else part
            return np.require(np.asarray(part), requirements=("C", "A"))
        p = self._probabilities(np.asarray(part), rows.start)
        return _log_of_both(p) if self.is_binary else np.log(p)

    @quietly
    def probabilities(self, rows: slice) -> Array:
        """Return the probabilities that were given for some rows if they are valid."""
        return self._probabilities(np.asarray(self.array[rows]), rows.start)

    def _probabilities(self, part: Array, start: int) -> Array:
        small = part.dtype.itemsize < 4
        p = np.ascontiguousarray(part, np.float32 if small else None)
        if self.is_binary:
            bad = ~((p >= 0) & (p <= 1))
            if bad.any():
                row = int(bad.argmax())
                raise ValueError(
                    f"{self.name} must be probabilities, got {p[row]:g} in row {start + row}"
                )
            return p
        # Wide enough for numbers that were rounded to three digits, or to 16 bits.
        total, tolerance = p.sum(axis=1, dtype=np.float64), 1e-2 if small else 1e-3
        bad = ~((p.min(axis=1) >= 0) & (np.abs(total - 1) <= tolerance))
        if bad.any():
            row = int(bad.argmax())
            what = (
                f"that sum to {total[row]:g}" if p[row].min() >= 0 else f"down to {p[row].min():g}"
            )
            raise ValueError(
                f"the rows of {self.name} must be probabilities, got numbers {what} in row "
                f"{start + row}; logits need from_probs=False"
            )
        return p

    def check_finite(self) -> None:
        """Raise if there is a row of which no probabilities can be made; it names the first."""
        count, first = 0, -1
        for rows in self.blocks():
            with np.errstate(all="ignore"):
                highest = self.logits(rows).max(axis=1)  # NaN if one is
            bad = ~np.isfinite(highest)
            if first < 0 and bad.any():
                first = rows.start + int(bad.argmax())
            count += int(bad.sum())
        if count:
            are = "row has" if count == 1 else "rows have"
            raise ValueError(
                f"{self.name} must have a finite maximum and no NaN in each row; {count} {are} "
                f"not, the first is row {first}"
            )

    def weight(self, rows: slice) -> Doubles:
        """Return the weights of some rows: ones, if none were given."""
        if self.weights is None:
            return np.ones(rows.stop - rows.start)
        return self.weights[rows]

    @property
    def total_weight(self) -> float:
        """The sum of the weights."""
        return float(self.n_rows) if self.weights is None else float(self.weights.sum())


def _with_zero(x: Array) -> Array:
    """Return the logits (0, x) of two classes."""
    both = np.zeros((len(x), 2), x.dtype)
    both[:, 1] = x
    return both


def _log_of_both(p: Array) -> Array:
    """Return log(1 - p) and log(p) in rows."""
    return np.stack([np.log1p(-p), np.log(p)], axis=1)


def read_scores(
    logits: ArrayLike, *, from_probs: bool = False, name: str = "logits", least: int = 1
) -> Scored:
    """Return scores in rows, of at least `least` rows, in a dtype that the kernels support.

    Parameters
    ----------
    logits : array_like, shape (N, K) or (N,)
        Logits of K classes, or of class 1 of two: then class 0 has the logit 0.
    from_probs : bool
        Whether they are probabilities instead.
    name : str
        The argument, for messages.
    least : int
        How many rows there must be.
    """
    array = scores(logits, name)
    if array.ndim not in (1, 2) or 0 in array.shape[1:]:
        raise ValueError(
            f"{name} must be (rows, classes), or (rows,) for two classes, got shape {array.shape}"
        )
    if len(array) < least:
        rows = "row" if least == 1 else "rows"
        raise ValueError(f"{name} must have at least {least} {rows}, got shape {array.shape}")
    return Scored(array, as_flag(from_probs, "from_probs"), None, None, name)


def read_scores_and_labels(
    logits: ArrayLike,
    y: ArrayLike,
    *,
    from_probs: bool = False,
    sample_weight: ArrayLike | None = None,
    name: str = "logits",
    label_name: str = "y",
    least: int = 1,
) -> Scored:
    """Return scores in rows with their labels.

    Parameters
    ----------
    logits, from_probs, name, least
        As for `read_scores`.
    y : array_like of int, shape (N,)
        The class of each row: a column of `logits`; of one-dimensional `logits` 0 or 1, or a bool.
    sample_weight : array_like, shape (N,), optional
        A finite weight for each row, not negative and not 0 for all; they sum to at most 1e150.
    label_name : str
        The argument `y`, for messages.
    """
    rows = read_scores(logits, from_probs=from_probs, name=name, least=least)
    if rows.is_binary:
        y = _bools_as_integers(y, label_name)
    labels = y if _are_plain(y, rows) else read_classes(y, rows.n_rows, rows.n_classes, label_name)
    weights = None if sample_weight is None else read_weights(sample_weight, rows.n_rows)
    return Scored(rows.array, rows.from_probs, labels, weights, name)


def _are_plain(y: ArrayLike, rows: Scored) -> TypeGuard[Classes]:
    """Return whether labels are valid as they are, and need no copy."""
    return (
        type(y) is np.ndarray
        and y.dtype == np.int64
        and y.shape == (rows.n_rows,)
        and y.flags.c_contiguous
        and y.flags.aligned
        # As unsigned numbers, negative ones are huge.
        and bool(y.view(np.uint64).max(initial=0) < rows.n_classes)
    )


def read_classes(y: ArrayLike, rows: int, classes: int, name: str = "y") -> Classes:
    """Return one class for each row."""
    return checked_targets(y, Wanted((rows,), classes, name=name), NO_CLASS)[0]


def read_weights(sample_weight: ArrayLike, rows: int) -> Doubles:
    """Return one finite weight per row, none of them negative, and not all of them 0.

    The square of their sum has to be finite, too: the effective number of rows is made of it.
    """
    what = "one number per row"
    weights = as_float64(array_of_shape(sample_weight, (rows,), "sample_weight", what))
    bad = ~((weights >= 0) & (weights < np.inf))
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(
            f"sample_weight must be finite and not negative, got {weights[row]:g} in row {row}"
        )
    if rows and not weights.any():
        raise ValueError("sample_weight is 0 in every row")
    with np.errstate(over="ignore"):
        total = weights.sum()
    if not total <= _MOST_WEIGHT:
        raise ValueError(f"sample_weight must sum to at most {_MOST_WEIGHT:g}, got {total:g}")
    return np.ascontiguousarray(weights)


def _bools_as_integers(y: ArrayLike, name: str) -> ArrayLike:
    array = unmasked(y, name)
    return array.astype(np.int64) if array.dtype == np.bool_ else array
