"""Checks of boltzmax.tensorflow; test_keras_bridge.py runs them in a process of their own."""

from __future__ import annotations

import doctest
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

import boltzmax
import boltzmax.tensorflow as bridge

Array = np.ndarray[Any, Any]
DTYPES = (np.float16, np.float32, np.float64, ml_dtypes.bfloat16)
MAPS = ("softmax", "log_softmax")


def normal(seed: int, shape: Any, dtype: Any = np.float64) -> Array:
    return (np.random.default_rng(seed).normal(size=shape) * 3).astype(dtype)


def check_bits_of_values_and_gradients() -> None:
    for dtype in DTYPES:
        x, dy = normal(0, (4, 5, 6), dtype), normal(1, (4, 5, 6), dtype)
        for name in MAPS:
            for axis in (-1, 1):
                z = tf.constant(x)
                with tf.GradientTape() as tape:
                    tape.watch(z)
                    y = getattr(bridge, name)(z, axis)
                want = getattr(boltzmax, name)(x, axis)
                assert y.dtype == z.dtype
                assert (y.numpy() == want).all()
                dx = tape.gradient(y, z, output_gradients=tf.constant(dy))
                backward = getattr(boltzmax, f"{name}_backward")
                assert (dx.numpy() == backward(dy, want, axis)).all()
        want = boltzmax.logsumexp(x, axis=1)
        assert (bridge.logsumexp(tf.constant(x), 1).numpy() == want).all()


def check_losses() -> None:
    z, target = tf.constant(normal(2, (9, 5))), tf.constant(np.arange(9) % 5)
    for options in ({}, {"reduction": "sum", "label_smoothing": 0.1, "ignore_index": 2}):
        with tf.GradientTape() as tape:
            tape.watch(z)
            loss = 2.0 * bridge.cross_entropy(z, target, **options)
        want, slope = boltzmax.cross_entropy_with_grad(z.numpy(), target.numpy(), **options)
        assert float(loss) == 2 * want
        np.testing.assert_allclose(tape.gradient(loss, z), 2 * slope, rtol=1e-15)
    with pytest.raises(IndexError, match="target 5 at position 0"):
        bridge.cross_entropy(z, target + 5)


def check_logsumexp_gradient() -> None:
    z = tf.constant(normal(3, (3, 4)))
    with tf.GradientTape() as tape:
        tape.watch(z)
        y = bridge.logsumexp(z)
    assert (tape.gradient(y, z).numpy() == boltzmax.softmax(z.numpy())).all()


def check_functions_are_graphs() -> None:
    x = normal(4, (6, 5), np.float32)

    @tf.function
    def both(z: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(z)
            y = tf.reduce_sum(bridge.softmax(z) * z) + bridge.cross_entropy(z, tf.range(6) % 5)
        return y, tape.gradient(y, z)

    y, dx = both(tf.constant(x))
    p = boltzmax.softmax(x)
    loss, slope = boltzmax.cross_entropy_with_grad(x, np.arange(6) % 5)
    np.testing.assert_allclose(y, (p * x).sum() + loss, rtol=1e-5)
    np.testing.assert_allclose(dx, p + boltzmax.softmax_backward(x, p) + slope, atol=1e-5)


def check_refusals() -> None:
    for name in (*MAPS, "logsumexp"):
        f = getattr(bridge, name)
        with pytest.raises(TypeError, match="got dtype int32"):
            f(tf.constant([1, 2]))
        with pytest.raises(ValueError, match="axis"):
            f(tf.zeros(2), 1)
    z = tf.zeros(3)
    with tf.GradientTape() as outer, tf.GradientTape() as tape:
        outer.watch(z)
        tape.watch(z)
        y = bridge.softmax(z)[0]
        dx = tape.gradient(y, z)
    with pytest.raises(NotImplementedError, match="no derivatives of gradients"):
        outer.gradient(dx, z)


def check_examples() -> None:
    for name in bridge.__all__:
        for test in doctest.DocTestFinder(recurse=False).find(getattr(bridge, name), name):
            assert doctest.DocTestRunner().run(test) == (0, len(test.examples))


if __name__ == "__main__":
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            check()
    print("passed")
