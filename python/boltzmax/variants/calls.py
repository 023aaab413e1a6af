"""Run compiled functions of rows on arrays of any layout.

A public function reads its own options, and calls `run_map` or `run_gradient` with the name that
its kernels have (see ``cpp/kernels/row_functions.hpp``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import (
    broadcast_mask,
    checked_out,
    clashes,
    normalized_axes,
    repeats_elements,
)
from boltzmax._lib.numbers import read_gradient_inputs
from boltzmax.arrays.calls import Call, read_call

Array = NDArray[Any]
Axis = Any


_ORDINARY = frozenset(map(np.dtype, (np.float16, np.float32, np.float64)))


def ordinary(function: str, x: Any, axis: Any, other: Any = None, **options: Any) -> Array | None:
    """Return a map of the rows of an ordinary array, or its gradient; None for any other array.

    An ordinary array has elements in C order, and rows along its last axis. Its map needs none of
    the checks and conversions of the general path, which take longer than a small array itself.
    """
    if type(x) is not np.ndarray or type(axis) is not int or not x.size or not x.ndim:
        return None
    if x.dtype not in _ORDINARY or axis not in (-1, x.ndim - 1) or not _in_order(x):
        return None
    if other is not None and not (
        type(other) is np.ndarray
        and other.shape == x.shape
        and other.dtype == x.dtype
        and _in_order(other)
    ):
        return None
    result: Array = _core.empty_like(x, x.dtype, 0)
    _core.run_function(function, x, other, result, 1, None, None, **options)
    return result


def _in_order(x: Array) -> bool:
    flags = x.flags
    return bool(flags.c_contiguous and flags.aligned)


def run_map(
    function: str,
    x: ArrayLike,
    axis: Axis,
    where: ArrayLike | None,
    temperature: ArrayLike,
    dtype: DTypeLike | None,
    out: Array | None,
    **options: Any,
) -> Any:
    """Return a map of the rows of `x`; every temperature must be above 0."""
    call = read_call(function, x, axis, where, temperature, dtype)
    return map_of_call(function, call, out, **options)


def map_of_call(function: str, call: Call, out: Array | None, **options: Any) -> Any:
    """Return a map of the rows of a checked call."""
    target = None if out is None else checked_out(out, call.x.shape, call.dtype)
    return _run(function, call.x, None, call, target, out, options)


def run_gradient(
    function: str,
    dy: ArrayLike,
    other: ArrayLike,
    axis: Axis,
    out: Array | None,
    *,
    name: str = "y",
    where: ArrayLike | None = None,
    parameter: NDArray[np.float64] | None = None,
    reduces: bool = False,
    **options: Any,
) -> Any:
    """Return the gradient of a map, from `dy` and the result or the input of the map.

    Parameters
    ----------
    name : str
        What errors call `other`.
    parameter : ndarray, optional
        A number for each row, of the shape without the reduced axes.
    reduces : bool
        Whether a row has one result: the gradient by a number of the row's.
    """
    gradient, second, dtype = read_gradient_inputs(function, dy, other, name)
    axes = normalized_axes(axis, gradient.ndim)
    call = Call(gradient, axes, broadcast_mask(where, gradient), parameter, dtype)
    shape = tuple(gradient.shape[d] for d in call.kept) if reduces else gradient.shape
    target = None if out is None else checked_out(out, shape, dtype)
    return _run(function, gradient, second, call, target, out, options, reduces=reduces)


def _run(
    function: str,
    x: Array,
    other: Array | None,
    call: Call,
    target: Array | None,
    out: Array | None,
    options: Any,
    *,
    reduces: bool = False,
) -> Any:
    """Run a compiled function; longdouble is computed in double."""
    order = call.order
    is_long = call.dtype.char == "g"
    working = np.dtype(np.float64) if is_long else call.dtype
    x, other = _readable(x), None if other is None else _readable(other)
    operands = (x, other, call.mask, call.temperature)
    if (
        target is None
        or is_long
        or repeats_elements(target)
        or any(clashes(target, a, False) for a in operands)
    ):
        like = x.transpose(order) if reduces else x
        result = _core.empty_like(like, working, len(call.axes) if reduces else 0)
    else:
        result = target
    _core.run_function(
        function,
        x.transpose(order),
        None if other is None else other.transpose(order),
        result if reduces else result.transpose(order),
        len(call.axes),
        None if call.mask is None else call.mask.transpose(order),
        call.temperature,
        **options,
    )
    if target is not None:
        if result is not target:
            target[...] = result
        return out
    result = result.astype(call.dtype, copy=False)
    return result[()] if result.ndim == 0 else result


def _readable(x: Array) -> Array:
    return x.astype(np.float64) if x.dtype.char == "g" else x
