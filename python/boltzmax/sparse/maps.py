"""Softmax, its logarithm and logsumexp of the rows of sparse arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import DTypeLike, NDArray

from boltzmax._lib.arguments import one_of, quietly, working_dtype
from boltzmax._lib.ragged import Ints
from boltzmax._lib.shared_docs import complete
from boltzmax.sparse.rows import IMPLICIT, Filled, Rows, read_rows
from boltzmax.variants.segments import (
    segment_log_softmax,
    segment_logsumexp,
    segment_softmax,
)

Array = NDArray[Any]


def softmax(
    x: Any,
    *,
    axis: SupportsIndex = -1,
    implicit: str = "masked",
    dtype: DTypeLike | None = None,
) -> Any:
    """Return the softmax of each row of a sparse array.

    Parameters
    ----------
    {parameters}

    Returns
    -------
    sparse array or matrix, or Filled
        The probabilities of the stored entries, in the kind and format of `x`; every other entry
        is 0. With ``implicit="zero"``, a `Filled`, which adds the probability that each other
        entry of a row has.

    {raises}

    {notes}

    Examples
    --------
    >>> import boltzmax.sparse, scipy.sparse
    >>> x = scipy.sparse.csr_array([[0.0, 2.0, 1.0], [0.0, 0.0, -5.0]])
    >>> boltzmax.sparse.softmax(x).toarray().round(3)
    array([[0.   , 0.731, 0.269],
           [0.   , 0.   , 1.   ]])
    >>> boltzmax.sparse.softmax(x, implicit="zero").toarray().round(3)
    array([[0.09 , 0.665, 0.245],
           [0.498, 0.498, 0.003]])
    """
    return _map(softmax_of, x, axis, implicit, dtype)


def log_softmax(
    x: Any,
    *,
    axis: SupportsIndex = -1,
    implicit: str = "masked",
    dtype: DTypeLike | None = None,
) -> Any:
    """Return the logarithm of the softmax of each row of a sparse array.

    Parameters
    ----------
    {parameters}

    Returns
    -------
    sparse array or matrix, or Filled
        The log-probabilities of the stored entries, in the kind and format of `x`. An entry that
        is not stored *stands for -inf*, although SciPy would read it as 0. With
        ``implicit="zero"``, a `Filled`, which adds the log-probability that each other entry of a
        row has.

    {raises}

    {notes}

    Examples
    --------
    >>> import boltzmax.sparse, scipy.sparse
    >>> x = scipy.sparse.csr_array([[0.0, 2.0, 1.0], [0.0, 0.0, -5.0]])
    >>> boltzmax.sparse.log_softmax(x).data.round(3)
    array([-0.313, -1.313,  0.   ])
    >>> boltzmax.sparse.log_softmax(x, implicit="zero").implicit.round(3)
    array([-2.408, -0.697])
    """
    return _map(log_softmax_of, x, axis, implicit, dtype)


@quietly
def logsumexp(
    x: Any,
    *,
    axis: SupportsIndex = -1,
    implicit: str = "masked",
    dtype: DTypeLike | None = None,
) -> Array:
    """Return the logarithm of the sum of exponentials of each row of a sparse array.

    Parameters
    ----------
    {parameters}

    Returns
    -------
    ndarray
        A number for each row. -inf for a row without entries that count.

    {raises}

    {notes}

    Examples
    --------
    >>> import boltzmax.sparse, scipy.sparse
    >>> x = scipy.sparse.csr_array([[0.0, 2.0, 1.0], [0.0, 0.0, 0.0]])
    >>> boltzmax.sparse.logsumexp(x).round(3)
    array([2.313,  -inf])
    >>> boltzmax.sparse.logsumexp(x, implicit="zero").round(3)
    array([2.408, 1.099])
    """
    rows, counts_zeros, working = _read("logsumexp", x, axis, implicit, dtype)
    return logsumexp_of(rows, counts_zeros, working)


class Values(NamedTuple):
    """A result for each stored entry, and for the others of each row if these count."""

    stored: Array
    implicit: Array | None


@quietly
def softmax_of(rows: Rows, counts_zeros: bool, working: np.dtype[Any]) -> Values:
    """Return probabilities."""
    if not counts_zeros:
        return Values(segment_softmax(rows.values, rows.offsets, dtype=working), None)
    count = _number_of_zeros(rows)
    stored, implicit = _split(rows, segment_softmax(*_with_zeros(rows, working)))
    share = np.where(count > 0, implicit / np.maximum(count, 1), 0.0)
    return Values(stored.astype(working, copy=False), share.astype(working))


@quietly
def log_softmax_of(rows: Rows, counts_zeros: bool, working: np.dtype[Any]) -> Values:
    """Return log-probabilities."""
    if not counts_zeros:
        return Values(segment_log_softmax(rows.values, rows.offsets, dtype=working), None)
    count = _number_of_zeros(rows)
    stored, implicit = _split(rows, segment_log_softmax(*_with_zeros(rows, working)))
    share = np.where(count > 0, implicit - np.log(np.maximum(count, 1)), -np.inf)
    return Values(stored.astype(working, copy=False), share.astype(working))


@quietly
def logsumexp_of(rows: Rows, counts_zeros: bool, working: np.dtype[Any]) -> Array:
    """Return a number for each row."""
    if not counts_zeros:
        return segment_logsumexp(rows.values, rows.offsets, dtype=working)
    return segment_logsumexp(*_with_zeros(rows, working)).astype(working, copy=False)


def _read(
    name: str, x: Any, axis: SupportsIndex, implicit: str, dtype: DTypeLike | None
) -> tuple[Rows, bool, np.dtype[Any]]:
    counts_zeros = one_of(implicit, "implicit", IMPLICIT) == "zero"
    rows = read_rows(x, axis)
    working = working_dtype(rows.values, dtype, f"boltzmax.sparse.{name}")
    if working.itemsize < 4:
        raise TypeError(f"dtype must be float32, float64 or longdouble, got {working}: SciPy's "
                        "sparse arrays have no 16-bit floats")  # fmt: skip
    return rows, counts_zeros, working


def _map(
    function: Callable[[Rows, bool, np.dtype[Any]], Values],
    x: Any,
    axis: SupportsIndex,
    implicit: str,
    dtype: DTypeLike | None,
) -> Any:
    rows, counts_zeros, working = _read(
        function.__name__.removesuffix("_of"), x, axis, implicit, dtype
    )
    found = function(rows, counts_zeros, working)
    stored = rows.like(found.stored)
    return stored if found.implicit is None else Filled(stored, found.implicit, rows.axis)


def _number_of_zeros(rows: Rows) -> Ints:
    return rows.n_classes - rows.lengths


@quietly
def _with_zeros(rows: Rows, working: np.dtype[Any]) -> tuple[Array, Ints]:
    """Return the rows with one more entry at their ends, which has the mass of all zeros.

    n zeros have the mass exp(log n). In double, rounding the logarithm changes it by at most
    2^-49 of itself, so results in float32 are rounded once.
    """
    wide = np.result_type(working, np.float64)
    mass = np.log(_number_of_zeros(rows).astype(wide))
    values = np.insert(rows.values.astype(wide), rows.offsets[1:], mass)
    return values, rows.offsets + np.arange(rows.number + 1)


def _split(rows: Rows, extended: Array) -> tuple[Array, Array]:
    """Return the results of the stored entries, and those of the entries at the ends of rows."""
    ends = rows.offsets[1:] + np.arange(rows.number)
    return np.delete(extended, ends), extended[ends]


complete(
    {
        "parameters": """
x : sparse array or matrix of SciPy
    Logits, in CSR, CSC or COO. Duplicates are added up, and stored zeros are stored entries.
axis : int, default -1
    The class axis. CSR is read in place along the last axis, CSC along axis 0; others are
    converted.
implicit : {"masked", "zero"}, default "masked"
    What entries are that are not stored: absent, or logits of 0.
dtype : dtype, optional
    The dtype to compute in and return. By default that of `x`, and float64 for integers.
""",
        "raises": """
Raises
------
TypeError
    If `x` is not a sparse array, or in another format or dtype.
ValueError
    If an option is not one of those above, or `x` does not have two axes.
""",
        "notes": """
Notes
-----
The entries of the result are sorted and without duplicates, those of COO by row and column.

With "masked", a row has the bits that `boltzmax.segment_softmax` and the like give it. With "zero",
the n entries of a row that are not stored count as one of n times their mass, computed in float64:
for float64, that adds a relative error of at most 2^-49 to sums of exponentials.
""",
    },
    softmax,
    log_softmax,
    logsumexp,
)
