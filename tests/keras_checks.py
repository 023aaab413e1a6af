"""Checks of the Keras layer on the backend that KERAS_BACKEND names: see test_keras_bridge.py."""

# ruff: noqa: E402 (Keras must not import TensorFlow, which takes seconds)
from __future__ import annotations

import copy
import doctest
import sys
import unittest.mock
import warnings
from pathlib import Path
from typing import Any

sys.modules["tensorflow"] = None  # type: ignore[assignment]

import keras
import numpy as np
import pytest

import boltzmax
import boltzmax.keras as bridge
from boltzmax.keras import GumbelSoftmax

Array = np.ndarray[Any, Any]
X = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)


def value(tensor: Any) -> Array:
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def key_of(seed: int, call: int = 0) -> int:
    """The key that the noise of a call has."""
    generator = keras.random.SeedGenerator(seed)
    words = [generator.next() for _ in range(call + 1)][-1]
    return (int(words[0]) << 32) + int(words[1])


def check_noise_is_that_of_boltzmax() -> None:
    for hard in (False, True):
        layer = GumbelSoftmax(5, 0.5, hard, seed=3)
        for call in range(2):
            want = boltzmax.gumbel_softmax(X, temperature=0.5, hard=hard, rng=key_of(3, call))
            assert (value(layer(X, training=True)) == want).all()


def check_inference_has_no_noise() -> None:
    layer = GumbelSoftmax(temperature=0.5)
    for training in (False, None):
        np.testing.assert_array_equal(value(layer(X, training=training)), boltzmax.softmax(X / 0.5))
    hard = value(GumbelSoftmax(hard=True)(X))
    assert (hard == np.eye(5)[X.argmax(-1)]).all()


def check_axis_and_classes() -> None:
    layer = GumbelSoftmax(8, axis=0, seed=1)
    np.testing.assert_allclose(value(layer(X, training=True)).sum(0), 1, rtol=1e-6)
    for layer in (GumbelSoftmax(4), GumbelSoftmax(axis=2)):
        with pytest.raises(ValueError, match=r"shape \(8, 5\)"):
            layer(X)


def check_integers_become_floats() -> None:
    x = keras.ops.convert_to_tensor(np.array([[1, 2, 4], [0, 0, 0]], np.int32))
    for training in (True, False):
        for hard in (True, False):
            layer, other = (GumbelSoftmax(3, 0.5, hard, seed=5) for _ in range(2))
            got = layer(x, training=training)
            want = other(keras.ops.cast(x, "float32"), training=training)
            assert keras.backend.standardize_dtype(got.dtype) == "float32"
            assert (value(got) == value(want)).all()


def check_small_temperatures_in_half_precision() -> None:
    layer = GumbelSoftmax(3, 1e-9, dtype="float16")
    assert value(layer(np.array([[9.0, 10.0, 1.0]]))).tolist() == [[0.0, 1.0, 0.0]]


def check_rows_without_probabilities() -> None:
    x = np.array([[np.nan, 1], [np.inf, 1], [-np.inf, -np.inf], [-np.inf, 1]], np.float32)
    for training in (True, False):
        for hard in (True, False):
            y = value(GumbelSoftmax(hard=hard, seed=1)(x, training=training))
            assert np.isnan(y[:3]).any(1).all(), (training, hard)
            assert y[3].tolist() == [0, 1]


def check_every_call_checks_its_classes() -> None:
    layer = GumbelSoftmax(5)
    layer(X)
    with pytest.raises(ValueError, match=r"shape \(8, 4\)"):
        layer(X[:, :4])


def check_other_backends_are_refused() -> None:
    with (
        unittest.mock.patch.object(keras.backend, "backend", return_value="numpy"),
        pytest.raises(ImportError, match="backends 'jax' and 'torch', but Keras has 'numpy'"),
    ):
        GumbelSoftmax()


