"""Old place: see boltzmax._moved."""

from boltzmax.linear.cross_entropy import linear_cross_entropy, linear_cross_entropy_with_grad

__all__ = [
    "linear_cross_entropy",
    "linear_cross_entropy_with_grad",
]
