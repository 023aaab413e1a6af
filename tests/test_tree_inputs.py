"""What may go into a layer on a tree, what is refused, and what many ask at once."""

from __future__ import annotations

import copy
import math
import pickle
import re
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from boltzmax import HierarchicalSoftmax, _core
from boltzmax._hierarchical import TopClasses
from conftest import RunPython
from tree_samples import TREES, chain, layer_on, rows_for

# ---- what goes in


@pytest.mark.parametrize(
    "dtype", ["f2", "f4", "f8", ">f4", ">f8", "g", "i1", "u8", "?", ml_dtypes.bfloat16]
)
def test_hidden_of_any_dtype(dtype: Any) -> None:
    layer = layer_on(TREES["mixed"])
    hidden = np.round(rows_for(layer, 5)[0] * 2).clip(0, 1).astype(dtype)
    want = layer.log_prob_all(hidden.astype(np.float32))
    np.testing.assert_array_equal(layer.log_prob_all(hidden), want)
    np.testing.assert_array_equal(layer.log_prob_all(hidden.tolist()), want)


@pytest.mark.parametrize("update", ["sequential", "batch", "hogwild"])
def test_layouts(update: str) -> None:
    """F order, strides, backwards, read-only, not aligned: what counts is the numbers."""
    hidden, target = rows_for(layer_on(TREES["mixed"]), 6)
    wide = np.zeros((12, 21), np.float32)
    wide[::2, ::3] = hidden
    frozen = hidden.copy()
    frozen.flags.writeable = False
    odd = np.frombuffer(bytearray(1) + hidden.tobytes(), np.float32, offset=1).reshape(6, 7)
    expected = None
    layouts = (hidden, np.asfortranarray(hidden), wide[::2, ::3], hidden[::-1].copy()[::-1])
    for x in (*layouts, frozen, odd):
        layer = layer_on(TREES["mixed"])
        loss, d_hidden = layer.sgd_step(x, target, 0.1, update=update)
        result = (loss, d_hidden.tobytes(), layer.weight.tobytes())
        expected = expected or result
        assert result == expected
        np.testing.assert_array_equal(x, hidden)


@pytest.mark.parametrize("update", ["sequential", "batch", "hogwild"])
def test_hidden_may_be_the_weights(update: str) -> None:
    """Tied vectors: a step reads them as they were when it was called."""
    layer, other = layer_on(TREES["flat"]), layer_on(TREES["flat"])
    target = np.arange(20) % 7
    layer.sgd_step(layer.weight[:20], target, 0.5, update=update)
    other.sgd_step(other.weight[:20].copy(), target, 0.5, update=update)
    np.testing.assert_allclose(layer.weight, other.weight, rtol=1e-6)


@pytest.mark.filterwarnings("error")
def test_hidden_too_large_for_float32() -> None:
    layer = layer_on(TREES["two"], 1, bias=False)
    assert layer.log_prob_all([[1e300]]).tolist() in ([[0, -np.inf]], [[-np.inf, 0]])


@pytest.mark.parametrize(
    ("hidden", "error", "message"),
    [
        (np.zeros(7), ValueError, "hidden must be (N, 7), got shape (7,)"),
        (np.zeros((2, 6)), ValueError, "hidden must be (N, 7), got shape (2, 6)"),
        (np.zeros((1, 2, 7)), ValueError, "got shape (1, 2, 7)"),
        (3.0, ValueError, "got shape ()"),
        (np.zeros((2, 7), complex), TypeError, "complex"),
        (np.zeros((2, 7), object), TypeError, "object"),
        ([["a"] * 7] * 2, TypeError, "hidden"),
        (np.ma.zeros((2, 7)), TypeError, "masked"),
    ],
)
def test_hidden_that_is_none(hidden: Any, error: type[Exception], message: str) -> None:
    layer = layer_on(TREES["mixed"])
    before = layer.weight.copy()
    questions = (
        lambda: layer.log_prob(hidden, [0, 1]),
        lambda: layer.log_prob_all(hidden),
        lambda: layer.topk(hidden, 1),
        lambda: layer.sample(hidden, 0),
        lambda: layer.sgd_step(hidden, [0, 1], 0.1),
        lambda: layer.loss_with_grad(hidden, [0, 1]),
    )
    for ask in questions:
        with pytest.raises(error, match=re.escape(message)):
            ask()
    np.testing.assert_array_equal(layer.weight, before)


