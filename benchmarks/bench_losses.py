"""Cross-entropy with its gradient, and row statistics, compared with PyTorch and our logsumexp.

``python benchmarks/bench_losses.py`` prints the ratios, measured interleaved in one process.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

import boltzmax
from boltzmax.cli.timing import Task, interleave

if TYPE_CHECKING:
    from conftest import Measure

Floats = NDArray[np.float32]

LOSS: tuple[int, int] = (4096, 10_000)
STATS: tuple[int, int] = (256, 128_000)


def problem(shape: tuple[int, int]) -> tuple[Floats, NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    logits = 4 * rng.standard_normal(shape, np.float32)
    return logits, rng.integers(shape[1], size=shape[0])


def torch_loss(logits: Floats, target: NDArray[np.int64]) -> Callable[[], object]:
    """Return PyTorch's forward and backward pass."""
    torch: Any = pytest.importorskip("torch")
    torch.set_num_threads(1)
    x, t = torch.tensor(logits, requires_grad=True), torch.tensor(target)

    def run() -> None:
        x.grad = None
        torch.nn.functional.cross_entropy(x, t).backward()

    return run


def test_cross_entropy(measure: Measure) -> None:
    measure("cross_entropy", Task(partial(boltzmax.cross_entropy_with_grad, *problem(LOSS))))


def test_cross_entropy_torch(measure: Measure) -> None:
    measure("cross_entropy", Task(torch_loss(*problem(LOSS))))


def test_row_stats(measure: Measure) -> None:
    measure("row_stats", Task(partial(boltzmax.row_stats, problem(STATS)[0])))


def test_row_stats_logsumexp(measure: Measure) -> None:
    measure("row_stats", Task(partial(boltzmax.logsumexp, problem(STATS)[0])))


def compare(title: str, tasks: dict[str, Callable[[], object]]) -> None:
    """Print the time of each task, also as a multiple of the last one's."""
    times = interleave({name: Task(call) for name, call in tasks.items()}, rounds=7)
    last = times[list(tasks)[-1]]
    print(title)
    for name, seconds in times.items():
        ratio = float(np.median(seconds / last))
        print(f"  {name:36} {1e3 * float(np.median(seconds)):9.2f} ms {ratio:7.2f}x")


def main() -> None:
    boltzmax.set_num_threads(1)
    logits, target = problem(LOSS)
    tasks: dict[str, Callable[[], object]] = {}
    try:
        tasks["torch forward + backward"] = torch_loss(logits, target)
    except pytest.skip.Exception:
        print("torch is not installed")
    tasks["cross_entropy_with_grad"] = partial(boltzmax.cross_entropy_with_grad, logits, target)
    compare(f"cross-entropy, {LOSS[0]} x {LOSS[1]} float32", tasks)
    logits, target = problem(STATS)
    stats = partial(boltzmax.row_stats, logits)
    compare(
        f"row statistics, {STATS[0]} x {STATS[1]} float32",
        {
            "row_stats, with a target": partial(stats, target),
            "row_stats": stats,
            "row_stats, entropy=False": partial(stats, entropy=False),
            "logsumexp": partial(boltzmax.logsumexp, logits),
        },
    )


if __name__ == "__main__":
    main()
