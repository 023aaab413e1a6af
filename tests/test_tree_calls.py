"""Small, ordinary calls of a layer on a tree, whose arguments are read in C++."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from boltzmax import HierarchicalSoftmax, _core
from boltzmax.trees.weights import TopClasses
from tree_samples import TREES, chain, layer_on, rows_for


def ordinary(layer: HierarchicalSoftmax, n: int = 4) -> dict[str, Any]:
    """Arguments that each compiled entry accepts without Python."""
    hidden, target = rows_for(layer, n)
    return {
        "try_log_prob": (layer, hidden, target),
        "try_topk": (layer, hidden, 2, None, 0.0),
        "try_descend": (layer, hidden, target, 0.1, None, "sequential", None, 0.0),
    }


@pytest.mark.parametrize("n", [0, 1, 4, 300])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", TREES)
def test_both_paths_agree(name: str, dtype: str, bias: bool, n: int, isa: str) -> None:
    """Target lists and hidden vectors in foreign byte order go through Python: the same bits."""
    tree = TREES[name]
    layer, other = layer_on(tree, dtype=dtype, bias=bias), layer_on(tree, dtype=dtype, bias=bias)
    hidden, target = rows_for(layer, n)
    as_list = target.tolist() if n else target.astype(np.uint8)
    swapped = hidden.astype(hidden.dtype.newbyteorder())
    assert _core.try_topk(layer, swapped, 1, None, 0.0) is None
    assert _core.try_log_prob(layer, hidden, as_list) is None
    got, want = _core.try_log_prob(layer, hidden, target), layer.log_prob(hidden, as_list)
    assert got is not None
    assert got.dtype == want.dtype == layer.dtype
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(layer.log_prob(hidden, target.astype(np.int32)), want)
    k = min(2, tree.n_classes)
    for min_prob in (0.0, 0.1, 1.0):
        found = _core.try_topk(layer, hidden, k, None, min_prob)
        assert found is not None
        for a, b in zip(found, layer.topk_visited(swapped, k, min_prob=min_prob), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
    for update in ("sequential", "grouped"):
        for step in ("sgd_step", "adagrad_step"):
            loss, d_hidden = getattr(layer, step)(hidden, target, 0.1, update=update)
            expected = getattr(other, step)(hidden, as_list, 0.1, update=update)
            np.testing.assert_equal(loss, expected[0])
            np.testing.assert_array_equal(d_hidden, expected[1])
            np.testing.assert_array_equal(layer.weight, other.weight)
            if layer.bias is not None:
                np.testing.assert_array_equal(layer.bias, other.bias)


class Hidden(np.ndarray[Any, Any]):
    """A subclass of ndarray."""


def read_only(x: Any) -> Any:
    x.flags.writeable = False
    return x


ODD_ARGUMENTS: dict[str, tuple[str, int, Callable[[Any], Any]]] = {
    "hidden is a list": ("", 1, np.ndarray.tolist),
    "hidden of a subclass": ("", 1, lambda x: x.view(Hidden)),
    "hidden of another dtype": ("", 1, lambda x: x.astype("f8")),
    "hidden of another byte order": ("", 1, lambda x: x.astype(">f4")),
    "hidden in F order": ("", 1, np.asfortranarray),
    "hidden too narrow": ("", 1, lambda x: x[:, 1:].copy()),
    "hidden with an axis more": ("", 1, lambda x: x[None]),
    "too many rows": ("", 1, lambda x: np.repeat(x, 2000, axis=0)),
    "target is a list": ("try_log_prob try_descend", 2, np.ndarray.tolist),
    "target of int16": ("try_log_prob try_descend", 2, lambda t: t.astype("i2")),
    "target of uint64": ("try_log_prob try_descend", 2, lambda t: t.astype("u8")),
    "target of floats": ("try_log_prob try_descend", 2, lambda t: t.astype("f8")),
    "target is strided": ("try_log_prob try_descend", 2, lambda t: np.repeat(t, 2)[::2]),
    "too few targets": ("try_log_prob try_descend", 2, lambda t: t[1:]),
    "a class too high": ("try_log_prob try_descend", 2, lambda t: np.append(t[1:], 8)),
    "a class below 0": ("try_log_prob try_descend", 2, lambda t: np.append(t[1:], -1)),
    "k is 0": ("try_topk", 2, lambda k: 0),
    "k is too large": ("try_topk", 2, lambda k: 9),
    "k is huge": ("try_topk", 2, lambda k: 2**70),
    "k of NumPy": ("try_topk", 2, np.int64),
    "k is a float": ("try_topk", 2, float),
    "a beam": ("try_topk", 3, lambda beam: 3),
    "min_prob is NaN": ("try_topk", 4, lambda p: np.nan),
    "min_prob above 1": ("try_topk", 4, lambda p: 1.5),
    "min_prob is an int": ("try_topk", 4, lambda p: 0),
    "lr is infinite": ("try_descend", 3, lambda lr: np.inf),
    "lr is NaN": ("try_descend", 3, lambda lr: np.nan),
    "lr is an int": ("try_descend", 3, lambda lr: 1),
    "sample weights": ("try_descend", 4, lambda weight: np.ones(4)),
    "update: batch": ("try_descend", 5, lambda update: "batch"),
    "update: unknown": ("try_descend", 5, lambda update: "none"),
    "update is no string": ("try_descend", 5, lambda update: None),
    "squares of others": ("try_descend", 6, lambda squares: np.zeros(3)),
    "squares of float32": ("try_descend", 6, lambda squares: np.zeros(18, "f4")),
    "squares are read-only": ("try_descend", 6, lambda squares: read_only(np.zeros(18))),
    "eps is an int": ("try_descend", 7, lambda eps: 0),
}


@pytest.mark.parametrize("case", ODD_ARGUMENTS)
def test_other_calls_are_left_to_python(case: str) -> None:
    """The result is None, and nothing is written; other tests cover what Python does."""
    layer = layer_on(TREES["mixed"])
    before = layer.weight.copy()
    names, place, change = ODD_ARGUMENTS[case]
    calls = ordinary(layer)
    for name in names.split() or calls:
        arguments = list(calls[name])
        arguments[place] = change(arguments[place])
        assert getattr(_core, name)(*arguments) is None, name
        assert getattr(_core, name)(*arguments[:-1]) is None, "one argument too few"
    np.testing.assert_array_equal(layer.weight, before)
    for name, arguments in ordinary(layer).items():
        assert getattr(_core, name)(*arguments) is not None


LAYERS: dict[str, Callable[[HierarchicalSoftmax], object]] = {
    "no weight": lambda layer: layer.__dict__.pop("weight"),
    "weight: others": lambda layer: setattr(layer, "weight", layer.weight[1:].copy()),
    "weight: float64": lambda layer: setattr(layer, "weight", layer.weight.astype(float)),
    "weight: F order": lambda layer: setattr(layer, "weight", np.asfortranarray(layer.weight)),
    "weight: subclass": lambda layer: setattr(layer, "weight", layer.weight.view(Hidden)),
    "bias: short": lambda layer: setattr(layer, "bias", np.zeros(1, "f4")),
    "bias: float64": lambda layer: setattr(layer, "bias", np.zeros(layer.tree.n_units)),
    "bias: list": lambda layer: setattr(layer, "bias", [0.0] * layer.tree.n_units),
    "dtype": lambda layer: setattr(layer, "dtype", np.dtype("f8")),
    "n_features": lambda layer: setattr(layer, "n_features", 2**80),
    "tree: another": lambda layer: setattr(layer, "tree", TREES["flat"]),
    "tree: none": lambda layer: setattr(layer, "tree", None),
}


@pytest.mark.parametrize("case", LAYERS)
def test_odd_layers_are_left_to_python(case: str) -> None:
    layer = layer_on(TREES["mixed"])
    calls = ordinary(layer)
    LAYERS[case](layer)
    for name, arguments in calls.items():
        assert getattr(_core, name)(*arguments) is None, name
    assert _core.try_log_prob(None, *calls["try_log_prob"][1:]) is None


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_read_only_layers_answer_but_do_not_learn(name: str) -> None:
    layer = layer_on(TREES["mixed"])
    getattr(layer, name).flags.writeable = False
    calls = ordinary(layer)
    assert _core.try_log_prob(*calls["try_log_prob"]) is not None
    assert _core.try_topk(*calls["try_topk"]) is not None
    assert _core.try_descend(*calls["try_descend"]) is None


def test_weights_are_read_anew_at_every_call() -> None:
    """Whether they are changed in place or replaced."""
    layer = layer_on(TREES["mixed"])
    hidden, target = rows_for(layer, 4)
    seen = []
    for change in (
        lambda: None,
        lambda: layer.weight.__imul__(2),
        lambda: setattr(layer, "weight", layer.weight / 4),
        lambda: setattr(layer, "bias", layer.bias * 2),  # type: ignore[operator]
        lambda: setattr(layer, "bias", None),
    ):
        change()
        got = layer.log_prob(hidden, target)
        assert _core.try_log_prob(layer, hidden, target) is not None
        np.testing.assert_array_equal(got, layer.log_prob_all(hidden)[range(4), target])
        seen.append(got.tobytes())
    assert len(set(seen)) == len(seen)


def test_layers_in_turns() -> None:
    """A thread uses the same scratch memory for all layers: deep, wide and small ones."""
    layers = [layer_on(tree, d) for tree in (chain(3000), *TREES.values()) for d in (3, 40)]
    want = [layer.log_prob_all(rows_for(layer, 3)[0]) for layer in layers]
    for _ in range(2):
        for layer, every in zip(layers, want, strict=True):
            hidden, target = rows_for(layer, 3)
            np.testing.assert_array_equal(layer.log_prob(hidden, target), every[range(3), target])
            np.testing.assert_array_equal(layer.predict(hidden), every.argmax(1))
            layer.sgd_step(hidden, target, 0.0)


class Loud(HierarchicalSoftmax):
    """A user's subclass."""

    def topk_visited(self, hidden: Any, k: int, **options: Any) -> TopClasses:
        ids, log_probs, visited = super().topk_visited(hidden, k, **options)
        return TopClasses(ids + 100, log_probs, visited)


