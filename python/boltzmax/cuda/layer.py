"""The hierarchical layer on CUDA devices: see boltzmax.cuda."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from boltzmax._lib.arguments import check_count
from boltzmax._lib.output_layer import (
    DenseGradient,
    read_hidden,
    read_min_prob,
    read_target,
)
from boltzmax.cuda.arrays import DeviceArray, Shape, View, host_dtype, module
from boltzmax.cuda.calls import Call, Result
from boltzmax.losses.reduction import REDUCTIONS, check_scalar, checked_reduction
from boltzmax.trees.tree import Tree


class HierarchicalSoftmax:
    """A softmax over the leaves of a tree, like `boltzmax.HierarchicalSoftmax`, on a device.

    Parameters
    ----------
    tree : Tree
        The classes.
    weight : array, shape (tree.n_units, D)
        A row for each unit, as in the layer on the CPU; float16, bfloat16, float32 or float64,
        C-contiguous, on a device. (Or a NumPy array, with NumPy arrays in all calls: it is copied
        to the device each time.)
    bias : array, shape (tree.n_units,), optional
        Of the same dtype and device.

    Attributes
    ----------
    tree, weight, bias
        As given. Every call reads the arrays anew, so training code may write to them.

    Notes
    -----
    ``hidden`` is (N, D) in all methods, of the dtype of the weights, and contiguous. Scores are
    computed in float32 (float64 for float64), everything after that in double precision. Calls use
    the stream of `hidden`, or `stream`.

    A layer of NumPy arrays reads its arguments like the layer on the CPU, and raises the same
    errors. On a device the host does not check targets, since it would have to wait for them: a
    negative target leaves its row out, a target that is not a class makes its results NaN.

    Examples
    --------
    >>> import numpy as np, boltzmax, boltzmax.cuda
    >>> tree = boltzmax.Tree.balanced(4)
    >>> layer = boltzmax.cuda.HierarchicalSoftmax(tree, np.zeros((tree.n_units, 3)))
    >>> layer.log_prob(np.zeros((1, 3)), np.array([2])).round(3)
    array([-1.386])
    """

    def __init__(self, tree: Tree, weight: Any, bias: Any = None) -> None:
        if not isinstance(tree, Tree):
            raise TypeError(f"tree must be a boltzmax.Tree, got {type(tree).__name__}")
        self.tree, self.weight, self.bias = tree, weight, bias
        self._trees: dict[int, _TreeOnDevice] = {}

    @property
    def n_classes(self) -> int:
        """The number of leaves."""
        return self.tree.n_classes

    @property
    def n_features(self) -> int:
        """The length D of a hidden vector."""
        return int(self.weight.shape[1])

    @property
    def dtype(self) -> Any:
        """The dtype of the weights, as an object of their library."""
        return self.weight.dtype

    def log_prob(self, hidden: Any, target: Any, *, stream: Any = None) -> Any:
        """Return log p(target) of every row, (N,).

        `target` is an array of int64 or int32, (N,). On a device a negative target gives 0, a
        target that is not a class NaN.
        """
        query = _Query(self, hidden, stream)
        return query.losses(target, "none", gives_log_probs=True)[0].deliver()

    def loss(self, hidden: Any, target: Any, *, reduction: str = "mean", stream: Any = None) -> Any:
        """Return -log p(target): the mean over the rows that count, their sum, or one per row."""
        checked_reduction(reduction, REDUCTIONS)
        query = _Query(self, hidden, stream)
        return query.losses(target, reduction)[0].deliver()

    def loss_with_grad(
        self, hidden: Any, target: Any, *, reduction: str = "mean", stream: Any = None
    ) -> DenseGradient:
        """Return the loss and its gradients.

        Parameters
        ----------
        hidden : array, shape (N, D)
        target : array of int64 or int32, shape (N,)
            On a device a negative target leaves its row out; a target that is not a class makes the
            loss and its row of d_hidden NaN.
        reduction : {"mean", "sum"}, default "mean"
        stream : stream or int, optional

        Returns
        -------
        loss, d_hidden, d_weight, d_bias : array
            float64 if the weights are, else float32. The gradients of the weights are dense: zero
            for units on no path. (To find these, the host would have to wait.) They are summed in
            no fixed order: their last bits may differ between calls. d_bias is None without a bias.
        """
        check_scalar(reduction, REDUCTIONS)
        query = _Query(self, hidden, stream)
        loss, d_hidden, d_weight, d_bias = query.losses(target, reduction, with_grad=True)
        bias_too = None if d_bias is None else d_bias.deliver()
        return DenseGradient(loss.deliver(), d_hidden.deliver(), d_weight.deliver(), bias_too)

    def topk(
        self, hidden: Any, k: int, *, min_prob: float = 0.0, stream: Any = None
    ) -> tuple[Any, Any]:
        """Return the k likeliest classes of each row, and their log-probabilities.

        Exact: nodes are expanded in order of decreasing probability, and below a node that is less
        likely than the k-th class found there is no better one. Peaked distributions expand few
        nodes, flat ones nearly all.

        Parameters
        ----------
        hidden : array, shape (N, D)
        k : int
            From 1 to the number of classes.
        min_prob : float, default 0.0
            Leave out classes of a lower probability.
        stream : stream or int, optional

        Returns
        -------
        ids : array of int64, shape (N, k)
            The likeliest first, ties in favour of the lower class; -1 where there are no more.
        log_probs : array, shape (N, k)
            -inf where there are no more.
        """
        count, least = check_count(k, "k", 1, self.n_classes), read_min_prob(min_prob)
        query = _Query(self, hidden, stream)
        ids, log_probs = query.top(count, least, (*query.rows, count))
        return ids.deliver(), log_probs.deliver()

    def predict(self, hidden: Any, *, stream: Any = None) -> Any:
        """Return the likeliest class of each row, (N,); -1 for a row with NaN."""
        query = _Query(self, hidden, stream)
        return query.top(1, read_min_prob(0.0), query.rows)[0].deliver()

    def _on_device(self, device: int) -> _TreeOnDevice:
        if device not in self._trees:  # two threads may both copy; one copy is discarded
            self._trees.setdefault(device, _TreeOnDevice(self.tree, device))
        return self._trees[device]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_trees": {}}


class _TreeOnDevice:
    """A tree's arrays, copied to a device once."""

    def __init__(self, tree: Tree, device: int) -> None:
        small = [tree.parent, tree.slot, tree.child]
        large = [tree.child_offset, tree.unit_offset]
        arrays = [(np.ascontiguousarray(a, np.int32), "int32") for a in small]
        arrays += [(np.ascontiguousarray(a, np.int64), "int64") for a in large]
        self._copies = []
        for array, dtype in arrays:
            copy = DeviceArray(array.shape, dtype, device, 0, is_lasting=True)
            copy.copy_in(array)
            self._copies.append(copy)
        units = np.diff(tree.unit_offset)
        self._sizes = [tree.n_classes, tree.n_inner, _longest_path(tree, units), int(units.max())]

    def for_call(self) -> Any:
        """Return the argument for calls; it does not keep the copies alive."""
        return module().DeviceTree([copy.view.address for copy in self._copies], self._sizes)


