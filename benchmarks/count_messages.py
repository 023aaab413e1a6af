"""Messages and bytes of a step of a linear layer whose classes are split over ranks.

``python benchmarks/count_messages.py`` runs `boltzmax.mpi.linear_cross_entropy_with_grad` on four
real ranks, counts what each sends, checks the formulas below against the counts, and prints what
they say for a layer past one machine.  All sizes are options; see ``--help``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

RANKS = 4
SMALL = (600, 32, 4_000)  # rows, features and classes of the run that is counted


@dataclass(frozen=True)
class Step:
    """A step: float32 rows of hidden vectors, of which every rank has all, and classes."""

    rows: int
    features: int
    classes: int
    ranks: int
    block: int = 256  # boltzmax.mpi.messages.ROWS
    record: int = 120  # bytes of what is known of a row

    @property
    def blocks(self) -> int:
        """Blocks of rows."""
        return max(1, math.ceil(self.rows / self.block))

    @property
    def messages(self) -> int:
        """Reductions: what is known of a block of rows, and its gradient by the hidden vectors."""
        return 2 * self.blocks

    @property
    def record_bytes(self) -> int:
        """Bytes of what is known: the first block is sent whole, after a header."""
        return self.record * (1 + self.block + max(0, self.rows - self.block))

    @property
    def gradient_bytes(self) -> int:
        """Bytes of the gradient by the hidden vectors."""
        return 4 * self.rows * self.features

    @property
    def classes_per_rank(self) -> int:
        """Classes of the largest rank."""
        return math.ceil(self.classes / self.ranks)

    def products(self, kept: int = 2**26) -> int:
        """Matrix products: four, or three where the logits of a block are kept."""
        return 3 if min(self.block, self.rows) * self.classes_per_rank <= kept else 4

    @property
    def flops(self) -> float:
        """Floating-point operations of each rank."""
        return self.products() * 2.0 * self.rows * self.features * self.classes_per_rank

    def network_seconds(self, bandwidth: float, latency: float, merge: float) -> float:
        """Time of the reductions: reduce-scatter and all-gather, or a tree for short ones."""
        depth = math.ceil(math.log2(self.ranks)) if self.ranks > 1 else 0
        sent = 2 * (self.ranks - 1) / self.ranks * self.gradient_bytes + depth * self.record_bytes
        each = 2 * depth * latency
        return sent / bandwidth + self.messages * each + self.blocks * depth * merge


def measure_rank(rows: int, features: int, classes: int) -> None:
    """Count the messages of this rank; rank 0 prints those of all, and the time of a merge."""
    from mpi4py import MPI

    from boltzmax.losses.parts import merge_parts, parts_of
    from boltzmax.mpi import Shard, linear_cross_entropy_with_grad

    class Counting:
        def __init__(self, comm: Any) -> None:
            self.comm, self.sizes = comm, list[int]()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.comm, name)

        def Allreduce(self, sent: Any, received: Any, op: Any) -> None:  # noqa: N802 (MPI's name)
            buffer = received[0] if isinstance(received, list) else received
            self.sizes.append(buffer.nbytes)
            self.comm.Allreduce(sent, received, op)

    comm = Counting(MPI.COMM_WORLD)
    shard = Shard(comm, classes // comm.size)
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((rows, features), dtype=np.float32)
    weight = rng.standard_normal((shard.n_local, features), dtype=np.float32)
    target = rng.integers(0, shard.n_classes, rows)
    linear_cross_entropy_with_grad(hidden, weight, target, shard)
    gathered = comm.comm.gather(comm.sizes)
    if comm.rank == 0:
        mine, other = (parts_of(rng.normal(size=(256, 50)), f, 1.0) for f in (0, 50))
        begin = time.perf_counter()
        for _ in range(100):
            merge_parts(mine, other, 1.0)
        print(json.dumps([gathered, (time.perf_counter() - begin) / 100]))


def counted() -> tuple[list[list[int]], float]:
    """Return the sizes of each rank's messages, and the seconds that merging 256 records takes."""
    mpiexec = Path(sys.executable).with_name("mpiexec")
    command = [str(mpiexec) if mpiexec.exists() else "mpiexec", "-n", str(RANKS)]
    command += [sys.executable, __file__, "--rank"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "BOLTZMAX_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    sizes, merge = json.loads(done.stdout)
    return sizes, merge


def main() -> None:
    """Count, check and extrapolate, or be one rank."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rank", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, default=8192)
    parser.add_argument("--features", type=int, default=4096)
    parser.add_argument("--classes", type=int, default=100_000_000)
    parser.add_argument("--ranks", type=int, default=100)
    parser.add_argument("--teraflops", type=float, default=5.0, help="of a machine")
    parser.add_argument("--gigabytes", type=float, default=12.5, help="a second, of the network")
    parser.add_argument("--microseconds", type=float, default=5.0, help="latency of a message")
    arguments = parser.parse_args()
    if arguments.rank:
        measure_rank(*SMALL)
        return
    sizes, merge = counted()
    small = Step(*SMALL, RANKS)
    for rank, each in enumerate(sizes):
        total = small.record_bytes + small.gradient_bytes
        print(f"rank {rank} of {RANKS}: {len(each)} messages, {sum(each)} bytes")
        if (len(each), sum(each)) != (small.messages, total):
            raise SystemExit(f"the formulas say {small.messages} messages, {total} bytes")
    step = Step(arguments.rows, arguments.features, arguments.classes, arguments.ranks)
    compute = step.flops / (arguments.teraflops * 1e12)
    network = step.network_seconds(arguments.gigabytes * 1e9, arguments.microseconds * 1e-6, merge)
    print(f"\n{step.rows} rows, {step.features} features, {step.classes:.0e} classes, "
          f"{step.ranks} machines")  # fmt: skip
    weights = 4 * step.classes_per_rank * step.features
    print(f"weights of a machine        {weights / 1e9:10.2f} GB, and as much for their gradient")
    print(f"messages of a step          {step.messages:10d}")
    print(f"what is known of rows       {step.record_bytes / 1e6:10.2f} MB")
    print(f"gradient by hidden vectors  {step.gradient_bytes / 1e6:10.2f} MB")
    print(f"merging 256 records         {merge * 1e6:10.0f} us, measured here")
    print(f"arithmetic                  {compute:10.2f} s, {step.products()} products")
    print(f"network                     {network:10.3f} s")


if __name__ == "__main__":
    main()
