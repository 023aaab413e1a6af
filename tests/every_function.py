"""Calls of every public function that computes, on an array of any shape and dtype."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

import boltzmax
import boltzmax.special
from boltzmax.losses.registry import LOSSES, Loss
from layer_samples import MADE
from loss_oracles import ORACLES
from operations import GRADIENTS, OPERATIONS
from variant_samples import VARIANTS

Array = npt.NDArray[Any]
Calls = Iterator[tuple[str, Callable[[], Any]]]

# Public, but not functions of scores.
WITHOUT_SCORES = {
    *("RowStats", "Tree", "available_isas", "config", "get_cmake_dir", "get_include"),
    *("get_num_threads", "isa", "set_num_threads", "show_config", "resample_indices"),
    *("class_weights", "logit_adjustment", "GumbelSoftmax", "OnlineLogSumExp"),
    "sampling_bias_report",
    # Layers, and what makes them: they refuse bad rows, or mark them.
    *("QuantizedLinear", "QuantizedSoftmax", "QuantizedHierarchicalSoftmax", "LowRankLinear"),
    *("PrunedLinear", "ClusteredLinear", "Screen", "TwoStageClassifier", "low_rank", "prune"),
}
LINEAR_CLASSES = 3
# Losses of drawn classes, and of pairs of vectors.
OF_DRAWS = ("sampled_softmax_loss", "nce_loss", "negative_sampling_loss")
OF_SAMPLES = {f"{name}_with_grad" for name in (*OF_DRAWS, "info_nce")}


def alone_and_together(*options: dict[str, Any]) -> list[dict[str, Any]]:
    """No option, each option alone, and all at once."""
    together: dict[str, Any] = {}
    for option in options:
        together |= option
    return [{}, *options, together]


class Arguments:
    """The arguments besides x: weights and probabilities that repeat some numbers."""

    def __init__(self, x: Array, numbers: Any = 1.0) -> None:
        self.x, self.numbers = x, np.asarray(numbers, np.float64)
        self.rows, self.k = x.shape[:-1], x.shape[-1]
        self.target = np.zeros(self.rows, np.int64)
        some = x if x.size else np.zeros(1, x.dtype)
        self.vectors = np.resize(some, (LINEAR_CLASSES, self.k))

    def fill(self, *shape: int) -> Array:
        return np.resize(self.numbers, shape)

    def of_loss(self, loss: Loss) -> tuple[list[tuple[Any, ...]], list[dict[str, Any]]]:
        """Positional arguments, and options."""
        x, fill, target = self.x, self.fill, self.target
        options = [{n: v} for n, v in ORACLES[loss.name].options(fill, x.shape).items()]
        if loss.class_weight is not None:
            options += [{loss.class_weight: fill(LINEAR_CLASSES if loss.is_linear else self.k)}]
        if loss.per_element:
            return [(x, fill(*x.shape)), (x, x)], alone_and_together(*options)
        options += [{"sample_weight": fill(*self.rows)}]
        if loss.is_linear:
            soft = fill(*self.rows, LINEAR_CLASSES)
            positional = [(x, self.vectors, t) for t in (target, soft)]
        else:
            soft = [(x, fill(*x.shape))] if loss.soft else []
            positional = [(x, target), (x, target.tolist()), *soft]
        return positional, alone_and_together(*options)


def losses(x: Array, numbers: Any = 1.0, **fixed: Any) -> Calls:
    """Every loss, with and without its gradient, with every reduction and many options."""
    given = Arguments(x, numbers)
    for name, loss in LOSSES.items():
        for arguments, options in itertools.product(*given.of_loss(loss)):
            for reduction in loss.reductions:
                kwargs = options | fixed | {"reduction": reduction}
                yield f"{name} {reduction}", partial(loss.function, *arguments, **kwargs)
                if reduction != "none":
                    call = partial(loss.with_grad, *arguments, **kwargs)
                    yield f"{name}_with_grad {reduction}", call


def others(x: Array, numbers: Any = 1.0) -> Calls:
    """Everything else that takes scores."""
    given = Arguments(x, numbers)
    options: list[dict[str, Any]] = [
        *({}, {"axis": 0}, {"axis": None}, {"where": np.ones(x.shape, bool)}),
        *({"temperature": 2.0}, {"temperature": np.full(given.rows, 0.5)}, {"temperature": 1e-30}),
        *({"dtype": np.float16}, {"dtype": np.float64}, {"dtype": np.longdouble}),
    ]
    for name in OPERATIONS:
        for o in options:
            yield name, partial(getattr(boltzmax, name), x, **o)
    for name in boltzmax.special.__all__:
        yield f"special.{name}", partial(getattr(boltzmax.special, name), x, axis=-1)
    full = given.fill(*x.shape)
    for b in (full, -full, full * 1j, x):
        yield "logsumexp", partial(boltzmax.logsumexp, x, b=b, return_sign=True)
        yield "special.logsumexp", partial(boltzmax.special.logsumexp, x, axis=-1, b=b)
    yield "logsumexp", partial(boltzmax.logsumexp, x.astype(np.complex128) * (1 + 1j))
    for name in GRADIENTS:
        for dy in (x, full):
            yield name, partial(getattr(boltzmax, name), dy, x)
    yield "balanced_softmax", partial(boltzmax.balanced_softmax, x, np.ones(given.k))
    for target in (None, given.target, given.target.tolist()):
        yield "row_stats", partial(boltzmax.row_stats, x, target, 2)
    yield "row_stats", partial(boltzmax.row_stats, np.moveaxis(x, -1, 0), given.target, axis=0)
    layer, bias = (x, given.vectors), given.fill(LINEAR_CLASSES)
    yield "linear_logsumexp", partial(boltzmax.linear_logsumexp, *layer, bias)
    yield "linear_log_prob", partial(boltzmax.linear_log_prob, *layer, given.target, bias)
    yield "linear_topk", partial(boltzmax.linear_topk, *layer, 2, bias)
    yield "linear_sample", partial(boltzmax.linear_sample, *layer, 0, bias, errors="mark")
    rows = x.reshape(given.target.size, given.k)
    for kind, make in MADE.items():
        yield from layers(kind.__name__, partial(make, 4), rows, numbers)


def variants(x: Array, numbers: Any = 1.0) -> Calls:
    """Other forms of softmax, with and without a mask, and their gradients."""
    full, mask = Arguments(x, numbers).fill(*x.shape), np.ones(x.shape, bool)
    for sample, variant in VARIANTS.items():
        name = sample.partition(":")[0]
        for options in ({}, {"axis": 0}, {"where": mask}, {"dtype": np.float64}):
            yield name, partial(variant.function, x, **options)
        if variant.backward is not None:
            yield f"{name}_backward", partial(variant.backward, full, x, x)
    for name in ("gumbel_softmax", "gumbel_max"):
        yield name, partial(getattr(boltzmax, name), x, rng=1)
    yield "gumbel_softmax", partial(boltzmax.gumbel_softmax, x, noise="normal", hard=True, rng=1)
    yield "gumbel_softmax_backward", partial(boltzmax.gumbel_softmax_backward, full, x)
    yield "gumbel_topk", partial(boltzmax.gumbel_topk, x, x.shape[-1], rng=1)
    yield "entmax_alpha_grad", partial(boltzmax.entmax_alpha_grad, full, x, 1.3)
    mixture = (x[..., np.newaxis, :], x[..., :1] if x.shape[-1] else np.zeros((*x.shape[:-1], 1)))
    yield "mixture_log_softmax", partial(boltzmax.mixture_log_softmax, *mixture)
    call = partial(boltzmax.mixture_log_softmax_backward, full, *mixture)
    yield "mixture_log_softmax_backward", call
    values, flat, ids = x.reshape(-1), full.reshape(-1), np.zeros(x.size, np.int64)
    for name in ("segment_softmax", "segment_log_softmax", "segment_logsumexp"):
        yield name, partial(getattr(boltzmax, name), values, [0, 0, x.size])
        yield name, partial(getattr(boltzmax, name), values, segment_ids=ids, num_segments=2)
    for name in ("segment_softmax_backward", "segment_log_softmax_backward"):
        yield name, partial(getattr(boltzmax, name), flat, values, [0, 0, x.size])


def samples(x: Array, numbers: Any = 1.0) -> Calls:
    """Losses of drawn classes, the same for all rows or for each, and of pairs of vectors."""
    given = Arguments(x, numbers)
    hidden, weight, rows = x, given.vectors, x.shape[:-1]
    own = np.ones((*rows, 2), np.int64)
    for ids, name in itertools.product((np.array([2, 1, 2]), own), OF_DRAWS):
        draws = (ids, np.full(ids.shape, -0.5), given.fill(*rows))
        together = {"remove_hits": False, "bias": given.fill(LINEAR_CLASSES), "empty": "zero"}
        for options in ({}, together | {"sample_weight": given.fill(*rows)}):
            arguments = hidden, weight, given.target, draws
            yield name, partial(getattr(boltzmax, name), *arguments, reduction="none", **options)
            for function in (name, f"{name}_with_grad"):
                yield function, partial(getattr(boltzmax, function), *arguments, **options)
        if name == "sampled_softmax_loss":
            yield name, partial(boltzmax.sampled_softmax_loss, *arguments, correct=False)
            call = partial(boltzmax.log_partition_estimate, hidden, weight, draws)
            yield "log_partition_estimate", call
    pair = x.reshape(given.target.size, given.k)
    for options in alone_and_together(
        {"symmetric": True}, {"own_view": True}, {"negatives": weight}, {"tile": 1}
    ):
        for function in ("info_nce", "info_nce_with_grad"):
            yield function, partial(getattr(boltzmax, function), pair, pair, **options)


def layers(kind: str, make: Callable[..., Any], hidden: Array, numbers: Any) -> Calls:
    """The methods of an output layer; training steps get a separate layer."""
    rows, features = hidden.shape
    target, weight = np.zeros(rows, np.int64), np.resize(np.asarray(numbers, np.float64), rows)
    layer = make(features)
    for name in ("log_prob", "loss", "loss_with_grad"):
        yield kind, partial(getattr(layer, name), hidden, target)
    for name in ("loss", "loss_with_grad"):
        yield kind, partial(getattr(layer, name), hidden, target, weight)
    for name in ("log_prob_all", "node_log_prob", "predict_node", "predict"):
        if hasattr(layer, name):
            yield kind, partial(getattr(layer, name), hidden)
    yield kind, partial(layer.sample, hidden, errors="mark")
    yield kind, partial(layer.topk, hidden, 2)
    for name in ("sgd_step", "adagrad_step"):
        learner = make(features, seed=0)
        yield kind, partial(getattr(learner, name), hidden, target, 0.1, weight)


def everything(x: Array, numbers: Any = 1.0) -> Calls:
    yield from losses(x, numbers)
    yield from others(x, numbers)
    yield from variants(x, numbers)
    yield from samples(x, numbers)


def names() -> set[str]:
    """The public functions that are called here."""
    return {name.split()[0] for name, _ in everything(np.zeros((2, 3)))}
