"""Softmax, its relatives and cross-entropy as functions of JAX, on CPUs.

They are foreign functions of XLA (`jax.ffi`), so they work in `jax.jit`, and have the rules for
`jax.grad`, `jax.jvp`, `jax.vmap` and all that is made of these, such as `jax.hessian`. Arrays are
neither copied nor moved to NumPy.

They need JAX 0.5 or later: ``pip install "boltzmax[jax]"``.

- `gumbel`: softmax with Gumbel noise
- `handlers`: registers the foreign functions, and calls them
- `linear`: linear maps, whose transposes are kernels
- `losses`: cross-entropy
- `maps`: functions of rows
"""

from __future__ import annotations

from boltzmax._lib.public import show_in

try:
    from boltzmax.jax.gumbel import gumbel_softmax
    from boltzmax.jax.losses import cross_entropy
    from boltzmax.jax.maps import entmax15, log_softmax, logsumexp, softmax, sparsemax
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("jax", "jaxlib"):
        raise
    raise ImportError(
        'boltzmax.jax needs JAX, 0.5 or later: pip install "boltzmax[jax]"', name=error.name
    ) from error

__all__ = [
    "cross_entropy",
    "entmax15",
    "gumbel_softmax",
    "log_softmax",
    "logsumexp",
    "softmax",
    "sparsemax",
]

show_in(globals())