def _longest_path(tree: Tree, units: NDArray[np.int64]) -> int:
    """Return the largest number of units between the root and a leaf."""
    # Inner nodes come breadth first: a parent before its children.
    total = units.copy()
    parent = tree.parent[tree.n_classes :] - tree.n_classes
    level = np.flatnonzero(parent < 0)
    while level.size:
        level = np.flatnonzero(np.isin(parent, level) & (parent >= 0))
        total[level] += total[parent[level]]
    return int(total.max())


def _is_for_host(x: Any) -> bool:
    """Return whether it is host data for NumPy, not an array of a device library."""
    on_devices = hasattr(x, "__dlpack__") or hasattr(x, "__cuda_array_interface__")
    return isinstance(x, np.ndarray) or not on_devices


class _Query:
    """Rows for a layer, with the arrays of both."""

    def __init__(self, layer: HierarchicalSoftmax, hidden: Any, stream: Any) -> None:
        weight = layer.weight
        if isinstance(weight, np.ndarray) and weight.ndim == 2 and _is_for_host(hidden):
            host_dtype(weight, "weight")  # an error if the device does not support it
            hidden = read_hidden(hidden, weight.shape[1], weight.dtype)
        self.call = call = Call(hidden, stream, name="hidden")
        self.hidden, tree = call.view, layer.tree
        self.weight = call.operand(weight, "weight")
        if len(self.weight.shape) != 2 or self.weight.shape[0] != tree.n_units:
            raise ValueError(
                f"weight must be ({tree.n_units}, D) for this tree, got shape {self.weight.shape}"
            )
        features = self.weight.shape[1]
        if len(self.hidden.shape) != 2 or self.hidden.shape[1] != features:
            raise ValueError(f"hidden must be (N, {features}), got shape {self.hidden.shape}")
        call.check_contiguous(self.hidden, "hidden")
        self.bias = None if layer.bias is None else call.operand(layer.bias, "bias")
        if self.bias is not None and self.bias.shape != (tree.n_units,):
            raise ValueError(f"bias must have shape ({tree.n_units},), got {self.bias.shape}")
        self.storage = getattr(call.module.Storage, self.hidden.dtype.upper())
        self.tree = layer._on_device(call.device)
        self.n_classes, self.rows = tree.n_classes, self.hidden.shape[:1]
        self.sizes = [features, *self.rows]

    def _addresses(self, target: View | None) -> list[int]:
        views = (self.weight, self.bias, self.hidden, target)
        return [0 if view is None else view.address for view in views]

    def losses(
        self, target: Any, reduction: str, *, with_grad: bool = False, gives_log_probs: bool = False
    ) -> tuple[Any, ...]:
        """Return the loss (or its negative for each row), and the gradients or None for each."""
        call, rows = self.call, self.rows
        if call.is_on_host and _is_for_host(target):
            target = read_target(target, *rows, self.n_classes)
        labels, dtype = call.target(target, rows), call.computed
        joined = call.empty(rows if reduction == "none" else (), dtype)
        losses = joined.view if reduction == "none" else call.scratch(rows, dtype)
        gradients: list[Result | None] = [None, None, None]
        if with_grad:
            of_bias = None if self.bias is None else call.zeros(self.bias.shape, dtype)
            of_weight = call.zeros(self.weight.shape, dtype)
            gradients = [call.empty(self.hidden.shape, dtype), of_weight, of_bias]
        call.module.tree_loss(
            storage=self.storage,
            tree=self.tree.for_call(),
            read=self._addresses(labels),
            sizes=self.sizes,
            written=[
                losses.address,
                joined.view.address,
                *(0 if g is None else g.view.address for g in gradients),
            ],
            reduction=getattr(call.module.Reduction, reduction.upper()),
            gives_log_probs=gives_log_probs,
            device=call.device,
            stream=call.stream,
        )
        return joined, *gradients

    def top(self, k: int, min_log_prob: float, shape: Shape) -> tuple[Result, Result]:
        """Return the k likeliest classes of each row and their log-probabilities, in `shape`."""
        call = self.call
        ids, log_probs = call.empty(shape, "int64"), call.empty(shape, call.computed)
        call.module.tree_top(
            storage=self.storage,
            tree=self.tree.for_call(),
            read=self._addresses(None),
            sizes=self.sizes,
            k=k,
            min_log_prob=min_log_prob,
            ids=ids.view.address,
            log_probs=log_probs.view.address,
            device=call.device,
            stream=call.stream,
        )
        return ids, log_probs
