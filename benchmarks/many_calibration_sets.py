"""Simulate the guarantees on 10,000 calibration sets each: a minute or two of processor time.

``python benchmarks/many_calibration_sets.py [SETS]`` prints how often each promise was broken, with
its standard error, and fails if one was broken too often. The suite has the same tests on fewer
sets.
"""

from __future__ import annotations

import sys
import warnings
from fractions import Fraction
from typing import Any

import numpy as np

from boltzmax import Tree, softmax
from boltzmax.conformal import APS, LAC, RAPS, SAPS, ClassConditional, ClusterConditional, coverage
from boltzmax.selective.abstention import BOUNDS, safe_threshold
from boltzmax.selective.hierarchical import Paths, allowed_errors, threshold_for

Z = 3.0  # standard errors


def selective(sets: int) -> bool:
    """Scores are uniform, and P(wrong | score) = (1 - score) / 2: the risk is known exactly."""
    good = True
    for bound in BOUNDS:
        for n, target, delta in (
            (1000, "0.1", "0.05"),
            (5000, "0.15", "0.1"),
            (3000, "0.05", "0.2"),
        ):
            rng = np.random.default_rng(n)
            risk = np.zeros(sets)
            for i in range(sets):
                score = rng.random(n)
                wrong = rng.random(n) < (1 - score) / 2
                t = safe_threshold(score, wrong, Fraction(target), Fraction(delta), bound)
                if t < np.inf:
                    risk[i] = (1 - t) ** (2 if "control" in bound else 1) / 4
            good &= is_kept(risk, bound, n, target, delta)
    return good


def is_kept(risk: Any, bound: str, n: int, target: str, delta: str) -> bool:
    """Print and return whether the risks of all sets are as promised."""
    sets = len(risk)
    if bound == "conformal_risk_control":
        found, limit = risk.mean(), float(target)
        error = risk.std() / np.sqrt(sets)
    else:
        found, limit = (risk > float(target)).mean(), float(delta)
        error = np.sqrt(limit * (1 - limit) / sets)
    allowed = f"{limit:.4f} + {Z * error:.4f}"
    print(f"{bound:24s} n={n:5d} target={target:5s} {found:.4f} <= {allowed}")
    return bool(found <= limit + Z * error)


def nodes(sets: int) -> bool:
    """Rows are drawn from 100,000, with replacement: so the risk is known exactly."""
    rng = np.random.default_rng(0)
    z = 2 * rng.normal(size=(100_000, 8))
    y = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    worst = np.sort(Paths(Tree.balanced(8)).first_wrong(softmax(z), y))
    n, good = 500, True
    for bound in BOUNDS:
        for target, delta in (("0.1", "0.05"), ("0.3", "0.2")):
            allowed = allowed_errors(n, Fraction(target), Fraction(delta), bound)
            drawn = (worst[rng.integers(0, len(worst), n)] for _ in range(sets))
            thresholds = [threshold_for(part, allowed) for part in drawn]
            risk = 1 - np.searchsorted(worst, thresholds, side="right") / len(worst)
            good &= is_kept(risk, bound, n, target, delta)
    return good


def conformal(sets: int) -> bool:
    """Labels are drawn from the softmax of logits; each set has a few new rows."""
    good = True
    n, new, alpha = 50, 20, 0.1
    for kind in (LAC, APS, RAPS, SAPS):
        hits = np.empty(sets)
        rng = np.random.default_rng(0)
        for i in range(sets):
            z = 2 * rng.normal(size=(n + new, 4))
            y = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
            predictor = kind(alpha, random_state=i).fit(z[:n], y[:n])
            hits[i] = coverage(predictor.predict(z[n:]), y[n:])
        error = hits.std() / np.sqrt(sets)
        good &= 1 - alpha - Z * error <= hits.mean() <= 1 - alpha + 1 / (n + 1) + Z * error
        show_coverage(kind.__name__, n, hits.mean(), error)
    return good & by_class(sets) & by_cluster(sets)


def by_class(sets: int) -> bool:
    """Each of four classes is covered, however many rows it has."""
    n, new, alpha, classes = 100, 40, 0.1, 4
    count, hits = np.zeros((2, sets, classes))
    rng = np.random.default_rng(1)
    for i in range(sets):
        z = 2 * rng.normal(size=(n + new, classes)) + [0, 1, 2, 2]
        y = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
        z[:, 2] -= 2  # the model underrates a class
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sets with too few rows of a class
            predictor = ClassConditional(LAC(alpha)).fit(z[:n], y[:n])
        hit = predictor.predict(z[n:]).contain(y[n:])
        count[i], hits[i] = (np.bincount(y[n:], w, classes) for w in (None, hit))
    covered = hits.sum(axis=0) / count.sum(axis=0)
    error = (hits - covered * count).std(axis=0) / np.sqrt(sets) / count.mean(axis=0)
    for c in range(classes):
        show_coverage(f"by class: {c}", n, covered[c], error[c])
    return bool((covered >= 1 - alpha - Z * error).all())


def by_cluster(sets: int) -> bool:
    """Each of two clusters of classes is covered, which are found on other rows."""
    n, new, alpha, classes = 200, 40, 0.1, 4
    count, hits = np.zeros((2, sets, 2))
    rng = np.random.default_rng(2)
    for i in range(sets):
        z = 2 * rng.normal(size=(n + new, classes))
        y = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
        z[:, :2] -= 2  # the model underrates two classes
        predictor = ClusterConditional(LAC(alpha), 2).fit(z[:n], y[:n])
        hit, group = predictor.predict(z[n:]).contain(y[n:]), predictor.group_[y[n:]]
        count[i], hits[i] = (np.bincount(group, w, 2)[:2] for w in (None, hit))
    covered = hits.sum(axis=0) / count.sum(axis=0)
    error = (hits - covered * count).std(axis=0) / np.sqrt(sets) / count.mean(axis=0)
    for c in range(2):
        show_coverage(f"by cluster: {c}", n, covered[c], error[c])
    return bool((covered >= 1 - alpha - Z * error).all())


def show_coverage(name: str, n: int, covered: float, error: float) -> None:
    """Print how often the right class was in the set."""
    print(f"{name:24s} n={n:5d} covered {covered:.4f} >= 0.9000 - {Z * error:.4f}")


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    sys.exit(0 if selective(count) & nodes(count) & conformal(count) else 1)
