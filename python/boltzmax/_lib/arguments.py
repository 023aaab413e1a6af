"""Read and check the arguments of the public functions; error messages are raised here."""

from __future__ import annotations

import math
import operator
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from boltzmax import _core
from boltzmax._lib.foreign import library_of

Array = NDArray[Any]
Axis = Any

# Outside this range, 1/T or T times a score overflows or underflows float32.
LEAST_TEMPERATURE, LARGEST_TEMPERATURE = 1e-30, 1e30
_RANGE = f"from {LEAST_TEMPERATURE:g} to {LARGEST_TEMPERATURE:g}"

# Decorator for NumPy code behind a public function: no call warns, whatever the caller's errstate.
quietly = np.errstate(all="ignore")

SUPPORTED = "float16, float32, float64, longdouble, bfloat16, integers and bool"


def is_bfloat16(dtype: np.dtype[Any]) -> bool:
    """Return whether it is ``ml_dtypes.bfloat16``; if so, register it with the compiled code."""
    if dtype.name != "bfloat16" or dtype.itemsize != 2:
        return False
    _core.register_bfloat16(dtype)
    return True


def is_native_float(dtype: np.dtype[Any]) -> bool:
    """Return whether the kernels read this float dtype."""
    return dtype.char in "efd" or is_bfloat16(dtype)


def is_float(dtype: np.dtype[Any]) -> bool:
    """Return whether it is a NumPy float, or bfloat16, which NumPy does not count as one."""
    return dtype.kind == "f" or is_bfloat16(dtype)


def is_small_float(dtype: np.dtype[Any]) -> bool:
    """Return whether it is an ``ml_dtypes`` float of at most 8 bits; all are exact in float32."""
    return dtype.itemsize == 1 and dtype.name.startswith("float")


def is_real(dtype: np.dtype[Any]) -> bool:
    """Return whether it is a real dtype: integer, bool or float."""
    return dtype.kind in "biu" or is_float(dtype) or is_small_float(dtype)


def refuse_masked(x: Any, name: str, advice: str = "pass its data") -> None:
    """Raise if `x` is a masked array, whose mask would be lost."""
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; {advice}")


def as_input(
    x: ArrayLike, name: str = "x", advice: str = "pass its data, and where=~mask"
) -> Array:
    """Return `x` as an ndarray in native byte order, floats of 8 bits or less as float32.

    `advice` is for those who pass a masked array.
    """
    refuse_masked(x, name, advice)
    array = as_array(x, name)
    if is_small_float(array.dtype):
        return array.astype(np.float32)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def as_array(x: ArrayLike, name: str) -> Array:
    """Return `x` as an ndarray; raise with advice if NumPy would wrap it as a single object."""
    if type(x) is np.ndarray:
        return x
    library = library_of(x)
    if library is not None:
        return library.read(x, name)
    array = np.asarray(x)
    if array.dtype == object and array.ndim == 0:
        _refuse_object(x, name)
    return array


def _refuse_object(x: Any, name: str) -> None:
    """Raise if NumPy wrapped `x` as a single object that can be converted to an array."""
    kind = f"{type(x).__module__}.{type(x).__qualname__}".removeprefix("builtins.")
    if isinstance(x, np.ndarray):
        return
    if x is None:
        raise TypeError(f"{name} is None, not an array of numbers")
    if hasattr(x, "collect"):
        raise TypeError(f"{name} is lazy ({kind}); pass {name}.collect()")
    if hasattr(x, "toarray"):
        raise TypeError(f"{name} is sparse ({kind}); pass {name}.toarray()")
    if hasattr(x, "__next__"):
        raise TypeError(f"{name} is an iterator ({kind}), not an array; pass list({name})")
    if hasattr(x, "__dlpack__"):
        raise TypeError(
            f"{name} can be read through DLPack alone ({kind}); pass numpy.from_dlpack({name})"
        )


def working_dtype(array: Array, dtype: DTypeLike | None, function: str) -> np.dtype[Any]:
    """Return the dtype to compute in and return."""
    kind = array.dtype.kind
    complex_too = function == "logsumexp"
    if not is_real(array.dtype) and not (kind == "c" and complex_too):
        also = " and complex" if complex_too else ""
        raise TypeError(
            f"{function} does not support dtype {array.dtype}; it takes {SUPPORTED}{also}"
        )
    if dtype is None:
        return np.dtype(np.float64) if kind in "biu" else array.dtype
    wanted = np.dtype(dtype)
    if kind == "c" and wanted.kind == "c":
        return wanted
    of_numpy = wanted.kind == "f" and not is_small_float(wanted)
    if kind == "c" or not (of_numpy or is_bfloat16(wanted)):
        raise TypeError(
            f"{function} cannot compute in dtype {wanted} from {array.dtype}; dtype must be "
            "float16, float32, float64, longdouble or bfloat16"
        )
    return wanted.newbyteorder("=")


