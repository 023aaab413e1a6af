"""Tensors: our functions without autograd, and boltzmax.torch against eager PyTorch.

    python benchmarks/bench_torch.py [small | losses | layers ...]

prints times and ratios to the first call of each table, measured interleaved in one process, on one
thread.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import boltzmax
import boltzmax.torch as bridge
from boltzmax.cli.timing import Task, interleave

SHAPES = ((4096, 10_000), (100_000, 10))
CLASSES, WIDTH, BATCH = 100_000, 64, 256
functional = torch.nn.functional


def compare(title: str, calls: dict[str, Callable[[], object]], rounds: int = 15) -> None:
    """Print the time of each call, and how often it fits into that of the first."""
    times = interleave({name: Task(call) for name, call in calls.items()}, rounds=rounds)
    first = times[next(iter(calls))]
    print(title)
    for name, seconds in times.items():
        ratio = float(np.median(first / seconds))
        print(f"  {name:44} {1e6 * float(np.median(seconds)):12.1f} us {ratio:8.2f} times as fast")


def small() -> None:
    """Compare calls on ten numbers: what conversions and PyTorch's dispatcher cost."""
    x = torch.randn(10)
    half, recorded, array = x.bfloat16(), x.clone().requires_grad_(), x.numpy()
    logits, target = torch.randn(4, 10), torch.tensor([1, 2, 3, 4])
    trained = logits.clone().requires_grad_()
    compare(
        "softmax of ten numbers",
        {
            "ndarray": lambda: boltzmax.softmax(array),
            "tensor": lambda: boltzmax.softmax(x),
            "bfloat16 tensor": lambda: boltzmax.softmax(half),
            "boltzmax.torch": lambda: bridge.softmax(x, 0),
            "boltzmax.torch, recorded by autograd": lambda: bridge.softmax(recorded, 0),
            "PyTorch, recorded by autograd": lambda: torch.softmax(recorded, 0),
        },
    )
    compare(
        "cross_entropy of 4 x 10",
        {
            "PyTorch, recorded": lambda: functional.cross_entropy(trained, target),
            "boltzmax.torch": lambda: bridge.cross_entropy(logits, target),
            "boltzmax.torch, recorded": lambda: bridge.cross_entropy(trained, target),
        },
    )


def losses() -> None:
    """Compare forward and backward passes of cross_entropy."""
    for rows, classes in SHAPES:
        target, logits = torch.randint(0, classes, (rows,)), torch.randn(rows, classes)
        compare(
            f"cross_entropy of {rows} x {classes}, forward and backward",
            {
                "PyTorch": both_passes(functional.cross_entropy, logits, target),
                "boltzmax.torch": both_passes(bridge.cross_entropy, logits, target),
                "boltzmax.torch, loss times 2": both_passes(
                    lambda *arguments: bridge.cross_entropy(*arguments) * 2, logits, target
                ),
            },
            rounds=7,
        )


def both_passes(loss: Callable[..., Any], logits: Any, target: Any) -> Callable[[], None]:
    """Return a call that computes the gradient of a loss."""
    leaf = logits.clone().requires_grad_()

    def call() -> None:
        leaf.grad = None
        loss(leaf, target).backward()

    return call


def layers() -> None:
    """Compare training steps of a tree of classes: gradients for all units, or those touched."""
    tree = boltzmax.Tree.huffman(1 / np.arange(1, CLASSES + 1))
    hidden, target = torch.randn(BATCH, WIDTH), torch.randint(0, CLASSES, (BATCH,))

    def step(sparse: bool) -> Callable[[], None]:
        module = bridge.HierarchicalSoftmax(tree, WIDTH, seed=0, sparse=sparse)
        optimizer = torch.optim.SGD(module.parameters(), lr=0.01)

        def call() -> None:
            optimizer.zero_grad()
            module(hidden, target).backward()
            optimizer.step()

        return call

    own = boltzmax.HierarchicalSoftmax(tree, WIDTH, seed=0)
    compare(
        f"steps of {BATCH} rows, {CLASSES} classes on a tree",
        {
            "module, dense gradients": step(sparse=False),
            "module, sparse gradients": step(sparse=True),
            "the layer's own sgd_step": lambda: own.sgd_step(
                hidden.numpy(), target.numpy(), 0.01, update="batch"
            ),
        },
        rounds=7,
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    boltzmax.set_num_threads(1)
    tables = {"small": small, "losses": losses, "layers": layers}
    for name in sys.argv[1:] or tables:
        tables[name]()
