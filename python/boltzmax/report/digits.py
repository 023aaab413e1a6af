"""An over-trained classifier of handwritten digits: too sure of itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from boltzmax._lib.console import require
from boltzmax.losses.cross_entropy import cross_entropy_with_grad

Array = NDArray[Any]

_TRAINED_ON = 400  # images
_STEPS = 3000
_RATE = 20.0


def overtrained_digits() -> tuple[Array, Array]:
    """Return the logits and labels of images that a linear model was not trained on.

    It has learned few images by heart, and nothing keeps its weights small.
    """
    images, labels = require("sklearn.datasets").load_digits(return_X_y=True)
    images = images / 16
    order = np.random.default_rng(0).permutation(len(images))
    learned, rest = order[:_TRAINED_ON], order[_TRAINED_ON:]
    x, t = images[learned], labels[learned]
    weight, bias = np.zeros((images.shape[1], 10)), np.zeros(10)
    for _ in range(_STEPS):
        _, slope = cross_entropy_with_grad(x @ weight + bias, t)
        weight -= _RATE * (x.T @ slope)
        bias -= _RATE * slope.sum(axis=0)
    return images[rest] @ weight + bias, labels[rest]
