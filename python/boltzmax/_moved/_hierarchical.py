"""Old place: see boltzmax._moved."""

from boltzmax.trees.hierarchical import HierarchicalSoftmax
from boltzmax.trees.weights import SparseGradient, TopClasses

__all__ = [
    "HierarchicalSoftmax",
    "SparseGradient",
    "TopClasses",
]
