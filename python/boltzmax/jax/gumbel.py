"""Softmax with Gumbel noise."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np

from boltzmax._lib.arguments import as_flag, check_temperature
from boltzmax.jax.handlers import call, like
from boltzmax.jax.maps import read_rows, softmax_derivative


def gumbel_softmax(
    key: Any,
    logits: Any,
    axis: SupportsIndex = -1,
    *,
    temperature: Any = 1.0,
    hard: bool = False,
    where: Any = None,
) -> jax.Array:
    """Softmax of scores with Gumbel noise: softmax((logits + g) / temperature).

    Parameters
    ----------
    key : jax.Array
        A key of `jax.random`. The same key gives the same noise.
    logits : array_like
        float32, float64, float16 or bfloat16; integers become JAX's default float.
    axis : int, default -1
        The class axis.
    temperature : float or jax.Array, default 1.0
        From 1e-30 to 1e30; an array has no axes. It may change from call to call of a compiled
        program, and counts as a constant in derivatives.
    hard : bool, default False
        Return 1 at the largest perturbed score and 0 elsewhere. Derivatives are those of the soft
        result: the straight-through estimator.
    where : array_like of bool, optional
        Broadcasts to `logits`. False leaves an element out.

    Returns
    -------
    jax.Array
        Of the shape and dtype of `logits`.

    Raises
    ------
    TypeError, ValueError
        For dtypes, shapes and options that do not fit.
    jax.errors.JaxRuntimeError
        For a temperature of a compiled program out of range, when it runs.

    See Also
    --------
    boltzmax.gumbel_softmax : the same on NumPy arrays, with references.

    Examples
    --------
    >>> import boltzmax.jax, jax
    >>> key = jax.random.key(7)
    >>> y = boltzmax.jax.gumbel_softmax(key, [1.0, 2.0, 3.0], temperature=0.5)
    >>> round(float(y.sum()), 5)
    1.0
    >>> float(boltzmax.jax.gumbel_softmax(key, [1.0, 2.0, 3.0], hard=True).sum())
    1.0
    """
    rows, along = read_rows(logits, axis, where, name="logits")
    if not isinstance(temperature, jax.Array):
        temperature = check_temperature(temperature)
    warmth = jnp.asarray(temperature, float)
    if warmth.ndim:
        raise ValueError(f"temperature must be one number, got shape {warmth.shape}")
    words = jax.random.bits(key, (2,), jnp.uint32)
    y = gumbel_rows(as_flag(hard, "hard"))(rows, words, warmth)
    return y if along == y.ndim - 1 else jnp.moveaxis(y, -1, along)


@cache
def gumbel_rows(hard: bool) -> Callable[..., Any]:
    """Return the function of rows, two words of a key and a temperature, with its derivative.

    The words are the key ``words[0] * 2**32 + words[1]`` of `boltzmax.gumbel_softmax`.
    """

    def primal(x: Any, words: Any, temperature: Any) -> Any:
        return call("gumbel_softmax", like(x), x, words, temperature, hard=np.int64(hard))

    def derive(primals: Any, tangents: Any) -> Any:
        y = function(*primals)
        soft = gumbel_rows(False)(*primals) if hard else y
        slope = softmax_derivative(tangents[0], soft)
        return y, (slope / primals[2]).astype(slope.dtype)

    function = jax.custom_jvp(primal)
    function.defjvp(derive)
    compiled: Callable[..., Any] = jax.jit(function)
    return compiled
