"""Old place: see boltzmax._moved."""

from boltzmax.losses.divergence import kl_divergence, kl_divergence_with_grad
from boltzmax.losses.nll import nll_loss, nll_loss_with_grad

__all__ = [
    "kl_divergence",
    "kl_divergence_with_grad",
    "nll_loss",
    "nll_loss_with_grad",
]
