"""Linear maps as a primitive of JAX, of which kernels compute the map or its transpose.

A derivative is a linear map of the tangent t, with residuals r: t -> L(r) t. Forward mode needs L,
reverse mode its transpose. `jax.custom_vjp` would give only the latter, and
`jax.custom_derivatives.linear_call` cannot be batched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


@dataclass(frozen=True)
class Linear:
    """A map that is linear in its first argument; the others are residuals.

    All functions take any number of leading axes, the same for all arguments.

    Attributes
    ----------
    formula : callable
        The map in terms of `jax.numpy`, for derivatives by the residuals.
    transposed : callable
        The transposed map, with the same residuals.
    forward : callable, optional
        The map itself, if there is something better than the formula.
    """

    formula: Callable[..., Any]
    transposed: Callable[..., Any]
    forward: Callable[..., Any] | None = None

    def __call__(self, t: Any, *residuals: Any) -> Any:
        """Apply the map."""
        return _linear.bind(t, *residuals, rule=self, like=None)

    def run(self, t: Any, residuals: Any, like: Any) -> Any:
        """Compute the map; with `like`, the shape and dtype of its argument, the transpose."""
        if like is not None:
            return self.transposed(t, *residuals)
        return (self.forward or self.formula)(t, *residuals)

    def differentiable(self, t: Any, residuals: Any, like: Any) -> Any:
        """Compute the same by the formula."""
        if like is None:
            return self.formula(t, *residuals)
        argument = jax.ShapeDtypeStruct((*t.shape[: len(residuals[0].shape) - len(like[0])],
                                         *like[0]), like[1])  # fmt: skip
        return jax.linear_transpose(lambda u: self.formula(u, *residuals), argument)(t)[0]


_linear = Primitive("boltzmax_linear")


def _run(t: Any, *residuals: Any, rule: Linear, like: Any) -> Any:
    return rule.run(t, residuals, like)


def _abstract(t: Any, *residuals: Any, rule: Linear, like: Any) -> Any:
    out = jax.eval_shape(lambda *a: rule.differentiable(a[0], a[1:], like), t, *residuals)
    return jax.core.ShapedArray(out.shape, out.dtype)


_linear.def_abstract_eval(_abstract)
_linear.def_impl(jax.jit(_run, static_argnames=("rule", "like")))
mlir.register_lowering(_linear, mlir.lower_fun(_run, multiple_results=False))


def _jvp(primals: Any, tangents: Any, *, rule: Linear, like: Any) -> Any:
    t, *residuals = primals
    dt, *moves = tangents
    out = _linear.bind(t, *residuals, rule=rule, like=like)
    parts = []
    if type(dt) is not ad.Zero:
        parts.append(_linear.bind(dt, *residuals, rule=rule, like=like))
    moving = [i for i, move in enumerate(moves) if type(move) is not ad.Zero]
    moving = [i for i in moving if jnp.issubdtype(residuals[i].dtype, jnp.floating)]
    if moving:

        def of_moving(*values: Any) -> Any:
            moved = list(residuals)
            for i, value in zip(moving, values, strict=True):
                moved[i] = value
            return rule.differentiable(t, moved, like)

        at, along = [residuals[i] for i in moving], [moves[i] for i in moving]
        parts.append(jax.jvp(of_moving, at, along)[1])
    return out, sum(parts[1:], parts[0]) if parts else jnp.zeros_like(out)


def _transpose(ct: Any, t: Any, *residuals: Any, rule: Linear, like: Any) -> Any:
    none = [None] * len(residuals)
    if type(ct) is ad.Zero:
        return [ad.Zero(t.aval), *none]
    back = (t.aval.shape, t.aval.dtype) if like is None else None
    return [_linear.bind(ct, *residuals, rule=rule, like=back), *none]


def _batch(operands: Any, axes: Any, *, rule: Linear, like: Any) -> Any:
    size = next(x.shape[d] for x, d in zip(operands, axes, strict=True) if d is not None)
    moved = [
        jnp.broadcast_to(x, (size, *x.shape)) if d is None else jnp.moveaxis(x, d, 0)
        for x, d in zip(operands, axes, strict=True)
    ]
    wide = None if like is None else ((size, *like[0]), like[1])
    return _linear.bind(*moved, rule=rule, like=wide), 0


# By name, since the documentation's stand-in for JAX takes no assignment.
ad.primitive_jvps.__setitem__(_linear, _jvp)
ad.primitive_transposes.__setitem__(_linear, _transpose)
batching.primitive_batchers.__setitem__(_linear, _batch)
