"""The adaptive softmax layer: its memory, its files, and what it refuses."""

from __future__ import annotations

import pickle
import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from boltzmax import AdaptiveSoftmax
from boltzmax._lib.files import write_npz
from layer_samples import COUNTS, D, V, rows, state
from test_adaptive import by_counts, by_number

KIND = "boltzmax adaptive softmax, version 1"


def test_memory() -> None:
    """Weights, and tiles of bounded size: far less than rows by classes."""
    layer = AdaptiveSoftmax(16, 60_000, [1000, 10_000])
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((2000, 16), dtype=np.float32)
    target = rng.integers(0, 60_000, 2000)
    tracemalloc.start()
    for call in (
        lambda: layer.sgd_step(hidden, target, 1e-6),
        lambda: layer.loss(hidden, target),
        lambda: layer.topk(hidden[:300], 5),
    ):
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        call()
        peak = tracemalloc.get_traced_memory()[1] - before
        assert peak < 2000 * 60_000 * 4 / 16
    tracemalloc.stop()


ARRAYS = by_counts(bias=True)._arrays()
DAMAGES: list[tuple[dict[str, Any], str]] = [
    ({"bounds": np.array([5, 5, 23])}, "bounds do not increase"),
    ({"bounds": np.array([5.0, 12.0, 23.0])}, "no bounds"),
    ({"order": np.zeros(V, np.int64)}, f"order does not have each of {V} classes once"),
    ({"tail0_weight": ARRAYS["tail0_weight"][:-1]}, "tail0_weight does not fit"),
    ({"tail1_projection": None}, "tail1_weight does not fit"),
    ({"tail0_projection_squares": -np.ones(4), "tail0_squares": np.ones(7)}, "negative"),
    ({"tail0_projection": np.float32(1)}, "tail0_projection does not fit"),
    # Far more classes than memory has room for:
    ({"bounds": np.array([5, 12, 10**15]), "order": None}, "tail1_weight does not fit"),
    ({"bounds": np.array([10**15])}, "weights of shape (7, 7) do not fit the clusters"),
    ({"weight": ARRAYS["weight"][:-1]}, "do not fit the clusters"),
    ({"tail7_weight": np.ones((2, 2))}, "unknown arrays, tail7_weight"),
]


@pytest.mark.parametrize(("change", "message"), DAMAGES)
def test_damaged_files(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    arrays = {name: a for name, a in (ARRAYS | change).items() if a is not None}
    write_npz(tmp_path / "layer", KIND, arrays)
    with pytest.raises(ValueError, match=re.escape(message)):
        AdaptiveSoftmax.load(tmp_path / "layer")


def test_copies_have_their_clusters(tmp_path: Path) -> None:
    layer = by_counts(bias=True)
    layer.adagrad_step(*rows(20), 0.1)
    layer.save(tmp_path / "layer")
    for other in (AdaptiveSoftmax.load(tmp_path / "layer"), pickle.loads(pickle.dumps(layer))):
        assert state(other) == state(layer)
        assert other.cutoffs == layer.cutoffs
        np.testing.assert_array_equal(other.order, layer.order)
        assert not np.may_share_memory(other.tails[0].weight, layer.tails[0].weight)


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"cutoffs": [5, 5]}, ValueError, "got 5 at position 1 of (5, 5)"),
    ({"cutoffs": [0, 5]}, ValueError, "cutoffs must increase, from 1 to at most 22 of 23 classes"),
    ({"cutoffs": [5, 23]}, ValueError, "got 23 at position 1"),
    ({"cutoffs": [5.0]}, TypeError, "cutoffs must be an integer, got 5.0"),
    ({"cutoffs": 5}, TypeError, "cutoffs must be a sequence of integers, got 5"),
    ({"counts": [1, 2]}, ValueError, "counts must have one number per class, (23,)"),
    ({"counts": np.zeros(V)}, ValueError, "counts are 0 for every class"),
    ({"counts": -COUNTS}, ValueError, "counts must be finite and not negative, got -"),
    ({"counts": np.full(V, np.nan)}, ValueError, "not negative, got nan for class 0"),
    ({"div_value": 0.5}, ValueError, "div_value must be from 1 to"),
    ({"dtype": "float16"}, TypeError, "dtype must be float32 or float64"),
    ({"n_classes": 0}, ValueError, "n_classes must be at least 1, got 0"),
    ({"n_features": 0}, ValueError, "n_features must be at least 1, got 0"),
    ({"seed": -1}, ValueError, "seed must be a seed"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD)
def test_bad_construction(options: Any, error: type[Exception], message: str) -> None:
    arguments = {"n_features": D, "n_classes": V} | options
    with pytest.raises(error, match=re.escape(message)):
        AdaptiveSoftmax(**arguments)


def test_replaced_arrays_of_tails() -> None:
    hidden, target = rows(3)
    for name, bad, message in (
        ("weight", np.ones((3, 4), np.float32), "tails[1].weight must be C-contiguous"),
        ("projection", np.ones((4, 2), np.float32), "tails[1].projection must be C-contiguous"),
        ("weight", [[1.0]], "tails[1].weight must be an ndarray"),
        ("bias", np.ones(11), "tails[1].bias must be float32, got float64"),
    ):
        layer = by_number(bias=True)
        setattr(layer.tails[1], name, bad)
        for call in (layer.log_prob, layer.loss_with_grad):
            with pytest.raises((ValueError, TypeError), match=re.escape(message)):
                call(hidden, target)
    layer = by_number()
    layer.tails[0].weight.flags.writeable = False
    before = state(layer)
    with pytest.raises(ValueError, match=r"tails\[0\].weight is read-only"):
        layer.sgd_step(hidden, target, 0.1)
    assert state(layer) == before


def test_bad_soft_targets() -> None:
    layer, hidden = by_number(), rows(3)[0]
    with pytest.raises(TypeError, match=r"or probabilities of shape \(3, 23\)"):
        layer.loss(hidden, np.ones((3, V - 1)))
    with pytest.raises(ValueError, match="one-hot targets: make them float"):
        layer.loss(hidden, np.eye(V, dtype=int)[:3])
    with pytest.raises(TypeError, match="ignore_index must be an integer"):
        layer.loss(hidden, [0, 1, 2], ignore_index=1.5)  # type: ignore[arg-type]
