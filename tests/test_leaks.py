"""Thousands of calls of all public functions leak no objects, bytes or references."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

import boltzmax
import boltzmax.candidates
import boltzmax.special
import candidate_samples
import every_function
import screen_calls
import trust_calls
from boltzmax.candidates import UniformSampler
from boltzmax.losses.registry import LOSSES
from conftest import RunPython
from layer_samples import MADE
from operations import GRADIENTS, MAPS

CALLS = 300  # per case: hundreds or thousands per function
Call = Callable[[], object]

x = np.random.default_rng(0).standard_normal((4, 30))
x32, x16 = x.astype(np.float32), x.astype(np.float16)
out, where, target = np.empty_like(x), x > -2.0, np.array([0, 29, 7, 3])
probabilities, log_probabilities = boltzmax.softmax(x), boltzmax.log_softmax(x)
weight, hidden = np.random.default_rng(1).standard_normal((12, 6)), np.ones((3, 6))
counts, classes = np.arange(1, 13), np.array([1, 0, 11])
tree = boltzmax.Tree.huffman(counts)
layer = boltzmax.HierarchicalSoftmax(tree, 6, dtype=np.float64)
vectors, ids = np.ones((5, 6)), np.array([4, 0, 4])


def refused(function: Callable[..., object], *args: object, **kwargs: object) -> Call:
    """A call that must raise."""

    def call() -> None:
        with contextlib.suppress(TypeError, ValueError, IndexError):
            function(*args, **kwargs)
            raise AssertionError(f"{function} accepts {args}, {kwargs}")

    return call


def of_layer(make: Callable[..., Any]) -> list[Call]:
    """Calls of the methods that every output layer has."""
    full = make(dtype=np.float64)
    return [
        make,
        lambda: full.log_prob(hidden, classes),
        lambda: full.log_prob_all(hidden),
        lambda: full.loss_with_grad(hidden, classes),
        lambda: full.topk(hidden, 3),
        lambda: full.sgd_step(hidden, classes, lr=1e-3),
        lambda: full.adagrad_step(hidden, classes, lr=1e-3),
        refused(full.log_prob, hidden, [0, 1, 12]),
        refused(full.sgd_step, hidden, classes[:2], lr=1.0),
    ]


def calls_of_map(function: Callable[..., object]) -> list[Call]:
    return [
        lambda: function(x),
        lambda: function(x32, 0, temperature=2.0),
        lambda: function(x16, (0, 1), where=where),
        lambda: function(x, 0, where=where, out=out),
        lambda: function([1, 2], dtype=np.float16),
        lambda: function(x[::2, ::-3], temperature=[1.0, 2.0]),
        refused(function, x, 2),
        refused(function, x, -3),
        refused(function, x, where="no"),
        refused(function, x, out=x32),
        refused(function, x, temperature=-1.0),
        refused(function, x, nonsense=1),
        refused(function, "text"),
        refused(function, None),
        refused(function),
    ]


def calls_of_gradient(function: Callable[..., object]) -> list[Call]:
    return [
        lambda: function(x, log_probabilities),
        lambda: function(x32, log_probabilities, 0, out=out),
        refused(function, x, x[0]),
        refused(function, x, None),
    ]


CASES: dict[str, list[Call]] = {
    **{name: calls_of_map(getattr(boltzmax, name)) for name in MAPS},
    "logsumexp": [
        lambda: boltzmax.logsumexp(x),
        lambda: boltzmax.logsumexp(x[0]),
        lambda: boltzmax.logsumexp(x32, None, keepdims=True),
        lambda: boltzmax.logsumexp(x, 0, where=where),
        lambda: boltzmax.logsumexp(x, b=-x, return_sign=True),
        lambda: boltzmax.logsumexp(x + 1j),
        refused(boltzmax.logsumexp, x, b="no"),
        refused(boltzmax.logsumexp, np.array([{}])),
    ],
    **{name: calls_of_gradient(getattr(boltzmax, name)) for name in GRADIENTS},
    "cross_entropy": [
        lambda: boltzmax.cross_entropy(x, target),
        lambda: boltzmax.cross_entropy(x, probabilities, label_smoothing=0.1, z_loss=0.1),
        refused(boltzmax.cross_entropy, x, target + 30),
    ],
    "cross_entropy_with_grad": [
        lambda: boltzmax.cross_entropy_with_grad(x32, target, reduction="sum", softcap=5.0),
        lambda: boltzmax.cross_entropy_with_grad(x, target, weight=np.ones(30), out=out),
        refused(boltzmax.cross_entropy_with_grad, x, target, reduction="most"),
    ],
    "focal_loss": [
        lambda: boltzmax.focal_loss(x, target),
        refused(boltzmax.focal_loss, x, target, gamma=-1.0),
    ],
    "focal_loss_with_grad": [lambda: boltzmax.focal_loss_with_grad(x, target, out=out)],
    "nll_loss": [
        lambda: boltzmax.nll_loss(log_probabilities, target),
        refused(boltzmax.nll_loss, x, target[:2]),
    ],
    "kl_divergence": [
        lambda: boltzmax.kl_divergence(log_probabilities, probabilities),
        refused(boltzmax.kl_divergence, x, x[0, :3]),
    ],
    "binary_cross_entropy_with_logits_with_grad": [
        lambda: boltzmax.binary_cross_entropy_with_logits_with_grad(x, where, out=out)
    ],
    "class_weights": [
        lambda: boltzmax.class_weights(counts),
        refused(boltzmax.class_weights, counts, "no such"),
    ],
    "logit_adjustment": [lambda: boltzmax.logit_adjustment(counts)],
    "balanced_softmax": [lambda: boltzmax.balanced_softmax(x[:, :12], counts)],
    "resample_indices": [lambda: boltzmax.resample_indices(classes, rng=0)],
    "row_stats": [
        lambda: boltzmax.row_stats(x, target, k=3),
        refused(boltzmax.row_stats, x, k=-1),
    ],
    "linear_cross_entropy": [
        lambda: boltzmax.linear_cross_entropy(hidden, weight, classes),
        refused(boltzmax.linear_cross_entropy, hidden, weight.T, classes),
    ],
    "linear_logsumexp": [lambda: boltzmax.linear_logsumexp(hidden, weight)],
    "linear_log_prob": [lambda: boltzmax.linear_log_prob(hidden, weight, classes)],
    "linear_topk": [lambda: boltzmax.linear_topk(hidden, weight, 3)],
    "linear_sample": [lambda: boltzmax.linear_sample(hidden, weight, rng=0)],
    "Tree": [
        lambda: boltzmax.Tree.huffman(counts, arity=3),
        lambda: boltzmax.Tree.balanced(9).leaf_path(4),
        lambda: boltzmax.Tree.from_paths(["a/b", "a/c", "d"]).render(),
        refused(boltzmax.Tree.from_parents, [0, 0]),
        refused(boltzmax.Tree.huffman, counts, arity=1),
    ],
    "HierarchicalSoftmax": [
        lambda: boltzmax.HierarchicalSoftmax(tree, 6),
        lambda: layer.log_prob(hidden, classes),
        lambda: layer.log_prob_all(hidden),
        lambda: layer.node_log_prob(hidden),
        lambda: layer.loss_with_grad(hidden, classes),
        lambda: layer.topk(hidden, 3),
        lambda: layer.predict_node(hidden, 0.5),
        lambda: layer.sample(hidden, rng=0),
        lambda: layer.sgd_step(hidden, classes, lr=1e-3),
        lambda: layer.sgd_step(hidden, classes, lr=1e-3, update="hogwild"),
        lambda: layer.adagrad_step(hidden, classes, lr=1e-3),
        lambda: layer.pair_step(vectors, ids, classes, lr=1e-3),
        refused(layer.log_prob, hidden, [0, 1, 12]),
        refused(layer.topk, hidden, 0),
        refused(layer.sgd_step, hidden, classes[:2], lr=1.0),
    ],
    "get_num_threads": [boltzmax.get_num_threads],
    "set_num_threads": [
        lambda: boltzmax.set_num_threads(boltzmax.get_num_threads()),
        refused(boltzmax.set_num_threads, 0),
        refused(boltzmax.set_num_threads, "1"),
    ],
    "isa": [boltzmax.isa],
    "available_isas": [boltzmax.available_isas],
    "config": [boltzmax.config],
    "get_include": [boltzmax.get_include],
    "get_cmake_dir": [boltzmax.get_cmake_dir],
    "special": [
        lambda: boltzmax.special.softmax(x),
        lambda: boltzmax.special.log_softmax(x, 0),
        lambda: boltzmax.special.logsumexp(x, b=x, return_sign=True),
    ],
}
for _loss in LOSSES.values():  # those without specific cases
    _given = every_function.Arguments(x).of_loss(_loss)[0][0]
    for _function in (_loss.function, _loss.with_grad):
        CASES.setdefault(_function.__name__, [partial(_function, *_given)])


def streamed() -> object:
    total = boltzmax.OnlineLogSumExp(4)
    total.update(x)
    total.merge(total)
    return total.value


few = boltzmax.QuantizedLinear(weight, rotate=True)
CASES["QuantizedLinear"] = [
    lambda: boltzmax.QuantizedLinear(weight, counts, bits=4, scheme="per_group"),
    lambda: boltzmax.QuantizedLinear(weight, dtype="bfloat16").dequantize(),
    lambda: few.logits(hidden),
    lambda: few.log_prob(hidden, classes),
    lambda: few.topk(hidden, 3),
    lambda: few.intervals(hidden, 2),
    lambda: few.candidates(hidden, 3),
    lambda: few.log_partition(hidden),
    refused(few.candidates, hidden, 13),
    refused(boltzmax.QuantizedLinear, weight * np.inf),
]
CASES |= screen_calls.everything(weight, counts, hidden, classes)
CASES["OnlineLogSumExp"] = [streamed]
for _name, _call in every_function.samples(x[:, :12]):
    CASES.setdefault(_name, []).append(_call)
CASES["log_partition_estimate"] += [refused(boltzmax.log_partition_estimate, hidden, weight, [1])]
_uniform = UniformSampler(len(weight))
CASES["sampling_bias_report"] = [
    lambda: boltzmax.sampling_bias_report(hidden, weight, classes, [_uniform], 2, repeats=2)
]
CASES["GumbelSoftmax"] = [lambda: boltzmax.GumbelSoftmax(rng=1)(x)]
for _name, _call in every_function.variants(x):
    CASES.setdefault(_name, []).append(_call)
for _kind, _make in MADE.items():
    CASES.setdefault(_kind.__name__, of_layer(partial(_make, 12, 6)))
_labels = np.arange(24) % 3
_logits = 2 * np.random.default_rng(2).standard_normal((24, 3)) + 3 * np.eye(3)[_labels]
TRUST: dict[str, list[Call]] = {}
for _name, _call in (
    *trust_calls.everything(_logits, _labels),
    *trust_calls.refusals(_logits, _labels),
):
    TRUST.setdefault(_name, []).append(_call)
CASES |= TRUST
CANDIDATES: dict[str, list[Call]] = {}
for _name, _call in candidate_samples.calls():
    CANDIDATES.setdefault(_name, []).append(_call)
CASES |= CANDIDATES
# Slow although they are small: fewer calls suffice.
SLOW = {
    "QuantizedLinear",
    *screen_calls.NAMES,
    "Tree",
    "config",
    "resample_indices",
    "linear_sample",
    "get_include",
    "get_cmake_dir",
} | {kind.__name__ for kind in MADE}
SLOW |= {*TRUST, *CANDIDATES, "sampling_bias_report"}


@pytest.fixture(scope="module", autouse=True)
def small_heap() -> Iterator[None]:
    """Freeze the heap, so that the collector does not traverse it hundreds of times."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def test_all_public_functions_are_called() -> None:
    """All except functions that print and classes that only hold results."""
    public = {name for name in boltzmax.__all__ if callable(getattr(boltzmax, name))}
    assert public - {"show_config", "RowStats"} == set(CASES) - {"special"} - set(TRUST) - set(
        CANDIDATES
    )
    assert set(TRUST) == trust_calls.public()
    assert set(CANDIDATES) == set(boltzmax.candidates.__all__) - {"Sampler"}


