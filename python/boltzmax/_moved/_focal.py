"""Old place: see boltzmax._moved."""

from boltzmax.losses.focal import focal_loss, focal_loss_with_grad

__all__ = [
    "focal_loss",
    "focal_loss_with_grad",
]
