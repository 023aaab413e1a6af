r"""Drop-in replacements for three functions of ``scipy.special``.

`softmax`, `log_softmax` and `logsumexp` here have SciPy's signatures, defaults (``axis=None``),
result dtypes and shapes, treatment of special values and types of error, so that ::

    from boltzmax.special import logsumexp

can take the place of ``from scipy.special import logsumexp``.  SciPy itself is not needed.

The compiled kernels compute them, except longdouble, real or complex, which NumPy computes.  The
remaining differences are deliberate:

* no warning is ever issued;
* results are more accurate where SciPy loses digits or overflows (tiny terms next to a large one,
  weights that cancel among the largest elements, weights of very different sizes, differences of
  integers that wrap around);
* `logsumexp` of an empty array gives -inf in the right shape for every axis and every tuple of
  axes, and masked arrays are read as their data throughout (SciPy also ignores the mask, except
  in corner cases);
* an axis out of bounds is a ``numpy.exceptions.AxisError``, even if it overflows a C integer.

Arrays of other libraries (tensors of PyTorch, arrays of JAX or CuPy, frames and series) are read
in place, and the result is an ndarray without their labels, as in SciPy.  An array on a device is a
TypeError; `boltzmax.cuda` takes those.  There is one difference: with ``SCIPY_ARRAY_API=1`` in the
environment SciPy computes in the array's own library and returns an array of that kind, whereas
these functions still return an ndarray; ``torch.from_numpy(result)``, for instance, converts it to
a tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._core import log_softmax as _native_log_softmax
from boltzmax._core import logsumexp as _native_logsumexp
from boltzmax._core import softmax as _native_softmax
from boltzmax._lib.arguments import as_array, axes_of_reduction, is_small_float
from boltzmax.arrays import complex_rows, numpy_path, numpy_sums

__all__ = ["log_softmax", "logsumexp", "softmax"]

Array = NDArray[Any]
Axis = int | tuple[int, ...] | None

_ndarray = np.ndarray
_F16, _F32, _F64 = np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)
_I64 = np.dtype(np.int64)


def softmax(x: ArrayLike, axis: Axis = None) -> Any:
    r"""Compute the softmax function, :math:`e^{x_i} / \sum_j e^{x_j}`.

    Parameters
    ----------
    x : array_like
        Input array.
    axis : int or tuple of ints, optional
        Axis or axes that form a row.  By default all of `x` is one row.

    Returns
    -------
    ndarray or scalar
        An array of the shape of `x` (a scalar if that is 0-d) that sums to 1 along `axis`.  The
        dtype is that of ``numpy.exp(x)``: floating and complex dtypes are kept, integers become
        float64 (float16 and float32 if they have 8 and 16 bits).  A row with NaN or +inf, or of
        -inf alone, is NaN.

    Raises
    ------
    TypeError
        If `x` is boolean or has no exponential.
    ValueError
        If a row is empty.
    numpy.exceptions.AxisError
        If `axis` is out of bounds.

    See Also
    --------
    boltzmax.softmax : the same along the last axis, with a mask, a temperature and ``out``.

    Notes
    -----
    Equation (1.4) of Blanchard, Higham & Higham, "Accurately computing the log-sum-exp and softmax
    functions", IMA J. Numer. Anal. 41(4), 2021, https://doi.org/10.1093/imanum/draa038.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax.special import softmax
    >>> softmax(np.log([[1, 3], [2, 2]]), axis=1).round(12)
    array([[0.25, 0.75],
           [0.5 , 0.5 ]])
    """
    if (
        type(x) is _ndarray
        and ((dtype := x.dtype) is _F64 or dtype is _F32 or dtype is _F16)
        and x.size > 1
    ):
        if type(axis) is int:
            return _native_softmax(x, axis)
        if axis is None and x.ndim == 1:
            return _native_softmax(x)
    return _softmax_like(x, axis, False, _native_softmax, numpy_path.softmax, _plain_softmax)


def log_softmax(x: ArrayLike, axis: Axis = None) -> Any:
    r"""Compute the logarithm of the softmax function, :math:`x_i - \log \sum_j e^{x_j}`.

    Parameters
    ----------
    x : array_like
        Input array.
    axis : int or tuple of ints, optional
        Axis or axes that form a row.  By default all of `x` is one row.

    Returns
    -------
    ndarray or scalar
        An array of the shape of `x` (a scalar if that is 0-d), with the dtype of ``numpy.exp(x)``
        as for `softmax`.  In a row with +inf, NaN at +inf and -inf elsewhere; a row with NaN, or
        of -inf alone, is NaN.

    Raises
    ------
    TypeError
        If `x` is boolean or has no exponential.
    ValueError
        If a row is empty.
    numpy.exceptions.AxisError
        If `axis` is out of bounds.

    See Also
    --------
    boltzmax.log_softmax : the same along the last axis, with a mask, a temperature and ``out``.

    Notes
    -----
    `x` minus equation (1.3) of Blanchard, Higham & Higham, "Accurately computing the log-sum-exp
    and softmax functions", IMA J. Numer. Anal. 41(4), 2021,
    https://doi.org/10.1093/imanum/draa038, with the logarithm as in their Algorithm 4.1.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax.special import log_softmax
    >>> log_softmax(np.array([1000.0, 1.0]))
    array([   0., -999.])
    """
    if (
        type(x) is _ndarray
        and ((dtype := x.dtype) is _F64 or dtype is _F32 or dtype is _F16)
        and x.size > 1
    ):
        if type(axis) is int:
            return _native_log_softmax(x, axis)
        if axis is None and x.ndim == 1:
            return _native_log_softmax(x)
    return _softmax_like(
        x, axis, True, _native_log_softmax, numpy_path.log_softmax, _plain_log_softmax
    )


def logsumexp(
    a: ArrayLike,
    axis: Axis = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
) -> Any:
    r"""Compute the log of the sum of exponentials, :math:`\log \sum_i b_i e^{a_i}`.

    Parameters
    ----------
    a : array_like
        Input array, real or complex; taken as 1-d if it is 0-d.
    axis : int or tuple of ints, optional
        Axis or axes over which the sum is taken.  By default all elements are summed.
    b : array_like, optional
        Weights of any sign, or complex, that broadcast with `a`.  An element of weight 0 adds
        nothing, even if it is infinite or NaN, as long as the rest has a finite logarithm.
    keepdims : bool, optional
        Leave the summed axes in the result with length 1.
    return_sign : bool, optional
        Return the logarithm of the absolute value of the sum, and its sign; otherwise a negative
        sum gives NaN.

    Returns
    -------
    res : ndarray or scalar
        The result, in the dtype to which `a`, `b` and a Python float promote (so float64 for
        integers); a scalar if it would be 0-d.  Imaginary parts are in (-pi, pi].
    sgn : ndarray or scalar
        Only if `return_sign` is true: -1, 0 or 1 (-1 for an empty sum), or a complex phase.

    Raises
    ------
    TypeError
        If `a` or `b` is a ``numpy.matrix`` or not numeric.
    ValueError
        If `a` and `b` do not broadcast.
    numpy.exceptions.AxisError
        If `axis` is out of bounds.

    See Also
    --------
    boltzmax.logsumexp : the same along the last axis, with a mask, a temperature and ``out``.

    Notes
    -----
    Equation (1.3) and Algorithm 4.1 of Blanchard, Higham & Higham, "Accurately computing the
    log-sum-exp and softmax functions", IMA J. Numer. Anal. 41(4), 2021,
    https://doi.org/10.1093/imanum/draa038.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax.special import logsumexp
    >>> a = np.array([0.0, -40.0])
    >>> print(f"{logsumexp(a):.6e}")
    4.248354e-18
    >>> size, sign = logsumexp([1.0, 2.0], b=[1, -1], return_sign=True)
    >>> print(f"{size:.6f} {sign}")
    1.541325 -1.0
    """
    if (
        b is None
        and not (return_sign or keepdims)
        and type(a) is _ndarray
        and ((dtype := a.dtype) is _F64 or dtype is _F32 or dtype is _F16)
        and a.size > 1
    ):
        if type(axis) is int:
            return _native_logsumexp(a, axis)
        if axis is None and a.ndim == 1:
            return _native_logsumexp(a)
    weights: Array | None
    if b is not None and (axis is None or type(axis) is int):
        ordinary = _ordinary(a, b)
        if ordinary is not None:
            x, weights = ordinary
            return _native_logsumexp(
                x, axis, b=weights, keepdims=bool(keepdims), return_sign=bool(return_sign)
            )
    x, weights = _promoted(a, b)
    axes = axes_of_reduction(axis, x.ndim)
    result, sign = _logsumexp(x, axes, weights, bool(keepdims), bool(return_sign))
    return (result[()], sign[()]) if return_sign else result[()]


# --- softmax and log_softmax ----------------------------------------------------------------------


def _softmax_like(
    x: ArrayLike,
    axis: Axis,
    wants_log: bool,
    native: Callable[..., Any],
    longdouble: Callable[..., Any],
    plain: Callable[[Array, Axis], Any],
) -> Any:
    """Choose the implementation by dtype, for an array `x` and a valid `axis`."""
    x = as_array(x, "x")
    if complex_rows.is_native_complex(x.dtype) and x.size > 0:
        return complex_rows.softmax_like(x, axes_of_reduction(axis, x.ndim), wants_log, plain)[()]
    compiled = x.dtype.kind in "iuf" or x.dtype.name == "bfloat16"  # bfloat16 is not NumPy's own
    if not compiled or is_small_float(x.dtype):
        return plain(x, axis)
    axes = axes_of_reduction(axis, x.ndim)
    if x.dtype.kind in "iu":
        x = _differences_kept(x, axes)
    if x.size == 0:
        np.max(x, axis=axes, keepdims=True)  # raises NumPy's error if a row is empty
        return np.empty(x.shape, x.dtype.newbyteorder("="))
    if x.dtype.type is np.longdouble:
        return longdouble(x.astype(x.dtype.newbyteorder("="), copy=False), axes)[()]
    return native(x, axes)


def _differences_kept(x: Array, axes: tuple[int, ...]) -> Array:
    """Integers in the dtype of their exponential, shifted if too large to be exact in it."""
    if x.dtype.itemsize < 8:
        return x.astype(f"f{min(2 * x.dtype.itemsize, 8)}")
    exact = 2**53
    if x.size == 0 or (x.max() <= exact and x.min() >= -exact):
        return x.astype(np.float64)
    below: Array = np.max(x, axis=axes, keepdims=True) - x  # correct even if it wraps around
    return -below.view(np.uint64).astype(np.float64)


def _plain_softmax(x: Array, axis: Axis) -> Any:
    """SciPy's formula, for dtypes without another path: complex, objects, and all errors."""
    with np.errstate(all="ignore"):
        e = np.exp(x - np.max(x, axis=axis, keepdims=True))
        return e / np.sum(e, axis=axis, keepdims=True)


