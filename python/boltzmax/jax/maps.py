"""Functions of rows: softmax, its logarithm, logsumexp, and sparse maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp

from boltzmax._lib.arguments import class_axis
from boltzmax._lib.shared_docs import complete
from boltzmax.jax.handlers import call, like
from boltzmax.jax.linear import Linear

DTYPES = ("float16", "float32", "float64", "bfloat16")


def softmax(x: Any, axis: SupportsIndex = -1, *, where: Any = None) -> jax.Array:
    """Softmax along an axis: exp(x) / sum(exp(x)).

    {parameters}

    Returns
    -------
    jax.Array
        Of the shape and dtype of `x`; 0 where masked.

    {raises}

    Examples
    --------
    >>> import boltzmax.jax, jax
    >>> boltzmax.jax.softmax([0.0, 0.0]).tolist()
    [0.5, 0.5]
    >>> jax.jacobian(boltzmax.jax.softmax)(jax.numpy.zeros(2)).tolist()
    [[0.25, -0.25], [-0.25, 0.25]]
    """
    return _map(_softmax, x, axis, where)


def log_softmax(x: Any, axis: SupportsIndex = -1, *, where: Any = None) -> jax.Array:
    """Logarithm of the softmax along an axis: x - log(sum(exp(x))).

    {parameters}

    Returns
    -------
    jax.Array
        Of the shape and dtype of `x`; -inf where masked.

    {raises}

    Examples
    --------
    >>> import boltzmax.jax
    >>> [round(v, 3) for v in boltzmax.jax.log_softmax([0.0, 0.0]).tolist()]
    [-0.693, -0.693]
    """
    return _map(_log_softmax, x, axis, where)


def logsumexp(
    x: Any, axis: SupportsIndex = -1, *, where: Any = None, keepdims: bool = False
) -> jax.Array:
    """Logarithm of the sum of exponentials along an axis.

    {parameters}
    keepdims : bool, default False
        Keep the axis, with size 1.

    Returns
    -------
    jax.Array
        Of the shape of `x` without the axis.

    {raises}

    Examples
    --------
    >>> import boltzmax.jax
    >>> round(float(boltzmax.jax.logsumexp([0.0, 0.0])), 3)
    0.693
    """
    rows, along = read_rows(x, axis, where)
    result = _logsumexp(rows)
    return jnp.expand_dims(result, along) if keepdims else result


def sparsemax(x: Any, axis: SupportsIndex = -1, *, where: Any = None) -> jax.Array:
    """Sparsemax along an axis: the nearest probabilities, with exact zeros.

    {parameters}

    Returns
    -------
    jax.Array
        Of the shape and dtype of `x`; 0 where masked.

    {raises}

    See Also
    --------
    boltzmax.sparsemax : the same on NumPy arrays, with references.

    Examples
    --------
    >>> import boltzmax.jax
    >>> boltzmax.jax.sparsemax([3.0, 2.5, 1.0]).tolist()
    [0.75, 0.25, 0.0]
    """
    return _map(_sparsemax, x, axis, where)


def entmax15(x: Any, axis: SupportsIndex = -1, *, where: Any = None) -> jax.Array:
    """1.5-entmax along an axis: between softmax and sparsemax, with exact zeros.

    {parameters}

    Returns
    -------
    jax.Array
        Of the shape and dtype of `x`; 0 where masked.

    {raises}

    See Also
    --------
    boltzmax.entmax15 : the same on NumPy arrays, with references.

    Examples
    --------
    >>> import boltzmax.jax
    >>> [round(v, 3) for v in boltzmax.jax.entmax15([3.0, 2.5, 1.0]).tolist()]
    [0.674, 0.326, 0.0]
    """
    return _map(_entmax15, x, axis, where)


def read_rows(
    x: Any, axis: SupportsIndex, where: Any = None, name: str = "x"
) -> tuple[jax.Array, int]:
    """Return an array with the given axis last, and the axis; masked elements are -inf."""
    array = jnp.asarray(x)
    if jnp.issubdtype(array.dtype, jnp.integer) or array.dtype == bool:
        array = array.astype(float)
    if array.dtype.name not in DTYPES:
        raise TypeError(
            f"{name} must be {', '.join(DTYPES)} or integers, got dtype {array.dtype.name}"
        )
    if array.ndim == 0:
        raise ValueError(f"{name} must have an axis, got a number")
    along = class_axis(axis, array.ndim)
    if where is not None:
        mask = jnp.asarray(where)
        if mask.dtype != bool:
            raise TypeError(f"where must be an array of bool, got dtype {mask.dtype.name}")
        try:
            mask = jnp.broadcast_to(mask, array.shape)
        except ValueError:
            raise ValueError(
                f"where of shape {mask.shape} does not broadcast to {name} of shape {array.shape}"
            ) from None
        array = jnp.where(mask, array, -jnp.inf)
    return array if along == array.ndim - 1 else jnp.moveaxis(array, along, -1), along


def _map(function: Callable[[Any], Any], x: Any, axis: SupportsIndex, where: Any) -> jax.Array:
    rows, along = read_rows(x, axis, where)
    y = function(rows)
    return y if along == y.ndim - 1 else jnp.moveaxis(y, -1, along)


def _kernel(name: str) -> Callable[..., Any]:
    """Return a kernel of operands of one shape, whose result has it too."""
    return lambda *operands: call(name, like(operands[0]), *operands)


def _map_of_rows(name: str, derivative: Linear) -> Callable[[Any], Any]:
    """Return a map of rows whose derivative is a linear map with the result as residual."""

    def derive(primals: Any, tangents: Any) -> Any:
        y = function(*primals)
        return y, derivative(*tangents, y)

    function = jax.custom_jvp(lambda x: call(name, like(x), x))
    function.defjvp(derive)
    compiled: Callable[[Any], Any] = jax.jit(function)
    return compiled


def _mean(t: Any, weight: Any) -> Any:
    return (t * weight).sum(-1, keepdims=True)


def _softmax_formula(t: Any, y: Any) -> Any:
    return y * (t - _mean(t, y))


def _log_softmax_formula(t: Any, y: Any) -> Any:
    return t - _mean(t, jnp.exp(y))


def _sparsemax_formula(t: Any, y: Any) -> Any:
    support = (y > 0).astype(t.dtype)
    return support * (t - _mean(t, support) / support.sum(-1, keepdims=True))


def _entmax15_formula(t: Any, y: Any) -> Any:
    root = jnp.where(y > 0, jnp.sqrt(jnp.where(y > 0, y, 1)), 0)
    return root * (t - _mean(t, root) / root.sum(-1, keepdims=True))


def _symmetric(name: str, formula: Callable[..., Any]) -> Linear:
    """Return a map that is its own transpose."""
    kernel = _kernel(f"{name}_backward")
    return Linear(formula, transposed=kernel, forward=kernel)


softmax_derivative = _symmetric("softmax", _softmax_formula)
_softmax = _map_of_rows("softmax", softmax_derivative)
_sparsemax = _map_of_rows("sparsemax", _symmetric("sparsemax", _sparsemax_formula))
_entmax15 = _map_of_rows("entmax15", _symmetric("entmax15", _entmax15_formula))
_log_softmax = _map_of_rows(
    "log_softmax", Linear(_log_softmax_formula, transposed=_kernel("log_softmax_backward"))
)


def _logsumexp_of_rows() -> Callable[[Any], Any]:
    def derive(primals: Any, tangents: Any) -> Any:
        (x,), (t,) = primals, tangents
        return lse(x), (t * _softmax(x)).sum(-1)

    lse = jax.custom_jvp(
        lambda x: call("logsumexp", jax.ShapeDtypeStruct(x.shape[:-1], x.dtype), x)
    )
    lse.defjvp(derive)
    compiled: Callable[[Any], Any] = jax.jit(lse)
    return compiled


_logsumexp = _logsumexp_of_rows()


complete(
    {
        "parameters": """
Parameters
----------
x : array_like
    float32, float64, float16 or bfloat16; integers become JAX's default float.
axis : int, default -1
    The axis. On others than the last, XLA transposes the array.
where : array_like of bool, optional
    Broadcasts to `x`. False leaves an element out.
""",
        "raises": """
Raises
------
TypeError
    For another dtype.
ValueError
    If `x` has no axis, or not this one, or the mask does not fit.
""",
    },
    softmax,
    log_softmax,
    logsumexp,
    sparsemax,
    entmax15,
)
