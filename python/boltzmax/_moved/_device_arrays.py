"""Old place: see boltzmax._moved."""

from boltzmax.cuda.arrays import DeviceArray, why_unavailable

__all__ = [
    "DeviceArray",
    "why_unavailable",
]
