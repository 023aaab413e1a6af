"""Old place: see boltzmax._moved."""

from boltzmax.sklearn.training import Adam, _Moments

__all__ = [
    "Adam",
    "_Moments",
]
