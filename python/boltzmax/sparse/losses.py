"""Cross-entropy of sparse logits, and its gradient."""

from __future__ import annotations

from typing import Any, NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import one_of, quietly
from boltzmax._lib.numbers import loss_dtype, per_class, scores
from boltzmax._lib.ragged import Ints
from boltzmax._lib.shared_docs import complete
from boltzmax._lib.targets import Wanted, checked_targets
from boltzmax.losses.reduction import Reduction, product, read_reduction
from boltzmax.sparse.maps import log_softmax_of, logsumexp_of, softmax_of
from boltzmax.sparse.rows import IMPLICIT, Rows, read_rows

Array = NDArray[Any]
Doubles = NDArray[np.float64]


@quietly
def cross_entropy(
    x: Any,
    target: ArrayLike,
    *,
    implicit: str = "masked",
    weight: ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
    axis: SupportsIndex = -1,
    empty: str = "nan",
) -> Any:
    """Cross-entropy of the softmax of sparse logits: -log p[target], averaged.

    Parameters
    ----------
    {parameters}
    reduction : {"mean", "sum", "none"}
        "mean" divides by the sum of the weights used, ``weight[target] * sample_weight``.
    {others}

    Returns
    -------
    float32 or float64 scalar, or array of one number per row for "none"
        In nats. A target that is not stored has the loss inf with ``implicit="masked"``. A row
        with NaN or +inf, or without a finite logit, has no probabilities: its loss is NaN.

    {raises}

    See Also
    --------
    cross_entropy_with_grad : the loss and its gradient.

    Examples
    --------
    >>> import boltzmax.sparse, scipy.sparse
    >>> x = scipy.sparse.csr_array([[0.0, 2.0, 1.0], [0.0, 0.0, -5.0]])
    >>> round(float(boltzmax.sparse.cross_entropy(x, [1, 2])), 6)
    0.156631
    >>> round(float(boltzmax.sparse.cross_entropy(x, [1, 0], implicit="zero")), 6)
    0.552058
    """
    call = _read(x, target, implicit, weight, ignore_index, reduction, sample_weight, axis, empty)
    return call.reduce(call.losses())


@quietly
def cross_entropy_with_grad(
    x: Any,
    target: ArrayLike,
    *,
    implicit: str = "masked",
    weight: ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
    axis: SupportsIndex = -1,
    empty: str = "nan",
) -> tuple[Any, Any]:
    """Cross-entropy of sparse logits and its gradient with respect to the stored entries.

    Parameters
    ----------
    {parameters}
    reduction : {"mean", "sum"}, default "mean"
        A gradient needs a scalar, so not "none".
    {others}

    Returns
    -------
    loss : scalar
        As from `cross_entropy`.
    d_x : sparse array or matrix
        Its gradient by the stored entries, p - [c = target] times the weight of the row, in the
        kind and format of `x`; zero in ignored rows. Entries that are not stored are constants.
        Entries are sorted and without duplicates, so `d_x.data` fits `x.data` only if those of `x`
        are, too: see ``x.has_canonical_format``.

    {raises}

    Examples
    --------
    >>> import boltzmax.sparse, scipy.sparse
    >>> x = scipy.sparse.csr_array([[0.0, 2.0, 2.0]])
    >>> loss, d_x = boltzmax.sparse.cross_entropy_with_grad(x, [1])
    >>> d_x.toarray()
    array([[ 0. , -0.5,  0.5]])
    """
    call = _read(
        *(x, target, implicit, weight, ignore_index, reduction, sample_weight, axis, empty),
        with_grad=True,
    )
    return call.reduce(call.losses()), call.rows.like(call.gradient())


class _Call(NamedTuple):
    """The checked arguments of a loss."""

    rows: Rows
    counts_zeros: bool
    label: NDArray[np.int64]
    own: Doubles  # the class weights of the labels
    reduce: Reduction

    def at_label(self) -> tuple[Ints, NDArray[np.bool_]]:
        """Return the entry of each row that has its label, and whether there is one."""
        rows = self.rows
        at = rows.lower_bound(rows.classes, self.label)
        found = at < rows.offsets[1:]
        found[found] = rows.classes[at[found]] == self.label[found]
        return at, found

    @quietly
    def losses(self) -> Doubles:
        """Return the loss of every row."""
        log_p, log_zero = log_softmax_of(self.rows, self.counts_zeros, self.rows.values.dtype)
        at, found = self.at_label()
        result = np.full(self.rows.number, np.inf)
        result[found] = -log_p[at[found]]
        if log_zero is not None:
            result[~found] = -log_zero[~found]
        if np.isinf(result).any():
            lse = logsumexp_of(self.rows, self.counts_zeros, self.rows.values.dtype)
            result[np.isinf(result) & ~np.isfinite(lse)] = np.nan
        return product(self.own, result) + 0.0  # never -0

    @quietly
    def gradient(self) -> Array:
        """Return the gradient by the stored entries."""
        rows, working = self.rows, self.rows.values.dtype
        scale = np.zeros(rows.number) if self.reduce.is_zero else self.reduce.scale() * self.own
        p = softmax_of(rows, self.counts_zeros, working).stored
        counted = rows.each(self.reduce.counted & (scale != 0.0))
        d_x = np.where(counted, rows.each(scale) * p, 0.0)
        at, found = self.at_label()
        found &= self.reduce.counted & (scale != 0.0)
        d_x[at[found]] -= scale[found]
        return d_x.astype(working)


@quietly
def _read(
    x: Any,
    target: ArrayLike,
    implicit: str,
    weight: ArrayLike | None,
    ignore_index: int,
    reduction: str,
    sample_weight: ArrayLike | None,
    axis: SupportsIndex,
    empty: str,
    with_grad: bool = False,
) -> _Call:
    counts_zeros = one_of(implicit, "implicit", IMPLICIT) == "zero"
    rows = read_rows(x, axis)
    values = scores(rows.values, "x")
    label, counted = checked_targets(target, Wanted((rows.number,), rows.n_classes), ignore_index)
    own = np.ones(rows.number)
    if weight is not None:
        weights = per_class(weight, rows.n_classes, "weight")
        own = weights[label] if rows.n_classes else own  # without classes, no row counts
    reduce = read_reduction(
        reduction,
        sample_weight,
        empty,
        shape=(rows.number,),
        dtype=loss_dtype(values.dtype),
        counted=counted,
        own=own,
        with_grad=with_grad,
    )
    return _Call(rows, counts_zeros, label, own, reduce)


complete(
    {
        "parameters": """
x : sparse array or matrix of SciPy
    Logits, in CSR, CSC or COO, of float32 or float64; integers become float64. Duplicates are added
    up.
target : array_like of int
    A class for each row.
implicit : {"masked", "zero"}, default "masked"
    What entries are that are not stored: absent, or logits of 0.
weight : array_like, optional
    A weight for each class.
ignore_index : int, default -100
    Rows with this target are left out.
""",
        "others": """
sample_weight : array_like, optional
    A weight for each row.
axis : int, default -1
    The class axis.
empty : {"nan", "zero"}, default "nan"
    The mean over no rows, or over weights that sum to 0.
""",
        "raises": """
Raises
------
IndexError
    For a target out of range; the message names the first.
TypeError, ValueError
    For any other invalid argument.
""",
    },
    cross_entropy,
    cross_entropy_with_grad,
)
