"""Old place: see boltzmax._moved."""

from boltzmax.sklearn.samples import Features

__all__ = [
    "Features",
]
