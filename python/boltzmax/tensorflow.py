"""Softmax, its logarithm, logsumexp and cross-entropy of TensorFlow's tensors, with gradients.

They compute on CPUs: eager tensors are read as NumPy arrays, and the result is copied once into a
tensor. In a `tf.function` they run as `tf.numpy_function`, in Python, so that such a graph cannot
be saved for another process. They need TensorFlow: ``pip install "boltzmax[tensorflow]"``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, SupportsIndex

from boltzmax import _core
from boltzmax._lib.arguments import class_axis
from boltzmax._lib.public import show_in
from boltzmax.losses.cross_entropy import cross_entropy as loss_of_arrays
from boltzmax.losses.cross_entropy import cross_entropy_with_grad

try:
    import tensorflow as tf
except ModuleNotFoundError as error:
    raise ImportError(
        'boltzmax.tensorflow needs TensorFlow: pip install "boltzmax[tensorflow]"', name=error.name
    ) from error

__all__ = ["cross_entropy", "log_softmax", "logsumexp", "softmax"]


def softmax(x: Any, axis: SupportsIndex = -1) -> Any:
    """Softmax along an axis: exp(x) / sum(exp(x)).

    Parameters
    ----------
    x : tf.Tensor
        float16, float32, float64 or bfloat16.
    axis : int, default -1
        The axis.

    Returns
    -------
    tf.Tensor
        Of the shape and dtype of `x`.

    Raises
    ------
    TypeError, ValueError
        For another dtype, or an axis that `x` does not have.

    Examples
    --------
    >>> import boltzmax.tensorflow, tensorflow as tf
    >>> boltzmax.tensorflow.softmax(tf.zeros(2)).numpy().tolist()
    [0.5, 0.5]
    """
    return _map(_core.softmax, _core.softmax_backward, x, axis)


def log_softmax(x: Any, axis: SupportsIndex = -1) -> Any:
    """Logarithm of the softmax along an axis: x - log(sum(exp(x))).

    Parameters
    ----------
    x : tf.Tensor
        float16, float32, float64 or bfloat16.
    axis : int, default -1
        The axis.

    Returns
    -------
    tf.Tensor
        Of the shape and dtype of `x`.

    Raises
    ------
    TypeError, ValueError
        For another dtype, or an axis that `x` does not have.

    Examples
    --------
    >>> import boltzmax.tensorflow, tensorflow as tf
    >>> boltzmax.tensorflow.log_softmax(tf.zeros(2)).numpy().round(3).tolist()[0] < -0.69
    True
    """
    return _map(_core.log_softmax, _core.log_softmax_backward, x, axis)


def logsumexp(x: Any, axis: SupportsIndex = -1) -> Any:
    """Logarithm of the sum of exponentials along an axis.

    Parameters
    ----------
    x : tf.Tensor
        float16, float32, float64 or bfloat16.
    axis : int, default -1
        The axis.

    Returns
    -------
    tf.Tensor
        Of the shape of `x` without the axis.

    Raises
    ------
    TypeError, ValueError
        For another dtype, or an axis that `x` does not have.

    Examples
    --------
    >>> import boltzmax.tensorflow, tensorflow as tf
    >>> round(float(boltzmax.tensorflow.logsumexp(tf.zeros(2))), 3)
    0.693
    """
    tensor, along = _read(x, axis)

    @tf.custom_gradient
    def function(z: Any) -> Any:
        def gradient(dy: Any) -> Any:
            return tf.expand_dims(dy, along) * softmax(z, along)

        kept = z.shape[:along].concatenate(z.shape[along + 1 :])
        return _run(lambda a: _core.logsumexp(a, along), kept, z.dtype, z), gradient

    return function(tensor)


def cross_entropy(
    logits: Any,
    target: Any,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    axis: SupportsIndex = -1,
) -> Any:
    """Cross-entropy of the softmax of logits: -log p[target], averaged.

    Parameters
    ----------
    logits : tf.Tensor, shape (..., K)
        float16, float32, float64 or bfloat16.
    target : tf.Tensor of int, shape (...)
        A class for each row.
    ignore_index : int, default -100
        Rows with this target are left out.
    label_smoothing : float, default 0.0
        From 0 to 1.
    reduction : {"mean", "sum"}
        As for `boltzmax.cross_entropy`.
    axis : int, default -1
        The class axis.

    Returns
    -------
    tf.Tensor
        One number: float64 if the logits are, else float32.

    Raises
    ------
    IndexError, TypeError, ValueError
        As from `boltzmax.cross_entropy_with_grad`; `tf.errors.OpError` in a `tf.function`.

    Examples
    --------
    >>> import boltzmax.tensorflow, tensorflow as tf
    >>> loss = boltzmax.tensorflow.cross_entropy(tf.constant([[2.0, 0.0]]), tf.constant([0]))
    >>> round(float(loss), 4)
    0.1269
    """
    tensor, along = _read(logits, axis)
    options: dict[str, Any] = {
        "ignore_index": ignore_index,
        "label_smoothing": label_smoothing,
        "reduction": reduction,
        "axis": along,
    }
    if reduction == "none":
        raise ValueError("reduction must be 'mean' or 'sum', got 'none'")
    wide = tf.float64 if tensor.dtype == tf.float64 else tf.float32

    @tf.custom_gradient
    def function(z: Any, t: Any) -> Any:
        def gradient(d_loss: Any) -> Any:
            slope = _run(
                lambda a, b: cross_entropy_with_grad(a, b, **options)[1], z.shape, z.dtype, z, t
            )
            return _first_order(tf.cast(d_loss, z.dtype) * slope, z), None

        loss = _run(lambda a, b: loss_of_arrays(a, b, **options), tf.TensorShape([]), wide, z, t)
        return loss, gradient

    return function(tensor, tf.convert_to_tensor(target))


def _map(forward: Callable[..., Any], backward: Callable[..., Any], x: Any, axis: Any) -> Any:
    tensor, along = _read(x, axis)

    @tf.custom_gradient
    def function(z: Any) -> Any:
        y = _run(lambda a: forward(a, along), z.shape, z.dtype, z)

        def gradient(dy: Any) -> Any:
            dx = _run(lambda a, b: backward(a, b, along), z.shape, z.dtype, dy, y)
            return _first_order(dx, z)

        return y, gradient

    return function(tensor)


def _read(x: Any, axis: SupportsIndex) -> tuple[Any, int]:
    tensor = tf.convert_to_tensor(x)
    if tensor.dtype not in (tf.float16, tf.float32, tf.float64, tf.bfloat16):
        raise TypeError(
            f"x must be float16, float32, float64 or bfloat16, got dtype {tensor.dtype.name}"
        )
    if tensor.shape.rank is None:
        raise ValueError("the number of axes of x must be known")
    return tensor, class_axis(axis, tensor.shape.rank)


def _run(function: Callable[..., Any], shape: Any, dtype: Any, *operands: Any) -> Any:
    """Return a function of NumPy arrays of tensors."""
    if all(hasattr(operand, "numpy") for operand in operands):
        arrays = (operand.numpy() for operand in operands)
        return tf.convert_to_tensor(function(*arrays), dtype)
    result = tf.numpy_function(function, operands, dtype)
    result.set_shape(shape)
    return result


@tf.custom_gradient
def _first_order(gradient: Any, x: Any) -> Any:
    """Return the gradient by x; to differentiate it again is an error, where it would be None."""

    def refuse(_: Any) -> Any:
        raise NotImplementedError("boltzmax.tensorflow has no derivatives of gradients")

    return gradient, refuse


show_in(globals())
