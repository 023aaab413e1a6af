"""Cross-entropy on logits and its gradient; focal loss is made of it.

The loss is, per row, with p = softmax(s), s = softcap(logits) / T and t the target,

    w_r (sum_c a_c (lse - s_c) + z_loss lse^2),     d/ds = w_r ((A + 2 z_loss lse) p - a)

where w is the sample weight, `a` the target distribution times the class weights and A its sum.
One compiled pass reads a row for lse and log p[t], a second one writes ``gain * p + add``: see
``cpp/core/losses/cross_entropy.hpp``.
"""

from __future__ import annotations

from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import check_positive, check_temperature, quietly
from boltzmax._lib.logits import gradient_of, read_logits
from boltzmax._lib.numbers import checked_z_loss, per_class, row_blocks
from boltzmax._lib.shared_docs import with_shared_paragraphs
from boltzmax.losses.reduction import REDUCTIONS, Reduction, check_scalar, product
from boltzmax.losses.rows import Rows, read_rows

Array = NDArray[Any]
Doubles = NDArray[np.float64]


def _soft_distances(rows: Rows) -> Doubles:
    """Return the sum of soft_c (logit of the label - logit_c); no share adds nothing, at -inf."""
    out = np.empty(len(rows.logits))
    label = np.maximum(rows.label, 0)
    for at in row_blocks(*rows.logits.shape):
        logits = rows.logits[at].astype(np.float64)
        soft = np.asarray(rows.part(at, logits).soft)
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
            gradient[at] -= (scale[at, None] * share).astype(gradient.dtype)
    # Written with log p of the label: that keeps its digits when p is nearly 1, or logits are huge.
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


@quietly
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
    softcap, z_loss = options.pop("softcap"), checked_z_loss(options.pop("z_loss"))
    if softcap is not None:
        softcap = check_positive(softcap, "softcap")
    scores = read_logits(function, logits, options.pop("axis"))
    rows, reduce = read_rows(function, scores, target, temperature=temperature, **options)
    gradient = None
    if with_grad:
        check_scalar(reduce.name, REDUCTIONS)
        gradient = gradient_of(scores, rows.logits, out)
    inside = None if gradient is None else gradient.rows
    loss = None
    if softcap is None and rows.even and options["sample_weight"] is None:
        loss = _compiled(rows, reduce, temperature, z_loss, options, inside)
    if loss is None:
        if reduce.is_zero:
            rows = rows.ignored()
        half = rows.logits.dtype.itemsize == 2
        if softcap is not None or (half and not rows.even):
            each = _widened_losses(rows, softcap, temperature, z_loss, inside)
        else:
            each = losses(rows, temperature, z_loss, inside)
        loss = reduce(each)
    return loss, None if gradient is None else gradient.deliver()


def _compiled(
    rows: Rows,
    reduce: Reduction,
    temperature: float,
    z_loss: float,
    options: dict[str, Any],
    gradient: Array | None,
) -> Any:
    """Return the loss of a call that is ordinary now, with the bits that it has if it was before.

    None if there is something else about it.
    """
    weight = per_class(options["weight"], rows.logits.shape[-1])
    arguments = (
        *(rows.logits, rows.label, weight, -1, float(options["label_smoothing"])),
        *(z_loss, None, temperature, reduce.name, None, -1, options["empty"]),
    )
    if gradient is None:
        return reduce.shaped(_core.cross_entropy_call(*arguments))
    both = _core.cross_entropy_with_grad_call(*arguments, gradient)
    return None if both is None else both[0]


@with_shared_paragraphs
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
    axis: SupportsIndex = -1,
    empty: str = "nan",
) -> Any:
    """Cross-entropy of the softmax of logits: -log p[target], averaged.

    With scores s = logits / T (after softcap * tanh(logits / softcap), if that is given),
    lse = logsumexp(s), e the label smoothing, K the number of classes and w the class weights,
    the loss of a row with the target t is::

        (1 - e) w_t (lse - s_t)  +  e / K sum_c w_c (lse - s_c)  +  z_loss lse^2

    Numbers agree with ``torch.nn.functional.cross_entropy`` and ONNX SoftmaxCrossEntropyLoss,
    whose classes lie on axis 1; here they lie on the last one by default.

    Parameters
    ----------
    logits : array_like, shape (..., K)
        float16, float32, float64 or bfloat16; integers become float64. Rows that are not
        contiguous are copied.
    target : array_like
        Class indices of any integer dtype and shape (...), or probabilities (any floats) of shape
        (..., K).
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
        indices, `sample_weight` of probabilities.
    sample_weight : array_like, optional
        A weight for each row; broadcasts to shape (...).
    {axis}
    {empty}

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

    Classes on another axis, as in PyTorch, and a mean over nothing:

    >>> import numpy as np
    >>> images = np.zeros((2, 10, 4, 4))  # batch, classes, height, width
    >>> round(float(boltzmax.cross_entropy(images, np.zeros((2, 4, 4), int), axis=1)), 6)
    2.302585
    >>> float(boltzmax.cross_entropy([[2.0, 0.0]], [-100], empty="zero"))
    0.0
    """
    loss = _core.cross_entropy_call(
        logits, target, weight, ignore_index, label_smoothing,
        z_loss, softcap, temperature, reduction, sample_weight, axis, empty,
    )  # fmt: skip
    if loss is not None:
        return loss
    options = _options(
        weight, ignore_index, label_smoothing,
        z_loss, softcap, temperature, reduction, sample_weight, axis, empty,
    )  # fmt: skip
    return _evaluate("cross_entropy", logits, target, options)[0]


@with_shared_paragraphs
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
    axis: SupportsIndex = -1,
    empty: str = "nan",
    out: Array | None = None,
) -> tuple[Any, Array]:
    """Cross-entropy and its gradient by the logits, in one pair of passes.

    Parameters
    ----------
    logits, target, weight, ignore_index, label_smoothing, z_loss : see `cross_entropy`
    softcap, temperature, sample_weight : see `cross_entropy`
    reduction : {"mean", "sum"}
        A gradient needs a scalar.
    {axis}
    {empty}
    out : ndarray, optional
        Where the gradient goes: of the shape and dtype of the logits, or the logits themselves.

    Returns
    -------
    loss : scalar or array
        As from `cross_entropy`.
    d_logits : ndarray
        Its gradient, in the shape and memory order of the logits: zero in ignored rows.

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
    both: tuple[Any, Array] | None = _core.cross_entropy_with_grad_call(
        logits, target, weight, ignore_index, label_smoothing,
        z_loss, softcap, temperature, reduction, sample_weight, axis, empty, out,
    )  # fmt: skip
    if both is not None:
        return both
    options = _options(
        weight, ignore_index, label_smoothing,
        z_loss, softcap, temperature, reduction, sample_weight, axis, empty,
    )  # fmt: skip
    loss, gradient = _evaluate("cross_entropy_with_grad", logits, target, options, True, out)
    assert gradient is not None
    return loss, gradient


_OPTIONS = (
    *("weight", "ignore_index", "label_smoothing", "z_loss", "softcap"),
    *("temperature", "reduction", "sample_weight", "axis", "empty"),
)


def _options(*options: Any) -> dict[str, Any]:
    """Return the options of a loss by their names."""
    return dict(zip(_OPTIONS, options, strict=True))
