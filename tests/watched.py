"""Check that a sanitizer works: it must catch ``python watched.py asan|tsan ISA SIZE``.

The errors are deliberate.  `.ci/sanitizers` runs this before the tests, whose success would prove
nothing otherwise.
"""

from __future__ import annotations

import sys
import threading

import numpy as np
from numpy.lib.stride_tricks import as_strided

import boltzmax
import boltzmax.testing


def read_one_too_many(size: int) -> None:
    """Read beyond the last element of an array, by a masked load if the kernels use them."""
    x = boltzmax.softmax(np.zeros((1, size), np.float32))
    boltzmax.logsumexp(as_strided(x, (1, size + 1)))


def write_the_same(size: int) -> None:
    """Write to one array from two threads."""
    x, out = np.ones((8, size), np.float32), np.empty((8, size), np.float32)

    def write() -> None:
        together.wait()
        for _ in range(50):
            boltzmax.softmax(x, out=out)

    together = threading.Barrier(2)
    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()


def main(sanitizer: str, isa: str, size: str) -> None:
    boltzmax.set_num_threads(1)
    with boltzmax.testing.use_isa(isa):
        (read_one_too_many if sanitizer == "asan" else write_the_same)(int(size))


if __name__ == "__main__":
    main(*sys.argv[1:])