@pytest.mark.parametrize("dtype", [*np.typecodes["AllInteger"], ">i4", "<u8"])
def test_targets_of_every_dtype(dtype: str) -> None:
    layer = layer_on(TREES["mixed"])
    hidden, target = rows_for(layer, 6)
    want = layer.log_prob(hidden, target)
    np.testing.assert_array_equal(layer.log_prob(hidden, target.astype(dtype)), want)
    np.testing.assert_array_equal(
        layer.log_prob(hidden, np.repeat(target, 2).astype(dtype)[::2]), want
    )


@pytest.mark.parametrize(
    "wrong", [-1, 8, 2**31, -(2**31), 2**63 - 1, np.uint64(2**64 - 1), -100], ids=str
)
def test_targets_out_of_range(wrong: Any) -> None:
    layer = layer_on(TREES["mixed"])
    hidden = rows_for(layer, 4)[0]
    dtype = np.uint64 if isinstance(wrong, np.uint64) else np.int64
    target = np.array([0, 7, wrong, wrong], dtype)
    before = layer.weight.copy(), layer.bias.copy()  # type: ignore[union-attr]
    steps = [
        lambda u=u: layer.sgd_step(hidden, target, 0.1, update=u)
        for u in ("sequential", "batch", "hogwild")
    ]
    for ask in (
        *steps,
        lambda: layer.adagrad_step(hidden, target, 0.1),
        lambda: layer.log_prob(hidden, target),
        lambda: layer.loss(hidden, target),
        lambda: layer.loss_with_grad(hidden, target),
    ):
        with pytest.raises(IndexError, match=f"target {wrong} at position 2 .*8 classes") as info:
            ask()
        assert "ignore_index" not in str(info.value), "there is no such parameter"
    np.testing.assert_array_equal(layer.weight, before[0])
    np.testing.assert_array_equal(layer.bias, before[1])


@pytest.mark.parametrize(
    ("target", "error"),
    [([0], ValueError), ([[0, 1]], ValueError), (0, ValueError), ([0.0, 1.0], TypeError)],
)
def test_targets_that_are_none(target: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="target"):
        layer_on(TREES["mixed"]).log_prob(np.zeros((2, 7)), target)


@pytest.mark.parametrize("n", [0, 1, 5])
@pytest.mark.parametrize("bias", [True, False])
def test_no_rows_and_few(n: int, bias: bool) -> None:
    layer = layer_on(TREES["mixed"], bias=bias)
    hidden, target = np.zeros((n, 7)), np.zeros(n, int)
    assert layer.log_prob(hidden, target).shape == (n,)
    assert layer.node_log_prob(hidden).shape == (n, layer.tree.n_nodes)
    assert layer.topk(hidden, 2)[0].shape == (n, 2)
    assert layer.sample(hidden, 0).shape == layer.predict(hidden).shape == (n,)
    assert np.isnan(layer.loss(hidden, target)) == (n == 0)


# ---- small, ordinary calls, which are read in C++


