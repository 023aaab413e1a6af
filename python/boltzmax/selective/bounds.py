"""Exact limits of a risk, from counts: how many answers it takes for some errors to be allowed.

A *test* at rank j looks at the j surest rows, of which k were answered wrongly. It passes if a risk
of `target` or more would leave so few errors with a probability of at most `delta` only. Its limits
are a table: rank[k] is the least j at which k errors pass.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Ranks = NDArray[np.int64]

_STARTS = 4  # at most so many sequences of tests
_CHECKED = 4096  # steps between exact sums


def binomial_cdf(k: int, n: int, p: float) -> float:
    """Return P(X <= k) for a binomial X of n trials with probability p.

    Max error 1e-12, relative, for k <= n p and n up to 10^8.
    """
    if k < 0:
        return 0.0
    if k >= n:
        return 1.0
    if p in (0.0, 1.0):
        return 1.0 - p
    if k > n * p:
        return 1.0 - binomial_cdf(n - k - 1, n, 1.0 - p)
    # P(X = k - i) over P(X = k), until the terms no longer count.
    odds, total, term = (1.0 - p) / p, 1.0, 1.0
    for i in range(k):
        term *= odds * (k - i) / (n - k + i + 1)
        total += term
        if term < 1e-17 * total:
            break
    return total * math.exp(_log_binomial(k, n, p))


def _log_binomial(k: int, n: int, p: float) -> float:
    """Return log P(X = k), by deviances, which do not cancel (Loader 2000)."""
    if k == 0:
        return n * math.log1p(-p)
    if k == n:
        return n * math.log(p)
    deviance = _deviance(k, n * p) + _deviance(n - k, n * (1.0 - p))
    rest = _stirling(n) - _stirling(k) - _stirling(n - k)
    return rest - deviance + 0.5 * math.log(n / (2.0 * math.pi * k * (n - k)))


def _stirling(n: int) -> float:
    """Return log(n!) less Stirling's formula."""
    if n < 16:
        return math.lgamma(n + 1) - (n + 0.5) * math.log(n) + n - 0.5 * math.log(2 * math.pi)
    square = 1.0 / (n * n)
    terms = 1 / 12 - square * (1 / 360 - square * (1 / 1260 - square * (1 / 1680 - square / 1188)))
    return terms / n


def _deviance(x: float, mean: float) -> float:
    """Return x log(x / mean) + mean - x."""
    d = (x - mean) / mean
    if abs(d) > 0.1:
        return x * math.log(x / mean) + mean - x
    # mean ((1 + d) log(1 + d) - d) as a series
    total, power = 0.0, d * d
    for i in range(2, 30):
        total += power / (i * (i - 1)) * (1 if i % 2 == 0 else -1)
        power *= d
    return mean * total


@lru_cache(maxsize=64)
def clopper_pearson_ranks(n: int, target: Fraction, delta: Fraction) -> Ranks:
    """Return for k = 0, 1, ... the least j <= n with P(Binomial(j, target) <= k) <= delta.

    Then the upper limit of Clopper & Pearson (Biometrika 26, 1934) for k errors of j is at most
    `target`. The table ends where j would exceed n.
    """
    p, level = float(target), float(delta)
    ranks: list[int] = []
    k = j = steps = 0
    cdf = pmf = 1.0  # of Binomial(j, p) at k
    while True:
        while cdf > level and j < n:
            cdf -= p * pmf
            pmf *= (1.0 - p) * (j + 1) / (j + 1 - k)
            j, steps = j + 1, steps + 1
            if steps == _CHECKED:
                cdf, pmf, steps = binomial_cdf(k, j, p), math.exp(_log_binomial(k, j, p)), 0
        if cdf > level:
            return _frozen(ranks)
        ranks.append(j)
        pmf *= p / (1.0 - p) * (j - k) / (k + 1)
        k += 1
        cdf += pmf


@lru_cache(maxsize=64)
def hoeffding_ranks(n: int, target: Fraction, delta: Fraction) -> Ranks:
    """Return for k = 0, 1, ... the least j <= n with k / j + sqrt(log(1 / delta) / 2 j) <= target.

    Hoeffding, JASA 58(301), 1963. The table ends where j would exceed n.
    """
    p, c = float(target), -math.log(float(delta)) / 2
    k = np.arange(int(n * p) + 2)
    root = (math.sqrt(c) + np.sqrt(c + 4 * p * k)) / (2 * p)
    j = np.ceil(root * root * (1 + 1e-15)).astype(np.int64)
    return _frozen(j[j <= n].tolist())


def _frozen(ranks: list[int]) -> Ranks:
    array = np.array(ranks, np.int64)
    array.flags.writeable = False
    return array


RANKS = {"clopper_pearson": clopper_pearson_ranks, "hoeffding": hoeffding_ranks}


def starting_ranks(
    n: int, target: Fraction, delta: Fraction, bound: str
) -> tuple[list[int], Ranks]:
    """Return the ranks from which sequences of tests start, and the limits of their tests.

    Each sequence goes on to larger ranks as long as tests pass, without a penalty for their
    number; several sequences share delta. Starts depend on n alone. The list is empty if n is too
    small for any test to pass.
    """
    ranks = RANKS[bound](n, target, delta / _STARTS)
    if len(ranks):
        starts = [n >> i for i in range(1, _STARTS + 1) if n >> i >= 2 * ranks[0]]
        if starts:
            return starts, RANKS[bound](n, target, delta / len(starts))
    ranks = RANKS[bound](n, target, delta)
    return ranks[:2].tolist()[-1:], ranks


def last_rank(answered: Ranks, wrong: Ranks, starts: list[int], limits: Ranks) -> int:
    """Return the place of the largest coverage that a sequence of tests reaches, or -1.

    `answered` and `wrong` count the surest rows down to each threshold, and the errors among them;
    both rise.
    """
    needed = np.full(len(wrong), np.iinfo(np.int64).max)
    allowed = wrong < len(limits)
    needed[allowed] = limits[wrong[allowed]]
    failed = np.flatnonzero(answered < needed)
    best = -1
    for start in starts:
        first = int(np.searchsorted(answered, start))
        after = int(np.searchsorted(failed, first))
        end = int(failed[after]) if after < len(failed) else len(answered)
        if end > first:
            best = max(best, end - 1)
    return best
