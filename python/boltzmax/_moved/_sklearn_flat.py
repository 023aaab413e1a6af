"""Old place: see boltzmax._moved."""

from boltzmax.sklearn.flat import SoftmaxClassifier

__all__ = [
    "SoftmaxClassifier",
]
