"""The general path: every call that the compiled fast path declines.

Arguments are checked here, brought to one form (the reduced axes last, every operand broadcast as
a view) and passed to ``_core.run``, which reads any strides and converts any real dtype on the
fly.  No temporary is as large as the input, except in the documented fallbacks: inputs in foreign
byte order, `out` overlapping an input, temperatures of 0, and dtypes that only `numpy_path`
supports.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import (
    as_array,
    as_flag,
    checked_out,
    clashes,
    is_native_float,
    is_real,
    is_small_float,
    normalized_axes,
    quietly,
    read_empty,
    repeats_elements,
)
from boltzmax._lib.numbers import read_gradient_inputs
from boltzmax._lib.same_kind import same_kind
from boltzmax.arrays import complex_rows, numpy_path
from boltzmax.arrays.argmax_limit import at_temperature_0
from boltzmax.arrays.calls import Call, read_call

Array = NDArray[Any]
Axis = Any

_LOGARITHMS = {function for function, _, _, is_log in _core.operations if is_log}

# ---- softmax, log_softmax, logsumexp ----


def _run_native(function: str, call: Call, out: Array) -> None:
    """Write the result to `out`, which has only the kept axes if the function reduces."""
    order = call.order
    reduces = function == "logsumexp"
    elementwise = not reduces
    clash = repeats_elements(out) or any(
        clashes(out, operand, elementwise and operand is call.x)
        for operand in (call.x, call.mask, call.temperature)
    )
    target = np.empty(out.shape, out.dtype) if clash else out
    _core.run(
        function,
        call.x.transpose(order),
        target if reduces else target.transpose(order),
        len(call.axes),
        None if call.mask is None else call.mask.transpose(order),
        call.temperature,
    )
    if clash:
        out[...] = target


def _elementwise(
    function: str,
    x: ArrayLike,
    axis: Axis,
    where: ArrayLike | None,
    temperature: ArrayLike,
    empty: str,
    dtype: DTypeLike | None,
    out: Array | None,
) -> Any:
    call = read_call(function, x, axis, where, temperature, dtype)
    of_empty = read_empty(empty)
    shape = call.x.shape
    target = None if out is None else checked_out(out, shape, call.dtype)
    empty_rows = call.empty_rows() if of_empty == 0.0 else None
    if call.has_zero_temperature:
        call = at_temperature_0(function, call)
    if is_native_float(call.dtype) and call.x.dtype.char != "g":
        result = _core.empty_like(call.x, call.dtype) if target is None else target
        _run_native(function, call, result)
    else:
        compute = getattr(numpy_path, function)
        result = compute(
            call.x.astype(call.dtype, copy=False)
            if call.dtype.char == "g"
            else call.x.astype(np.longdouble),
            call.axes,
            where=call.mask,
            temperature=call.broadcast_temperature(),
        ).astype(call.dtype, copy=False)
        if target is not None:
            target[...] = result
            result = target
    if empty_rows is not None:
        np.copyto(result, -np.inf if function in _LOGARITHMS else 0.0, where=empty_rows)
    if out is not None:
        return out
    return result[()] if result.ndim == 0 else result


def _map(function: str) -> Callable[..., Any]:
    """Make the general path of an elementwise function."""

    def call(
        x: ArrayLike,
        axis: Axis = -1,
        *,
        where: ArrayLike | None = None,
        temperature: ArrayLike = 1.0,
        empty: str = "nan",
        dtype: DTypeLike | None = None,
        out: Array | None = None,
    ) -> Any:
        return _elementwise(function, x, axis, where, temperature, empty, dtype, out)

    return _named(call, function)


def _named(call: Callable[..., Any], function: str) -> Callable[..., Any]:
    """Set the name that Python uses in errors about its arguments."""
    call.__name__ = call.__qualname__ = function
    return same_kind(quietly(call), getattr(_core, function), cuda=function)


def _logsumexp(
    x: ArrayLike,
    axis: Axis = -1,
    *,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
    where: ArrayLike | None = None,
    temperature: ArrayLike = 1.0,
    dtype: DTypeLike | None = None,
    out: Array | None = None,
) -> Any:
    """Compute `boltzmax.logsumexp`."""
    keepdims, return_sign = as_flag(keepdims, "keepdims"), as_flag(return_sign, "return_sign")
    call = read_call("logsumexp", x, axis, where, temperature, dtype)
    weights = None if b is None else _weights(b, call.x)
    if call.has_zero_temperature:
        if weights is not None or call.x.dtype.kind == "c":
            raise ValueError("a temperature of 0 goes with real x, and without weights b")
        call = at_temperature_0("logsumexp", call)
    shape = tuple(
        1 if d in call.axes else n for d, n in enumerate(call.x.shape) if keepdims or d in call.kept
    )
    is_complex = any(v is not None and v.dtype.kind == "c" for v in (call.x, weights))
    is_native = is_native_float(call.dtype) and not is_complex
    if is_native and call.x.dtype.char == "g":
        call = call._replace(x=call.x.astype(call.dtype))
    if is_native and weights is None:
        target = None if out is None else checked_out(out, shape, call.dtype)
        if target is None:
            result = _new_rows(call)
        else:
            result = np.squeeze(target, call.axes) if keepdims else target
        _run_native("logsumexp", call, result)
        sign = numpy_path.sign_of_sum(result) if return_sign else None
    else:
        if is_native and weights is not None:
            result, sign = _run_weighted(call, weights, return_sign)
        else:
            result, sign = _logsumexp_numpy(call, weights, return_sign)
        if out is not None:
            checked_out(out, shape, result.dtype)[...] = result.reshape(shape)
    value = _as_returned(result, call, keepdims) if out is None else out
    return (value, _as_returned(sign, call, keepdims)) if return_sign else value


def _new_rows(call: Call) -> Array:
    """Return an array with the kept axes, in the memory order of `call.x`."""
    rows = call.x.transpose(call.order)
    return _core.empty_like(rows, call.dtype, len(call.axes))


def _as_returned(rows: Any, call: Call, keepdims: bool) -> Any:
    """Insert the reduced axes if they are kept; 0-d arrays are returned as scalars."""
    if keepdims:
        rows = np.expand_dims(rows, call.axes)
    return rows[()] if rows.ndim == 0 else rows


def _weights(b: ArrayLike, x: Array) -> Array:
    """Check weights and broadcast them to x."""
    weights = as_array(b, "b")
    if weights.dtype.kind != "c" and not is_real(weights.dtype):
        raise TypeError(f"b has unsupported dtype {weights.dtype}")
    try:
        return np.broadcast_to(weights, x.shape)
    except ValueError:
        raise ValueError(
            f"b of shape {weights.shape} does not broadcast to x of shape {x.shape}"
        ) from None


def _run_weighted(call: Call, weights: Array, return_sign: bool) -> tuple[Array, Array | None]:
    """Logarithms of the absolute weighted sums, and signs if requested, with the kept axes."""
    if weights.dtype.char == "g" or is_small_float(weights.dtype):
        weights = weights.astype(np.float64)
    elif not weights.dtype.isnative:
        weights = weights.astype(weights.dtype.newbyteorder("="))
    result = _new_rows(call)
    sign = _new_rows(call) if return_sign else None
    _core.run_weighted(
        call.x.transpose(call.order),
        weights.transpose(call.order),
        result,
        sign,
        len(call.axes),
        None if call.mask is None else call.mask.transpose(call.order),
        call.temperature,
    )
    return result, sign


def _logsumexp_numpy(
    call: Call, weights: Array | None, return_sign: bool
) -> tuple[Array, Array | None]:
    x = call.x.astype(call.dtype, copy=False)
    if weights is not None and weights.dtype.kind == "c" and x.dtype.kind != "c":
        x = x.astype(np.promote_types(x.dtype, np.complex64))
    path = complex_rows if complex_rows.is_native_complex(x.dtype) else numpy_path
    computed = path.logsumexp(
        x,
        call.axes,
        b=weights,
        return_sign=return_sign,
        where=call.mask,
        temperature=call.broadcast_temperature(),
    )
    return computed if return_sign else (computed, None)


# ---- gradients ----


def _backward(function: str, dy: ArrayLike, y: ArrayLike, axis: Axis, out: Array | None) -> Any:
    grad, result, dtype = read_gradient_inputs(function, dy, y)
    axes = normalized_axes(axis, grad.ndim)
    target = None if out is None else checked_out(out, grad.shape, dtype)
    if dtype.char == "g":
        dx = getattr(numpy_path, function)(grad, result, axes)
        if target is not None:
            target[...] = dx
    else:
        grad, result = grad.astype(dtype, copy=False), result.astype(dtype, copy=False)
        dx = _core.empty_like(grad, dtype) if target is None else target
        clash = repeats_elements(dx) or any(clashes(dx, a, True) for a in (grad, result))
        work = np.empty(dx.shape, dtype) if clash else dx
        order = tuple(d for d in range(grad.ndim) if d not in axes) + axes
        _core.run_backward(
            function,
            grad.transpose(order),
            result.transpose(order),
            work.transpose(order),
            len(axes),
        )
        if clash:
            dx[...] = work
    if out is not None:
        return out
    return dx[()] if dx.ndim == 0 else dx


def _gradient(function: str) -> Callable[..., Any]:
    """Make the general path of a gradient."""

    def call(dy: ArrayLike, y: ArrayLike, axis: Axis = -1, *, out: Array | None = None) -> Any:
        return _backward(function, dy, y, axis, out)

    return _named(call, function)


# The functions that compiled code looks up by name.
FUNCTIONS: dict[str, Callable[..., Any]] = {"logsumexp": _named(_logsumexp, "logsumexp")}
for _function, _of_gradient, _reduces, _ in _core.operations:
    if not _reduces:
        FUNCTIONS[_function] = _map(_function)
    if _of_gradient is not None:
        FUNCTIONS[_of_gradient] = _gradient(_of_gradient)
