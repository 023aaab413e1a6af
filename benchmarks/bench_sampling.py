"""Sampling from logits beside softmax of the same array, in one process, on one thread.

    python benchmarks/bench_sampling.py [--json FILE] [--repeat N]

Prints, for each case, the median time and how many of our softmaxes that is; the goals are in the
last column. Then come small calls, two threads, and, if it is installed, transformers' processors.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import boltzmax
from boltzmax.sampling import sample

ROWS, CLASSES = 16, 128_000
# In softmaxes of the array.
GOALS = {
    "top_k=50, top_p=0.9, temperature 0.8": 0.8,
    "top_p=0.9": 1.5,
    "min_p=0.05": 0.6,
}


def cases() -> dict[str, Callable[[], Any]]:
    """Return the calls that are timed; the first one is the measure."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(ROWS, CLASSES)) * 2.5).astype(np.float32)
    flat, equal = x / np.float32(2.5), np.zeros_like(x)
    one = np.full_like(x, -np.inf)
    one[:, 1000] = 0.0
    far = x + np.sign(x) * np.float32(1e4)
    tied = np.round(x)
    out = np.empty_like(x)
    filters: dict[str, Any] = {"top_k": 50, "top_p": 0.9, "temperature": 0.8}
    return {
        "softmax": lambda: boltzmax.softmax(x, out=out),
        "top_k=50, top_p=0.9, temperature 0.8": lambda: sample(x, **filters, rng=1),
        "the same, 64 draws": lambda: sample(x, **filters, n=64, rng=1),
        "top_p=0.9": lambda: sample(x, top_p=0.9, rng=1),
        "the same, 64 draws of top_p": lambda: sample(x, top_p=0.9, n=64, rng=1),
        "top_p=0.9, normal times 1": lambda: sample(flat, top_p=0.9, rng=1),
        "min_p=0.05": lambda: sample(x, min_p=0.05, rng=1),
        "no filter": lambda: sample(x, rng=1),
        "top_k=5000": lambda: sample(x, top_k=5000, rng=1),
        "epsilon=1e-4": lambda: sample(x, epsilon=1e-4, rng=1),
        "eta=1e-4": lambda: sample(x, eta=1e-4, rng=1),
        "typical_p=0.9": lambda: sample(x, typical_p=0.9, rng=1),
        "typical_p, ties": lambda: sample(tied, typical_p=0.9, rng=1),
        "top_n_sigma=1": lambda: sample(x, top_n_sigma=1.0, rng=1),
        "top_h=0.5": lambda: sample(x, top_h=0.5, rng=1),
        "top_p, all equal": lambda: sample(equal, top_p=0.9, rng=1),
        "top_k, all equal": lambda: sample(equal, top_k=50, rng=1),
        "top_p, one finite": lambda: sample(one, top_p=0.9, rng=1),
        "top_p, ties": lambda: sample(tied, top_p=0.9, rng=1),
        "top_p, +-1e4": lambda: sample(far, top_p=0.9, rng=1),
        "top_p, 1 less one ulp": lambda: sample(x, top_p=float(np.nextafter(1, 0)), rng=1),
        "top_p=1e-9": lambda: sample(x, top_p=1e-9, rng=1),
    }


def interleaved(calls: dict[str, Callable[[], Any]], repeat: int) -> dict[str, float]:
    """Return the median time of each call in seconds."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeat):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(each) for name, each in times.items()}


def small_calls() -> dict[str, float]:
    """Return the time of a call on one row, in microseconds."""
    rng = np.random.default_rng(0)
    row = rng.normal(size=(1, 100)).astype(np.float32)
    result: dict[str, Callable[[], Any]] = {
        "1 x 100 (goal 3)": lambda: sample(row, top_k=50, top_p=0.9, rng=1)
    }
    try:
        from ml_dtypes import bfloat16
    except ImportError:
        pass
    else:
        kind: Any = bfloat16
        long = (rng.normal(size=(1, 152_000)) * 2.5).astype(kind)
        result["1 x 152,000 bfloat16 (goal 60)"] = lambda: sample(long, top_k=50, top_p=0.9, rng=1)
    times = {}
    for name, call in result.items():
        count = 2000 if "100 (" in name else 40
        each = []
        for _ in range(7):
            start = time.perf_counter()
            for _ in range(count):
                call()
            each.append((time.perf_counter() - start) / count)
        times[name] = statistics.median(each) * 1e6
    return times


def on_two_threads(repeat: int) -> dict[str, float]:
    """Return the gain by a second thread, for 16 rows and for one long row."""
    rng = np.random.default_rng(0)
    many = rng.standard_normal((ROWS, CLASSES), np.float32) * np.float32(2.5)
    one = rng.standard_normal((1, 1_000_000), np.float32) * np.float32(2.5)
    gains = {}
    for name, x in (("16 rows (goal 1.8)", many), ("one row of 10^6 (goal 1.5)", one)):
        for filters in ({"top_k": 50, "top_p": 0.9, "temperature": 0.8}, {"top_p": 0.9}):

            def run(threads: int, x: Any = x, filters: Any = filters) -> None:
                boltzmax.set_num_threads(threads)
                sample(x, **filters, rng=1)

            times = interleaved({"1": lambda: run(1), "2": lambda: run(2)}, 3 * repeat)
            gains[f"{name}, {', '.join(filters)}"] = times["1"] / times["2"]
    boltzmax.set_num_threads(1)
    return gains


def beside_transformers(repeat: int) -> dict[str, float]:
    """Return how many times as long transformers' processors take, without a draw."""
    try:
        import torch
        from transformers.generation import logits_process as hf
    except ImportError:
        return {}
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((ROWS, CLASSES), np.float32) * np.float32(2.5)
    scores, ids = torch.from_numpy(x), torch.zeros((ROWS, 1), dtype=torch.long)
    top_p = hf.TopPLogitsWarper(0.9)
    steps = [hf.TemperatureLogitsWarper(0.8), hf.TopKLogitsWarper(50), top_p]
    all_filters: dict[str, Any] = {"top_k": 50, "top_p": 0.9, "temperature": 0.8}
    calls: dict[str, Callable[[], Any]] = {
        "ours": lambda: sample(x, **all_filters, rng=1),
        "our top_p": lambda: sample(x, top_p=0.9, rng=1),
        "theirs": lambda: hf.LogitsProcessorList(steps)(ids, scores),
        "their top_p": lambda: top_p(ids, scores),
    }
    times = interleaved(calls, repeat)
    return {
        "top_k, top_p, temperature (goal 150)": times["theirs"] / times["ours"],
        "top_p (goal 300)": times["their top_p"] / times["our top_p"],
    }


def main() -> None:
    """Time all cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    boltzmax.set_num_threads(1)
    times = interleaved(cases(), args.repeat)
    for name, seconds in times.items():
        ratio = seconds / times["softmax"]
        goal = f"  goal {GOALS[name]}" if name in GOALS else ""
        print(f"{name:40s} {seconds * 1e3:9.3f} ms {ratio:7.2f}{goal}")
    small = small_calls()
    for name, microseconds in small.items():
        print(f"{name:40s} {microseconds:9.2f} us")
    gains, beside = on_two_threads(args.repeat), beside_transformers(args.repeat)
    for title, ratios in (("two threads: ", gains), ("transformers: ", beside)):
        for name, ratio in ratios.items():
            print(f"{title + name:64s} {ratio:7.2f}")
    if args.json:
        results = {"seconds": times, "microseconds": small, "gains": gains, "transformers": beside}
        args.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
