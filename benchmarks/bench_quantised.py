"""Search for candidates in weights of few bits, compared with float32 products and with reading.

``python benchmarks/bench_quantised.py [V] [D]`` prints times, and how many times as fast as the
product of one row each is.  Set OPENBLAS_NUM_THREADS=1.  10^6 x 256 takes 2 GB and half a minute.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import boltzmax
from boltzmax import QuantizedLinear
from boltzmax.cli.timing import Task, interleave

if TYPE_CHECKING:
    from conftest import Measure

Floats = NDArray[np.float32]

V, D, ROWS, K = 10**6, 256, 64, 10
SMALL = (20_000, 256)
CLASSES = 8192  # in a tile of the product of many rows


def problem(v: int, d: int) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((v, d), np.float32), rng.standard_normal((ROWS, d), np.float32)


def product(weight: Floats, hidden: Floats) -> None:
    """Compute the logits of many rows in tiles, and forget them."""
    tile = np.empty((len(hidden), CLASSES), np.float32)
    for start in range(0, len(weight), CLASSES):
        some = weight[start : start + CLASSES]
        np.matmul(hidden, some.T, out=tile[:, : len(some)])


def calls(weight: Floats, hidden: Floats) -> dict[str, Callable[[], Any]]:
    """Return what is timed; the first is the product of one row."""
    whole, half = QuantizedLinear(weight), QuantizedLinear(weight, bits=4)
    peaked = 2.0 * weight[len(weight) // 3 :][:1]
    codes = whole._codes.view(np.uint64)
    return {
        "float32 product, 1 row": partial(np.matmul, weight, hidden[0]),
        "reading float32": weight.view(np.uint64).max,
        "reading 8 bits": codes.max,
        "int8 top-10, 1 row": partial(whole.candidates, hidden[:1], K),
        "int4 top-1, 1 peaked row": partial(half.candidates, peaked, 1),
        "int8 log_partition, 1 row": partial(whole.log_partition, hidden[:1]),
        f"float32 product, {ROWS} rows": partial(product, weight, hidden),
        f"int8 top-10, {ROWS} rows": partial(whole.candidates, hidden, K),
    }


def test_candidates(measure: Measure) -> None:
    weight, hidden = problem(*SMALL)
    measure("quantised", Task(partial(QuantizedLinear(weight).candidates, hidden[:1], K)))


def test_product(measure: Measure) -> None:
    weight, hidden = problem(*SMALL)
    measure("quantised", Task(partial(np.matmul, weight, hidden[0])))


def bytes_read(layer: QuantizedLinear) -> float:
    """Return the bytes of a weight that the search reads: codes, scales, errors and biases."""
    names = ("codes", "scale", "error", "bias_above")
    total = sum(getattr(layer, f"_{name}").nbytes for name in names)
    return float(total / (layer.n_classes * layer.n_features))


def time_of_loading(layer: QuantizedLinear) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "layer.npz"
        layer.save(path)
        tasks = {
            f"load, verify={verify}": Task(partial(QuantizedLinear.load, path, verify=verify))
            for verify in (True, False)
        }
        return {name: float(np.median(t)) for name, t in interleave(tasks, 3).items()}


def main(v: int = V, d: int = D) -> None:
    boltzmax.set_num_threads(1)
    weight, hidden = problem(v, d)
    tasks = {name: Task(call) for name, call in calls(weight, hidden).items()}
    seconds = {name: float(np.median(t)) for name, t in interleave(tasks, rounds=5).items()}
    reference = next(iter(seconds.values()))
    print(f"V={v} D={d}, one thread")
    for name, value in seconds.items():
        print(f"{name:28}{1e3 * value:9.2f} ms {reference / value:7.2f}x")
    layer = QuantizedLinear(weight)
    for rows in (1, ROWS):
        found = np.diff(layer.candidates(hidden[:rows], K).indptr)
        print(f"candidates of {rows} rows: {found.mean():.1f} each, at most {found.max()}")
    print(f"bytes read for each weight: {bytes_read(layer):.3f}")
    for name, value in time_of_loading(layer).items():
        print(f"{name:28}{1e3 * value:9.2f} ms")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
