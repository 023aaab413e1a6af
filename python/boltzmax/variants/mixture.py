"""Mixtures of softmaxes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import (
    as_input,
    checked_out,
    is_real,
    quietly,
    working_dtype,
)
from boltzmax._lib.numbers import gradient_dtype
from boltzmax._lib.same_kind import same_kind

Array = NDArray[Any]


@same_kind
@quietly
def mixture_log_softmax(
    logits: ArrayLike,
    mixture_logits: ArrayLike,
    *,
    dtype: DTypeLike | None = None,
    out: Array | None = None,
) -> Any:
    r"""Return the log-probabilities of a mixture of softmaxes.

    .. math::

        y_k = \log \sum_m \pi_m \, \mathrm{softmax}(z_m)_k, \quad \pi = \mathrm{softmax}(a)

    Parameters
    ----------
    logits : array_like
        z, of shape (..., M, K): M components over K classes.
    mixture_logits : array_like
        a, of shape (..., M): the logits of the components' weights.
    dtype : dtype, optional
        The dtype to compute in and return. By default that of `logits`, and float64 for integers.
    out : ndarray, optional
        Receives the result.

    Returns
    -------
    ndarray
        Of shape (..., K). Components whose weight is 0 (-inf) do not count, whatever their logits.
        Other components without probabilities (see `boltzmax.log_softmax`) make everything NaN.
        longdouble is computed in double.

    Raises
    ------
    ValueError
        If the shapes do not match, or if there is no component.
    TypeError
        For dtypes, as for `boltzmax.log_softmax`.

    See Also
    --------
    mixture_log_softmax_backward : its gradients

    Notes
    -----
    A mixture of softmaxes has logits of a higher rank than the hidden layer that they come from
    (Yang, Dai, Salakhutdinov & Cohen, ICLR 2018). The M K probabilities are never stored. Max
    error 2 ULP of the larger of the result and 1; for float64, and of the logits.

    Examples
    --------
    >>> import numpy as np
    >>> import boltzmax
    >>> y = boltzmax.mixture_log_softmax([[0.0, 0.0], [0.0, 1000.0]], [0.0, 0.0])
    >>> np.exp(y)
    array([0.25, 0.75])
    """
    z, a = _read_mixture(logits, mixture_logits)
    working = working_dtype(z, dtype, "mixture_log_softmax")
    shape = z.shape[:-2] + z.shape[-1:]
    target = None if out is None else checked_out(out, shape, working)
    computed = np.dtype(np.float64) if working.char == "g" else working
    flat = np.require(z, computed, ["C", "A"]).reshape(_flat_shape(z))
    if computed == np.float64:
        flat = _from_maxima(flat)
    y = np.empty((flat.shape[0], flat.shape[2]), computed)
    log_weights = _core.log_softmax(a.astype(np.float64)).reshape(flat.shape[:2])
    _core.run_mixture(flat, np.require(log_weights, requirements=["C", "A"]), y)
    result = y.reshape(shape).astype(working, copy=False)
    if target is None:
        return result
    target[...] = result
    return out


@same_kind
@quietly
def mixture_log_softmax_backward(
    dy: ArrayLike, logits: ArrayLike, mixture_logits: ArrayLike
) -> tuple[Array, Array]:
    r"""Return the gradients of `mixture_log_softmax` by its logits and by those of the weights.

    With the responsibility :math:`r_{mk} = \pi_m \, \mathrm{softmax}(z_m)_k / \exp(y_k)`,

    .. math::

        dz_{mk} = r_{mk} dy_k - \mathrm{softmax}(z_m)_k \sum_j r_{mj} dy_j, \quad
        da_m = \sum_k r_{mk} dy_k - \pi_m \sum_k dy_k

    Parameters
    ----------
    dy : array_like
        The gradient by the result, of shape (..., K).
    logits, mixture_logits : array_like
        As in the forward call.

    Returns
    -------
    d_logits : ndarray
        Of the shape of `logits`, in the common dtype of `dy` and `logits`.
    d_mixture_logits : ndarray
        Of the shape of `mixture_logits`, in the same dtype. Both are computed in double, component
        by component.

    Raises
    ------
    TypeError, ValueError
        As for `mixture_log_softmax`; and if `dy` has another shape than the result.

    Examples
    --------
    >>> import boltzmax
    >>> dz, da = boltzmax.mixture_log_softmax_backward(
    ...     [1.0, 0.0], [[0.0, 0.0], [0.0, 0.0]], [0.0, 0.0]
    ... )
    >>> dz
    array([[ 0.25, -0.25],
           [ 0.25, -0.25]])
    >>> da
    array([0., 0.])
    """
    z, a = _read_mixture(logits, mixture_logits)
    gradient = as_input(dy, "dy", "pass its data")
    dtype = gradient_dtype("mixture_log_softmax_backward", gradient, z, "logits")
    shape = z.shape[:-2] + z.shape[-1:]
    if gradient.shape != shape:
        raise ValueError(f"dy has shape {gradient.shape}, but the result has shape {shape}")
    log_weights = np.asarray(_core.log_softmax(a.astype(np.float64)))
    y = mixture_log_softmax(z, a, dtype=np.float64)
    wide_dy = np.where(y == -np.inf, 0.0, gradient)  # such classes depend on nothing
    dz, da = np.empty(z.shape, dtype), np.empty(a.shape, np.float64)
    for m in range(a.shape[-1]):
        log_weight = log_weights[..., m, np.newaxis]
        log_q = np.asarray(_core.log_softmax(z[..., m, :].astype(np.float64)))
        log_q = np.where(log_weight == -np.inf, -np.inf, log_q)
        shares = np.exp(np.where(log_q == -np.inf, log_q, log_weight + log_q - y)) * wide_dy
        da[..., m] = shares.sum(axis=-1)
        dz[..., m, :] = shares - np.exp(log_q) * da[..., m, np.newaxis]
    da -= np.exp(log_weights) * wide_dy.sum(axis=-1, keepdims=True)
    return dz, da.astype(dtype)


def _from_maxima(z: Array) -> Array:
    """Return logits of components, less their maxima where these are large."""
    maxima = z.max(axis=-1, keepdims=True, initial=-np.inf)
    far = np.isfinite(maxima) & (np.abs(maxima) > 2.0**10)
    return z - np.where(far, maxima, 0.0) if far.any() else z


def _read_mixture(logits: ArrayLike, mixture_logits: ArrayLike) -> tuple[Array, Array]:
    advice = "pass its data, and -inf at the mask"
    z = as_input(logits, "logits", advice)
    a = as_input(mixture_logits, "mixture_logits", advice)
    if not is_real(a.dtype):
        raise TypeError(f"mixture_logits must be real numbers, got dtype {a.dtype}")
    if z.ndim < 2 or z.shape[-2] == 0:
        raise ValueError(f"logits must have shape (..., M, K) with M of at least 1, got {z.shape}")
    if a.shape != z.shape[:-1]:
        raise ValueError(
            f"mixture_logits has shape {a.shape}, but logits of shape {z.shape} need {z.shape[:-1]}"
        )
    return z, a


def _flat_shape(z: Array) -> tuple[int, int, int]:
    return (int(np.prod(z.shape[:-2], dtype=np.int64)), z.shape[-2], z.shape[-1])
