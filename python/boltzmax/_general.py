"""The general path: every call that the compiled fast path does not answer at once.

Arguments are checked here, brought to one form (the reduced axes last, every operand broadcast as
a view) and handed to ``_core.run``, which reads any strides and converts any real dtype as it
goes.  Nothing here is as large as the input, except for the documented fall-backs: inputs in
foreign byte order, `out` overlapping an input, and what only `_numpy_path` computes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from boltzmax import _core, _numpy_path

Array = NDArray[Any]
Axis = Any

# The numbers of the compiled operations.
_OPS = {"softmax": 0, "log_softmax": 1, "logsumexp": 2}
_BACKWARD_OPS = {"softmax_backward": 0, "log_softmax_backward": 1}

# Outside of this range 1/T or T times a score leaves float32.
_LEAST_TEMPERATURE, _LARGEST_TEMPERATURE = 1e-30, 1e30

_SUPPORTED = "float16, float32, float64, longdouble, bfloat16, integers and bool"


# ---- arguments ----


def _is_bfloat16(dtype: np.dtype[Any]) -> bool:
    if dtype.name != "bfloat16" or dtype.itemsize != 2:
        return False
    _core.register_bfloat16(dtype)
    return True


def _is_native_float(dtype: np.dtype[Any]) -> bool:
    return dtype.char in "efd" or _is_bfloat16(dtype)


def _as_input(x: ArrayLike, name: str = "x") -> Array:
    """Return `x` as an ndarray in native byte order."""
    array = np.asarray(x)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _working_dtype(array: Array, dtype: DTypeLike | None, function: str) -> np.dtype[Any]:
    """Return the dtype to compute in and return."""
    kind = array.dtype.kind
    complex_too = function == "logsumexp"
    if kind not in "biuf" and not _is_bfloat16(array.dtype) and not (kind == "c" and complex_too):
        also = " and complex" if complex_too else ""
        raise TypeError(
            f"{function} does not support dtype {array.dtype}; it takes {_SUPPORTED}{also}"
        )
    if dtype is None:
        return np.dtype(np.float64) if kind in "biu" else array.dtype
    wanted = np.dtype(dtype)
    if kind == "c" and wanted.kind == "c":
        return wanted
    if kind == "c" or not (wanted.kind == "f" or _is_bfloat16(wanted)):
        raise TypeError(
            f"{function} cannot compute in dtype {wanted} from {array.dtype}; dtype must be "
            "float16, float32, float64, longdouble or bfloat16"
        )
    return wanted.newbyteorder("=")


def _normalized_axes(axis: Axis, ndim: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(ndim))
    if ndim == 0 and isinstance(axis, int) and axis in (0, -1):  # as NumPy's reductions allow
        return ()
    # In C order, so that a row is the same row however its axes were listed.
    return tuple(sorted(np.lib.array_utils.normalize_axis_tuple(axis, ndim, argname="axis")))


def _mask(where: ArrayLike | None, x: Array) -> NDArray[np.bool_] | None:
    if where is None:
        return None
    mask = np.asarray(where)
    if mask.dtype != np.bool_:
        raise TypeError(f"where must be an array of bool, got dtype {mask.dtype}")
    try:
        return np.broadcast_to(mask, x.shape)
    except ValueError:
        raise ValueError(
            f"where of shape {mask.shape} does not broadcast to x of shape {x.shape}"
        ) from None


def _temperature(
    temperature: ArrayLike, x: Array, axes: tuple[int, ...]
) -> NDArray[np.float64] | None:
    """Return `temperature` with one element per row, in the shape of `x` without `axes`."""
    try:
        t = np.asarray(temperature)
        if t.dtype.kind not in "biuf" and not _is_bfloat16(t.dtype):
            raise TypeError
        t = t.astype(np.float64)
    except (TypeError, ValueError):
        raise TypeError(
            f"temperature must be a real number or an array of them, got {temperature!r}"
        ) from None
    good = (t >= _LEAST_TEMPERATURE) & (t <= _LARGEST_TEMPERATURE)
    if not good.all():
        bad = t[~good].flat[0]
        raise ValueError(
            f"temperature must be > 0 (from {_LEAST_TEMPERATURE:g} to {_LARGEST_TEMPERATURE:g}), "
            f"got {bad:g}"
        )
    if t.ndim == 0 and t == 1.0:
        return None
    kept = tuple(d for d in range(x.ndim) if d not in axes)
    rows = tuple(x.shape[d] for d in kept)
    if t.ndim == x.ndim and all(t.shape[d] == 1 for d in axes):
        t = t.transpose(kept + axes).reshape(tuple(t.shape[d] for d in kept))
    try:
        return np.broadcast_to(t, rows)
    except ValueError:
        raise ValueError(
            f"temperature of shape {np.shape(temperature)} does not broadcast to one per row, "
            f"{rows}"
        ) from None


def _checked_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be an ndarray, got {type(out).__name__}")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}, but the result has shape {shape}")
    if out.dtype != dtype:
        raise TypeError(f"out has dtype {out.dtype}, but the result has dtype {dtype}")
    if not out.flags.writeable:
        raise ValueError("out is read-only")
    return np.asarray(out)


def _same_elements(a: Array, b: Array) -> bool:
    """Whether element i of one is element i of the other, for every i."""
    return (
        a.dtype == b.dtype
        and a.shape == b.shape
        and a.strides == b.strides
        and a.__array_interface__["data"] == b.__array_interface__["data"]
    )


def _clashes(out: Array, operand: Array | None, elementwise: bool) -> bool:
    """Whether writing `out` could spoil `operand` before it is read."""
    if operand is None or (elementwise and _same_elements(out, operand)):
        return False
    if not np.may_share_memory(out, operand):
        return False
    try:
        return np.shares_memory(out, operand, max_work=10_000)
    except np.exceptions.TooHardError:
        return True


def _repeats_elements(out: Array) -> bool:
    """Whether two elements of `out` lie in the same place, as in a broadcast view."""
    return any(s == 0 and n > 1 for s, n in zip(out.strides, out.shape, strict=True))


# ---- softmax, log_softmax, logsumexp ----


class _Call(NamedTuple):
    """A call whose arguments make sense."""

    x: Array
    axes: tuple[int, ...]
    mask: NDArray[np.bool_] | None
    temperature: NDArray[np.float64] | None
    dtype: np.dtype[Any]

    @property
    def kept(self) -> tuple[int, ...]:
        return tuple(d for d in range(self.x.ndim) if d not in self.axes)

    @property
    def rows(self) -> tuple[int, ...]:
        return tuple(self.x.shape[d] for d in self.kept)

    def broadcast_temperature(self) -> Array | None:
        """The temperature with the reduced axes kept, for `_numpy_path`."""
        return None if self.temperature is None else np.expand_dims(self.temperature, self.axes)


def _read(
    function: str,
    x: ArrayLike,
    axis: Axis,
    where: ArrayLike | None,
    temperature: ArrayLike,
    dtype: DTypeLike | None,
) -> _Call:
    array = _as_input(x)
    working = _working_dtype(array, dtype, function)
    axes = _normalized_axes(axis, array.ndim)
    return _Call(
        array, axes, _mask(where, array), _temperature(temperature, array, axes), working
    )


def _run_native(function: str, call: _Call, out: Array) -> None:
    """Compute into `out`, which has only the kept axes if the function reduces."""
    order = call.kept + call.axes
    reduces = function == "logsumexp"
    elementwise = not reduces
    clash = _repeats_elements(out) or any(
        _clashes(out, operand, elementwise and operand is call.x)
        for operand in (call.x, call.mask, call.temperature)
    )
    target = np.empty(out.shape, out.dtype) if clash else out
    _core.run(
        _OPS[function],
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
    dtype: DTypeLike | None,
    out: Array | None,
) -> Any:
    call = _read(function, x, axis, where, temperature, dtype)
    shape = call.x.shape
    target = None if out is None else _checked_out(out, shape, call.dtype)
    if _is_native_float(call.dtype) and call.x.dtype.char != "g":
        result = _core.empty_like(call.x, call.dtype) if target is None else target
        _run_native(function, call, result)
    else:
        compute = getattr(_numpy_path, function)
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
    if out is not None:
        return out
    return result[()] if result.ndim == 0 else result


def softmax(
    x: ArrayLike,
    axis: Axis = -1,
    *,
    where: ArrayLike | None = None,
    temperature: ArrayLike = 1.0,
    dtype: DTypeLike | None = None,
    out: Array | None = None,
) -> Any:
    """Compute `boltzmax.softmax`."""
    return _elementwise("softmax", x, axis, where, temperature, dtype, out)


def log_softmax(
    x: ArrayLike,
    axis: Axis = -1,
    *,
    where: ArrayLike | None = None,
    temperature: ArrayLike = 1.0,
    dtype: DTypeLike | None = None,
    out: Array | None = None,
) -> Any:
    """Compute `boltzmax.log_softmax`."""
    return _elementwise("log_softmax", x, axis, where, temperature, dtype, out)


def logsumexp(
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
    call = _read("logsumexp", x, axis, where, temperature, dtype)
    shape = tuple(
        1 if d in call.axes else n for d, n in enumerate(call.x.shape) if keepdims or d in call.kept
    )
    plain = b is None and not return_sign and call.x.dtype.char not in "gFDG"
    if plain and _is_native_float(call.dtype):
        target = np.empty(shape, call.dtype) if out is None else _checked_out(out, shape, call.dtype)
        _run_native("logsumexp", call, target.reshape(call.rows) if keepdims else target)
        result: Any = target
        sign = None
    else:
        result, sign = _logsumexp_numpy(call, b, keepdims, return_sign)
        if out is not None:
            target = _checked_out(out, shape, result.dtype)
            target[...] = result
            result = target
    if out is not None:
        result = out
    elif np.ndim(result) == 0:
        result = result[()]
    return (result, sign) if return_sign else result


def _logsumexp_numpy(
    call: _Call, b: ArrayLike | None, keepdims: bool, return_sign: bool
) -> tuple[Array, Any]:
    x = call.x.astype(call.dtype, copy=False)
    weights = None
    if b is not None:
        weights = np.asarray(b)
        if weights.dtype.kind not in "biufc" and not _is_bfloat16(weights.dtype):
            raise TypeError(f"b has unsupported dtype {weights.dtype}")
        try:
            np.broadcast_to(weights, x.shape)
        except ValueError:
            raise ValueError(
                f"b of shape {weights.shape} does not broadcast to x of shape {x.shape}"
            ) from None
    computed = _numpy_path.logsumexp(
        x,
        call.axes,
        b=weights,
        keepdims=keepdims,
        return_sign=return_sign,
        where=call.mask,
        temperature=call.broadcast_temperature(),
    )
    value, sign = computed if return_sign else (computed, None)
    return np.asarray(value), sign


# ---- gradients ----


def _backward(function: str, dy: ArrayLike, y: ArrayLike, axis: Axis, out: Array | None) -> Any:
    grad, result = _as_input(dy, "dy"), _as_input(y, "y")
    dtype = _gradient_dtype(function, grad, result)
    try:
        shape = np.broadcast_shapes(grad.shape, result.shape)
    except ValueError:
        shape = ()
    if grad.shape != result.shape or shape != grad.shape:
        raise ValueError(f"dy has shape {grad.shape}, but y has shape {result.shape}")
    axes = _normalized_axes(axis, grad.ndim)
    target = None if out is None else _checked_out(out, grad.shape, dtype)
    if dtype.char == "g":
        dx = _backward_longdouble(function, grad, result, axes)
        if target is not None:
            target[...] = dx
    else:
        grad, result = grad.astype(dtype, copy=False), result.astype(dtype, copy=False)
        dx = _core.empty_like(grad, dtype) if target is None else target
        clash = _repeats_elements(dx) or any(_clashes(dx, a, True) for a in (grad, result))
        work = np.empty(dx.shape, dtype) if clash else dx
        order = tuple(d for d in range(grad.ndim) if d not in axes) + axes
        operands = (a.transpose(order) for a in (grad, result, work))
        _core.run_backward(_BACKWARD_OPS[function], *operands, len(axes))
        if clash:
            dx[...] = work
    if out is not None:
        return out
    return dx[()] if dx.ndim == 0 else dx


def _gradient_dtype(function: str, dy: Array, y: Array) -> np.dtype[Any]:
    for name, array in (("dy", dy), ("y", y)):
        if array.dtype.kind not in "biuf" and not _is_bfloat16(array.dtype):
            raise TypeError(
                f"{function} does not support {name} of dtype {array.dtype}; it takes {_SUPPORTED}"
            )
    if dy.dtype == y.dtype:
        return np.dtype(np.float64) if dy.dtype.kind in "biu" else dy.dtype
    common = np.result_type(dy.dtype, y.dtype)
    return np.dtype(np.float64) if common.kind in "biu" else common


def _backward_longdouble(function: str, dy: Array, y: Array, axes: tuple[int, ...]) -> Array:
    with np.errstate(all="ignore"):
        if function == "softmax_backward":
            dx: Array = y * (dy - np.sum(dy * y, axis=axes, keepdims=True))
        else:
            dx = dy - np.exp(y) * np.sum(dy, axis=axes, keepdims=True)
    return dx


def softmax_backward(
    dy: ArrayLike, y: ArrayLike, axis: Axis = -1, *, out: Array | None = None
) -> Any:
    """Compute `boltzmax.softmax_backward`."""
    return _backward("softmax_backward", dy, y, axis, out)


def log_softmax_backward(
    dy: ArrayLike, y: ArrayLike, axis: Axis = -1, *, out: Array | None = None
) -> Any:
    """Compute `boltzmax.log_softmax_backward`."""
    return _backward("log_softmax_backward", dy, y, axis, out)
