"""Old place: see boltzmax._moved."""

from boltzmax.cuda.stats import row_stats

__all__ = [
    "row_stats",
]
