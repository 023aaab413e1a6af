"""Cross-entropy on logits and its gradient; focal loss is made of it.

The loss is, per row, with p = softmax(s), s = softcap(logits) / T and t the target,

    w_r (sum_c a_c (lse - s_c) + z_loss lse^2),     d/ds = w_r ((A + 2 z_loss lse) p - a)

where w is the sample weight, `a` the target distribution times the class weights and A its sum.
One compiled pass reads a row for lse and log p[t], a second one writes ``gain * p + add``: see
``cpp/core/cross_entropy.hpp``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._arguments import check_temperature
from boltzmax._loss_arguments import (
    Reduction,
    as_rows,
    check_number,
    deliver,
    per_class,
    per_row,
    read_logits,
    result_array,
    row_blocks,
)
from boltzmax._targets import (
    REDUCTIONS,
    check_scalar,
    checked_reduction,
    checked_targets,
    loss_dtype,
    product,
    unmasked,
)

Array = NDArray[Any]
Doubles = NDArray[np.float64]

# ---- rows and their targets ----


@dataclass(frozen=True)
class Rows:
    """Logits as a matrix, and the targets of its rows.

    The target distribution times the class weights is a_c = hard [c = label] + soft_c: `soft` is a
    number for all classes, an array of one for each, or a matrix; `mass` is the sum of a. A row
    whose label is -1 is ignored.
    """

    logits: Array
    label: NDArray[np.int64]
    hard: Doubles
    soft: Any
    mass: Doubles
    scale: Doubles

    def part(self, at: slice, logits: Array) -> Rows:
        """Return some rows, with other logits."""
        soft = self.soft[at] if np.ndim(self.soft) == 2 else self.soft
        return Rows(logits, self.label[at], self.hard[at], soft, self.mass[at], self.scale[at])

    @property
    def is_soft(self) -> bool:
        """Whether classes other than the label have a share."""
        return np.ndim(self.soft) > 0 or self.soft != 0

    @property
    def even(self) -> bool:
        """Whether the soft part is the same for all classes."""
        return np.ndim(self.soft) == 0


def _class_targets(
    label: NDArray[np.int64], classes: int, weight: Doubles | None, smoothing: float
) -> tuple[Doubles, Any, Doubles, Doubles]:
    """Return hard, soft, mass and the weights of class indices."""
    own = np.ones(len(label)) if weight is None else weight[label]
    hard = (1 - smoothing) * own
    if weight is None or smoothing == 0:
        return hard, smoothing / classes, hard + smoothing, own
    soft = smoothing / classes * weight
    return hard, soft, hard + soft.sum(), own


def _probability_targets(
    target: Array, weight: Doubles | None, smoothing: float
) -> tuple[Doubles, Any, Doubles, Doubles]:
    """Return hard, soft, mass and the weights of class probabilities."""
    soft = (1 - smoothing) * as_rows(target).astype(np.float64) + smoothing / target.shape[-1]
    if weight is not None:
        soft *= weight
    return np.zeros(len(soft)), soft, soft.sum(axis=-1), np.ones(len(soft))


def read(
    function: str,
    logits: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None,
    ignore_index: int,
    label_smoothing: float,
    reduction: str,
    sample_weight: ArrayLike | None,
    temperature: float = 1.0,
) -> tuple[Rows, Reduction]:
    """Check what a loss on logits is called with."""
    checked_reduction(reduction)
    smoothing = check_number("label_smoothing", label_smoothing, 0, 1)
    array = read_logits(function, logits)
    shape, classes = array.shape[:-1], array.shape[-1]
    class_weight = per_class(weight, classes)
    sample = per_row(sample_weight, shape)
    wanted = unmasked(target, "target")
    if wanted.size == 0 and not hasattr(target, "dtype"):  # a list without numbers
        wanted = wanted.astype(np.int64)
    if wanted.dtype.kind in "iu":
        label, counted = checked_targets(wanted, shape, classes, ignore_index)
        hard, soft, mass, own = _class_targets(label, classes, class_weight, smoothing)
        if np.ndim(soft):  # losses are told from the label's: of no weight, it may be infinite
            label = np.where(hard == 0, np.argmax(soft), label)
        label = np.where(counted, label, -1)
    elif wanted.dtype.kind == "f" and wanted.shape == array.shape:
        hard, soft, mass, own = _probability_targets(wanted, class_weight, smoothing)
        label, counted = soft.argmax(axis=-1), np.ones(len(hard), bool)
    else:
        raise TypeError(
            f"{function}: target must be integers of shape {shape} or probabilities of shape "
            f"{array.shape}, got {wanted.dtype} of shape {wanted.shape}"
        )
    # What belongs to an ignored row must not matter, be it NaN.
    hard, mass, own, sample = (np.where(counted, a, 0.0) for a in (hard, mass, own, sample))
    reduce = Reduction(reduction, shape, loss_dtype(array.dtype), counted, sample, own * sample)
    return Rows(as_rows(array), label, hard, soft, mass, reduce.scale() / temperature), reduce


# ---- cross-entropy ----


def _soft_distances(rows: Rows) -> Doubles:
    """Return the sum of soft_c (logit of the label - logit_c); no share adds nothing, at -inf."""
    out = np.empty(len(rows.logits))
    label = np.maximum(rows.label, 0)
    for at in row_blocks(*rows.logits.shape):
        logits = rows.logits[at].astype(np.float64)
        soft = np.asarray(rows.part(at, logits).soft)
        with np.errstate(all="ignore"):
            terms = soft * (np.take_along_axis(logits, label[at, None], axis=-1) - logits)
        out[at] = np.where(soft == 0, 0.0, terms).sum(axis=-1)
    return out


def losses(rows: Rows, temperature: float, z_loss: float, gradient: Array | None) -> Doubles:
    """Return the loss of every row, and write their gradient, which may be the logits."""
    lse, log_prob = np.empty(len(rows.logits)), np.empty(len(rows.logits))
    soft = None
    if rows.is_soft:
        # Here, if they are weighted: the gradient may overwrite the logits.
        soft = np.empty_like(lse) if rows.even else _soft_distances(rows)
    scale = rows.scale
    _core.cross_entropy(
        rows.logits,
        rows.label,
        temperature,
        lse,
        log_prob,
        distance=soft if rows.even else None,
        gradient=gradient,
        gain=scale * rows.mass,
        lse_gain=scale * (2 * z_loss),
        add=-scale * (rows.soft if rows.even else 0.0),
        target_gain=scale * rows.hard,
    )
    if gradient is not None and not rows.even:
        counted = (rows.label >= 0)[:, None]
        for at in row_blocks(*gradient.shape):
            share = np.where(counted[at], rows.part(at, gradient).soft, 0.0)
            with np.errstate(all="ignore"):
                gradient[at] -= (scale[at, None] * share).astype(gradient.dtype)
    # Written with log p of the label: that keeps its digits when p is nearly 1, or logits are huge.
    with np.errstate(all="ignore"):
        result = product(rows.mass, -log_prob)
        if soft is not None:
            # Where all shares are the same, the mean distance is known instead of their sum.
            each = (rows.soft * rows.logits.shape[-1] if rows.even else 1.0) / temperature
            result = np.where(np.isposinf(result), result, result + each * soft)
        return np.asarray(result + (z_loss * np.square(lse) if z_loss else 0.0))


def _widened_losses(
    rows: Rows, softcap: float | None, temperature: float, z_loss: float, gradient: Array | None
) -> Doubles:
    """Return the losses, some rows at a time, in float32 at least; of capped logits if asked."""
    result = np.empty(len(rows.logits))
    wide = np.float64 if rows.logits.dtype == np.float64 else np.float32
    for at in row_blocks(*rows.logits.shape):
        scores: Any = rows.logits[at].astype(wide)
        slope: Any = 1.0
        if softcap is not None:
            tanh = np.tanh(scores / wide(softcap))
            scores, slope = wide(softcap) * tanh, 1 - np.square(tanh)
        inner = None if gradient is None else np.empty_like(scores)
        result[at] = losses(rows.part(at, scores), temperature, z_loss, inner)
        if gradient is not None and inner is not None:
            counted = (rows.label[at] >= 0)[:, None]
            gradient[at] = np.where(counted, inner * slope, 0.0).astype(gradient.dtype)
    return result


def _evaluate(
    function: str,
    logits: ArrayLike,
    target: ArrayLike,
    options: dict[str, Any],
    with_grad: bool = False,
    out: Array | None = None,
) -> tuple[Any, Array | None]:
    """Return the loss and the gradient, if that is wanted."""
    temperature = check_temperature(options.pop("temperature"))
    softcap, z_loss = options.pop("softcap"), check_number("z_loss", options.pop("z_loss"), 0)
    if softcap is not None:
        check_number("softcap", softcap, 1e-30, 1e30)
    rows, reduce = read(function, logits, target, temperature=temperature, **options)
    gradient = inside = None
    if with_grad:
        check_scalar(reduce.name, REDUCTIONS)
        gradient, inside = result_array(out, read_logits(function, logits))
    half = rows.logits.dtype.itemsize == 2
    if softcap is not None or (half and not rows.even):
        each = _widened_losses(rows, softcap, temperature, z_loss, inside)
    else:
        each = losses(rows, temperature, z_loss, inside)
    if gradient is not None and inside is not None:
        deliver(inside, gradient)
    return reduce(each), gradient


def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    temperature: float = 1.0,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
) -> Any:
    """Cross-entropy of the softmax of logits: -log p[target], averaged.

    With scores s = logits / T (after softcap * tanh(logits / softcap), if that is given),
    lse = logsumexp(s), e the label smoothing, K the number of classes and w the class weights,
    the loss of a row with the target t is::

        (1 - e) w_t (lse - s_t)  +  e / K sum_c w_c (lse - s_c)  +  z_loss lse^2

    Numbers agree with ``torch.nn.functional.cross_entropy`` and ONNX SoftmaxCrossEntropyLoss;
    the classes lie on the last axis.

    Parameters
    ----------
    logits : array_like, shape (..., K)
        float16, float32, float64 or bfloat16; integers become float64.
    target : array_like
        Class indices of any integer dtype and shape (...), or probabilities of shape (..., K).
    weight : array_like, shape (K,), optional
        A weight for each class: see `class_weights`.
    ignore_index : int, default -100
        Rows with this target are left out.
    label_smoothing : float, default 0.0
        From 0 to 1: the share of the target that is spread over all classes (Szegedy et al.,
        CVPR 2016).
    z_loss : float, default 0.0
        Keeps lse near 0 (de Brebisson & Vincent, 2016; Chowdhery et al., PaLM, 2022).
    softcap : float, optional
        Bounds the logits smoothly (Gemma 2, 2024).
    temperature : float, default 1.0
        Divides the logits.
    reduction : {"mean", "sum", "none"}
        "mean" divides by the sum of the weights used: ``weight[target] * sample_weight`` of
        indices, `sample_weight` of probabilities. Without a row to count it is nan.
    sample_weight : array_like, optional
        A weight for each row; broadcasts to shape (...).

    Returns
    -------
    float32 or float64 scalar, or array of shape (...) for "none"
        In natural-logarithm units (nats). float64 if the logits are, else float32. NaN in a row
        makes its loss NaN.

    Raises
    ------
    IndexError
        For a target out of range; it names the first.
    TypeError, ValueError
        For what else does not make sense.

    Examples
    --------
    >>> import boltzmax
    >>> round(float(boltzmax.cross_entropy([[2.0, 0.0], [0.0, 0.0]], [0, 1])), 6)
    0.410038
    """
    arguments = (
        *(logits, target, weight, ignore_index, label_smoothing),
        *(z_loss, softcap, temperature, reduction, sample_weight),
    )
    loss = _core.cross_entropy_call(*arguments)
    if loss is not None:
        return loss
    return _evaluate("cross_entropy", logits, target, _options(*arguments))[0]


def cross_entropy_with_grad(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    temperature: float = 1.0,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
    out: Array | None = None,
) -> tuple[Any, Array]:
    """Cross-entropy and its gradient by the logits, in one pair of passes.

    Parameters
    ----------
    logits, target, weight, ignore_index, label_smoothing, z_loss : see `cross_entropy`
    softcap, temperature, sample_weight : see `cross_entropy`
    reduction : {"mean", "sum"}
        A gradient needs a scalar.
    out : ndarray, optional
        Where the gradient goes: of the shape and dtype of the logits, or the logits themselves.

    Returns
    -------
    loss : scalar or array
        As from `cross_entropy`.
    d_logits : ndarray
        Its gradient: zero in ignored rows.

    Raises
    ------
    IndexError, TypeError, ValueError
        As for `cross_entropy`, before anything is written.

    Examples
    --------
    >>> import boltzmax
    >>> loss, d_logits = boltzmax.cross_entropy_with_grad([[0.0, 0.0]], [1])
    >>> d_logits
    array([[ 0.5, -0.5]])
    """
    arguments = (
        *(logits, target, weight, ignore_index, label_smoothing),
        *(z_loss, softcap, temperature, reduction, sample_weight),
    )
    both: tuple[Any, Array] | None = _core.cross_entropy_with_grad_call(*arguments, out)
    if both is not None:
        return both
    options = _options(*arguments)
    loss, gradient = _evaluate("cross_entropy_with_grad", logits, target, options, True, out)
    assert gradient is not None
    return loss, gradient


_OPTIONS = (
    *("weight", "ignore_index", "label_smoothing", "z_loss", "softcap"),
    *("temperature", "reduction", "sample_weight"),
)


def _options(_logits: ArrayLike, _target: ArrayLike, *options: Any) -> dict[str, Any]:
    """Return the options of a loss by their names."""
    return dict(zip(_OPTIONS, options, strict=True))
