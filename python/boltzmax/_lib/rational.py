"""Shares such as 0.1 as exact fractions, so that ranks and counts are computed in integers."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from boltzmax._lib.arguments import as_number


def as_share(value: Any, name: str) -> Fraction:
    """Return a number between 0 and 1, both excluded, as the fraction that its decimal digits name.

    0.1 is 1/10, although the nearest float is larger.
    """
    share = _as_fraction(value, name)
    if share is None or not 0 < share < 1:
        raise ValueError(f"{name} must be between 0 and 1, got {value!r}")
    return share


def _as_fraction(value: Any, name: str) -> Fraction | None:
    if isinstance(value, Fraction):
        return value
    as_number(value, name)  # the same errors as for other numbers
    try:
        return Fraction(str(value))
    except ValueError:  # NaN, infinities
        return None


def conformal_rank(n: int, alpha: Fraction) -> int:
    """Return ceil((n + 1)(1 - alpha)): which of n sorted scores is the threshold.

    n + 1 means that there are too few.
    """
    return n + 1 - (n + 1) * alpha.numerator // alpha.denominator
