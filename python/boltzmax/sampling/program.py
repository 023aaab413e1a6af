"""Run a sequence of steps on logits: filter them, or draw from what is left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import broadcast_mask, check_count, one_of, quietly
from boltzmax._lib.logits import read_logits
from boltzmax._lib.numbers import as_float64
from boltzmax._lib.random import random_key
from boltzmax.sampling.steps import Bias, Line, Step

Array = NDArray[Any]
Floats = NDArray[np.float64]

TOP_H_CLASSES = 100  # that count for top_h


class Sample(NamedTuple):
    """Classes that were drawn."""

    ids: Any
    log_probs: Any
    kept: Any


@quietly
def run_sample(
    logits: ArrayLike,
    steps: Sequence[Step],
    *,
    where: ArrayLike | None = None,
    n: int | None = None,
    replace: bool = True,
    rng: Any = None,
    counters: ArrayLike | None = None,
    errors: str = "raise",
) -> Sample:
    """Draw from the distribution that the steps, in this order, make of the logits."""
    call = _Call(logits, steps, where, counters, errors)
    draws = 1 if n is None else check_count(n, "n", 1)
    key = random_key(rng)
    rows = len(call.matrix)
    ids = np.full((rows, draws), -1, np.int64)
    log_probs, kept = np.full((rows, draws), np.nan), np.zeros(rows, np.int64)
    for r, z in enumerate(call.filtered(key)):
        if z is None:
            continue
        log_p = z - (z.max() + math.log(np.exp(z - z.max()).sum()))
        kept[r] = np.isfinite(z).sum()
        if not replace and kept[r] < draws:
            raise ValueError(f"n is {draws}, but row {r} has {kept[r]} classes left")
        generator = np.random.Generator(np.random.Philox(key=[key, int(call.counters[r])]))
        if replace:
            p = np.exp(log_p)
            ids[r] = generator.choice(z.size, draws, p=p / p.sum())
        else:
            race = log_p + generator.gumbel(size=z.size)
            ids[r] = np.argsort(-race, kind="stable")[:draws]
        log_probs[r] = log_p[ids[r]]
    shape = call.shape if n is None else (*call.shape, draws)
    return Sample(
        ids.reshape(shape)[()], log_probs.reshape(shape)[()], kept.reshape(call.shape)[()]
    )


@quietly
def run_filter(
    logits: ArrayLike,
    steps: Sequence[Step],
    *,
    where: ArrayLike | None = None,
    probabilities: bool = False,
    rng: Any = 0,
    counters: ArrayLike | None = None,
    errors: str = "raise",
) -> Array:
    """Return the logits that the steps leave, -inf elsewhere; or their probabilities."""
    call = _Call(logits, steps, where, counters, errors)
    result = np.empty(call.matrix.shape)
    for r, z in enumerate(call.filtered(random_key(rng))):
        if z is None:
            result[r] = np.nan
        elif probabilities:
            e = np.exp(z - z.max())
            result[r] = e / e.sum()
        else:
            result[r] = z
    return result.astype(call.dtype).reshape(*call.shape, -1)


class _Call:
    """The checked arguments, and the rows."""

    def __init__(
        self,
        logits: ArrayLike,
        steps: Sequence[Step],
        where: ArrayLike | None,
        counters: ArrayLike | None,
        errors: str,
    ) -> None:
        array = read_logits(logits).array
        self.dtype = array.dtype
        mask = broadcast_mask(where, array)
        self.shape = array.shape[:-1]
        self.marks = one_of(errors, "errors", ("raise", "mark")) == "mark"
        self.steps = list(steps)
        z = as_float64(array)
        if mask is not None:
            z = np.where(mask, z, -np.inf)
        self.matrix = z.reshape(-1, array.shape[-1])
        self.counters = _counters(counters, self.shape)

    def filtered(self, key: int) -> Any:
        """Yield each row's filtered logits; None for a bad row."""
        for r, row in enumerate(self.matrix):
            z = row
            for step in self.steps:
                if isinstance(step, Bias):
                    z = np.where(np.isinf(z) & (z < 0), z, _biased(step, z, r, self))
            if not (z < np.inf).all() or not np.isfinite(z).any():
                if not self.marks:
                    raise ValueError(f"logits of row {r} have NaN, +inf or no finite number")
                yield None
                continue
            for step in self.steps:
                if not isinstance(step, Bias):
                    z = _apply(step.line(), z, r, self, key)
            yield z


