"""Softmax for NumPy, from one row to ten million classes, at the speed of memory."""

from os.path import dirname as _folder
from os.path import join as _join

from boltzmax import losses as _losses
from boltzmax._core import log_softmax, log_softmax_backward, logsumexp, softmax, softmax_backward
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
from boltzmax.adaptive.layer import AdaptiveSoftmax
from boltzmax.adaptive.quantised_layer import QuantizedAdaptiveSoftmax
from boltzmax.arrays.docs import install as _install_docs
from boltzmax.arrays.row_stats import RowStats, row_stats
from boltzmax.linear.contrastive import info_nce, info_nce_with_grad
from boltzmax.linear.cross_entropy import linear_cross_entropy, linear_cross_entropy_with_grad
from boltzmax.linear.layer import LinearSoftmax
from boltzmax.linear.partition import log_partition_estimate
from boltzmax.linear.quantised import QuantizedLinear
from boltzmax.linear.quantised_layer import QuantizedSoftmax
from boltzmax.linear.queries import linear_log_prob, linear_logsumexp, linear_sample, linear_topk
from boltzmax.linear.sampled import (
    nce_loss,
    nce_loss_with_grad,
    negative_sampling_loss,
    negative_sampling_loss_with_grad,
    sampled_softmax_loss,
    sampled_softmax_loss_with_grad,
)
from boltzmax.linear.sampling_bias import sampling_bias_report
from boltzmax.linear.two_stage import TwoStageClassifier
from boltzmax.losses.binary import (
    binary_cross_entropy_with_logits,
    binary_cross_entropy_with_logits_with_grad,
)
from boltzmax.losses.cross_entropy import cross_entropy, cross_entropy_with_grad
from boltzmax.losses.divergence import kl_divergence, kl_divergence_with_grad
from boltzmax.losses.fenchel_young import (
    entmax15_loss,
    entmax15_loss_with_grad,
    entmax_loss,
    entmax_loss_with_grad,
    sparsemax_loss,
    sparsemax_loss_with_grad,
)
from boltzmax.losses.focal import focal_loss, focal_loss_with_grad
from boltzmax.losses.imbalance import (
    balanced_softmax,
    class_weights,
    logit_adjustment,
    resample_indices,
)
from boltzmax.losses.nll import nll_loss, nll_loss_with_grad
from boltzmax.screens.clusters import ClusteredLinear
from boltzmax.screens.low_rank import LowRankLinear, low_rank
from boltzmax.screens.pruning import PrunedLinear, prune
from boltzmax.screens.screen import Screen
from boltzmax.trees.hierarchical import HierarchicalSoftmax
from boltzmax.trees.quantised_layer import QuantizedHierarchicalSoftmax
from boltzmax.trees.tree import Tree
from boltzmax.variants.draws import gumbel_max, gumbel_topk
from boltzmax.variants.gumbel import (
    GumbelSoftmax,
    gumbel_softmax,
    gumbel_softmax_backward,
)
from boltzmax.variants.mixture import mixture_log_softmax, mixture_log_softmax_backward
from boltzmax.variants.online import OnlineLogSumExp
from boltzmax.variants.scans import logcumsumexp, logcumsumexp_backward
from boltzmax.variants.segments import (
    segment_log_softmax,
    segment_log_softmax_backward,
    segment_logsumexp,
    segment_softmax,
    segment_softmax_backward,
)
from boltzmax.variants.shapes import (
    log_sigsoftmax,
    log_sigsoftmax_backward,
    log_taylor_softmax,
    log_taylor_softmax_backward,
    sigsoftmax,
    sigsoftmax_backward,
    spherical_softmax,
    spherical_softmax_backward,
    taylor_softmax,
    taylor_softmax_backward,
)
from boltzmax.variants.sparse import (
    entmax,
    entmax15,
    entmax15_backward,
    entmax_alpha_grad,
    entmax_backward,
    sparsemax,
    sparsemax_backward,
)
from boltzmax.variants.windows import (
    windowed_logsumexp,
    windowed_logsumexp_backward,
    windowed_softmax,
    windowed_softmax_backward,
)

__all__ = [
    "AdaptiveSoftmax",
    "ClusteredLinear",
    "GumbelSoftmax",
    "HierarchicalSoftmax",
    "LinearSoftmax",
    "LowRankLinear",
    "OnlineLogSumExp",
    "PrunedLinear",
    "QuantizedAdaptiveSoftmax",
    "QuantizedHierarchicalSoftmax",
    "QuantizedLinear",
    "QuantizedSoftmax",
    "RowStats",
    "Screen",
    "Tree",
    "TwoStageClassifier",
    "__version__",
    "available_isas",
    "balanced_softmax",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy_with_logits_with_grad",
    "class_weights",
    "config",
    "cross_entropy",
    "cross_entropy_with_grad",
    "entmax",
    "entmax15",
    "entmax15_backward",
    "entmax15_loss",
    "entmax15_loss_with_grad",
    "entmax_alpha_grad",
    "entmax_backward",
    "entmax_loss",
    "entmax_loss_with_grad",
    "focal_loss",
    "focal_loss_with_grad",
    "get_cmake_dir",
    "get_include",
    "get_num_threads",
    "gumbel_max",
    "gumbel_softmax",
    "gumbel_softmax_backward",
    "gumbel_topk",
    "info_nce",
    "info_nce_with_grad",
    "isa",
    "kl_divergence",
    "kl_divergence_with_grad",
    "linear_cross_entropy",
    "linear_cross_entropy_with_grad",
    "linear_log_prob",
    "linear_logsumexp",
    "linear_sample",
    "linear_topk",
    "log_partition_estimate",
    "log_sigsoftmax",
    "log_sigsoftmax_backward",
    "log_softmax",
    "log_softmax_backward",
    "log_taylor_softmax",
    "log_taylor_softmax_backward",
    "logcumsumexp",
    "logcumsumexp_backward",
    "logit_adjustment",
    "logsumexp",
    "low_rank",
    "mixture_log_softmax",
    "mixture_log_softmax_backward",
    "nce_loss",
    "nce_loss_with_grad",
    "negative_sampling_loss",
    "negative_sampling_loss_with_grad",
    "nll_loss",
    "nll_loss_with_grad",
    "prune",
    "resample_indices",
    "row_stats",
    "sampled_softmax_loss",
    "sampled_softmax_loss_with_grad",
    "sampling_bias_report",
    "segment_log_softmax",
    "segment_log_softmax_backward",
    "segment_logsumexp",
    "segment_softmax",
    "segment_softmax_backward",
    "set_num_threads",
    "show_config",
    "sigsoftmax",
    "sigsoftmax_backward",
    "softmax",
    "softmax_backward",
    "sparsemax",
    "sparsemax_backward",
    "sparsemax_loss",
    "sparsemax_loss_with_grad",
    "spherical_softmax",
    "spherical_softmax_backward",
    "taylor_softmax",
    "taylor_softmax_backward",
    "windowed_logsumexp",
    "windowed_logsumexp_backward",
    "windowed_softmax",
    "windowed_softmax_backward",
]

_show_in(globals())
# Losses of drawn classes and of pairs need `linear`, above `losses`, but are looked for there, too.
for _name in __all__:
    if _name.removesuffix("_with_grad") in (
        *("sampled_softmax_loss", "nce_loss", "negative_sampling_loss", "info_nce"),
        *("log_partition_estimate", "sampling_bias_report"),
    ):
        setattr(_losses, _name, globals()[_name])
_install_docs()
_install_controller()
__path__.append(_join(_folder(__file__), "_moved"))  # the modules that old pickles name
