"""Softmax for NumPy, from one row to ten million classes, at the speed of memory."""

from boltzmax import _docs
from boltzmax._config import (
    available_isas,
    config,
    get_include,
    get_num_threads,
    isa,
    set_num_threads,
    show_config,
)
from boltzmax._core import (
    log_softmax,
    log_softmax_backward,
    logsumexp,
    softmax,
    softmax_backward,
)
from boltzmax._core import version as __version__
from boltzmax._cross_entropy import cross_entropy, cross_entropy_with_grad
from boltzmax._focal import focal_loss, focal_loss_with_grad

_docs.install()

__all__ = [
    "__version__",
    "available_isas",
    "config",
    "cross_entropy",
    "cross_entropy_with_grad",
    "focal_loss",
    "focal_loss_with_grad",
    "get_include",
    "get_num_threads",
    "isa",
    "log_softmax",
    "log_softmax_backward",
    "logsumexp",
    "set_num_threads",
    "show_config",
    "softmax",
    "softmax_backward",
]
