"""Old place: see boltzmax._moved."""

from boltzmax.trees.hierarchical import HierarchicalSoftmax, SparseGradient, TopClasses

__all__ = [
    "HierarchicalSoftmax",
    "SparseGradient",
    "TopClasses",
]
