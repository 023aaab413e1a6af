"""Old place: see boltzmax._moved."""

from boltzmax.sklearn.tree import HierarchicalSoftmaxClassifier

__all__ = [
    "HierarchicalSoftmaxClassifier",
]
