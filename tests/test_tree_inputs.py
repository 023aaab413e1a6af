"""Inputs of a layer on a tree: valid ones, errors, and concurrent calls."""

from __future__ import annotations

import re
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from boltzmax import HierarchicalSoftmax
from conftest import RunPython
from tree_samples import TREES, layer_on, rows_for

# ---- inputs


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
    """F order, strides, reversed, read-only, unaligned: only the numbers matter."""
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
    """Tied vectors: a step reads them as they were before the call."""
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
def test_invalid_hidden(hidden: Any, error: type[Exception], message: str) -> None:
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
def test_invalid_targets(target: Any, error: type[Exception]) -> None:
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


# ---- construction, and replaced arrays


def test_construction() -> None:
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
    """They are refused with a message; nothing crashes."""
    layer = layer_on(TREES["mixed"])
    hidden, target = rows_for(layer, 4)
    name = case.split(":")[0]
    setattr(layer, name, REPLACEMENTS[case])
    for ask in (
        lambda: layer.log_prob(hidden, target),
        lambda: layer.topk(hidden, 2),
        lambda: layer.loss_with_grad(hidden, target),
        lambda: layer.sgd_step(hidden, target, 0.1, update="batch"),
        lambda: layer.sgd_step(hidden, target, 0.1),
    ):
        with pytest.raises((TypeError, ValueError), match=f"^{name} must be "):
            ask()


@pytest.mark.parametrize("update", ["sequential", "batch", "hogwild"])
@pytest.mark.parametrize("name", ["weight", "bias"])
def test_read_only_arrays(name: str, update: str) -> None:
    """A step is done completely or not at all."""
    layer = layer_on(TREES["mixed"])
    before = layer.weight.copy()
    getattr(layer, name).flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        layer.sgd_step(*rows_for(layer, 4), 0.1, update=update)
    np.testing.assert_array_equal(layer.weight, before)


# ---- threads, forks, out of memory

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


def test_concurrent_calls(run_python: RunPython) -> None:
    """Steps and queries from several threads, with forks meanwhile."""
    code = "import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n" + TOGETHER
    done = run_python(code)  # Python warns of forks beside threads
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["done"]


def test_no_memory_in_a_thread(run_python: RunPython) -> None:
    """A search that runs out of memory on any thread is a MemoryError, not a crash."""
    pytest.importorskip("resource")
    done = run_python(NO_MEMORY)
    assert (done.returncode, done.stdout.split()) == (0, ["MemoryError"]), done.stderr