def normalized_axes(axis: Axis, ndim: int) -> tuple[int, ...]:
    """Return the axes in ascending order, so that rows do not depend on how they were listed."""
    if axis is None:
        return tuple(range(ndim))
    if type(axis) is int and -ndim <= axis < ndim:
        return (axis % ndim,)
    known = max(ndim, 1)  # a 0-d array is a row of one element, as in NumPy's reductions
    axes = _as_ints(axis)
    for a in axes:
        if not -known <= a < known:
            raise np.exceptions.AxisError(a, ndim, "axis")
    axes = tuple(sorted(a % known for a in axes))
    if len(set(axes)) < len(axes):
        raise ValueError("repeated axis in `axis` argument")
    return axes if ndim else ()


def class_axis(axis: SupportsIndex, ndim: int) -> int:
    """Return the class axis as a non-negative index."""
    try:
        along = operator.index(axis)
    except TypeError:
        raise TypeError(f"axis must be an int, got {axis!r}") from None
    if not -ndim <= along < ndim:
        raise np.exceptions.AxisError(along, ndim)
    return along % ndim


def axis_with_classes(
    shape: tuple[int, ...], axis: SupportsIndex, name: str, least: int = 1
) -> int:
    """Return the class axis, counted from the first, if it has at least `least` classes."""
    ndim = len(shape)
    along = class_axis(axis, ndim) if ndim else -1
    if ndim == 0 or shape[along] < least:
        place = "the last axis" if along in (-1, ndim - 1) else f"axis {along}"
        raise ValueError(f"{name} must have classes on {place}, got shape {shape}")
    return along


def classes_last(array: Array, axis: int) -> Array:
    """Return a view with the class axis (a non-negative index) moved to the end."""
    return array if axis == array.ndim - 1 else np.moveaxis(array, axis, -1)


def _as_ints(axis: Any) -> tuple[int, ...]:
    try:
        return (operator.index(axis),)
    except TypeError:
        pass
    try:
        return tuple(operator.index(a) for a in axis)
    except TypeError:
        raise TypeError(f"axis must be an int, a tuple of ints or None, got {axis!r}") from None


def axes_of_reduction(axis: Axis, ndim: int) -> tuple[int, ...]:
    """Normalize axes as NumPy's reductions do, with NumPy's errors for bad ones."""
    if axis is None:
        return tuple(range(ndim))
    if type(axis) is int and -ndim <= axis < ndim:
        return (axis % ndim,)
    try:
        np.add.reduce(np.zeros((1,) * ndim), axis=axis)
    except (OverflowError, ValueError):
        # For axes that overflow a C integer, NumPy raises errors of another type.
        for k in map(operator.index, axis if isinstance(axis, tuple) else (axis,)):
            if not -ndim <= k < ndim:
                raise np.exceptions.AxisError(k, ndim) from None
        raise
    if ndim == 0:
        return ()
    return tuple(int(k) % ndim for k in (axis if isinstance(axis, tuple) else (axis,)))


def broadcast_mask(where: ArrayLike | None, x: Array) -> NDArray[np.bool_] | None:
    """Return `where` in the shape of `x`, or None for no mask."""
    if where is None:
        return None
    refuse_masked(where, "where")
    mask = as_array(where, "where")
    if mask.dtype != np.bool_:
        raise TypeError(f"where must be an array of bool, got dtype {mask.dtype}")
    try:
        return np.broadcast_to(mask, x.shape)
    except ValueError:
        raise ValueError(
            f"where of shape {mask.shape} does not broadcast to x of shape {x.shape}"
        ) from None


def one_of(value: Any, name: str, allowed: tuple[str, ...]) -> str:
    """Return `value` if it is one of the `allowed` words."""
    if not (isinstance(value, str) and value in allowed):
        words = ", ".join(map(repr, allowed))
        raise ValueError(f"{name} must be one of {words}, got {value!r}")
    return value


