"""The operations on CUDA devices, for arrays of PyTorch, CuPy, JAX, Numba and NumPy.

Arrays on a device stay there: the result is an array of the same kind on the same device, computed
on the caller's stream (PyTorch's or CuPy's current one, the one that an array names, or
``stream=``), without copies and without waiting (except for JAX, which hides its streams).
NumPy arrays are copied to the device and back.

The module can always be imported. Where it cannot be used, `is_available` is False,
`why_unavailable` gives the reason, and calls raise a RuntimeError with that reason.
"""

from __future__ import annotations

from boltzmax._lib.public import show_in
from boltzmax.cuda.arrays import DeviceArray, why_unavailable
from boltzmax.cuda.functions import (
    is_available,
    log_softmax,
    log_softmax_backward,
    logsumexp,
    softmax,
    softmax_backward,
)
from boltzmax.cuda.layer import HierarchicalSoftmax
from boltzmax.cuda.losses import (
    cross_entropy,
    cross_entropy_with_grad,
    linear_cross_entropy,
    linear_cross_entropy_with_grad,
)
from boltzmax.cuda.stats import row_stats

__all__ = [
    "DeviceArray",
    "HierarchicalSoftmax",
    "cross_entropy",
    "cross_entropy_with_grad",
    "is_available",
    "linear_cross_entropy",
    "linear_cross_entropy_with_grad",
    "log_softmax",
    "log_softmax_backward",
    "logsumexp",
    "row_stats",
    "softmax",
    "softmax_backward",
    "why_unavailable",
]

show_in(globals())
