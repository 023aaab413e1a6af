"""Samplers of candidates, with the probabilities that they should have."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from boltzmax.candidates import (
    InBatchSampler,
    LearnedSampler,
    LogUniformSampler,
    QuadraticKernelSampler,
    UniformSampler,
    UnigramSampler,
)

Floats = npt.NDArray[np.float64]


class Sample(NamedTuple):
    """A sampler of V classes, its probabilities, and the features that it needs."""

    make: Callable[[int], Any]
    q: Callable[[int], Floats]
    hidden: Any = None


def counts(n_classes: int) -> npt.NDArray[Any]:
    """Counts from 1 to 40, and some zeros."""
    c = np.random.default_rng(1).integers(1, 41, n_classes)
    c[3::5] = 0
    return c


def weight(n_classes: int, features: int = 3) -> Floats:
    return np.random.default_rng(2).normal(size=(n_classes, features)) * 0.3


HIDDEN = np.array([0.3, -0.2, 0.1])


def learned(n_classes: int) -> LearnedSampler:
    """A table that was made on the way, and observations after that."""
    sampler = LearnedSampler(n_classes, smoothing=0.5)
    seen = np.repeat(np.arange(n_classes), counts(n_classes))
    for part in np.array_split(np.random.default_rng(3).permutation(seen), 7):
        sampler.update(part)
    return sampler


def kernel(n_classes: int) -> Floats:
    return 100 * (weight(n_classes) @ HIDDEN) ** 2 + 1


def log_uniform(n_classes: int) -> Floats:
    k = np.arange(n_classes, dtype=np.longdouble)
    return np.log1p(1 / (k + 1)).astype(np.float64)


SAMPLES = {
    "uniform": Sample(UniformSampler, np.ones),
    "log-uniform": Sample(LogUniformSampler, log_uniform),
    "unigram": Sample(lambda v: UnigramSampler(counts(v)), lambda v: counts(v) ** 0.75),
    "learned": Sample(learned, lambda v: counts(v) + 0.5),
    "quadratic": Sample(lambda v: QuadraticKernelSampler(weight(v)), kernel, HIDDEN),
}


def probabilities(name: str, n_classes: int, excluded: Any = ()) -> Floats:
    """The probabilities of classes, without the excluded ones."""
    q = np.array(SAMPLES[name].q(n_classes), np.float64)
    q[np.asarray(excluded, np.int64)] = 0.0
    return q / q.sum()


def inclusion(weights: Floats, n: int) -> Floats:
    """The probability of each class to be among the first n different ones, over all subsets.

    The sum of the weights may be any; no sum loses what is small in it.
    """
    q = weights.tolist()
    chances = {frozenset[int](): 1.0}
    for _ in range(n):
        after: dict[frozenset[int], float] = {}
        for drawn, chance in chances.items():
            rest = sum(q[i] for i in range(len(q)) if i not in drawn)
            for i in range(len(q)):
                if i not in drawn and q[i] > 0:
                    one_more = drawn | {i}
                    after[one_more] = after.get(one_more, 0.0) + chance * q[i] / rest
        chances = after
    return np.array([sum(p for drawn, p in chances.items() if i in drawn) for i in range(len(q))])


def orders(q: Floats, n: int) -> dict[tuple[int, ...], float]:
    """The probability of each order of n different classes."""
    chances = {}
    for order in itertools.permutations(np.flatnonzero(q).tolist(), n):
        chance, rest = 1.0, 1.0
        for i in order:
            chance *= q[i] / rest
            rest -= q[i]
        chances[order] = chance
    return chances


def calls() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Calls of every sampler, in all ways."""
    made = [(sample.make(30), sample.hidden) for sample in SAMPLES.values()]
    for sampler, hidden in (*made, (InBatchSampler(np.arange(20) % 7), None)):
        name = type(sampler).__name__
        for exclude in (None, [1, 2], ([1, 4], [0, 2])):
            options: dict[str, Any] = {"exclude": exclude, "hidden": hidden}
            yield name, partial(sampler.sample, 4, rng=1, **options)
            yield name, partial(sampler.log_expected_count, [0], 4, **options)
        if isinstance(sampler, (UniformSampler, UnigramSampler)):  # others make tables anew
            yield name, partial(sampler.sample, 4, rng=1, unique=True)
        if hasattr(sampler, "update"):
            yield name, partial(sampler.update, np.arange(9))
    for kind, argument in (
        *((UniformSampler, 9), (LogUniformSampler, 9), (LearnedSampler, 9)),
        *((UnigramSampler, [1, 2]), (QuadraticKernelSampler, weight(20)), (InBatchSampler, [1])),
    ):
        yield kind.__name__, partial(kind, argument)
