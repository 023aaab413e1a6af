"""The output layers, and helpers for the tests of all of them.

Layers listed in LAYERS are tested for the whole interface, those in DEVICE_LAYERS for the part that
a device supports. "toy" is not in the package: it shows how one is added.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import boltzmax.cuda
from boltzmax import AdaptiveSoftmax, HierarchicalSoftmax, LinearSoftmax, Tree
from boltzmax.margin import MarginSoftmax
from device import needs_device
from toy_layer import ToyLayer

Array = NDArray[Any]

V, D = 23, 7
COUNTS = np.random.default_rng(4).permutation(V) // 2  # some classes are equally frequent
HUFFMAN, FIVES = Tree.huffman(1 / np.arange(1, V + 1)), Tree.balanced(V, arity=5)


def filled(layer: Any) -> Any:
    """Give a layer biases that are all different, if it has any."""
    if layer.bias is not None:
        layer.bias[:] = np.random.default_rng(1).standard_normal(len(layer.bias))
        for tail in getattr(layer, "tails", ()):
            tail.bias[:] = np.random.default_rng(2).standard_normal(len(tail.bias))
    return layer


def on_device(tree: Tree) -> Callable[..., Any]:
    def make(**options: Any) -> Any:
        own = filled(HierarchicalSoftmax(tree, D, seed=0, **options))
        return boltzmax.cuda.HierarchicalSoftmax(tree, own.weight, own.bias)

    return make


def on_sphere(**fixed: Any) -> Callable[..., Any]:
    """A layer without margins: with them, `loss` is not that of `log_prob`. It has no bias."""

    def make(bias: bool = False, **options: Any) -> Any:
        if bias:
            pytest.skip("the layer has no bias")
        return MarginSoftmax(V, D, m2=0.0, scale=8.0, seed=0, **fixed, **options)

    return make


def adaptive(n_classes: int, n_features: int, **options: Any) -> AdaptiveSoftmax:
    """A layer with a tail, if there are enough classes."""
    return AdaptiveSoftmax(n_features, n_classes, [n_classes // 2] * (n_classes > 1), **options)


# How a public layer of so many classes and features is made, by its class.
MADE: dict[Any, Callable[..., Any]] = {
    AdaptiveSoftmax: adaptive,
    HierarchicalSoftmax: lambda n, d, **options: HierarchicalSoftmax(
        Tree.balanced(n), d, **options
    ),
    LinearSoftmax: LinearSoftmax,
}

LAYERS: dict[str, Callable[..., Any]] = {
    "huffman tree": lambda **options: filled(HierarchicalSoftmax(HUFFMAN, D, seed=0, **options)),
    "tree of fives": lambda **options: filled(HierarchicalSoftmax(FIVES, D, seed=0, **options)),
    "full": lambda **options: filled(LinearSoftmax(V, D, seed=0, **options)),
    "adaptive": lambda **options: filled(
        AdaptiveSoftmax(D, V, [5, 12], div_value=1.2, seed=0, **options)
    ),
    "adaptive, by counts": lambda **options: filled(
        AdaptiveSoftmax(D, V, [9], counts=COUNTS, div_value=2, seed=0, **options)
    ),
    "cosines": on_sphere(),
    "nearest centres": on_sphere(centers_per_class=3),
    "soft centres": on_sphere(centers_per_class=3, pooling="soft"),
    "toy": lambda **options: filled(ToyLayer(V, D, scale=0.7, seed=0, **options)),
}
DEVICE_LAYERS = {
    "huffman tree, device": on_device(HUFFMAN),
    "tree of fives, device": on_device(FIVES),
}
# The options with which a step takes all rows together, where that is not what it does by itself.
TOGETHER = {name: {"update": "batch"} for name in ("huffman tree", "tree of fives")}

all_layers = pytest.mark.parametrize(
    "make",
    [
        *(pytest.param(make, id=name) for name, make in LAYERS.items()),
        *(pytest.param(make, id=name, marks=needs_device) for name, make in DEVICE_LAYERS.items()),
    ],
)
own_layers = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())
both = pytest.mark.parametrize("dtype", ["float32", "float64"])
biased = pytest.mark.parametrize("bias", [True, False])


def rows(n: int, dtype: Any = np.float32, seed: int = 2) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, D)).astype(dtype), rng.integers(0, V, n)


def every_log_prob(layer: Any, hidden: Array) -> Array:
    """All log-probabilities, (N, V), even of a layer that has only those of targets."""
    if hasattr(layer, "log_prob_all"):
        found: Array = layer.log_prob_all(hidden)
        return found
    each = [layer.log_prob(hidden, np.full(len(hidden), c)) for c in range(V)]
    return np.stack(each, axis=1)


def tolerance(dtype: Any) -> dict[str, float]:
    eps = float(np.finfo(dtype).eps)
    return {"rtol": 40 * eps, "atol": 40 * eps}


def dense(layer: Any, gradient: Any) -> tuple[Array, Array]:
    """The gradients with respect to weight and bias, for all units."""
    d_weight, d_bias = np.zeros(layer.weight.shape), np.zeros(len(layer.weight))
    d_weight[gradient.unit_ids] = gradient.d_weight
    if gradient.d_bias is not None:
        d_bias[gradient.unit_ids] = gradient.d_bias
    return d_weight, d_bias


def state(layer: Any) -> list[Any]:
    """Everything that training changes, bit for bit."""
    arrays = [layer.weight, layer.bias, getattr(layer, "_squares", None)]
    for tail in getattr(layer, "tails", ()):
        arrays += tail.arrays().values()
    return [None if a is None else (a.dtype, a.shape, a.tobytes()) for a in arrays]
