"""Cross-entropy of logits."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np

from boltzmax._lib.arguments import as_integer, axis_with_classes
from boltzmax._lib.numbers import check_label_smoothing
from boltzmax._lib.targets import check_shape_of_targets
from boltzmax.jax.handlers import call, like
from boltzmax.jax.linear import Linear
from boltzmax.jax.maps import read_rows
from boltzmax.losses.reduction import checked_reduction


def cross_entropy(
    logits: Any,
    target: Any,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    axis: SupportsIndex = -1,
) -> jax.Array:
    """Cross-entropy of the softmax of logits: -log p[target], averaged.

    With e the label smoothing and K the number of classes, the loss of a row with the target t is
    (1 - e) (lse - z_t) + e/K sum_c (lse - z_c).

    Parameters
    ----------
    logits : array_like, shape (..., K)
        float32, float64, float16 or bfloat16; integers become JAX's default float.
    target : array_like of int, shape (...)
        A class for each row.
    ignore_index : int, default -100
        Rows with this target are left out: their loss and gradient are 0.
    label_smoothing : float, default 0.0
        From 0 to 1.
    reduction : {"mean", "sum", "none"}
        "mean" divides by the number of rows that are not left out.
    axis : int, default -1
        The class axis.

    Returns
    -------
    jax.Array
        One number, or for "none" one for each row: float64 if the logits are, else float32.

    Raises
    ------
    TypeError, ValueError
        For dtypes, shapes and options that do not fit.
    jax.errors.JaxRuntimeError
        For a target out of range, when the call runs; it names the first.

    See Also
    --------
    boltzmax.cross_entropy : the same on NumPy arrays, with weights and more options.

    Examples
    --------
    >>> import boltzmax.jax, jax
    >>> loss = boltzmax.jax.cross_entropy([[2.0, 0.0], [0.0, 0.0]], jax.numpy.array([0, 1]))
    >>> round(float(loss), 4)
    0.41
    >>> jax.grad(boltzmax.jax.cross_entropy)(jax.numpy.zeros(2), 0).tolist()
    [-0.5, 0.5]
    """
    name = checked_reduction(reduction)
    ignored = as_integer(ignore_index, "ignore_index")
    smoothing = check_label_smoothing(label_smoothing)
    rows, _ = read_rows(logits, axis, name="logits")
    axis_with_classes(rows.shape, -1, "logits")
    labels = _as_jax(target)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(
            f"target must be integers of shape {rows.shape[:-1]}, got {labels.dtype.name} of shape "
            f"{labels.shape}"
        )
    check_shape_of_targets(labels.shape, rows.shape[:-1])
    if labels.dtype not in (np.int32, np.int64):
        wide = np.dtype(np.int32) if labels.dtype.itemsize < 4 else jnp.zeros(0, int).dtype
        # uint32 or uint64 must not become negative, such as ignore_index, but stay out of range.
        most = min(jnp.iinfo(wide).max, jnp.iinfo(labels.dtype).max)
        labels = jnp.minimum(labels, labels.dtype.type(most)).astype(wide)
    losses = _losses(ignored, smoothing)(rows, labels)
    if name == "none":
        return losses
    return losses.sum() if name == "sum" else losses.sum() / _counted(labels, ignored).sum()


def _as_jax(target: Any) -> jax.Array:
    """Return an array of JAX. Without 64 bits, JAX would keep the low 32 of an integer."""
    is_wide = isinstance(target, np.ndarray) and target.dtype.kind in "iu"
    if is_wide and target.dtype.itemsize == 8 and not jax.config.jax_enable_x64:
        limits = np.iinfo(np.int32)
        target = target.clip(limits.min, limits.max).astype(np.int32)
    return jnp.asarray(target)


def _counted(labels: Any, ignored: int) -> Any:
    """Return which rows are not left out."""
    limits = jnp.iinfo(labels.dtype)
    if not limits.min <= ignored <= limits.max:
        return jnp.ones(labels.shape, bool)
    return labels != ignored


def _loss_dtype(logits: Any) -> Any:
    return jnp.promote_types(logits.dtype, jnp.float32)


@cache
def _losses(ignored: int, smoothing: float) -> Callable[..., Any]:
    """Return the function of rows of logits and their targets, with its derivative."""
    attributes = {"ignore_index": np.int64(ignored), "label_smoothing": np.float64(smoothing)}

    def formula(t: Any, logits: Any, target: Any) -> Any:
        """Return the sum of the tangents of a row times p - (1 - e) [c = target] - e/K."""
        wide = _loss_dtype(logits)
        classes = logits.shape[-1]
        hard = jax.nn.one_hot(target, classes, dtype=wide)
        slope = jax.nn.softmax(logits.astype(wide)) - (1 - smoothing) * hard - smoothing / classes
        slope = jnp.where(_counted(target, ignored)[..., None], slope, 0)
        return (slope * t.astype(wide)).sum(-1)

    def gradient(d_loss: Any, logits: Any, target: Any) -> Any:
        operands = (logits, target, d_loss)
        return call("cross_entropy_backward", like(logits), *operands, **attributes)

    def forward(t: Any, logits: Any, target: Any) -> Any:
        wide = _loss_dtype(logits)
        slope = gradient(jnp.ones(target.shape, wide), logits, target)
        return (slope.astype(wide) * t.astype(wide)).sum(-1)

    derivative = Linear(formula, transposed=gradient, forward=forward)

    def primal(logits: Any, target: Any) -> Any:
        result = jax.ShapeDtypeStruct(target.shape, _loss_dtype(logits))
        return call("cross_entropy", result, logits, target, **attributes)

    def derive(primals: Any, tangents: Any) -> Any:
        return losses(*primals), derivative(tangents[0], *primals)

    losses = jax.custom_jvp(primal)
    losses.defjvp(derive)
    compiled: Callable[..., Any] = jax.jit(losses)
    return compiled
