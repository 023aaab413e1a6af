"""Maps that replace the exponential of softmax by another function."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, DTypeLike, NDArray

from boltzmax._lib.arguments import quietly
from boltzmax.variants.calls import run_map


@quietly
def spherical_softmax(
    x: ArrayLike,
    axis: Any = -1,
    *,
    where: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    """Probabilities in proportion to squares: x_i^2 / sum_j x_j^2."""
    return run_map("spherical_softmax", x, axis, where, 1.0, dtype, out)
