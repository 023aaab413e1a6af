"""The softmax family on CUDA devices: see boltzmax.cuda."""

from __future__ import annotations

from typing import Any

from boltzmax._lib.arguments import normalized_axes
from boltzmax.cuda.arrays import why_unavailable
from boltzmax.cuda.calls import Call
from boltzmax.cuda.libraries import plain_result


def is_available() -> bool:
    """Whether this build has the CUDA target and finds a device.

    Examples
    --------
    >>> import boltzmax.cuda
    >>> boltzmax.cuda.is_available() == (boltzmax.cuda.why_unavailable() == "")
    True
    """
    return why_unavailable() == ""


def softmax(
    x: Any,
    axis: int | tuple[int, ...] | None = -1,
    *,
    where: Any = None,
    temperature: float = 1.0,
    out: Any = None,
    stream: Any = None,
) -> Any:
    """Probabilities from scores: exp(x_i / T) / sum_j exp(x_j / T) along an axis.

    Parameters
    ----------
    x : array
        Scores on a device, or a NumPy array. float16, bfloat16, float32 or float64, of any strides;
        contiguous rows are fastest.
    axis : int, tuple of int or None, default -1
        The axis or axes that form a row.
    where : array of bool, optional
        Broadcasts to `x`, on the same device. False leaves an element out of its row: it is 0.
    temperature : float, default 1.0
        Divides the scores. From 1e-30 to 1e30.
    out : array, optional
        Receives the result: of the shape and dtype of `x`; may be `x` itself.
    stream : stream or int, optional
        A CUDA stream, or its address, instead of the caller's own. It waits for the inputs, whose
        own streams wait for it; it must outlive the result.

    Returns
    -------
    array
        Of the kind, shape and dtype of `x`. (PyTorch's gradients are not recorded.) NaN,
        infinities and masks as on the CPU.

    Raises
    ------
    RuntimeError
        If CUDA cannot be used, or reports an error.
    TypeError
        For an array that is not on a device, or of another dtype.
    ValueError
        For another shape of `out`, arrays on different devices, a temperature out of range.
    MemoryError
        If the device has no memory left.

    Examples
    --------
    >>> import numpy as np
    >>> import boltzmax.cuda
    >>> boltzmax.cuda.softmax(np.log([1.0, 2.0, 5.0])).round(3)
    array([0.125, 0.25 , 0.625])
    """
    return _elementwise("SOFTMAX", x, axis, where, temperature, out, stream)


def log_softmax(
    x: Any,
    axis: int | tuple[int, ...] | None = -1,
    *,
    where: Any = None,
    temperature: float = 1.0,
    out: Any = None,
    stream: Any = None,
) -> Any:
    """Logarithms of probabilities: x_i / T - log(sum_j exp(x_j / T)) along an axis.

    Parameters, errors and the kind of the result are those of `softmax`; masked elements are -inf.

    Examples
    --------
    >>> import numpy as np
    >>> import boltzmax.cuda
    >>> boltzmax.cuda.log_softmax(np.zeros(2)).round(3)
    array([-0.693, -0.693])
    """
    return _elementwise("LOG_SOFTMAX", x, axis, where, temperature, out, stream)


def logsumexp(
    x: Any,
    axis: int | tuple[int, ...] | None = -1,
    *,
    keepdims: bool = False,
    where: Any = None,
    temperature: float = 1.0,
    stream: Any = None,
) -> Any:
    """log(sum_j exp(x_j / T)) along an axis, without overflow.

    Parameters, errors and the kind of the result are those of `softmax`; `keepdims` leaves the
    reduced axes in the result, with length 1.

    Examples
    --------
    >>> import numpy as np
    >>> import boltzmax.cuda
    >>> print(f"{boltzmax.cuda.logsumexp(np.zeros((2, 2)), axis=None):.3f}")
    1.386
    """
    call = Call(x, stream)
    axes = normalized_axes(axis, len(call.view.shape))
    kept = tuple(1 if d in axes else n for d, n in enumerate(call.view.shape))
    shape = kept if keepdims else tuple(n for d, n in enumerate(kept) if d not in axes)
    result = call.empty(shape, call.view.dtype)
    strides = iter(result.view.strides)
    steps = [next(strides) if keepdims or d not in axes else 0 for d in range(len(kept))]
    y = tuple(0 if d in axes else step for d, step in enumerate(steps))
    call.run("LOGSUMEXP", axes, (result.view.address, y), call.mask(where), temperature)
    return result.deliver()


def softmax_backward(
    dy: Any, y: Any, axis: int | tuple[int, ...] | None = -1, *, stream: Any = None
) -> Any:
    """Gradient of a loss with respect to x, from the gradient with respect to y = softmax(x).

    dx_i = y_i (dy_i - sum_j dy_j y_j). With a temperature T, divide by T.

    Parameters
    ----------
    dy, y : array
        Of one shape and dtype, on one device; or NumPy arrays.
    axis : int, tuple of int or None, default -1
        The axis or axes that form a row.
    stream : stream or int, optional
        A CUDA stream, or its address, instead of the caller's own.

    Returns
    -------
    array
        Of the kind, shape and dtype of `dy`.

    Raises
    ------
    RuntimeError, TypeError, ValueError, MemoryError
        As `softmax`; and for shapes or dtypes that differ.

    Examples
    --------
    >>> import numpy as np
    >>> import boltzmax.cuda
    >>> boltzmax.cuda.softmax_backward(np.array([1.0, 0.0]), np.array([0.5, 0.5]))
    array([ 0.25, -0.25])
    """
    return _gradient("SOFTMAX_BACKWARD", dy, y, axis, stream)


def log_softmax_backward(
    dy: Any, y: Any, axis: int | tuple[int, ...] | None = -1, *, stream: Any = None
) -> Any:
    """Gradient of a loss with respect to x, from the gradient with respect to y = log_softmax(x).

    dx_i = dy_i - exp(y_i) sum_j dy_j. Parameters, errors and result are those of
    `softmax_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> import boltzmax.cuda
    >>> boltzmax.cuda.log_softmax_backward(np.array([1.0, 0.0]), np.log([0.5, 0.5])).round(3)
    array([ 0.5, -0.5])
    """
    return _gradient("LOG_SOFTMAX_BACKWARD", dy, y, axis, stream)


# ---- how they are called ----


def _elementwise(
    operation: str, x: Any, axis: Any, where: Any, temperature: float, out: Any, stream: Any
) -> Any:
    if where is None and out is None and stream is None:
        plain = plain_result(operation, x, axis, temperature)
        if plain is not None:
            return plain
    call = Call(x, stream)
    axes = normalized_axes(axis, len(call.view.shape))
    mask = call.mask(where)
    result = call.result(out, mask)
    call.run(operation, axes, result.view.place, mask, temperature)
    return result.deliver()


def _gradient(operation: str, dy: Any, y: Any, axis: Any, stream: Any) -> Any:
    call = Call(dy, stream)
    axes = normalized_axes(axis, len(call.view.shape))
    other = call.read(y, "y")
    if (other.shape, other.dtype) != (call.view.shape, call.view.dtype):
        raise ValueError(
            f"dy and y must agree: {call.view.dtype}{call.view.shape}, {other.dtype}{other.shape}"
        )
    result = call.result(None)
    call.run(operation, axes, result.view.place, other, 1.0)
    return result.deliver()
