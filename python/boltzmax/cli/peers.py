"""The competition: the same cases prepared for boltzmax, NumPy, SciPy, PyTorch and ONNX Runtime.

Every peer gets its best case: PyTorch works on its own tensors without autograd, ONNX Runtime in
a session built beforehand. Preparation is never timed.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boltzmax import _core
from boltzmax._lib.config import get_num_threads, set_num_threads
from boltzmax._lib.console import CommandError, progress
from boltzmax.cli.timing import Task

Array = NDArray[Any]

FUNCTIONS = ("softmax", "log_softmax", "logsumexp")
DTYPES = ("float32", "float64", "float16", "bfloat16")
OURS = "boltzmax"


@dataclass(frozen=True)
class Case:
    """What to compute, and on what."""

    function: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    axis: int = -1
    threads: int = 1

    def __str__(self) -> str:
        axis = f" axis {self.axis}" if self.axis != -1 else ""
        threads = f" {self.threads} threads" if self.threads != 1 else ""
        return f"{self.function} {dims(self.shape)} {self.dtype}{axis}{threads}"

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    def data(self) -> Array:
        """Return the scores: normally distributed, the same at every call."""
        scores = np.random.default_rng(0).standard_normal(self.shape, np.float32)
        return (4 * scores).astype(dtype(self.dtype))


def dims(shape: tuple[int, ...]) -> str:
    """Return ``64x1000`` for ``(64, 1000)``."""
    return "x".join(map(str, shape))


def dtype(name: str) -> np.dtype[Any]:
    """Return the dtype of that name; ``bfloat16`` needs ml_dtypes."""
    if name == "bfloat16":
        try:
            importlib.import_module("ml_dtypes")  # it registers the name with NumPy
        except ModuleNotFoundError:
            raise CommandError("bfloat16 needs ml_dtypes: pip install ml_dtypes") from None
    return np.dtype(name)


def available_dtypes() -> tuple[str, ...]:
    """Return the names of the dtypes that this installation knows."""
    return DTYPES if find_spec("ml_dtypes") else tuple(n for n in DTYPES if n != "bfloat16")


def numpy_softmax(x: Array, axis: int) -> Array:
    """Return the softmax as careful NumPy code computes it."""
    e: Array = x - x.max(axis, keepdims=True)
    np.exp(e, out=e)
    e /= e.sum(axis, keepdims=True)
    return e


def numpy_log_softmax(x: Array, axis: int) -> Array:
    """Return the logarithm of the softmax as careful NumPy code computes it."""
    d: Array = x - x.max(axis, keepdims=True)
    d -= np.log(np.exp(d).sum(axis, keepdims=True))
    return d


def numpy_logsumexp(x: Array, axis: int) -> Array:
    """Return the log-sum-exp as careful NumPy code computes it."""
    m = x.max(axis, keepdims=True)
    e = x - m
    np.exp(e, out=e)
    result: Array = np.log(e.sum(axis)) + m.squeeze(axis)
    return result


NUMPY = {
    "softmax": numpy_softmax,
    "log_softmax": numpy_log_softmax,
    "logsumexp": numpy_logsumexp,
}


def _boltzmax(case: Case, x: Array) -> Task:
    function = getattr(_core, case.function)
    call = partial(function, x) if case.axis == -1 else partial(function, x, case.axis)
    return Task(call, partial(set_num_threads, case.threads))


def _numpy(case: Case, x: Array) -> Task:
    return Task(partial(NUMPY[case.function], x, case.axis))


def _scipy(case: Case, x: Array) -> Task:
    import scipy.special

    return Task(partial(getattr(scipy.special, case.function), x, axis=case.axis))


def _torch(case: Case, x: Array) -> Task:
    import torch

    tensor = torch.from_numpy(x.astype(np.float64)).to(getattr(torch, case.dtype))
    call = partial(getattr(torch, case.function), tensor, case.axis)
    return Task(call, partial(torch.set_num_threads, case.threads))


def _onnxruntime(case: Case, x: Array) -> Task:
    import onnxruntime
    from onnx import helper

    node = {
        "softmax": partial(helper.make_node, "Softmax", axis=case.axis),
        "log_softmax": partial(helper.make_node, "LogSoftmax", axis=case.axis),
        "logsumexp": partial(helper.make_node, "ReduceLogSumExp", axes=[case.axis], keepdims=0),
    }[case.function](["x"], ["y"])
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    x_info, y_info = (helper.make_tensor_value_info(name, kind, None) for name in "xy")
    graph = helper.make_graph([node], case.function, [x_info], [y_info])
    # Old opsets, which have all three operators and which every current ONNX Runtime supports.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = case.threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return Task(partial(session.run, None, {"x": x}))


@dataclass(frozen=True)
class Peer:
    """A library that computes these functions."""

    name: str
    prepare: Callable[[Case, Array], Task]
    needs: tuple[str, ...]
    dtypes: tuple[str, ...] = DTYPES


PEERS = (
    Peer(OURS, _boltzmax, ()),
    Peer("numpy", _numpy, ()),
    Peer("scipy", _scipy, ("scipy",), ("float32", "float64", "float16")),
    Peer("torch", _torch, ("torch",)),
    Peer("onnxruntime", _onnxruntime, ("onnxruntime", "onnx"), ("float32", "float64")),
)


NAMES = tuple(peer.name for peer in PEERS)


def installed() -> list[Peer]:
    """Return the peers that can be imported here, ours first."""
    return [peer for peer in PEERS if all(map(find_spec, peer.needs))]


def prepare(case: Case) -> dict[str, Task]:
    """Return the tasks of all installed peers that can take the case, ours first."""
    x = case.data()
    return {p.name: p.prepare(case, x) for p in installed() if case.dtype in p.dtypes}


def work_through(title: str, cases: Sequence[Case], work: Callable[[Case], None]) -> None:
    """Run all cases with a progress bar; afterwards restore the number of threads."""
    before = get_num_threads()
    try:
        with progress(title, len(cases)) as advance:
            for case in cases:
                advance(0, str(case))
                work(case)
                advance(1)
    finally:
        set_num_threads(before)