def _biased(step: Bias, z: Floats, r: int, call: _Call) -> Floats:
    if isinstance(step.bias, np.ndarray):
        full = np.broadcast_to(step.bias, (*call.shape, z.size)).reshape(-1, z.size)
        return z + full[r]
    return step.added_to(z)


def _counters(counters: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.uint64]:
    rows = math.prod(shape)
    if counters is None:
        return np.arange(rows, dtype=np.uint64)
    array = np.asarray(counters)
    if array.dtype.kind not in "iu" or (array.size and array.min() < 0):
        raise ValueError(f"counters must be integers from 0 to 2**64 - 1, got {counters!r}")
    try:
        return np.broadcast_to(array.astype(np.uint64), shape).reshape(-1)
    except ValueError:
        raise ValueError(
            f"counters of shape {array.shape} do not broadcast to one per row, {shape}"
        ) from None


def _apply(line: Line, z: Floats, r: int, call: _Call, key: int) -> Floats:
    """Return the logits after a step."""
    number, other = (
        float(np.broadcast_to(v, call.shape).reshape(-1)[r]) for v in (line.number, line.other)
    )
    order = np.lexsort((np.arange(z.size), -z))
    order = order[np.isfinite(z[order])]
    sorted_z = z[order]
    e = np.exp(sorted_z - sorted_z[0])
    total = e.sum()
    cumulative = np.cumsum(e)
    if line.name == "temperature":
        if number == 0.0:
            return _kept(z, order[:1])
        return z / number
    if line.name == "top_k":
        k = int(min(number, len(order)))
        last = sorted_z[k - 1]
        return _kept(z, order[sorted_z >= last] if line.rule else order[:k])
    if line.name == "top_p":
        if number == 1.0:
            return z
        return _kept(z, order[: 1 + np.count_nonzero(cumulative < number * total)])
    if line.name == "min_p":
        if line.rule:
            return _kept(z, order[sorted_z >= sorted_z[0] + np.log(number)])
        return _kept(z, order[e >= number])
    if line.name in ("epsilon", "eta"):
        p = e / total
        least = number
        if line.name == "eta":
            least = min(number, math.sqrt(number) * math.exp(-_entropy(p)))
        return _kept(z, order[(p >= least) | (sorted_z == sorted_z[0])])
    if line.name == "top_n_sigma":
        return _kept(z, order[sorted_z >= sorted_z[0] - number * sorted_z.std()])
    if line.name == "top_h":
        p = e[:TOP_H_CLASSES] / e[:TOP_H_CLASSES].sum()
        terms = -np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0)), 0.0)
        good = np.cumsum(terms) <= number * terms.sum()
        good[0] = True
        return _kept(z, order[:TOP_H_CLASSES][good])
    if line.name == "typical_p":
        if number == 1.0:
            return z
        information = math.log(total) + sorted_z[0] - sorted_z
        distance = np.abs(information - _entropy(e / total))
        near = np.argsort(distance, kind="stable")
        cumulative = np.cumsum(e[near])
        if line.rule:
            count = 1 + np.count_nonzero(cumulative <= number * total)
            return _kept(z, order[near[:count]])
        last = distance[near[min(np.count_nonzero(cumulative < number * total), len(near) - 1)]]
        return _kept(z, order[distance <= last])
    assert line.name == "xtc"
    uniform = np.random.Generator(np.random.Philox(key=[key, int(call.counters[r]) ^ 1])).random()
    above = np.count_nonzero(e >= other * total)
    return z if uniform >= number or above < 2 else _kept(z, order[above - 1 :])


def _entropy(p: Floats) -> float:
    p = p[p > 0.0]
    return float(-(p * np.log(p)).sum())


def _kept(z: Floats, ids: NDArray[np.intp]) -> Floats:
    result = np.full(z.shape, -np.inf)
    result[ids] = z[ids]
    return result
