"""A linear layer's loss and gradients on one rank and on two, and what their messages cost.

``python benchmarks/bench_mpi.py`` starts ``mpiexec -n 1`` and ``mpiexec -n 2`` in turn, with one
thread a rank, and prints the least times and their ratio.  Options: rows, features, classes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

REPEATS, ROUNDS = 2, 3
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BOLTZMAX_NUM_THREADS")


def measure_rank(rows: int, features: int, classes: int) -> None:
    """Time the calls of this rank; rank 0 prints them."""
    from mpi4py import MPI

    from boltzmax.mpi import Shard, linear_cross_entropy_with_grad

    comm = MPI.COMM_WORLD
    share, rest = divmod(classes, comm.size)
    shard = Shard(comm, share + (comm.rank < rest))
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((rows, features), dtype=np.float32)
    target = rng.integers(0, classes, rows)
    own = np.random.default_rng(1 + comm.rank)
    weight = own.standard_normal((shard.n_local, features), dtype=np.float32) * np.float32(0.1)
    seconds = []
    for _ in range(1 + REPEATS):
        comm.Barrier()
        begin = time.perf_counter()
        linear_cross_entropy_with_grad(hidden, weight, target, shard)
        comm.Barrier()
        seconds.append(time.perf_counter() - begin)
    if comm.rank == 0:
        print(json.dumps(seconds[1:]))


def measure(ranks: int, sizes: list[int]) -> list[float]:
    """Return the seconds of calls on some ranks."""
    mpiexec = Path(sys.executable).with_name("mpiexec")
    command = [str(mpiexec) if mpiexec.exists() else "mpiexec", "-n", str(ranks)]
    command += [sys.executable, __file__, "--rank", *map(str, sizes)]
    environment = {**os.environ, **dict.fromkeys(ONE_THREAD, "1")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    seconds: list[float] = json.loads(done.stdout)
    return seconds


def main() -> None:
    """Measure, or be one rank of a measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", type=int, nargs="*", default=[512, 256, 200_000])
    parser.add_argument("--rank", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rank:
        measure_rank(*arguments.sizes)
        return
    one, two = [], []
    for _ in range(ROUNDS):
        one += measure(1, arguments.sizes)
        two += measure(2, arguments.sizes)
    a, b = min(one), min(two)
    rows, features, classes = arguments.sizes
    print(f"{rows} rows, {features} features, {classes} classes, float32, one thread a rank")
    print(f"one rank {a:.3f} s, two ranks {b:.3f} s: {a / b:.2f} times as fast")


if __name__ == "__main__":
    main()