def ordinary(layer: HierarchicalSoftmax, n: int = 4) -> dict[str, Any]:
    """What each way in takes without asking Python."""
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
def test_both_ways_agree(name: str, dtype: str, bias: bool, n: int, isa: str) -> None:
    """Targets in a list, or hidden vectors in another byte order go by Python: the same bits."""
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
    """An array that is not quite one."""


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
    """The answer is None, and nothing is written; the other tests here are of what Python says."""
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
    """Whether they are changed in place, or others stand in their place."""
    layer = layer_on(TREES["mixed"])
    hidden, target = rows_for(layer, 4)
    seen = []
    for change in (
        lambda: None,
        lambda: layer.weight.__imul__(2),
        lambda: setattr(layer, "weight", layer.weight / 4),
        lambda: setattr(layer, "bias", layer.bias + 1),  # type: ignore[operator]
        lambda: setattr(layer, "bias", None),
    ):
        change()
        got = layer.log_prob(hidden, target)
        assert _core.try_log_prob(layer, hidden, target) is not None
        np.testing.assert_array_equal(got, layer.log_prob_all(hidden)[range(4), target])
        seen.append(got.tobytes())
    assert len(set(seen)) == len(seen)


def test_layers_in_turns() -> None:
    """A thread works for all of them in the same memory: deep, wide and small ones."""
    layers = [layer_on(tree, d) for tree in (chain(3000), *TREES.values()) for d in (3, 40)]
    want = [layer.log_prob_all(rows_for(layer, 3)[0]) for layer in layers]
    for _ in range(2):
        for layer, every in zip(layers, want, strict=True):
            hidden, target = rows_for(layer, 3)
            np.testing.assert_array_equal(layer.log_prob(hidden, target), every[range(3), target])
            np.testing.assert_array_equal(layer.predict(hidden), every.argmax(1))
            layer.sgd_step(hidden, target, 0.0)


class Loud(HierarchicalSoftmax):
    """A layer of somebody else's."""

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
    loss, _ = copy.deepcopy(layer).sgd_step(hidden, target, 0.5)
    assert loss == pytest.approx(-want.mean(dtype=float), rel=1e-6)
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


# ---- making layers, and replacing their arrays


def test_making() -> None:
    tree = TREES["mixed"]
    for dtype in ("float16", "int32", ">f4", "longdouble", "complex128"):
        with pytest.raises(TypeError, match="dtype must be float32 or float64"):
            HierarchicalSoftmax(tree, 3, dtype=dtype)
    for n in (0, -1):
        with pytest.raises(ValueError, match="n_features must be at least 1"):
            HierarchicalSoftmax(tree, n)
    with pytest.raises(TypeError, match=r"boltzmax\.Tree, got list"):
        HierarchicalSoftmax([1, -1], 3)  # type: ignore[arg-type]
    layer = HierarchicalSoftmax(tree, 3)
    assert not layer.weight.any()
    a, b = (HierarchicalSoftmax(tree, 400, seed=5, dtype="f8").weight for _ in range(2))
    np.testing.assert_array_equal(a, b)
    assert a.std() == pytest.approx(1 / 20, rel=0.05)


WEIGHT = layer_on(TREES["mixed"]).weight
BIAS = layer_on(TREES["mixed"]).bias
assert BIAS is not None
REPLACEMENTS = {
    "weight: too few": WEIGHT[:-1],
    "weight: narrow": WEIGHT[:, :-1].copy(),
    "weight: flat": WEIGHT.ravel(),
    "weight: 3-d": WEIGHT[None],
    "weight: float64": WEIGHT.astype(float),
    "weight: float16": WEIGHT.astype("f2"),
    "weight: big endian": WEIGHT.astype(">f4"),
    "weight: objects": WEIGHT.astype(object),
    "weight: F order": np.asfortranarray(WEIGHT),
    "weight: backwards": WEIGHT[::-1],
    "weight: list": WEIGHT.tolist(),
    "weight: None": None,
    "bias: short": BIAS[:-1],
    "bias: float64": BIAS.astype(float),
    "bias: strided": np.repeat(BIAS, 2)[::2],
    "bias: matrix": BIAS[:, None].copy(),
    "bias: scalar": np.float32(1),
}


