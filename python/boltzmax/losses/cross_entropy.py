"""Cross-entropy of logits and its gradient, optionally with capped logits: s = softcap(z) / T."""

from __future__ import annotations

from functools import partial
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import check_softcap, quietly
from boltzmax._lib.numbers import check_z_loss, row_blocks
from boltzmax._lib.same_kind import same_kind
from boltzmax.losses.registry import Loss, register
from boltzmax.losses.rows import Batch, RowOptions, Rows, read_batch, row_losses

Array = NDArray[Any]
Doubles = NDArray[np.float64]


def _widened_losses(
    rows: Rows, softcap: float | None, temperature: float, z_loss: float, gradient: Array | None
) -> Doubles:
    """Return the losses, block by block in at least float32; cap the logits if requested."""
    result = np.empty(len(rows.logits))
    wide = np.float64 if rows.logits.dtype == np.float64 else np.float32
    for at in row_blocks(*rows.logits.shape):
        scores: Any = rows.logits[at].astype(wide)
        slope: Any = 1.0
        if softcap is not None:
            tanh = np.tanh(scores / wide(softcap))
            scores, slope = wide(softcap) * tanh, 1 - np.square(tanh)
        inner = None if gradient is None else np.empty_like(scores)
        result[at] = row_losses(rows.part(at, scores), inner, temperature, z_loss)
        if gradient is not None and inner is not None:
            counted = (rows.label[at] >= 0)[:, None]
            gradient[at] = np.where(counted, inner * slope, 0.0).astype(gradient.dtype)
    return result


def _public(
    logits: ArrayLike,
    target: ArrayLike,
    options: RowOptions,
    z_loss: float,
    softcap: float | None,
    with_grad: bool = False,
    out: Array | None = None,
) -> Any:
    """Call the public function again, for arrays that have become NumPy's."""
    named: dict[str, Any] = {**options._asdict(), "z_loss": z_loss, "softcap": softcap}
    if with_grad:
        return cross_entropy_with_grad(logits, target, out=out, **named)
    return cross_entropy(logits, target, **named)


@partial(same_kind, again=_public)
@quietly
def _evaluate(
    logits: ArrayLike,
    target: ArrayLike,
    options: RowOptions,
    z_loss: float,
    softcap: float | None,
    with_grad: bool = False,
    out: Array | None = None,
) -> Any:
    """Evaluate any call."""
    z_loss, softcap = check_z_loss(z_loss), check_softcap(softcap)
    batch = read_batch(logits, target, options, with_grad=with_grad, out=out, probabilities=True)
    rows, reduce = batch.rows, batch.reduce
    loss = None
    if softcap is None and rows.even and options.sample_weight is None:
        loss = _compiled(batch, z_loss)
    if loss is None:
        if reduce.is_zero:
            rows = rows.ignored()
        temperature, half = float(options.temperature), rows.logits.dtype.itemsize == 2
        if softcap is not None or (half and not rows.even):
            each = _widened_losses(rows, softcap, temperature, z_loss, batch.out)
        else:
            each = row_losses(rows, batch.out, temperature, z_loss)
        loss = reduce(each)
    return batch.delivered(loss)


def _compiled(batch: Batch, z_loss: float) -> Any:
    """Return the loss of a call that is ordinary once read, with the bits of the fast path.

    None if the call is not ordinary.
    """
    rows, options = batch.rows, batch.options
    arguments = (
        *(rows.logits, rows.label, batch.class_weight, -1, float(options.label_smoothing)),
        *(z_loss, None, float(options.temperature), options.reduction, None, -1, options.empty),
    )
    if batch.out is None:
        return batch.reduce.shaped(_core.cross_entropy_call(*arguments))
    both = _core.cross_entropy_with_grad_call(*arguments, batch.out)
    return None if both is None else both[0]


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

    Results agree with ``torch.nn.functional.cross_entropy`` and ONNX SoftmaxCrossEntropyLoss,
    whose class axis is 1; here it is the last one by default.

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
        "mean" divides by the sum of the weights used: ``weight[target] * sample_weight`` for
        indices, `sample_weight` for probabilities.
    {sample_weight}
    {axis}
    {empty}

    Returns
    -------
    float32 or float64 scalar, or array of shape (...) for "none"
        In nats. float64 if the logits are, else float32. A row with NaN or +inf, or of -inf only,
        has no probabilities, so its loss is NaN for every target. (`nll_loss` of its `log_softmax`
        is inf where only other classes are +inf.)

    Raises
    ------
    IndexError
        For a target out of range; the message names the first.
    TypeError, ValueError
        For any other invalid argument.

    {see_gradient}

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
    options = RowOptions(
        weight, ignore_index, reduction, sample_weight, axis, empty, label_smoothing, temperature
    )
    return _evaluate(logits, target, options, z_loss, softcap)


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
    """Cross-entropy and its gradient with respect to the logits, in one pair of passes.

    {parameters}

    Returns
    -------
    {loss}
    d_logits : ndarray
        Its gradient, in the shape and memory order of the logits: zero in ignored rows.

    {raises}

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
    options = RowOptions(
        weight, ignore_index, reduction, sample_weight, axis, empty, label_smoothing, temperature
    )
    answer: tuple[Any, Array] = _evaluate(logits, target, options, z_loss, softcap, True, out)
    return answer


register(Loss(cross_entropy, cross_entropy_with_grad, soft=True, class_weight="weight"))