def _plain_log_softmax(x: Array, axis: Axis) -> Any:
    """SciPy's formula, for dtypes without another path: complex, and all errors."""
    with np.errstate(all="ignore"):
        largest = np.asarray(np.max(x, axis=axis, keepdims=True))
        shifted = x - np.where(np.isfinite(largest), largest, np.zeros((), x.dtype))
        return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


# --- logsumexp ------------------------------------------------------------------------------------


def _logsumexp(
    x: Array, axes: tuple[int, ...], b: Array | None, keepdims: bool, return_sign: bool
) -> tuple[Any, Any]:
    """Logarithm, and sign if requested, for a promoted array of one dimension or more."""
    if x.size == 0:
        return _of_empty_sums(x, axes, keepdims)
    if x.dtype.kind == "c" or x.dtype.type is np.longdouble:
        path = complex_rows if complex_rows.is_native_complex(x.dtype) else numpy_path
        result = path.logsumexp(x, axes, b=b, keepdims=keepdims, return_sign=return_sign)
        return result if return_sign else (result, None)
    result = _native_logsumexp(x, axes, b=b, keepdims=keepdims, return_sign=return_sign)
    return result if return_sign else (result, None)


def _ordinary(a: ArrayLike, b: ArrayLike) -> tuple[Array, Array] | None:
    """Arrays, or lists, of one shape and of dtypes that need no promotion: the usual case."""
    x: Any = np.asarray(a) if isinstance(a, list) else a
    weights: Any = np.asarray(b) if isinstance(b, list) else b
    if type(x) is not _ndarray or type(weights) is not _ndarray:
        return None
    if x.shape != weights.shape or x.size == 0 or x.ndim == 0:
        return None
    if x.dtype is _I64:
        x = x.astype(_F64)
    promoted = (x.dtype is _F64 and (weights.dtype is _F64 or weights.dtype is _I64)) or (
        x.dtype is _F32 and weights.dtype is _F32
    )
    return (x, weights) if promoted else None


