"""Samplers of candidates, on one thread: nanoseconds per draw, and the quadratic kernel's tree.

    python benchmarks/bench_candidates.py [--json FILE] [--repeat N]

Prints medians of interleaved calls, with the goals; needs some 2 GB of memory.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import boltzmax
from bench_sampling import interleaved
from boltzmax.candidates import (
    LogUniformSampler,
    QuadraticKernelSampler,
    UniformSampler,
    UnigramSampler,
)

CLASSES = DRAWS = 10**7
GOALS = {"unigram": 25.0, "log-uniform": 5.0}  # nanoseconds


def per_draw(repeat: int) -> dict[str, float]:
    """Return the time of a draw with log_q, in nanoseconds, ours and NumPy's."""
    rng = np.random.default_rng(0)
    counts = rng.permutation(CLASSES // np.arange(1, CLASSES + 1) + 1)
    for memory in ("fresh", "used"):
        start = time.perf_counter()
        unigram = UnigramSampler(counts)
        seconds = time.perf_counter() - start
        print(f"table of {CLASSES:,} classes in {memory} memory: {seconds:.2f} s (goal 1)")
    log_v = np.log1p(CLASSES)

    def numpy_log_uniform() -> Any:
        k = np.minimum(np.exp(rng.random(DRAWS) * log_v).astype(np.int64) - 1, CLASSES - 1)
        return k, np.log(np.log1p(1 / (k + 1.0)) / log_v) + np.log(DRAWS)

    log_uniform, uniform = LogUniformSampler(CLASSES), UniformSampler(CLASSES)
    calls: dict[str, Callable[[], Any]] = {
        "unigram": lambda: unigram.sample(DRAWS, rng=1),
        "log-uniform": lambda: log_uniform.sample(DRAWS, rng=1),
        "log-uniform, NumPy": numpy_log_uniform,
        "uniform": lambda: uniform.sample(DRAWS, rng=1),
    }
    return {name: t / DRAWS * 1e9 for name, t in interleaved(calls, repeat).items()}


def quadratic(repeat: int) -> dict[str, float]:
    """Return the time for 256 draws from a row's kernel, and others, in milliseconds."""
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((1_000_000, 64), dtype=np.float32)
    hidden = rng.standard_normal((64, 64), dtype=np.float32)
    start = time.perf_counter()
    sampler = QuadraticKernelSampler(weight)
    print(f"tree of 1,000,000 x 64: {time.perf_counter() - start:.2f} s, "
          f"{sampler.nbytes / weight.nbytes:.2f} times the weights")  # fmt: skip
    rows = iter(np.resize(np.arange(64), 10_000))
    changed = rng.integers(0, 1_000_000, 1024)
    calls: dict[str, Callable[[], Any]] = {
        "256 draws for a row": lambda: sampler.sample(256, rng=1, hidden=hidden[next(rows)]),
        "linear_logsumexp of a row": lambda: boltzmax.linear_logsumexp(hidden[next(rows)], weight),
        "256 draws shared by 64 rows": lambda: sampler.sample(256, rng=1, hidden=hidden),
        "update of 1024 rows": lambda: sampler.update(changed),
    }
    return {name: t * 1e3 for name, t in interleaved(calls, repeat).items()}


def main() -> None:
    """Time all cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    boltzmax.set_num_threads(1)
    draws = per_draw(args.repeat)
    for name, nanoseconds in draws.items():
        goal = f"  goal {GOALS[name]:g}" if name in GOALS else ""
        print(f"{name:30} {nanoseconds:8.2f} ns per draw{goal}")
    tree = quadratic(args.repeat)
    exact = tree["linear_logsumexp of a row"]
    for name, milliseconds in tree.items():
        print(
            f"{name:30} {milliseconds:8.2f} ms  {exact / milliseconds:6.2f} times as fast as exact"
        )
    if args.json:
        args.json.write_text(json.dumps({"nanoseconds": draws, "milliseconds": tree}, indent=1))


if __name__ == "__main__":
    main()
