"""Operators and modules of PyTorch: the functions of this package with autograd.

Each function is an operator of PyTorch (``torch.ops.boltzmax``) with a formula for its gradient, so
that autograd, `torch.compile`, autocast and `torch.library.opcheck` know it. Tensors in the memory
of the CPU are computed by the kernels of this package, without copies; those on a CUDA device by
`boltzmax.cuda`. Needs PyTorch: ``pip install "boltzmax[torch]"``.

- `functions`: softmax, log_softmax and logsumexp
- `layers`: output layers as modules
- `linear`: the cross-entropy of a linear layer
- `losses`: cross-entropy
- `operators`: how functions become operators of PyTorch
- `sparse`: sparsemax and entmax
"""

from __future__ import annotations

from boltzmax._lib.public import show_in
from boltzmax.torch.functions import log_softmax, logsumexp, softmax
from boltzmax.torch.layers import HierarchicalSoftmax, LinearSoftmax, OutputLayer
from boltzmax.torch.linear import linear_cross_entropy
from boltzmax.torch.losses import cross_entropy
from boltzmax.torch.sparse import entmax, entmax15, sparsemax

__all__ = [
    "HierarchicalSoftmax",
    "LinearSoftmax",
    "OutputLayer",
    "cross_entropy",
    "entmax",
    "entmax15",
    "linear_cross_entropy",
    "log_softmax",
    "logsumexp",
    "softmax",
    "sparsemax",
]

show_in(globals())
