"""Old place: see boltzmax._moved."""

from boltzmax.trees.tree import Tree

__all__ = [
    "Tree",
]