def _of_empty_sums(x: Array, axes: tuple[int, ...], keepdims: bool) -> tuple[Array, Array]:
    result = np.full(_sum_shape(x, axes, keepdims), -np.inf, x.dtype)
    with np.errstate(all="ignore"):
        return result, numpy_sums.sign(result)


def _sum_shape(x: Array, axes: tuple[int, ...], keepdims: bool) -> tuple[int, ...]:
    return tuple(1 if k in axes else n for k, n in enumerate(x.shape) if keepdims or k not in axes)


def _promoted(a: ArrayLike, b: ArrayLike | None) -> tuple[Array, Array | None]:
    """Arrays of one floating dtype, the first broadcast to the common shape.

    Python numbers are weak in the promotion (NEP 50), lists are arrays.
    """
    if isinstance(a, np.matrix) or isinstance(b, np.matrix):
        raise TypeError("logsumexp does not take numpy.matrix; pass numpy.asarray(matrix)")
    if a is None:
        raise TypeError("logsumexp needs numbers, not None")
    given = [_as_operand(a, "a")] + ([] if b is None else [_as_operand(b, "b")])
    try:
        dtype = np.result_type(*given, 1.0)
    except TypeError:  # like SciPy: "1.5", dates and the like are read as float64 if possible
        floats = [v for v in given if getattr(v, "dtype", np.dtype(float)).kind in "fc"]
        dtype = np.result_type(*floats, np.float64)
    arrays = [np.asarray(v, dtype=dtype) for v in given]
    if dtype.kind not in "fc":
        raise TypeError(f"logsumexp needs numbers, not an array of dtype {dtype}")
    if b is None:
        return np.atleast_1d(arrays[0]), None
    try:
        shape = np.broadcast_shapes(*(v.shape for v in arrays))
    except ValueError as error:
        raise ValueError("Array shapes are incompatible for broadcasting.") from error
    return np.broadcast_to(np.atleast_1d(arrays[0]), shape or (1,)), arrays[1]


def _as_operand(v: Any, name: str) -> Any:
    """Python numbers unchanged, other scalars (fractions, decimals) as float64."""
    if isinstance(v, (int, float, complex, np.generic)):
        return v
    array = as_array(v, name)
    return array.astype(np.float64) if array.dtype == object and not np.iterable(v) else array
