"""Certified answers of a linear layer, compared with the float32 product, `linear_topk` and faiss.

``python benchmarks/bench_two_stage.py [CLASSES] [FEATURES]`` prints times in one thread, and ratios
to the product of the same rows with the float32 weights. 10^6 classes of 256 features, the default,
take 5 GB. Set OPENBLAS_NUM_THREADS=1.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boltzmax import QuantizedLinear, TwoStageClassifier, linear_topk, set_num_threads

Array = NDArray[Any]

ROWS, K, REPEATS = 64, 10, 5


def milliseconds(tasks: dict[str, Callable[[], Any]], repeats: int = REPEATS) -> dict[str, float]:
    """Return the median time of each task; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repeats):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: median(each) for name, each in times.items()}


def report(title: str, times: dict[str, float], product: str) -> None:
    """Print times, and how often each fits into that of the product."""
    print(f"\n{title}")
    for name, each in times.items():
        print(f"  {name:44} {each:9.1f} ms {times[product] / each:7.2f} x")


def in_faiss(weight: Array) -> dict[str, Any]:
    """Return indices of faiss by name, if it is installed."""
    try:
        faiss: Any = importlib.import_module("faiss")
    except ImportError:
        return {}
    faiss.omp_set_num_threads(1)
    width = weight.shape[1]
    flat = faiss.IndexFlatIP(width)
    flat.add(weight)
    kind = faiss.ScalarQuantizer.QT_8bit
    coded = faiss.IndexScalarQuantizer(width, kind, faiss.METRIC_INNER_PRODUCT)
    coded.train(weight[:100_000])
    coded.add(weight)
    return {"faiss IndexFlatIP": flat, "faiss SQ8": coded}


def main(classes: int = 10**6, features: int = 256) -> None:
    """Print all comparisons."""
    set_num_threads(1)
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((classes, features), dtype=np.float32)
    many = rng.standard_normal((ROWS, features), dtype=np.float32)
    one = many[:1]
    own = rng.integers(0, classes, ROWS)
    peaked = np.float32(40 / features) * weight[own] + np.float32(0.03) * many
    exact8 = TwoStageClassifier(weight)
    exact4 = TwoStageClassifier(weight, screen=QuantizedLinear(weight, bits=4))
    screen = exact8.screen
    out = np.empty((ROWS, classes), np.float32)
    product = "float32 product"

    indices = in_faiss(weight)
    tasks: dict[str, Callable[[], Any]] = {
        product: lambda: weight @ one[0],
        "certified top 10": lambda: exact8.topk(one, K, log_probs=False),
        "  its candidates": lambda: screen.candidates(one, K),
        "certified top 10 and log-probabilities": lambda: exact8.topk(one, K),
        "certified top 1 of a peaked row, 4 bits": lambda: exact4.topk(
            peaked[:1], 1, log_probs=False
        ),
    }
    for name, index in indices.items():
        tasks[name] = partial(index.search, one, K)
    report("one row", milliseconds(tasks), product)

    tasks = {
        product: lambda: np.matmul(many, weight.T, out=out),
        "linear_topk": lambda: linear_topk(many, weight, K),
        "certified top 10": lambda: exact8.topk(many, K, log_probs=False),
        "log-partition of peaked rows to 1e-3": lambda: exact8.log_partition(peaked, 1e-3),
        "log-partition as 8 bits have it": lambda: exact8.log_partition(many),
        "sample": lambda: exact8.sample(peaked, 1),
    }
    for name, index in indices.items():
        tasks[name] = partial(index.search, many, K)
    report(f"{ROWS} rows", milliseconds(tasks, 3), product)

    top = exact8.topk(many, K, log_probs=False)
    print(f"\ncertified {top.certified.mean():.1%}, exact logits per row {top.rescored.mean():.1f}")
    lower, upper = exact8.log_partition(many)
    print(f"log-partition of 8 bits: {np.mean(upper - lower):.2f} wide")
    lower, upper = exact8.log_partition(peaked, 1e-3)
    print(f"of peaked rows: at most {np.max(upper - lower):.1e} wide")
    for name, index in indices.items():
        found = index.search(many, K)[1]
        recall = np.mean([len(set(a) & set(b)) / K for a, b in zip(found, top.ids, strict=True)])
        print(f"{name}: {recall:.1%} of the top {K}")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
