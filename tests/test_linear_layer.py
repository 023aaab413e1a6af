"""The full softmax layer compared with the functions that it uses, and its files."""

from __future__ import annotations

import pickle
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import boltzmax
from boltzmax import LinearSoftmax
from boltzmax._lib.files import write_npz
from layer_samples import V, biased, both, filled, rows, state
from linear_samples import TILES, use_tiles

Arrays = dict[str, Any]
KIND = "boltzmax linear softmax, version 1"


def layer_of(v: int = V, d: int = 7, **options: Any) -> Any:
    return filled(LinearSoftmax(v, d, seed=0, **options))


@both
@biased
def test_methods_match_the_functions(dtype: str, bias: bool) -> None:
    """Bit for bit."""
    layer = layer_of(dtype=dtype, bias=bias)
    hidden, target = rows(9, dtype)
    weight, biases, of_row = layer.weight, layer.bias, np.linspace(0, 2, 9)
    log_prob = boltzmax.linear_log_prob(hidden, weight, target, biases)
    np.testing.assert_array_equal(layer.log_prob(hidden, target), log_prob)
    loss = boltzmax.linear_cross_entropy(hidden, weight, target, biases, sample_weight=of_row)
    assert layer.loss(hidden, target, of_row) == loss
    gradient = boltzmax.linear_cross_entropy_with_grad(hidden, weight, target, biases)
    for mine, other in zip(layer.loss_with_grad(hidden, target), gradient, strict=True):
        np.testing.assert_array_equal(mine, other)
    for mine, other in zip(
        layer.topk(hidden, 3), boltzmax.linear_topk(hidden, weight, 3, biases), strict=True
    ):
        np.testing.assert_array_equal(mine, other)
    drawn = boltzmax.linear_sample(hidden, weight, 5, biases)
    np.testing.assert_array_equal(layer.sample(hidden, 5), drawn)
    assert layer.loss_with_grad(hidden, target).unit_ids == slice(None)


