"""A Keras layer: softmax with Gumbel noise, on the JAX and PyTorch backends.

It needs Keras 3 and the backend that ``KERAS_BACKEND`` names: ``pip install "boltzmax[keras]"`` and
JAX or PyTorch.

- `backends`: the layer's computation on each backend
- `gumbel`: the layer
- `on_torch`: functions of CPU tensors
"""

from __future__ import annotations

from boltzmax._lib.public import show_in

try:
    from boltzmax.keras.gumbel import GumbelSoftmax
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("keras", "jax", "jaxlib", "torch"):
        raise
    raise ImportError(
        "boltzmax.keras needs Keras 3 with its JAX or PyTorch backend: "
        'pip install "boltzmax[keras]"',
        name=error.name,
    ) from error

__all__ = ["GumbelSoftmax"]

show_in(globals())
