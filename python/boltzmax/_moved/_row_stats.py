"""Old place: see boltzmax._moved."""

from boltzmax.arrays.row_stats import RowStats, row_stats

__all__ = [
    "RowStats",
    "row_stats",
]
