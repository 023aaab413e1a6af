"""Old place: see boltzmax._moved."""

from boltzmax.losses.imbalance import (
    balanced_softmax,
    class_weights,
    logit_adjustment,
    resample_indices,
)

__all__ = [
    "balanced_softmax",
    "class_weights",
    "logit_adjustment",
    "resample_indices",
]
