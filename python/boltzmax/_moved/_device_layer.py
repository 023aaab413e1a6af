"""Old place: see boltzmax._moved."""

from boltzmax.cuda.layer import HierarchicalSoftmax

__all__ = [
    "HierarchicalSoftmax",
]
