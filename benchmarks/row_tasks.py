"""Every operation on rows, prepared for boltzmax and for the peers that have an equivalent.

PyTorch works on its own tensors, and differentiates only if the operation is a gradient.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import boltzmax
from boltzmax.cli import bench, peers
from boltzmax.cli.peers import FUNCTIONS, OURS, Array, Case
from boltzmax.cli.timing import Task

LOSSES = ("cross_entropy", "cross_entropy_with_grad", "row_stats")
OPERATIONS = (*FUNCTIONS, "softmax_backward", "log_softmax_backward", *LOSSES)
YARDSTICK = "np.exp"  # shown with every operation, but not a peer


@dataclass(frozen=True)
class Rows:
    """Rows to work on, and a class for each."""

    x: Array
    target: Array
    dtype: str

    @classmethod
    def of(cls, case: Case) -> Rows:
        x = case.data()
        return cls(x, np.random.default_rng(1).integers(x.shape[-1], size=len(x)), case.dtype)


def prepare(case: Case) -> dict[str, Task]:
    """Return the tasks of a case: ours first, the peers', and NumPy's exp of equal size."""
    if case.function in FUNCTIONS:
        tasks = peers.prepare(case)
    else:
        rows = Rows.of(case)
        tasks = {OURS: on_one_thread(_ours(case.function, rows))}
        if find_spec("torch"):
            tasks["torch"] = in_torch(case.function, rows)
    return {**tasks, YARDSTICK: Task(partial(np.exp, case.data()))}


def on_one_thread(call: Callable[[], object]) -> Task:
    """Return a task of ours."""
    return Task(call, partial(boltzmax.set_num_threads, 1))


def _ours(function: str, rows: Rows) -> Callable[[], object]:
    call = getattr(boltzmax, function)
    if function == "row_stats":
        return partial(call, rows.x, k=1, entropy=False)
    if function in LOSSES:
        return partial(call, rows.x, rows.target)
    y = getattr(boltzmax, function.removesuffix("_backward"))(rows.x)
    return partial(call, rows.x, y)


def in_torch(function: str, rows: Rows) -> Task:
    """Return PyTorch's task for the same results."""
    import torch

    x = torch.from_numpy(rows.x.astype(np.float64)).to(getattr(torch, rows.dtype))
    target = torch.from_numpy(rows.target)
    y = torch.log_softmax(x, -1) if "log" in function else torch.softmax(x, -1)
    loss = torch.nn.functional.cross_entropy

    def with_grad() -> object:
        leaf = x.detach().requires_grad_()
        loss(leaf, target).backward()
        return leaf.grad

    calls: dict[str, Callable[[], object]] = {
        "softmax_backward": partial(torch._softmax_backward_data, x, y, -1, x.dtype),
        "log_softmax_backward": partial(torch._log_softmax_backward_data, x, y, -1, x.dtype),
        "cross_entropy": partial(loss, x, target),
        "cross_entropy_with_grad": with_grad,
        "row_stats": lambda: torch.log_softmax(x, -1).max(-1),
    }
    return Task(calls[function], partial(torch.set_num_threads, 1))


def environment() -> dict[str, Any]:
    """Return what measurements depend on, including the commit."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # an archive, or no git
        return bench.environment()
    return {**bench.environment(), "commit": done.stdout.strip()}
