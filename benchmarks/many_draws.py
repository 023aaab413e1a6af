"""Draw 10^8 classes, also among 2^26, and test how they are distributed.

    python benchmarks/many_draws.py

takes some minutes, and needs SciPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

import boltzmax
import boltzmax.margin

DRAWS, CLASSES = 10**8, 2**26


def chi_square(title: str, observed: NDArray[Any], p: NDArray[Any]) -> None:
    """Print the test of counts against probabilities."""
    expected = p / p.sum() * observed.sum()
    test = stats.chisquare(observed, expected)
    print(f"{title:48} chi-square {test.statistic:12.1f}  p = {test.pvalue:.4f}")


def distribution() -> None:
    """Test draws of few and of many classes, with and without noise of their own."""
    logits = np.log(np.array([1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]))
    p = np.exp(logits) / np.exp(logits).sum()
    ids = boltzmax.gumbel_max(logits, n=DRAWS, rng=1)
    chi_square("10^8 draws from a row, tail of 1e-7", np.bincount(ids, minlength=8), p)
    counts, hard = np.zeros(8, np.int64), np.zeros(8)
    rows = np.broadcast_to(logits.astype(np.float32), (DRAWS // 100, 8))
    for part in range(100):
        first = part * len(rows)
        counts += np.bincount(boltzmax.gumbel_max(rows, rng=2, first_row=first), minlength=8)
        hard += boltzmax.gumbel_softmax(rows, hard=True, rng=3, first_row=first).sum(axis=0)
    chi_square("a draw from each of 10^8 rows", counts, p)
    chi_square("the largest of 10^8 rows with noise", hard, p)
    x = np.zeros(CLASSES, np.float32)
    x[::1024] = np.log(np.float32(100))
    ids = boltzmax.gumbel_max(x, n=DRAWS // 10, rng=4)
    likely = ids % 1024 == 0
    chi_square("10^7 draws of 2^26 classes, likely or not",
               np.array([likely.sum(), (~likely).sum()]), np.array([100.0, 1023.0]))  # fmt: skip
    parts = np.bincount(ids // (CLASSES // 4096), minlength=4096)
    chi_square("10^7 draws of 2^26 classes, in 4096 parts", parts, np.ones(4096))


def normal(first_row: int) -> NDArray[Any]:
    """Return 1000 x 1000 variates: logits of 0 with noise."""
    zeros, target = np.zeros((1000, 1000)), np.zeros(1000, int)
    return boltzmax.margin.noisy_logits(
        zeros, target, alpha=1.0, noise="all", rng=5, first_row=first_row
    )


def noise() -> None:
    """Test 10^8 Gumbel and normal variates, tails of 1e-7 included, by Kolmogorov and Smirnov.

    The distance of the distributions is measured at 4096 quantiles, so it is not overestimated.
    """
    edges = np.linspace(0, 1, 4097)[1:-1]
    tails = np.array([1e-7, 1e-6, 1e-5])
    quantiles = np.concatenate([tails, edges, 1 - tails[::-1]])
    kinds = (("gumbel", stats.gumbel_r, gumbel), ("normal", stats.norm, normal))
    for kind, law, variates in kinds:
        places = law.ppf(quantiles)
        below = np.zeros(len(places), np.int64)
        for part in range(100):
            x = variates(1000 * part)
            below += np.searchsorted(np.sort(x, axis=None), places)
        distance = np.abs(below / DRAWS - quantiles).max()
        p = stats.kstwobign.sf(distance * np.sqrt(DRAWS))
        print(f"{'10^8 variates: ' + kind:48} distance   {distance:12.2e}  p <= {p:.4f}")
        lower, upper = below[:3], DRAWS - below[-3:]
        print(f"    beyond quantiles of {tails}: {lower} and {upper[::-1]}, want {tails * DRAWS}")


def gumbel(first_row: int) -> NDArray[Any]:
    """Return 1000 x 1000 variates: the keys of equal scores, in any order."""
    keys = boltzmax.gumbel_topk(np.zeros((1000, 1000)), 1000, rng=5, first_row=first_row)[1]
    return np.asarray(keys)


if __name__ == "__main__":
    boltzmax.set_num_threads(1)
    distribution()
    noise()
