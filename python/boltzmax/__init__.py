"""Softmax for NumPy, from one row to ten million classes, at the speed of memory."""

from os.path import dirname as _folder
from os.path import join as _join

from boltzmax._core import (
    log_softmax,
    log_softmax_backward,
    logsumexp,
    softmax,
    softmax_backward,
)
from boltzmax._core import version as __version__
from boltzmax._lib.config import (
    available_isas,
    config,
    get_cmake_dir,
    get_include,
    get_num_threads,
    isa,
    set_num_threads,
    show_config,
)
from boltzmax._lib.public import show_in as _show_in
from boltzmax._lib.threadpools import install as _install_controller
from boltzmax.arrays.docs import install as _install_docs
from boltzmax.arrays.row_stats import RowStats, row_stats
from boltzmax.linear.cross_entropy import linear_cross_entropy, linear_cross_entropy_with_grad
from boltzmax.linear.layer import LinearSoftmax
from boltzmax.linear.queries import (
    linear_log_prob,
    linear_logsumexp,
    linear_sample,
    linear_topk,
)
from boltzmax.losses.binary import (
    binary_cross_entropy_with_logits,
    binary_cross_entropy_with_logits_with_grad,
)
from boltzmax.losses.cross_entropy import cross_entropy, cross_entropy_with_grad
from boltzmax.losses.divergence import kl_divergence, kl_divergence_with_grad
from boltzmax.losses.focal import focal_loss, focal_loss_with_grad
from boltzmax.losses.imbalance import (
    balanced_softmax,
    class_weights,
    logit_adjustment,
    resample_indices,
)
from boltzmax.losses.nll import nll_loss, nll_loss_with_grad
from boltzmax.trees.hierarchical import HierarchicalSoftmax
from boltzmax.trees.tree import Tree
from boltzmax.variants.gumbel import (
    GumbelSoftmax,
    gumbel_max,
    gumbel_softmax,
    gumbel_softmax_backward,
    gumbel_topk,
)
from boltzmax.variants.shapes import spherical_softmax

__all__ = [
    "GumbelSoftmax",
    "HierarchicalSoftmax",
    "LinearSoftmax",
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
    "gumbel_max",
    "gumbel_softmax",
    "gumbel_softmax_backward",
    "gumbel_topk",
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
    "spherical_softmax",
]

_show_in(globals())
_install_docs()
_install_controller()
__path__.append(_join(_folder(__file__), "_moved"))  # the modules that old pickles name
