"""The layer."""

from __future__ import annotations

from typing import Any

import keras

from boltzmax._lib.arguments import as_flag, as_integer, check_count, check_temperature
from boltzmax.keras.backends import backend


@keras.saving.register_keras_serializable(package="boltzmax")
class GumbelSoftmax(keras.layers.Layer):
    """Softmax with Gumbel noise: softmax((logits + g) / temperature).

    In training, every call draws new noise. In inference there is none: the result is
    softmax(logits / temperature), or with `hard` 1 at the largest logit.

    Parameters
    ----------
    num_classes : int, optional
        The number of classes that the input must have on `axis`; None for any.
    temperature : float, default 1.0
        From 1e-30 to 1e30. The attribute `temperature` may be changed between training steps,
        without another compilation; it is saved with the weights, and not trained.
    hard : bool, default False
        Return one-hot vectors in training, too; the gradient is that of the soft result (the
        straight-through estimator).
    axis : int, default -1
        The class axis.
    seed : int, optional
        From 0 to 2^32 - 1. Layers with the same seed draw the same noise, call after call, on both
        backends.
    **kwargs
        As for every layer of Keras: `name`, `dtype`.

    Attributes
    ----------
    temperature : float
        As above.

    Raises
    ------
    TypeError, ValueError
        If an argument, or the input's number of classes, does not fit.
    ImportError
        On another backend than JAX and PyTorch.

    See Also
    --------
    boltzmax.gumbel_softmax : the function, with references.

    Examples
    --------
    >>> import boltzmax.keras, numpy
    >>> layer = boltzmax.keras.GumbelSoftmax(3, temperature=0.5, seed=1)
    >>> y = layer(numpy.zeros((2, 3), "float32"), training=True)
    >>> tuple(y.shape)
    (2, 3)
    >>> layer.temperature = 0.25
    >>> layer.get_config()["temperature"]
    0.25
    """

    def __init__(
        self,
        num_classes: int | None = None,
        temperature: float = 1.0,
        hard: bool = False,
        axis: int = -1,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._backend = backend()
        self.num_classes = num_classes
        if num_classes is not None:
            self.num_classes = check_count(num_classes, "num_classes", 1)
        self.hard, self.axis = as_flag(hard, "hard"), as_integer(axis, "axis")
        self.seed = None if seed is None else check_count(seed, "seed", 0, 2**32 - 1)
        self.seed_generator = keras.random.SeedGenerator(self.seed)
        self._temperature = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(check_temperature(temperature)),
            trainable=False,
            autocast=False,  # a temperature of 16 bits would be another one
            dtype="float32",
            name="temperature",
        )
        self.supports_masking = True

    @property
    def temperature(self) -> float:
        """The temperature of the next call."""
        # As short as it was written, not as float32 has it.
        return float(str(keras.ops.convert_to_numpy(self._temperature.value)))

    @temperature.setter
    def temperature(self, value: float) -> None:
        self._temperature.assign(check_temperature(value))

    def build(self, input_shape: Any) -> None:
        """Check the number of classes."""
        self._check_classes(input_shape)
        self.built = True

    def _check_classes(self, input_shape: Any) -> None:
        shape = tuple(input_shape)
        if not -len(shape) <= self.axis < len(shape):
            raise ValueError(f"the input has shape {shape}, but the class axis is {self.axis}")
        if self.num_classes is not None and shape[self.axis] != self.num_classes:
            raise ValueError(
                f"the input must have {self.num_classes} classes on axis {self.axis}, got shape "
                f"{shape}"
            )

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the probabilities, or one-hot vectors."""
        self._check_classes(inputs.shape)  # of other inputs than the one that built the layer, too
        logits = keras.ops.moveaxis(inputs, self.axis, -1)
        if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(logits.dtype)):
            logits = keras.ops.cast(logits, self.compute_dtype)
        if training:
            words, temperature = self.seed_generator.next(), self._temperature.value
            y = self._backend.gumbel_softmax(logits, words, temperature, self.hard)
        elif self.hard:
            top = keras.ops.max(logits, -1, keepdims=True)
            y = keras.ops.one_hot(
                keras.ops.argmax(logits, -1), logits.shape[-1], dtype=logits.dtype
            )
            y = y + (top - top)  # NaN in rows without probabilities, as in training
        else:
            # In 16 bits, a small temperature would be 0, and quotients inf.
            wide = keras.backend.result_type(
                keras.backend.standardize_dtype(logits.dtype), "float32"
            )
            temperature = keras.ops.cast(self._temperature.value, wide)
            y = self._backend.softmax(keras.ops.cast(logits, wide) / temperature)
            y = keras.ops.cast(y, logits.dtype)
        return keras.ops.moveaxis(y, -1, self.axis)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of a layer like this one."""
        own = {
            "num_classes": self.num_classes,
            "temperature": self.temperature,
            "hard": self.hard,
            "axis": self.axis,
            "seed": self.seed,
        }
        return {**super().get_config(), **own}
