"""Rows that nothing can be drawn from: an error, or a mark."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from boltzmax._lib.arguments import one_of


def are_marked(errors: Any) -> bool:
    """Return whether bad rows are marked; otherwise the first one raises."""
    return one_of(errors, "errors", ("raise", "mark")) == "mark"


def refuse_bad_rows(is_bad: NDArray[np.bool_], shape: tuple[int, ...]) -> None:
    """Raise for the first bad row, if there is one; `shape` is that of the rows."""
    if is_bad.any():
        raise ValueError(
            f"logits must have a finite number and neither NaN nor +inf"
            f"{of_row(int(is_bad.argmax()), shape)}"
        )


def of_row(row: int, shape: tuple[int, ...]) -> str:
    """Say in a message which row it is."""
    return at_place(np.unravel_index(row, shape)) if shape else ""


def at_place(place: Iterable[SupportsIndex]) -> str:
    """Say in a message which row has these indices."""
    indices = tuple(operator.index(i) for i in place)
    if not indices:
        return ""
    return f" for row {indices[0] if len(indices) == 1 else indices}"