def as_integer(value: Any, name: str) -> int:
    """Return `value` as an int if it is a single integer."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None


def check_count(value: Any, name: str, least: int, most: int | None = None) -> int:
    """Return `value` if it is an integer from `least` to `most`."""
    count = as_integer(value, name)
    if count < least or (most is not None and count > most):
        allowed = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be {allowed}, got {count}")
    return count


def as_flag(value: Any, name: str) -> bool:
    """Return the truth of `value`, which must have one."""
    try:
        return bool(value)
    except ValueError:
        raise ValueError(f"{name} must be True or False, got {value!r}") from None


def as_number(value: Any, name: str) -> float:
    """Return `value` as a float if it is a single real number."""
    if type(value) is float:
        return value
    try:
        if isinstance(value, (str, bytes, bytearray)) or np.ndim(value) > 0:
            raise TypeError
        return float(value)
    except OverflowError:  # an integer too large for a float
        return math.inf if value > 0 else -math.inf
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a real number, got {value!r}") from None


def check_positive(value: Any, name: str) -> float:
    """Return `value` if it is a positive number in the range of temperatures."""
    number = as_number(value, name)
    _check_range(number, name)
    return number


def check_softcap(softcap: Any) -> float | None:
    """Return the bound of the logits, or None for no bound."""
    return None if softcap is None else check_positive(softcap, "softcap")


def check_temperature(temperature: Any, *, or_0: bool = False) -> float:
    """Return a temperature in the valid range; `or_0` also allows 0, for functions with a limit."""
    number = as_number(temperature, "temperature")
    _check_range(number, "temperature", or_0)
    return number


def _check_range(value: Any, name: str, or_0: bool = False) -> None:
    """Raise for numbers that scores cannot be divided by."""
    if type(value) is float and LEAST_TEMPERATURE <= value <= LARGEST_TEMPERATURE:
        return
    number = np.asarray(value)
    good = (number >= LEAST_TEMPERATURE) & (number <= LARGEST_TEMPERATURE)
    good |= or_0 & (number == 0.0)
    if not good.all():
        allowed = f">= 0 (0, or {_RANGE})" if or_0 else f"> 0 ({_RANGE})"
        raise ValueError(f"{name} must be {allowed}, got {number[~good].flat[0]:g}")


def row_temperature(
    temperature: ArrayLike, x: Array, axes: tuple[int, ...]
) -> NDArray[np.float64] | None:
    """Return `temperature` (zeros allowed) with one element per row: the shape without `axes`.

    None means that the temperature is 1 for all rows.
    """
    refuse_masked(temperature, "temperature")
    try:
        t = np.asarray(temperature)
        if not is_real(t.dtype):
            raise TypeError
        t = t.astype(np.float64)
    except (TypeError, ValueError):
        raise TypeError(
            f"temperature must be a real number or an array of them, got {temperature!r}"
        ) from None
    _check_range(t, "temperature", or_0=True)
    if t.ndim == 0 and t == 1.0:
        return None
    broadcast = one_per_row(t, "temperature", x, axes)
    return None if (t == 1.0).all() else broadcast


def one_per_row(numbers: Array, name: str, x: Array, axes: tuple[int, ...]) -> NDArray[np.float64]:
    """Broadcast `numbers` to one for each row of `x`: the shape without `axes`."""
    t, kept = numbers, tuple(d for d in range(x.ndim) if d not in axes)
    rows = tuple(x.shape[d] for d in kept)
    if t.ndim == x.ndim and all(t.shape[d] == 1 for d in axes):
        t = t.transpose(kept + axes).reshape(tuple(t.shape[d] for d in kept))
    try:
        return np.broadcast_to(t, rows)
    except ValueError:
        raise ValueError(
            f"{name} of shape {numbers.shape} does not broadcast to one per row, {rows}"
        ) from None


def read_empty(empty: str) -> float:
    """Return the value that `empty` selects: NaN or 0."""
    return math.nan if one_of(empty, "empty", ("nan", "zero")) == "nan" else 0.0


def check_form_of_out(
    shape: tuple[int, ...], dtype: object, wanted_shape: tuple[int, ...], wanted_dtype: object
) -> None:
    """Raise unless `out` has the shape and dtype of the result."""
    if shape != wanted_shape:
        raise ValueError(f"out has shape {shape}, but the result has shape {wanted_shape}")
    if dtype != wanted_dtype:
        raise TypeError(f"out has dtype {dtype}, but the result has dtype {wanted_dtype}")


def checked_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return `out` if a result of this shape and dtype can be written to it."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be an ndarray, got {type(out).__name__}")
    check_form_of_out(out.shape, out.dtype, shape, dtype)
    if not out.flags.writeable:
        raise ValueError("out is read-only")
    return np.asarray(out)


def _same_elements(a: Array, b: Array) -> bool:
    """Return whether element i of `a` and element i of `b` share their address, for every i."""
    return (
        a.dtype == b.dtype
        and a.shape == b.shape
        and a.strides == b.strides
        and a.__array_interface__["data"] == b.__array_interface__["data"]
    )


def clashes(out: Array, operand: Array | None, elementwise: bool) -> bool:
    """Return whether writing `out` could overwrite `operand` before it is read."""
    if operand is None or (elementwise and _same_elements(out, operand)):
        return False
    if not np.may_share_memory(out, operand):
        return False
    try:
        return np.shares_memory(out, operand, max_work=10_000)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def repeats_elements(out: Array) -> bool:
    """Return whether two elements of `out` share an address, as in a broadcast view."""
    return any(s == 0 and n > 1 for s, n in zip(out.strides, out.shape, strict=True))