def test_subclasses_and_copies() -> None:
    layer = Loud(TREES["mixed"], 7, seed=0)
    hidden, target = rows_for(layer, 4)
    want = layer.log_prob(hidden, target)
    for other in (layer, copy.copy(layer), copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert _core.try_log_prob(other, hidden, target) is not None
        np.testing.assert_array_equal(other.log_prob(hidden, target), want)
        assert (other.topk(hidden, 2)[0] >= 100).all()
        assert (other.predict(hidden) >= 100).all()
    loss, _ = copy.deepcopy(layer).sgd_step(hidden[:1], target[:1], 0.5)
    assert loss == pytest.approx(-float(want[0]), rel=1e-6)
    np.testing.assert_array_equal(layer.log_prob(hidden, target), want)


def test_the_mean_of_losses() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 31, 32, 33, 1000):
        losses, weights = rng.exponential(size=n), rng.random(n)
        want = math.fsum((losses * weights).tolist()) / math.fsum(weights.tolist())
        assert _core.mean_loss(losses, weights) == pytest.approx(want, rel=1e-15)
    assert _core.mean_loss(np.array([np.inf, 2.0]), np.array([0.0, 1.0])) == 2
    assert _core.mean_loss(np.array([np.inf, 2.0]), np.array([1.0, 1.0])) == np.inf
    assert math.isnan(_core.mean_loss(np.array([np.nan, 2.0]), np.array([0.0, 1.0])))
    assert math.isnan(_core.mean_loss(np.zeros(0), np.zeros(0)))
