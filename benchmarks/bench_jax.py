"""boltzmax.jax compared with JAX's own functions, all compiled by `jax.jit`.

    taskset -c 0 python benchmarks/bench_jax.py

prints times and their ratios, measured interleaved in one process. On one processor both use one
thread; without `taskset`, XLA uses all, and boltzmax those of `boltzmax.set_num_threads`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import boltzmax
import boltzmax.jax as bridge
from boltzmax.cli.timing import Task, interleave

SHAPES = ((64, 1000), (4096, 1000), (100_000, 10))
GOAL = 5.0  # softmax of the first shape


def loss_by_jax(z: Any, target: Any) -> Any:
    """Return the mean cross-entropy, as it is written in JAX."""
    return -jnp.take_along_axis(jax.nn.log_softmax(z), target[:, None], 1).mean()


def of_gradient(f: Callable[..., Any]) -> Callable[..., Any]:
    """Return the gradient of a map, weighted with its argument."""
    return lambda x: jax.grad(lambda z: (f(z) * x).sum())(x)


def compare(title: str, ours: Callable[..., Any], theirs: Callable[..., Any], *arrays: Any) -> None:
    """Print both times, and how many times as fast ours is."""

    def task(f: Callable[..., Any]) -> Task:
        compiled = jax.jit(f)
        return Task(lambda: jax.block_until_ready(compiled(*arrays)))

    times = interleave({"ours": task(ours), "theirs": task(theirs)}, rounds=31)
    micro = {name: 1e6 * float(np.median(seconds)) for name, seconds in times.items()}
    ratio = float(np.median(times["theirs"] / times["ours"]))
    print(f"  {title:24} {micro['ours']:9.1f} us  jax.nn {micro['theirs']:9.1f} us {ratio:6.2f}x")


def main() -> None:
    """Print all comparisons."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"JAX {jax.__version__}, {cpus} processors, {boltzmax.get_num_threads()} threads of ours")
    for shape in SHAPES:
        goal = f"; goal for softmax {GOAL:g}x" if shape == SHAPES[0] else ""
        print(f"{shape[0]} x {shape[1]}, float32{goal}")
        rng = np.random.default_rng(0)
        x = jnp.asarray(rng.standard_normal(shape, np.float32))
        target = jnp.asarray(rng.integers(0, shape[1], shape[0]))
        compare("softmax", bridge.softmax, jax.nn.softmax, x)
        compare("log_softmax", bridge.log_softmax, jax.nn.log_softmax, x)
        compare("logsumexp", bridge.logsumexp, lambda z: jax.nn.logsumexp(z, axis=-1), x)
        compare("gradient of softmax", of_gradient(bridge.softmax), of_gradient(jax.nn.softmax), x)
        compare("loss", bridge.cross_entropy, loss_by_jax, x, target)
        both = (jax.value_and_grad(f) for f in (bridge.cross_entropy, loss_by_jax))
        compare("loss and gradient", *both, x, target)


if __name__ == "__main__":
    main()
