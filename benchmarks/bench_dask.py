"""Softmax of a Dask array larger than memory, compared with the same chunks through NumPy.

``python benchmarks/bench_dask.py 12`` makes an array of 12 GB of float32, its class axis
chunked, of chunks of random numbers made on the fly, and sums the squares of its softmax.  The
NumPy side is two threads that make the same chunks twice, with ``np.exp``.  It prints
both times, and the peak of memory beyond the start.  By default, 1 GB.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

import boltzmax

Floats = NDArray[np.float32]

ROWS, CLASSES = 64, 250_000  # of a chunk: 64 MB
WORKERS = 2


class PeakMemory:
    """The largest resident memory while it is entered, in bytes beyond that at the start."""

    def __enter__(self) -> PeakMemory:
        self.peak, self._start, self._is_over = 0, self._resident(), threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _resident(self) -> int:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def _watch(self) -> None:
        while not self._is_over.wait(0.005):
            self.peak = max(self.peak, self._resident() - self._start)


def chunk(seed: int) -> Floats:
    """Make one chunk."""
    return np.random.default_rng(seed).standard_normal((ROWS, CLASSES), np.float32)


def array(rows: int, columns: int) -> Any:
    """Return an array of chunks that are made when they are needed."""
    import dask.array as da

    return da.map_blocks(
        lambda block_info=None: chunk(
            block_info[None]["chunk-location"][0] * columns + block_info[None]["chunk-location"][1]
        ),
        chunks=((ROWS,) * rows, (CLASSES,) * columns),
        dtype=np.float32,
        meta=np.empty((0, 0), np.float32),
    )


def with_dask(rows: int, columns: int) -> float:
    """Return the sum of the squares of the softmax."""
    import dask

    from boltzmax.dask import softmax

    p = softmax(array(rows, columns))
    squares = p.map_blocks(
        lambda block: np.vdot(block, block).reshape(1, 1), chunks=(1, 1), dtype=np.float32
    )
    with dask.config.set(scheduler="threads", num_workers=WORKERS):
        return float(squares.sum(dtype=np.float64).compute())


def with_numpy(rows: int, columns: int) -> float:
    """Return the same with NumPy's exponentials: a block of rows after the other in each thread."""

    def squares_of(row: int) -> float:
        seeds = range(row * columns, (row + 1) * columns)
        largest, total = np.full((ROWS, 1), -np.inf, np.float32), np.zeros((ROWS, 1))
        for seed in seeds:
            x = chunk(seed)
            most = np.maximum(largest, x.max(axis=1, keepdims=True))
            total = total * np.exp(largest - most)
            total += np.exp(x - most).sum(axis=1, keepdims=True, dtype=np.float64)
            largest = most
        result = 0.0
        for seed in seeds:
            p = np.exp(chunk(seed) - largest) / total.astype(np.float32)
            result += float(np.vdot(p, p))
        return result

    with ThreadPoolExecutor(WORKERS) as pool:
        return sum(pool.map(squares_of, range(rows)))


def timed(
    function: Callable[[int, int], float], rows: int, columns: int
) -> tuple[float, float, int]:
    """Return the seconds, the result and the peak of memory."""
    with PeakMemory() as memory:
        begin = time.perf_counter()
        result = function(rows, columns)
        seconds = time.perf_counter() - begin
    return seconds, result, memory.peak


def main() -> None:
    """Measure both, in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gigabytes", type=float, nargs="?", default=1.0)
    parser.add_argument("--columns", type=int, default=8, help="chunks along the class axis")
    arguments = parser.parse_args()
    boltzmax.set_num_threads(1)
    size = ROWS * CLASSES * 4
    rows = max(2, round(arguments.gigabytes * 1e9 / (size * arguments.columns)))
    print(f"{rows} x {arguments.columns} chunks of {size / 1e6:.0f} MB, {WORKERS} threads")
    for name, function in (("numpy", with_numpy), ("dask", with_dask)):
        seconds, result, peak = timed(function, rows, arguments.columns)
        chunks = peak / size / WORKERS
        print(f"{name:6} {seconds:7.2f} s  {result:.10g}  {chunks:.1f} chunks a worker at most")


if __name__ == "__main__":
    main()