class _Mallinfo2(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def _bytes_in_use() -> int:
    """The bytes in use by malloc, of all threads; 0 if it does not report them."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):
        return 0
    libc.mallinfo2.restype = _Mallinfo2
    info = libc.mallinfo2()
    return int(info.uordblks + info.hblkhd)


def _held() -> np.ndarray[Any, np.dtype[np.int64]]:
    gc.collect()
    return np.array([sys.getallocatedblocks(), _bytes_in_use()])


def _repeat(call: Call, times: int) -> None:
    for _ in range(times):
        call()


@pytest.mark.parametrize("name", CASES)
def test_no_objects_or_bytes_leak(name: str) -> None:
    """A leak of one object or byte in ten calls would be detected."""
    calls = CALLS // 10 if name in SLOW else CALLS
    for number, call in enumerate(CASES[name]):
        _repeat(call, 20)
        for _ in range(15):  # caches of Python and NumPy fill in the first rounds
            before = _held()
            _repeat(call, calls)
            blocks, size = _held() - before
            if blocks < calls / 10 and size < calls:
                break
        else:
            raise AssertionError(f"{name}, {number}: {calls} calls leak {blocks} and {size} bytes")


SHARED: list[object] = [x, x32, x16, out, where, target, probabilities, weight, hidden, classes]
SHARED += [layer.weight, np.dtype("f2"), np.dtype("f4"), np.dtype("f8"), np.dtype("i8"), np.float64]
SHARED += [None, True, False, NotImplemented, (), "", 0, 1, -1, boltzmax.softmax, np.ndarray]


def _changes(call: Call, calls: int) -> dict[str, int]:
    """How many references to shared objects the calls add or remove."""
    gc.collect()
    before = [sys.getrefcount(shared) for shared in SHARED]
    _repeat(call, calls)
    gc.collect()
    after = [sys.getrefcount(shared) for shared in SHARED]
    both = zip(SHARED, before, after, strict=True)
    return {repr(shared)[:40]: b - a for shared, a, b in both if abs(b - a) > calls / 10}


@pytest.mark.parametrize("name", CASES)
def test_references_are_balanced(name: str) -> None:
    """References to the arguments and to shared objects: dtypes, None, small numbers."""
    by_numpy = _changes(lambda: np.empty(3), 100)  # NumPy 2.4 loses one of its default dtype
    for number, call in enumerate(CASES[name]):
        _repeat(call, 10)
        for _ in range(3):
            changed = {what: n for what, n in _changes(call, 100).items() if what not in by_numpy}
            if not changed:
                break
        else:
            raise AssertionError(f"{name}, {number}: {changed}")


def test_leaks_are_detected() -> None:
    """These tests detect an object, bytes, or a reference in every tenth call."""
    kept: list[object] = []
    for leak in (object, lambda: ctypes.create_string_buffer(2000)):
        before = _held()
        _repeat(lambda leak=leak: kept.append(leak()), 200)  # type: ignore[misc]
        blocks, size = _held() - before
        assert blocks >= 4 or size >= 200
    assert _changes(lambda: kept.append(x32), 100) == {repr(x32)[:40]: 100}


RECYCLED = """
import re, sys, numpy as np, boltzmax
MIB = 1 << 20

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 1024

def results(*sizes):
    return [boltzmax.softmax(np.zeros((size, MIB // 4), np.float32)) for size in sizes]

results(2)
before = resident()
for _ in range(3):
    held = results(*range(2, 14))  # every size once: 90 MiB
    most = resident() - before
    del held
    print(f"{most:.0f} {resident() - before:.0f}")
for _ in range(100):
    results(3, 5)
print(f"0 {resident() - before:.0f}")
"""


@pytest.mark.parametrize("bad", ["1.5", "-1", "lots", "64MB", " ", "1073741825", "9" * 30])
def test_invalid_limits(run_python: RunPython, bad: str) -> None:
    done = run_python("import boltzmax", env={"BOLTZMAX_CACHE_MB": bad})
    assert done.returncode == 1
    expected = (
        "ValueError: BOLTZMAX_CACHE_MB must be a whole number of megabytes from 0 to 1073741824"
    )
    assert done.stderr.splitlines()[-1] == f"{expected}, got '{bad}'"


@pytest.mark.parametrize("limit", [0, 16, 64])
def test_recycled_memory_is_bounded(run_python: RunPython, limit: int) -> None:
    """The memory of dead results kept for reuse stays within BOLTZMAX_CACHE_MB."""
    if sys.platform != "linux":
        pytest.skip("reads resident memory from /proc")
    done = run_python(RECYCLED, env={"BOLTZMAX_CACHE_MB": str(limit)})
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        most, left = map(float, line.split())
        assert most > 85 or most == 0
        assert left < limit + 20
