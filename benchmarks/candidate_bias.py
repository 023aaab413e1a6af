"""What a sampled softmax loses by its sampler, on a trained layer: the bias report of each.

    python benchmarks/candidate_bias.py [--classes V] [--seed S] [--json FILE]

A linear layer learns, by the full softmax, classes that follow Zipf's law. For new rows, the report
compares samplers of candidates at equal n, each row with candidates of its own. Takes a minute.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import boltzmax
from boltzmax.candidates import QuadraticKernelSampler, Sampler, UniformSampler, UnigramSampler
from boltzmax.linear.sampling_bias import SamplingBiasReport

Array = NDArray[Any]
FEATURES, NOISE = 32, 1.5
BATCH, STEPS, RATE = 256, 400, 0.1
ROWS, REPEATS, CANDIDATES = 64, 50, (16, 64, 256)


class Task(NamedTuple):
    """Rows that are noisy vectors of their classes, which follow Zipf's law."""

    centres: Array
    chances: Array

    def draw(self, rows: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Return features and classes."""
        target = rng.choice(len(self.chances), rows, p=self.chances)
        noise = rng.standard_normal((rows, FEATURES), np.float32)
        return self.centres[target] + np.float32(NOISE) * noise, target


class OwnCandidates:
    """A sampler that draws candidates for each row of features."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self.n_classes = sampler.n_classes

    def sample(self, n: int, *, rng: Any, hidden: Array) -> tuple[Array, Array]:
        """Return candidates, (rows, n), and the logarithms of their expected counts."""
        if isinstance(self._sampler, QuadraticKernelSampler):
            return self._sampler.sample(n, rng=rng, hidden=hidden, per_row=True)
        nothing = np.zeros(len(hidden) + 1, np.int64)
        return self._sampler.sample(n, rng=rng, exclude=([], nothing))


def trained(task: Task, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return the weights of a layer after steps of Adagrad, and the counts of its targets."""
    classes = len(task.chances)
    weight = 0.01 * rng.standard_normal((classes, FEATURES), np.float32)
    squares = np.full_like(weight, 1e-8)
    counts = np.zeros(classes)
    for _ in range(STEPS):
        hidden, target = task.draw(BATCH, rng)
        _, _, gradient, _ = boltzmax.linear_cross_entropy_with_grad(hidden, weight, target)
        squares += gradient**2
        weight -= RATE * gradient / np.sqrt(squares)
        np.add.at(counts, target, 1)
    return weight, counts + 1


def report(classes: int, seed: int) -> SamplingBiasReport:
    """Train a layer, and compare samplers on it."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((classes, FEATURES), np.float32)
    chances = 1.0 / np.arange(1, classes + 1)
    task = Task(centres, chances / chances.sum())
    weight, counts = trained(task, rng)
    hidden, target = task.draw(ROWS, rng)
    samplers = {
        "uniform": UniformSampler(classes),
        "unigram": UnigramSampler(counts, power=1.0),
        "unigram ^ 0.75": UnigramSampler(counts),
        "quadratic": QuadraticKernelSampler(weight),
    }
    own = {name: OwnCandidates(sampler) for name, sampler in samplers.items()}
    return boltzmax.sampling_bias_report(
        hidden, weight, target, own, CANDIDATES, repeats=REPEATS, rng=seed
    )


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    boltzmax.set_num_threads(1)
    found = report(args.classes, args.seed)
    print(found)
    if args.json:
        args.json.write_text(json.dumps(list(found), indent=1))


if __name__ == "__main__":
    main()
