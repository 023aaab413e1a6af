"""Simulate the guarantees on 10,000 calibration sets each: minutes.

``python benchmarks/many_calibration_sets.py [SETS]`` prints how often each promise was broken, with
its standard error, and fails if one was broken too often. The suite has the same tests on fewer
sets.
"""

from __future__ import annotations

import sys
import warnings
from fractions import Fraction

import numpy as np

from boltzmax.conformal import APS, LAC, RAPS, SAPS, ClassConditional, coverage
from boltzmax.selective.abstention import safe_threshold

Z = 3.0  # standard errors


def selective(sets: int) -> bool:
    """Scores are uniform, and P(wrong | score) = (1 - score) / 2: the risk is known exactly."""
    good = True
    for bound in ("clopper_pearson", "hoeffding", "conformal_risk_control"):
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
            if bound == "conformal_risk_control":
                found, limit = risk.mean(), float(target)
                error = risk.std() / np.sqrt(sets)
            else:
                found, limit = (risk > float(Fraction(target))).mean(), float(delta)
                error = np.sqrt(limit * (1 - limit) / sets)
            good &= found <= limit + Z * error
            allowed = f"{limit:.4f} + {Z * error:.4f}"
            print(f"{bound:24s} n={n:5d} target={target:5s} {found:.4f} <= {allowed}")
    return good


def conformal(sets: int) -> bool:
    """Labels are drawn from the softmax of logits; each set has a few new rows."""
    good = True
    n, new, alpha = 50, 20, 0.1
    for kind in (LAC, APS, RAPS, SAPS, "by class"):
        hits = np.empty(sets)
        rng = np.random.default_rng(0)
        for i in range(sets):
            z = 2 * rng.normal(size=(n + new, 4))
            y = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
            base = LAC if kind == "by class" else kind
            predictor = base(alpha, random_state=i)  # type: ignore[operator]
            if kind == "by class":
                predictor = ClassConditional(predictor)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                predictor.fit(z[:n], y[:n])
            hits[i] = coverage(predictor.predict(z[n:]), y[n:])
        error = hits.std() / np.sqrt(sets)
        good &= hits.mean() >= 1 - alpha - Z * error
        if kind != "by class":
            good &= hits.mean() <= 1 - alpha + 1 / (n + 1) + Z * error
        name = kind if isinstance(kind, str) else kind.__name__
        print(f"{name:24s} n={n:5d} covered {hits.mean():.4f} >= {1 - alpha:.4f} - {Z * error:.4f}")
    return good


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    sys.exit(0 if selective(count) & conformal(count) else 1)
