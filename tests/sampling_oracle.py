"""What sampling must give: every filter by a full sort of one row, with nothing of the package.

Logits are one row in double; sums are in long double.  A filter returns which classes it keeps and
the margin of its decision: how far the nearest comparison was from equality.  Where the margin is
about as small as rounding, other correct implementations may decide otherwise, except at exact
ties of logits, whose rule is part of the contract.  Excluded classes have a logit of -inf.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Long = npt.NDArray[np.longdouble]
Mask = npt.NDArray[np.bool_]
Ids = npt.NDArray[np.int64]
Step = tuple[Any, ...]  # the name of a filter and its numbers, as ("top_k", 50, "all")


class Verdict(NamedTuple):
    """The classes that a filter keeps, and the margin of its decision."""

    kept: Mask
    margin: float = math.inf


class Outcome(NamedTuple):
    """The logits that steps leave, one of several if they are random."""

    weight: float  # the probability of this outcome
    logits: Floats
    margin: float


def log_prob_error(dtype: Any) -> float:
    """Return the largest error of a log-probability; sums of floats have a relative error."""
    return 1e-12 if np.dtype(dtype) == np.float64 else 3e-7


def log_softmax(x: Floats) -> Long:
    with np.errstate(divide="ignore", under="ignore"):
        shifted = x.astype(np.longdouble) - x.max()
        return shifted - np.log(np.exp(shifted).sum())


def softmax(x: Floats) -> Long:
    with np.errstate(under="ignore"):
        return np.exp(log_softmax(x))


def entropy(x: Floats) -> np.longdouble:
    log_p = log_softmax(x)[np.isfinite(x)]
    return -(np.exp(log_p) * log_p).sum()


def likeliest_first(x: Floats) -> Ids:
    """Ids in order of probability, at ties the lowest first, without those of probability 0."""
    order = np.argsort(-x, kind="stable")
    return order[np.isfinite(x[order])]


def _prefix(x: Floats, order: Ids, count: int) -> Mask:
    kept = np.zeros(len(x), np.bool_)
    kept[order[:count]] = True
    return kept


def _reach(sums: Long, target: float, strictly: bool = False) -> tuple[int, float]:
    """How many terms it takes until their sum is at least `target`, or above, and the margin."""
    enough = sums > target if strictly else sums >= target
    count = int(enough.argmax()) + 1 if enough.any() else len(sums)
    return count, float(np.abs(sums[:-1] - target).min(initial=math.inf))


# ---- filters


def top_k(x: Floats, k: int, ties: str = "lowest") -> Verdict:
    """The k likeliest; at a tie on the border the lowest ids, or all."""
    order = likeliest_first(x)
    if ties == "all":
        return Verdict(np.isfinite(x) & (x >= x[order[min(k, len(order)) - 1]]))
    return Verdict(_prefix(x, order, k))


def top_p(x: Floats, p: float) -> Verdict:
    """The fewest likeliest classes whose probability is at least p; 1 keeps all."""
    if p == 1.0:
        return Verdict(np.isfinite(x))
    order = likeliest_first(x)
    count, margin = _reach(np.cumsum(softmax(x)[order]), p)
    return Verdict(_prefix(x, order, count), margin)


def min_p(x: Floats, m: float, rule: str = "ratio") -> Verdict:
    """Classes of at least m times the largest probability; "log" compares logits."""
    below = x.astype(np.longdouble) - x.max()
    with np.errstate(divide="ignore", under="ignore"):
        kept = x >= x.max() + np.log(m) if rule == "log" else np.exp(below) >= m
        margin = float(np.abs(below[np.isfinite(x)] - np.log(np.longdouble(m))).min())
    return Verdict(kept & np.isfinite(x), margin)


def typical_p(x: Floats, mass: float, rule: str = "transformers") -> Verdict:
    """Classes whose surprise is nearest to the entropy (Meister et al., TACL 2023).

    "transformers": until the sum is at least `mass`, with all classes as typical as the last one.
    "llama.cpp": until the sum is above `mass`, and no further.
    """
    finite = np.flatnonzero(np.isfinite(x))
    distance = np.abs(-log_softmax(x)[finite] - entropy(x))
    by_distance = np.lexsort((finite, -x[finite], distance))
    sums = np.cumsum(softmax(x)[finite][by_distance])
    strictly = rule == "llama.cpp"
    count, margin = _reach(sums, mass, strictly)
    last = distance[by_distance[count - 1]]
    gaps = np.abs(distance - last)[x[finite] != x[finite[by_distance[count - 1]]]]
    margin = min(margin, float(gaps.min(initial=np.longdouble(math.inf))))
    if strictly:
        return Verdict(_prefix(x, finite[by_distance], count), margin)
    return Verdict(_prefix(x, finite[distance <= last], len(x)), margin)


def _at_least(x: Floats, least: np.longdouble) -> Verdict:
    """Classes of at least this probability; if there are none, all largest ones."""
    p = softmax(x)
    finite = np.isfinite(x)
    kept = (p >= least) | (x == x.max())
    with np.errstate(over="ignore"):
        return Verdict(kept & finite, float(np.abs(p[finite] / least - 1).min()))


def epsilon(x: Floats, least: float) -> Verdict:
    """Classes of at least this probability; if there are none, all largest ones."""
    return _at_least(x, np.longdouble(least))


def eta(x: Floats, cutoff: float) -> Verdict:
    """Epsilon, with the threshold of Hewitt, Manning & Liang (2022): less where entropy is high."""
    wide = np.longdouble(cutoff)
    return _at_least(x, min(wide, np.sqrt(wide) * np.exp(-entropy(x))))


def top_n_sigma(x: Floats, n: float) -> Verdict:
    """Logits at most n standard deviations (of the finite ones) below the largest."""
    finite = np.isfinite(x)
    values = x[finite].astype(np.longdouble)
    sigma = np.sqrt(np.square(values - values.mean()).mean())
    limit = values.max() - n * sigma
    others = values[values < values.max()]
    margin = float(np.abs(others - limit).min(initial=np.longdouble(math.inf)))
    return Verdict(finite & ((x >= limit) | (x == x.max())), margin)


def top_h(x: Floats, h: float, most: int = 100) -> Verdict:
    """The likeliest while their terms -p log p sum to at most h times the entropy, 1 at least.

    As if there were only the `most` likeliest ones; h = 1 keeps these.
    """
    order = likeliest_first(x)[:most]
    log_p = log_softmax(x[order])
    sums = np.cumsum(-np.exp(log_p) * log_p)
    limit = h * sums[-1]
    margin = float(np.abs(sums[1:-1] - limit).min(initial=np.longdouble(math.inf)))
    return Verdict(_prefix(x, order, max(int((sums <= limit).sum()), 1)), margin)


def xtc_cut(x: Floats, threshold: float) -> Verdict:
    """Without the classes of at least this probability, except the least likely of these.

    This is what XTC leaves when its coin says so; at ties, the lowest ids are the likelier ones.
    """
    order = likeliest_first(x)
    p = softmax(x)[order]
    above = int((p >= threshold).sum())
    kept = _prefix(x, order[max(above - 1, 0) :], len(x))
    return Verdict(kept, float(np.abs(p / threshold - 1).min()))


FILTERS = {
    "top_k": top_k,
    "top_p": top_p,
    "min_p": min_p,
    "typical_p": typical_p,
    "epsilon": epsilon,
    "eta": eta,
    "top_n_sigma": top_n_sigma,
    "top_h": top_h,
}


# ---- steps in sequence


def temperature(x: Floats, t: float) -> Floats:
    """Logits over t; 0 leaves the largest one, at ties that of the lowest id."""
    if t == 0.0:
        return np.where(np.arange(len(x)) == x.argmax(), x, -np.inf)
    return x / t


def apply(logits: Any, steps: Sequence[Step], where: Any = None) -> list[Outcome]:
    """What is left of one row after steps, in this order; several outcomes after XTC."""
    start = np.array(logits, np.float64)
    if where is not None:
        start[~np.asarray(where)] = -np.inf
    outcomes = [Outcome(1.0, start, math.inf)]
    for name, *numbers in steps:
        outcomes = [new for old in outcomes for new in _one_step(old, name, numbers)]
    return outcomes


def _one_step(old: Outcome, name: str, numbers: list[Any]) -> list[Outcome]:
    weight, x, margin = old
    if name == "temperature":
        return [Outcome(weight, temperature(x, *numbers), margin)]
    if name == "bias":
        return [Outcome(weight, x + np.asarray(*numbers), margin)]
    if name == "xtc":
        probability, threshold = numbers
        kept, near = xtc_cut(x, threshold)
        cut = Outcome(weight * probability, np.where(kept, x, -np.inf), min(margin, near))
        return [cut, Outcome(weight * (1.0 - probability), x, margin)]
    verdict = FILTERS[name](x, *numbers)
    left = np.where(verdict.kept, x, -np.inf)
    return [Outcome(weight, left, min(margin, verdict.margin))]


def filtered(logits: Any, steps: Sequence[Step], where: Any = None) -> Floats:
    """The logits that steps without chance leave."""
    (outcome,) = apply(logits, steps, where)
    return outcome.logits


def probabilities(logits: Any, steps: Sequence[Step], where: Any = None) -> Floats:
    """The probability of each class to be drawn."""
    total: Any = sum(w * softmax(x) for w, x, _ in apply(logits, steps, where))
    return np.asarray(total, np.float64)


# ---- penalties, which read the text so far


def counted(history: Any, last_n: int | None = None, prompt: int = 0) -> tuple[Ids, Ids]:
    """The ids in a text and how often they occur, in its last n places and after its prompt."""
    text = np.asarray(history, np.int64)
    first = max(prompt, 0 if last_n is None else len(text) - last_n)
    return np.unique(text[first:], return_counts=True)


def repetition(x: Floats, history: Any, penalty: float, **counts: Any) -> Floats:
    """CTRL (Keskar et al., 2019): positive logits of ids in the text are divided, others times."""
    y = x.copy()
    for i in counted(history, **counts)[0]:
        y[i] = x[i] / penalty if x[i] > 0 else x[i] * penalty
    return y


def presence(x: Floats, history: Any, penalty: float, **counts: Any) -> Floats:
    y = x.copy()
    for i in counted(history, **counts)[0]:
        y[i] = x[i] - penalty
    return y


def frequency(x: Floats, history: Any, penalty: float, **counts: Any) -> Floats:
    y = x.copy()
    for i, n in zip(*counted(history, **counts), strict=True):
        y[i] = x[i] - n * penalty
    return y


def no_repeat_ngram(x: Floats, history: Any, n: int) -> Floats:
    """Without the classes that would complete a sequence of n ids that the text has."""
    text = [int(i) for i in history]
    seen = {tuple(text[s : s + n]) for s in range(len(text) - n + 1)}
    y = x.copy()
    if len(text) >= n - 1:
        begun = tuple(text[len(text) - n + 1 :])
        for i in range(len(x)):
            if (*begun, i) in seen:
                y[i] = -np.inf
    return y


def dry(
    x: Floats,
    history: Any,
    multiplier: float,
    base: float,
    allowed_length: int,
    breakers: Sequence[Sequence[int]] = (),
    last_n: int | None = None,
) -> Floats:
    """Without looking for speed: every earlier place is compared with the end of the text."""
    text = [int(i) for i in history]
    if last_n is not None:
        text = text[max(len(text) - last_n, 0) :]
    longest = _ids_after_a_breaker(text, breakers)
    lengths: dict[int, int] = {}
    for end in range(1, len(text)):  # text[:end] is compared, and text[end] came next
        length = 0
        while length < min(end, longest) and text[end - 1 - length] == text[-1 - length]:
            length += 1
        if length >= allowed_length:
            lengths[text[end]] = max(length, lengths.get(text[end], 0))
    y = x.copy()
    for i, length in lengths.items():
        if (i,) not in {tuple(b) for b in breakers}:
            exponent = length - allowed_length
            if base > 1.000001:
                exponent = min(exponent, int(88.7228391 / math.log(base)))
            y[i] = x[i] - multiplier * base**exponent
    return y


def _ids_after_a_breaker(text: list[int], breakers: Sequence[Sequence[int]]) -> int:
    """How many ids follow the last breaker, which is found by its first id."""
    for start in reversed(range(len(text))):
        found = [len(b) for b in breakers if text[start : start + len(b)] == list(b)]
        if found:
            return len(text) - start - max(found)
    return len(text)


# ---- mirostat (Basu et al., ICLR 2021)


def mirostat_2(x: Floats, mu: float) -> Verdict:
    """Classes of a surprise of at most mu bits, one at least."""
    surprise = -log_softmax(x) / np.log(np.longdouble(2))
    finite = np.isfinite(x)
    count = max(int((surprise[finite] <= mu).sum()), 1)
    return Verdict(_prefix(x, likeliest_first(x), count), float(np.abs(surprise - mu).min()))


def mirostat_1_count(x: Floats, mu: float, most: int = 100) -> float:
    """How many classes to keep, before it is rounded down: from an estimate of Zipf's exponent."""
    log_p = np.sort(log_softmax(x)[np.isfinite(x)])[::-1]
    i = np.arange(1, min(most, len(log_p)))
    t = np.log((i + 1) / i.astype(np.longdouble))
    b = log_p[i - 1] - log_p[i]
    s = (t * b).sum() / (t * t).sum() if len(i) else np.longdouble(1)
    over, log_v = s - 1, np.log(np.longdouble(len(x)))
    with np.errstate(divide="ignore", over="ignore", under="ignore"):
        ratio = over / -np.expm1(-over * log_v) if over else 1 / log_v  # over / (1 - V^-over)
        return float((ratio * np.longdouble(2) ** np.longdouble(mu)) ** (1 / s))
