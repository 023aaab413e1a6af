"""Softmax with Gumbel noise along the last axis, on the backend that Keras has chosen."""

from __future__ import annotations

from typing import Any, Protocol

import keras


class Backend(Protocol):
    """What the layer needs of a backend. All rows are along the last axis."""

    def softmax(self, x: Any) -> Any:
        """Return the softmax of rows."""

    def gumbel_softmax(self, x: Any, words: Any, temperature: Any, hard: bool) -> Any:
        """Return softmax((x + noise) / temperature), or one-hot vectors.

        The derivative is that of the soft result. `words` are two words of 32 bits: the key.
        """


def backend() -> Backend:
    """Return the functions of the backend in use."""
    name = keras.backend.backend()
    if name == "jax":
        return _Jax()
    if name == "torch":
        return _Torch()
    raise ImportError(
        f"boltzmax.keras runs on the backends 'jax' and 'torch', but Keras has {name!r}: set "
        "KERAS_BACKEND before Keras is imported"
    )


class _Jax:
    def __init__(self) -> None:
        from boltzmax.jax import gumbel, maps  # noqa: F401 (an ImportError comes now)

    def softmax(self, x: Any) -> Any:
        from boltzmax.jax.maps import softmax

        return softmax(x)

    def gumbel_softmax(self, x: Any, words: Any, temperature: Any, hard: bool) -> Any:
        from boltzmax.jax.gumbel import gumbel_rows

        return gumbel_rows(hard)(x, words, temperature)


class _Torch:
    def softmax(self, x: Any) -> Any:
        from boltzmax.keras.on_torch import softmax

        return softmax(x)

    def gumbel_softmax(self, x: Any, words: Any, temperature: Any, hard: bool) -> Any:
        from boltzmax.keras.on_torch import gumbel_softmax

        key = (int(words[0]) << 32) + int(words[1])
        return gumbel_softmax(x, key, float(temperature), hard)
