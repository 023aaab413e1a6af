"""Softmax over segments of an array: ragged rows, as in CSR or by their ids."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import (
    as_input,
    broadcast_mask,
    check_count,
    checked_out,
    clashes,
    quietly,
    working_dtype,
)
from boltzmax._lib.numbers import gradient_dtype
from boltzmax._lib.ragged import Ints, integers, one_axis, read_ends
from boltzmax._lib.same_kind import same_kind
from boltzmax._lib.shared_docs import complete

Array = NDArray[Any]

MOST_SEGMENTS = 2**40


@partial(same_kind, labelled=True)
@quietly
def segment_softmax(
    x: ArrayLike,
    indptr: ArrayLike | None = None,
    *,
    segment_ids: ArrayLike | None = None,
    num_segments: int | None = None,
    where: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
    out: Array | None = None,
) -> Array:
    """Return the softmax of each segment of an array.

    Segments are given in one of two forms: by `indptr`, as in CSR, or by the id of each element's
    segment, in any order.

    Parameters
    ----------
    x : array_like
        Scores of all segments, with one axis.
    {segments}
    where : array_like of bool, optional
        Broadcasts to `x`. False leaves an element out of its segment; its result is 0.
    {dtype}
    {out}

    Returns
    -------
    ndarray
        Of the shape of `x`. Each segment has the bits that `boltzmax.softmax` gives it alone; an
        empty one has nothing.

    {raises}

    See Also
    --------
    segment_softmax_backward : its gradient

    Notes
    -----
    There is no temperature: divide the scores by it before.

    Examples
    --------
    >>> import boltzmax
    >>> boltzmax.segment_softmax([0.0, 0.0, 5.0, 1.0, 1.0], [0, 2, 3, 3, 5])
    array([0.5, 0.5, 1. , 0.5, 0.5])
    >>> boltzmax.segment_softmax([0.0, 5.0, 0.0], segment_ids=[1, 0, 1])
    array([0.5, 1. , 0.5])
    """
    return _map("softmax", x, indptr, segment_ids, num_segments, where, dtype, out)


@partial(same_kind, labelled=True)
@quietly
def segment_log_softmax(
    x: ArrayLike,
    indptr: ArrayLike | None = None,
    *,
    segment_ids: ArrayLike | None = None,
    num_segments: int | None = None,
    where: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
    out: Array | None = None,
) -> Array:
    """Return the logarithm of the softmax of each segment of an array.

    Parameters
    ----------
    x : array_like
        Scores of all segments, with one axis.
    {segments}
    where : array_like of bool, optional
        Broadcasts to `x`. False leaves an element out of its segment; its result is -inf.
    {dtype}
    {out}

    Returns
    -------
    ndarray
        Of the shape of `x`. Each segment has the bits that `boltzmax.log_softmax` gives it alone.

    {raises}

    See Also
    --------
    segment_log_softmax_backward : its gradient

    Examples
    --------
    >>> import boltzmax
    >>> boltzmax.segment_log_softmax([0.0, 0.0, 5.0], [0, 2, 3]).round(3)
    array([-0.693, -0.693,  0.   ])
    """
    return _map("log_softmax", x, indptr, segment_ids, num_segments, where, dtype, out)


@same_kind
@quietly
def segment_logsumexp(
    x: ArrayLike,
    indptr: ArrayLike | None = None,
    *,
    segment_ids: ArrayLike | None = None,
    num_segments: int | None = None,
    where: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
    out: Array | None = None,
) -> Array:
    """Return the logarithm of the sum of exponentials of each segment of an array.

    Parameters
    ----------
    x : array_like
        Scores of all segments, with one axis.
    {segments}
    where : array_like of bool, optional
        Broadcasts to `x`. False leaves an element out of its segment.
    {dtype}
    {out}

    Returns
    -------
    ndarray
        A number for each segment, with the bits that `boltzmax.logsumexp` gives it alone; -inf for
        an empty one.

    {raises}

    Examples
    --------
    >>> import boltzmax
    >>> boltzmax.segment_logsumexp([0.0, 0.0, 5.0], [0, 2, 2, 3]).round(3)
    array([0.693,  -inf, 5.   ])
    """
    return _map("logsumexp", x, indptr, segment_ids, num_segments, where, dtype, out)


@partial(same_kind, labelled=True)
@quietly
def segment_softmax_backward(
    dy: ArrayLike,
    y: ArrayLike,
    indptr: ArrayLike | None = None,
    *,
    segment_ids: ArrayLike | None = None,
    num_segments: int | None = None,
    out: Array | None = None,
) -> Array:
    """Return the gradient of `segment_softmax` by its scores.

    Parameters
    ----------
    dy : array_like
        The gradient by the result.
    y : array_like
        The result, of the shape of `dy`.
    {segments}
    {out}

    Returns
    -------
    ndarray
        Of the shape of `y`. Each segment has the bits that `boltzmax.softmax_backward` gives it
        alone.

    {raises}

    Examples
    --------
    >>> import boltzmax
    >>> boltzmax.segment_softmax_backward([1.0, 0.0, 1.0], [0.5, 0.5, 1.0], [0, 2, 3])
    array([ 0.25, -0.25,  0.  ])
    """
    return _gradient("softmax_backward", dy, y, indptr, segment_ids, num_segments, out)


@partial(same_kind, labelled=True)
@quietly
def segment_log_softmax_backward(
    dy: ArrayLike,
    y: ArrayLike,
    indptr: ArrayLike | None = None,
    *,
    segment_ids: ArrayLike | None = None,
    num_segments: int | None = None,
    out: Array | None = None,
) -> Array:
    """Return the gradient of `segment_log_softmax` by its scores.

    Parameters
    ----------
    dy : array_like
        The gradient by the result.
    y : array_like
        The result, of the shape of `dy`.
    {segments}
    {out}

    Returns
    -------
    ndarray
        Of the shape of `y`. Each segment has the bits that `boltzmax.log_softmax_backward` gives it
        alone.

    {raises}

    Examples
    --------
    >>> import math
    >>> import boltzmax
    >>> y = [-math.log(2.0), -math.log(2.0), 0.0]
    >>> boltzmax.segment_log_softmax_backward([1.0, 0.0, 1.0], y, [0, 2, 3]).round(12)
    array([ 0.5, -0.5,  0. ])
    """
    return _gradient("log_softmax_backward", dy, y, indptr, segment_ids, num_segments, out)


class _Segments(NamedTuple):
    """Segments of sorted elements, and the order that sorts them; None if they are.

    That `indptr` does not decrease is checked when they are run.
    """

    indptr: Ints
    order: Ints | None

    @property
    def number(self) -> int:
        return len(self.indptr) - 1

    def slices(self) -> Iterator[slice]:
        """Return the segments one by one."""
        return map(slice, self.indptr[:-1], self.indptr[1:])

    def sort(self, x: Array) -> Array:
        """Return the elements in the order of their segments, contiguous."""
        return np.require(x, requirements=["C", "A"]) if self.order is None else x[self.order]


# The results of elements that do not count.
_MASKED = {"softmax": 0.0, "log_softmax": -np.inf}


def _map(
    function: str,
    x: ArrayLike,
    indptr: ArrayLike | None,
    segment_ids: ArrayLike | None,
    num_segments: int | None,
    where: ArrayLike | None,
    dtype: DTypeLike | None,
    out: Array | None,
) -> Array:
    scores = one_axis(as_input(x), "x")
    working = working_dtype(scores, dtype, f"segment_{function}")
    mask = broadcast_mask(where, scores)
    segments = _read_segments(scores, indptr, segment_ids, num_segments)
    reduces = function not in _MASKED
    shape = (segments.number,) if reduces else scores.shape
    target = None if out is None else checked_out(out, shape, working)
    counted = scores.astype(working, copy=False)
    if mask is not None:
        counted = np.where(mask, counted, np.array(-np.inf, working))
    sorted_x = segments.sort(counted)
    y = _result(target, segments, sorted_x, shape)
    _run(function, sorted_x, None, segments, y)
    result = _deliver(y, None if reduces else segments, target, out)
    if mask is not None and not reduces:
        np.copyto(result, np.array(_MASKED[function], working), where=~mask)
    return result


def _gradient(
    function: str,
    dy: ArrayLike,
    y: ArrayLike,
    indptr: ArrayLike | None,
    segment_ids: ArrayLike | None,
    num_segments: int | None,
    out: Array | None,
) -> Array:
    gradient, result = (
        one_axis(as_input(a, name, "pass its data"), name) for a, name in ((dy, "dy"), (y, "y"))
    )
    working = gradient_dtype(f"segment_{function}", gradient, result, "y")
    if gradient.shape != result.shape:
        raise ValueError(f"dy has shape {gradient.shape}, but y has shape {result.shape}")
    segments = _read_segments(result, indptr, segment_ids, num_segments)
    target = None if out is None else checked_out(out, result.shape, working)
    sorted_dy, sorted_y = (segments.sort(a.astype(working, copy=False)) for a in (gradient, result))
    dx = _result(target, segments, sorted_dy, result.shape, sorted_y)
    _run(function, sorted_dy, sorted_y, segments, dx)
    return _deliver(dx, segments, target, out)


def _result(
    target: Array | None,
    segments: _Segments,
    x: Array,
    shape: tuple[int, ...],
    other: Array | None = None,
) -> Array:
    """Return `out` if sorted results can be written to it at once, otherwise a new array."""
    if target is None or segments.order is not None or not target.flags.carray:
        return np.empty(shape, x.dtype)
    # A reduction writes y[s] after reading segment s, and y[s] may belong to a later one.
    overlaps = any(clashes(target, a, elementwise=shape == x.shape) for a in (x, other))
    return np.empty(shape, x.dtype) if overlaps else target


def _run(function: str, x: Array, other: Array | None, segments: _Segments, y: Array) -> None:
    """Run an operation or a gradient on sorted elements; longdouble goes segment by segment."""
    if x.dtype.char != "g":
        return _core.run_segments(function, x, other, y, segments.indptr)
    _core.require_ascending(segments.indptr)
    of_row = getattr(_core, function)
    for s, at in enumerate(segments.slices()):
        operands = (x[at],) if other is None else (x[at], other[at])
        y[s if function == "logsumexp" else at] = of_row(*operands)
    return None


def _deliver(
    y: Array, segments: _Segments | None, target: Array | None, out: Array | None
) -> Array:
    """Return the result, in `out` if there is one, with elements back at their places."""
    if target is None:
        if segments is None or segments.order is None:
            return y
        target = out = np.empty_like(y)
    if y is not target:
        target[slice(None) if segments is None or segments.order is None else segments.order] = y
    return target if out is None else out


def _read_segments(
    x: Array, indptr: ArrayLike | None, segment_ids: ArrayLike | None, num_segments: int | None
) -> _Segments:
    """Return the segments of an array, or raise."""
    if (indptr is None) == (segment_ids is None):
        raise TypeError("segments are given by indptr or by segment_ids, one of the two")
    if indptr is not None:
        if num_segments is not None:
            raise TypeError("num_segments goes with segment_ids; indptr has their number")
        return _Segments(read_ends(indptr, len(x)), None)
    ids = integers(segment_ids, "segment_ids")
    if ids.shape != x.shape:
        raise ValueError(f"segment_ids has shape {ids.shape}, but the array has shape {x.shape}")
    if num_segments is None:
        count = int(ids.max(initial=-1)) + 1
        if count > MOST_SEGMENTS or (ids < 0).any():
            bad = ids.min() if (ids < 0).any() else ids.max()
            raise ValueError(
                f"segment_ids must be from 0 to {MOST_SEGMENTS - 1}, got {bad} at "
                f"{int((ids == bad).argmax())}"
            )
    else:
        count = check_count(num_segments, "num_segments", 0)
        if count > MOST_SEGMENTS:
            raise ValueError(f"num_segments must be at most {MOST_SEGMENTS}, got {count}")
    order, offsets = np.empty(len(x), np.int64), _empty_offsets(count)
    first_bad = _core.sort_by_segment(ids, order, offsets)
    if first_bad < len(x):
        allowed = f"from 0 to {count - 1}" if count else "absent, for 0 segments"
        raise ValueError(f"segment_ids must be {allowed}, got {ids[first_bad]} at {first_bad}")
    return _Segments(offsets, order)


def _empty_offsets(count: int) -> Ints:
    try:
        return np.empty(count + 1, np.int64)
    except MemoryError:
        raise MemoryError(
            f"{count} segments need {8 * (count + 1):,} bytes for their offsets; number the "
            "segments that occur from 0, for example by numpy.unique(..., return_inverse=True)"
        ) from None


complete(
    {
        "segments": """
indptr : array_like of int
    Segment s has the elements from indptr[s] up to, but not including, indptr[s + 1].
segment_ids : array_like of int
    The segment of each element, in any order, in place of `indptr`.
num_segments : int, optional
    The number of segments, with `segment_ids`. By default the largest id, and one.
""",
        "dtype": """
dtype : dtype, optional
    The dtype to compute in and return. By default that of `x`, and float64 for integers.
""",
        "out": """
out : ndarray, optional
    Receives the result.
""",
        "raises": """
Raises
------
ValueError
    If an array has more than one axis; if `indptr` decreases or does not fit; if an id is out of
    range.
MemoryError
    If there are so many segments that their offsets do not fit into memory.
TypeError
    If both forms of segments are given, or neither; for dtypes, as for `boltzmax.softmax`.
""",
    },
    segment_softmax,
    segment_log_softmax,
    segment_logsumexp,
    segment_softmax_backward,
    segment_log_softmax_backward,
)
