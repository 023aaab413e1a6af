"""Softmax, its loss and the largest entries of SciPy's sparse arrays.

Rows are the stored entries of a CSR, CSC or COO array or matrix. What is not stored either does not
count (``implicit="masked"``), as if it were -inf, or counts as the logit 0 (``implicit="zero"``).
The kernels are those of `segment_softmax` and the other functions of ragged rows; nothing as large
as the dense array is allocated.

- `losses`: cross-entropy and its gradient
- `maps`: softmax, its logarithm, and logsumexp
- `rows`: reads sparse arrays as ragged rows
- `top`: the most probable classes

SciPy is not imported: an argument of these functions comes from it, so the caller has done that.
"""

from __future__ import annotations

from boltzmax._lib.public import show_in
from boltzmax.sparse.losses import cross_entropy, cross_entropy_with_grad
from boltzmax.sparse.maps import log_softmax, logsumexp, softmax
from boltzmax.sparse.rows import Filled
from boltzmax.sparse.top import topk

__all__ = [
    "Filled",
    "cross_entropy",
    "cross_entropy_with_grad",
    "log_softmax",
    "logsumexp",
    "softmax",
    "topk",
]

show_in(globals())
