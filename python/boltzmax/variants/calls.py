"""Run compiled functions of rows on arrays of any layout.

A public function reads its own options, and calls `run_map` or `run_gradient` with the name that
its kernels have (see ``cpp/kernels/row_functions.hpp``). Before that, a map tries
`_core.map_rows`, which reads the arguments of an ordinary call without Python, in a microsecond or
two; where large arrays have just gone through the caches, Python's way would take a hundred.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

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
F = TypeVar("F", bound=Callable[..., Any])


def compiled_if_ordinary(general: F) -> F:
    """Let a map with the parameters of `softmax` run without Python if its call is ordinary.

    Its kernels have the name of the function.
    """
    function = general.__name__

    @wraps(general)
    def call(
        x: ArrayLike,
        axis: Axis = -1,
        *,
        where: ArrayLike | None = None,
        temperature: ArrayLike = 1.0,
        dtype: DTypeLike | None = None,
        out: Array | None = None,
    ) -> Any:
        y = _core.map_rows(function, x, axis, where, temperature, dtype, out)
        if y is not None:
            return y
        return general(x, axis, where=where, temperature=temperature, dtype=dtype, out=out)

    return cast(F, call)


def run_map(
    function: str,
    x: ArrayLike,
    axis: Axis,
    where: ArrayLike | None,
    temperature: ArrayLike,
    dtype: DTypeLike | None,
    out: Array | None,
    count: int = 0,
) -> Any:
    """Return a map of the rows of `x`; every temperature must be above 0."""
    y = _core.map_rows(function, x, axis, where, temperature, dtype, out, 0.0, count)
    if y is not None:
        return y
    call = read_call(function, x, axis, where, temperature, dtype)
    return map_of_call(function, call, out, count=count)


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
    count: int = 0,
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
    if where is None and parameter is None and not reduces:
        dx = _core.gradient_of_rows(function, dy, other, axis, out, None, count)
        if dx is not None:
            return dx
    gradient, second, dtype = read_gradient_inputs(function, dy, other, name)
    axes = normalized_axes(axis, gradient.ndim)
    call = Call(gradient, axes, broadcast_mask(where, gradient), parameter, dtype)
    shape = tuple(gradient.shape[d] for d in call.kept) if reduces else gradient.shape
    target = None if out is None else checked_out(out, shape, dtype)
    options = {"count": count}
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
