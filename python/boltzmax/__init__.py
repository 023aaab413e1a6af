"""Softmax for NumPy, from one row to ten million classes, at the speed of memory."""

from boltzmax import _docs
from boltzmax._config import (
    available_isas,
    config,
    get_cmake_dir,
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
from boltzmax._hierarchical import HierarchicalSoftmax
from boltzmax._imbalance import (
    balanced_softmax,
    class_weights,
    logit_adjustment,
    resample_indices,
)
from boltzmax._linear import linear_cross_entropy, linear_cross_entropy_with_grad
from boltzmax._linear_queries import (
    linear_log_prob,
    linear_logsumexp,
    linear_sample,
    linear_topk,
)
from boltzmax._point_losses import (
    binary_cross_entropy_with_logits,
    binary_cross_entropy_with_logits_with_grad,
    kl_divergence,
    kl_divergence_with_grad,
    nll_loss,
    nll_loss_with_grad,
)
from boltzmax._row_stats import RowStats, row_stats
from boltzmax._tree import Tree

_docs.install()

__all__ = [
    "HierarchicalSoftmax",
    "RowStats",
    "Tree",
    "__version__",
    "available_isas",
    "balanced_softmax",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy_with_logits_with_grad",
    "class_weights",
    "config",
    "cross_entropy",
    "cross_entropy_with_grad",
    "focal_loss",
    "focal_loss_with_grad",
    "get_cmake_dir",
    "get_include",
    "get_num_threads",
    "isa",
    "kl_divergence",
    "kl_divergence_with_grad",
    "linear_cross_entropy",
    "linear_cross_entropy_with_grad",
    "linear_log_prob",
    "linear_logsumexp",
    "linear_sample",
    "linear_topk",
    "log_softmax",
    "log_softmax_backward",
    "logit_adjustment",
    "logsumexp",
    "nll_loss",
    "nll_loss_with_grad",
    "resample_indices",
    "row_stats",
    "set_num_threads",
    "show_config",
    "softmax",
    "softmax_backward",
]
