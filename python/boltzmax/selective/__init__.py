"""Answer only when sure, with a guarantee on how often the answers are wrong.

- `abstention`: the answer is a class, or none
- `bounds`: exact limits of a risk, from counts
- `confidence`: scores of how sure a row is
- `curves`: risk against coverage
- `hierarchical`: the answer is a node of a tree of classes
"""

from __future__ import annotations

from boltzmax._lib.public import show_in
from boltzmax.selective.abstention import SelectiveClassifier
from boltzmax.selective.confidence import confidence
from boltzmax.selective.curves import (
    RiskCoverage,
    augrc,
    aurc,
    coverage_at_risk,
    e_aurc,
    plot_risk_coverage,
    risk_coverage_curve,
)
from boltzmax.selective.hierarchical import HierarchicalAbstention

__all__ = [
    "HierarchicalAbstention",
    "RiskCoverage",
    "SelectiveClassifier",
    "augrc",
    "aurc",
    "confidence",
    "coverage_at_risk",
    "e_aurc",
    "plot_risk_coverage",
    "risk_coverage_curve",
]

show_in(globals())