@pytest.mark.parametrize("case", REPLACEMENTS)
def test_replaced_arrays(case: str) -> None:
    """They are used if they are as good as the old ones, or refused in words: no crash."""
    layer, good = layer_on(TREES["mixed"]), layer_on(TREES["mixed"])
    hidden, target = rows_for(layer, 4)
    name = case.split(":")[0]
    setattr(layer, name, REPLACEMENTS[case])
    for ask in (
        lambda x: x.log_prob(hidden, target).sum(),
        lambda x: x.topk(hidden, 2)[1].sum(),
        lambda x: x.loss_with_grad(hidden, target)[0],
        lambda x: x.sgd_step(hidden, target, 0.1, update="batch")[0],
        lambda x: x.sgd_step(hidden, target, 0.1)[0],
    ):
        try:
            result = ask(layer)
        except (TypeError, ValueError) as error:
            message = str(error)
            assert name in message
            assert "incompatible function arguments" not in message
        else:
            assert case in ("weight: F order", "weight: backwards", "bias: strided")
            assert result == ask(good) or "backwards" in case


@pytest.mark.parametrize("update", ["sequential", "batch", "hogwild"])
@pytest.mark.parametrize("name", ["weight", "bias"])
def test_read_only_arrays(name: str, update: str) -> None:
    """All of a step is done, or nothing."""
    layer = layer_on(TREES["mixed"])
    before = layer.weight.copy()
    getattr(layer, name).flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        layer.sgd_step(*rows_for(layer, 4), 0.1, update=update)
    np.testing.assert_array_equal(layer.weight, before)


# ---- threads, forks, no memory

TOGETHER = """
import faulthandler, os, threading
import numpy as np
import boltzmax
from boltzmax import HierarchicalSoftmax, Tree
faulthandler.dump_traceback_later(50, exit=True)
boltzmax.set_num_threads(3)
tree = Tree.huffman(1 / np.arange(1, 3001), arity=3)
fixed, shared = (HierarchicalSoftmax(tree, 33, seed=0) for _ in range(2))
rng = np.random.default_rng(0)
x, y = rng.standard_normal((1000, 33), np.float32), rng.integers(0, 3000, 1000)
expected, wrong = fixed.topk(x, 3)[0], []

def work(update):
    try:
        for _ in range(4):
            shared.sgd_step(x, y, 0.01, update=update)
            shared.adagrad_step(x[:200], y[:200], 0.01)
            ids = shared.topk(x[:100], 5)[0]
            assert ids.min() >= 0 and ids.max() < 3000
            assert (fixed.topk(x, 3)[0] == expected).all()
    except BaseException as error:
        wrong.append(error)

threads = [threading.Thread(target=work, args=(u,)) for u in ("sequential", "batch", "hogwild") * 2]
[t.start() for t in threads]
children = []
for _ in range(3):
    child = os.fork() if hasattr(os, "fork") else None
    if child == 0:
        shared.sgd_step(x, y, 0.01, update="hogwild")
        os._exit(0 if (fixed.topk(x, 3)[0] == expected).all() else 3)
    if child:
        children.append(child)
[t.join() for t in threads]
assert not wrong, wrong
assert np.isfinite(shared.weight).all()
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
print("done")
"""

NO_MEMORY = """
import resource
import numpy as np
import boltzmax
from boltzmax import HierarchicalSoftmax, Tree
boltzmax.set_num_threads(2)
layer = HierarchicalSoftmax(Tree.balanced(500_000), 1)
x = np.zeros((1000, 1), np.float32)
boltzmax.softmax(np.zeros((64, 20_000), np.float32))  # the pool has its threads now
with open("/proc/self/statm") as statm:
    used = int(statm.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (2 << 20),) * 2)
try:
    layer.topk(x, 1)
except MemoryError:
    print("MemoryError")
"""


def test_together(run_python: RunPython) -> None:
    """Steps and questions from several threads, and forks meanwhile."""
    code = "import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n" + TOGETHER
    done = run_python(code)  # Python warns of forks beside threads
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["done"]


def test_no_memory_in_a_thread(run_python: RunPython) -> None:
    """A search that finds no room is a MemoryError on any thread, not the end."""
    pytest.importorskip("resource")
    done = run_python(NO_MEMORY)
    assert (done.returncode, done.stdout.split()) == (0, ["MemoryError"]), done.stderr