@pytest.mark.parametrize("sizes", TILES[1:])
def test_tiles(sizes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results do not depend on the tiles, up to rounding."""
    hidden, target = rows(40, "float64")

    def answers() -> list[Any]:
        layer = layer_of(dtype="float64")
        gradient, step = layer.loss_with_grad(hidden, target), layer.sgd_step(hidden, target, 0.1)
        found = *layer.topk(hidden, 4), layer.sample(hidden, 1), layer.log_prob(hidden, target)
        return [*gradient, *step, *found, layer.weight, layer.bias]

    expected = answers()
    use_tiles(sizes, monkeypatch)
    for a, b in zip(answers(), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@both
@biased
def test_adagrad_sums_the_gradients_of_rows(dtype: str, bias: bool) -> None:
    """As in `sgd_step`."""
    layer = layer_of(dtype=dtype, bias=bias)
    hidden, target = rows(12, dtype)
    of_row = np.linspace(0, 2, 12)
    squares = np.zeros(V)
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == "float32" else {"atol": 1e-13}
    for _ in range(3):
        _, d_hidden, d_weight, d_bias = boltzmax.linear_cross_entropy_with_grad(
            hidden, layer.weight, target, layer.bias, reduction="sum", sample_weight=of_row
        )
        squares += np.square(d_weight).sum(1) / (7 + bias)
        squares += 0 if d_bias is None else np.square(d_bias) / 8
        rate = 0.3 / np.sqrt(squares)
        weight = layer.weight - rate[:, None] * d_weight
        biases = None if d_bias is None else layer.bias - rate * d_bias
        loss, got = layer.adagrad_step(hidden, target, 0.3, of_row)
        assert np.isfinite(loss)
        np.testing.assert_allclose(got, d_hidden, **tolerance)
        np.testing.assert_allclose(layer.weight, weight, **tolerance)
        if biases is not None:
            np.testing.assert_allclose(layer.bias, biases, **tolerance)


def test_memory() -> None:
    """No method but `log_prob_all` allocates all logits, 40 MB."""
    layer = LinearSoftmax(100_000, 4, seed=0)
    rng = np.random.default_rng(0)
    hidden, target = rng.standard_normal((100, 4), np.float32), rng.integers(0, 100_000, 100)
    for ask in (
        lambda: layer.log_prob(hidden, target),
        lambda: layer.loss(hidden, target),
        lambda: layer.sgd_step(hidden, target, 0.1),
        lambda: layer.adagrad_step(hidden, target, 0.1),
        lambda: layer.topk(hidden, 3),
        lambda: layer.sample(hidden, 0),
    ):
        tracemalloc.start()
        ask()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 15e6


def test_large_scores() -> None:
    """Scores of 1,000, where exp overflows, do not warn."""
    layer = LinearSoftmax(3, 3, bias=False)
    layer.weight[:] = np.eye(3)
    hidden = np.array([[1000.0, -1000.0, 0.0]])
    np.testing.assert_array_equal(layer.log_prob_all(hidden), [[0, -2000, -1000]])
    assert layer.loss(hidden, [1]) == 2000
    assert layer.topk(hidden, 2, min_prob=0.5)[0].tolist() == [[0, -1]]


def test_numbers_of_classes() -> None:
    for n in (0, -3):
        with pytest.raises(ValueError, match=f"^n_classes must be at least 1, got {n}$"):
            LinearSoftmax(n, 3)
    with pytest.raises(TypeError, match=r"^n_classes must be an integer, got 2\.5$"):
        LinearSoftmax(2.5, 3)  # type: ignore[arg-type]
    one = LinearSoftmax(1, 3)
    assert one.log_prob([[1, 2, 3]], [0]) == 0
    assert repr(one) == "LinearSoftmax(1, 3, dtype=float32)"


# ---- files


def test_damaged_files(tmp_path: Path) -> None:
    """Flipped bits and truncation give the same layer or a ValueError."""
    layer, file = layer_of(3, 2), tmp_path / "layer"
    layer.adagrad_step(np.ones((2, 2)), [0, 2], 0.1)
    layer.save(file)
    data = file.read_bytes()
    flips = [(bit // 8, 1 << bit % 8) for bit in range(0, 8 * len(data), 17)]
    damaged = [data[:i] + bytes([data[i] ^ mask]) + data[i + 1 :] for i, mask in flips]
    damaged += [data[:length] for length in range(0, len(data), 7)]
    refused = 0
    for bad in damaged:
        file.write_bytes(bad)
        try:
            loaded = LinearSoftmax.load(file)
        except ValueError:
            refused += 1
        else:
            assert state(loaded) == state(layer)
    assert refused > len(damaged) / 2


def change(**arrays: Any) -> Callable[[Arrays], Arrays]:
    return lambda good: {k: v for k, v in (good | arrays).items() if v is not None}


BAD = {
    "no weights": (change(weight=None), "no matrix of weights"),
    "a vector": (change(weight=np.zeros(3, np.float32)), "no matrix of weights"),
    "float16": (change(weight=np.zeros((3, 2), np.float16)), "no matrix of weights"),
    "big endian": (change(weight=np.zeros((3, 2), ">f4")), "no matrix of weights"),
    "no classes": (change(weight=np.zeros((0, 2), np.float32)), "n_classes must be at least 1"),
    "no features": (change(weight=np.zeros((3, 0), np.float32)), "do not fit the weights"),
    "short bias": (change(bias=np.zeros(2, np.float32)), "its bias does not fit the weights"),
    "other bias": (change(bias=np.zeros(3)), "its bias does not fit the weights"),
    "short squares": (change(squares=np.zeros(2)), "its squares does not fit the weights"),
    "float squares": (change(squares=np.zeros(3, np.float32)), "its squares does not fit"),
    "negative squares": (change(squares=np.array([1, -1, 1.0])), "must not be negative"),
    "another array": (change(wieght=np.ones(3), extra=np.ones(2)), "unknown arrays, extra, wieght"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("spoil", "message"), BAD.values(), ids=BAD.keys())
def test_hostile_files(spoil: Callable[[Arrays], Arrays], message: str, tmp_path: Path) -> None:
    good = {
        "weight": np.ones((3, 2), np.float32),
        "bias": np.ones(3, np.float32),
        "squares": np.ones(3),
    }
    write_npz(tmp_path / "l", KIND, good)
    assert LinearSoftmax.load(tmp_path / "l").weight.tolist() == good["weight"].tolist()
    write_npz(tmp_path / "l", KIND, spoil(good))
    named = f"^{re.escape(str(tmp_path / 'l'))} is damaged or not a {KIND}: "
    with pytest.raises(ValueError, match=f"{named}.*{message}"):
        LinearSoftmax.load(tmp_path / "l")
    write_npz(tmp_path / "l", KIND.replace("1", "2"), good)
    with pytest.raises(ValueError, match=named):
        LinearSoftmax.load(tmp_path / "l")


class Named(LinearSoftmax):
    """A user's subclass."""


def test_subclasses(tmp_path: Path) -> None:
    layer = Named(4, 3, seed=0)
    assert type(pickle.loads(pickle.dumps(layer))) is Named
    layer.save(tmp_path / "l")
    assert type(Named.load(tmp_path / "l")) is Named


def test_topk_of_rows_that_overflow() -> None:
    """An infinite score leaves no probabilities: the row has no likeliest classes."""
    layer = LinearSoftmax(5, 3, seed=0)
    layer.bias[2] = np.inf
    ids, log_probs = layer.topk(np.ones((2, 3)), 3)
    assert (ids == -1).all()
    assert np.isneginf(log_probs).all()