def check_configuration() -> None:
    layer = GumbelSoftmax(5, 0.3, hard=True, axis=1, seed=7, name="draw")
    config = layer.get_config()
    assert {k: config[k] for k in ("num_classes", "temperature", "hard", "axis", "seed")} == {
        "num_classes": 5, "temperature": 0.3, "hard": True, "axis": 1, "seed": 7,
    }  # fmt: skip
    other = GumbelSoftmax.from_config(config)
    third = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    results = [value(one(X, training=True)) for one in (layer, other, third)]
    assert (results[0] == results[1]).all()
    assert (results[0] == results[2]).all()
    assert third.get_config() == config
    copy.deepcopy(layer)


def check_bad_arguments() -> None:
    for arguments in ({"temperature": 0.0}, {"num_classes": 0}, {"seed": 0.5}, {"seed": -1}):
        with pytest.raises((TypeError, ValueError), match=next(iter(arguments))):
            GumbelSoftmax(**arguments)


def check_gradient() -> None:
    dy = np.random.default_rng(1).normal(size=X.shape).astype(np.float32)
    soft = boltzmax.gumbel_softmax(X, temperature=0.5, rng=key_of(3))
    want = boltzmax.gumbel_softmax_backward(dy, soft, temperature=0.5)
    for hard in (False, True):
        layer = GumbelSoftmax(5, 0.5, hard, seed=3)
        np.testing.assert_allclose(gradient(layer, dy, training=True), want, rtol=2e-6, atol=1e-7)
    layer = GumbelSoftmax(5, 0.5)
    want = boltzmax.softmax_backward(dy, boltzmax.softmax(X / 0.5)) / 0.5
    np.testing.assert_allclose(gradient(layer, dy, training=False), want, rtol=2e-6, atol=1e-7)


def gradient(layer: Any, dy: Array, training: bool) -> Array:
    if keras.backend.backend() == "torch":
        import torch

        x = torch.tensor(X, requires_grad=True)
        layer(x, training=training).backward(torch.tensor(dy))
        return np.asarray(x.grad)
    import jax

    return np.asarray(jax.grad(lambda x: (layer(x, training=training) * dy).sum())(X))


def check_training_and_files() -> None:
    """A model trains through the layer; the temperature changes meanwhile, and is saved."""
    model = keras.Sequential([
        keras.layers.Input((5,)),
        keras.layers.Dense(5, name="logits"),
        GumbelSoftmax(5, hard=True, seed=1),
        keras.layers.Dense(1),
    ])  # fmt: skip
    model.compile("sgd", "mse")
    before = model.get_weights()[0].copy()
    model.fit(X, X[:, :1], epochs=2, verbose=0)
    assert not (model.get_weights()[0] == before).all()
    model.layers[1].temperature = 0.1
    model.fit(X, X[:, :1], epochs=1, verbose=0)
    file = Path(sys.argv[1]) / "model.keras"
    model.save(file)
    loaded = keras.models.load_model(file)
    assert loaded.layers[1].temperature == 0.1
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    assert len(model.layers[1].trainable_variables) == 0


def check_mixed_precision() -> None:
    for dtype in ("mixed_bfloat16", "mixed_float16"):
        layer = GumbelSoftmax(5, 0.3, seed=2, dtype=dtype)
        y = layer(X, training=True)
        assert keras.backend.standardize_dtype(y.dtype) == dtype.removeprefix("mixed_")
        want = boltzmax.gumbel_softmax(X, temperature=0.3, rng=key_of(2))
        np.testing.assert_allclose(value(keras.ops.cast(y, "float32")), want, atol=0.05)


def check_examples() -> None:
    for name in bridge.__all__:
        for test in doctest.DocTestFinder(recurse=False).find(getattr(bridge, name), name):
            assert doctest.DocTestRunner().run(test) == (0, len(test.examples))


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # Keras converts tensors in the old way
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            check()
    print(keras.backend.backend(), "passed")
