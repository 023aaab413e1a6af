"""Old place: see boltzmax._moved."""

from boltzmax.losses.cross_entropy import cross_entropy, cross_entropy_with_grad

__all__ = [
    "cross_entropy",
    "cross_entropy_with_grad",
]
