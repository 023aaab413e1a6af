"""Output layers as modules of PyTorch.

An operator cannot take a layer as an argument, but its number: `_LAYERS` has the layers by number,
as long as their modules live. The arrays of a layer are parameters of its module, on the same
memory; the operator computes with the tensors that it is given, so that a module that has been
copied, converted or loaded is right as well.
"""

from __future__ import annotations

import copy
import itertools
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from boltzmax._lib.output_layer import Array
from boltzmax.linear.layer import LinearSoftmax as _LinearLayer
from boltzmax.torch.operators import (
    define,
    differentiate,
    read,
    refuse_gradient,
    refuse_others,
    times,
)
from boltzmax.torch.operators import tensor as as_tensor
from boltzmax.trees.hierarchical import HierarchicalSoftmax as _TreeLayer
from boltzmax.trees.tree import Tree

_LAYERS: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
_numbers = itertools.count()

Slot = tuple[str, Any, str]  # the name of a parameter, the object that has the array, its attribute


def _slots(layer: Any) -> Iterator[Slot]:
    """Yield where the arrays of a layer are: its own, and those of its tails if it has any."""
    owners: list[tuple[str, Any, tuple[str, ...]]] = [("", layer, ("weight", "bias"))]
    for i, tail in enumerate(getattr(layer, "tails", ())):
        owners.append((f"tail{i}_", tail, ("projection", "weight", "bias")))
    for prefix, owner, attributes in owners:
        for attribute in attributes:
            if getattr(owner, attribute) is not None:
                yield prefix + attribute, owner, attribute


def _with_arrays(layer: Any, arrays: list[Array]) -> Any:
    """Return a layer like `layer` on other arrays, which are not copied."""
    other = object.__new__(type(layer))
    other.__dict__.update(layer.__dict__)
    if hasattr(layer, "tails"):
        other.tails = type(layer.tails)(copy.copy(tail) for tail in layer.tails)
    for (_, owner, attribute), array in zip(_slots(other), arrays, strict=True):
        setattr(owner, attribute, array)
    return other


def _gradients(layer: Any, found: Any) -> Iterator[tuple[Any, Array | None]]:
    """Yield the units and the gradient of each array, in the order of the slots; None for zeros."""
    tails = dict(
        zip(map(id, getattr(layer, "tails", ())), getattr(found, "tails", ()), strict=True)
    )
    for _, owner, attribute in _slots(layer):
        if owner is layer:
            yield found.unit_ids, getattr(found, f"d_{attribute}")
        else:
            tail = tails[id(owner)]
            yield slice(None), None if tail is None else getattr(tail, f"d_{attribute}")


class OutputLayer(torch.nn.Module):  # type: ignore[misc]
    """An output layer of this package as a module: ``loss = module(hidden, target)``.

    Parameters
    ----------
    layer : LinearSoftmax, HierarchicalSoftmax or another output layer with weights
        Its arrays become the parameters of the module (``weight``, ``bias``), on the same memory:
        what an optimizer does to the one is done to the other.
    sparse : bool, default False
        Whether gradients of parameters are sparse tensors of the units that a batch touches, as
        those of ``torch.nn.Embedding(sparse=True)``: for `torch.optim.SGD`, `SparseAdam` and
        `Adagrad`. Not with `torch.compile`.

    Attributes
    ----------
    layer
        A layer on the memory of the parameters, wherever that is by now.

    Notes
    -----
    On the CPU alone. Second derivatives are a RuntimeError.

    Examples
    --------
    >>> import torch, boltzmax, boltzmax.torch
    >>> tree = boltzmax.Tree.huffman([4, 2, 1, 1])
    >>> module = boltzmax.torch.OutputLayer(boltzmax.HierarchicalSoftmax(tree, 3, seed=0))
    >>> optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    >>> hidden, target = torch.eye(3), torch.tensor([0, 1, 2])
    >>> for _ in range(40):
    ...     optimizer.zero_grad()
    ...     module(hidden, target).backward()
    ...     optimizer.step()
    >>> module.predict(hidden)
    tensor([0, 1, 2])
    """

    def __init__(self, layer: Any, *, sparse: bool = False) -> None:
        super().__init__()
        if not callable(getattr(layer, "loss_with_grad", None)) or not hasattr(layer, "weight"):
            raise TypeError(
                f"layer must be an output layer with weights, got {type(layer).__name__}"
            )
        self.sparse = bool(sparse)
        self._enter(layer)
        for name, owner, attribute in _slots(layer):
            array = getattr(owner, attribute)
            self.register_parameter(name, torch.nn.Parameter(torch.from_numpy(array)))

    def _enter(self, layer: Any) -> None:
        self._layer = layer
        self._number = next(_numbers)
        _LAYERS[self._number] = layer

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_number"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._enter(self._layer)

    def __deepcopy__(self, memo: dict[int, Any]) -> OutputLayer:
        other = type(self).__new__(type(self))
        memo[id(self)] = other
        other.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return other

    @property
    def layer(self) -> Any:
        """A layer on the memory of the parameters, wherever that is by now."""
        arrays = [read(parameter) for parameter in self._tensors()]
        for (_, owner, attribute), array in zip(_slots(self._layer), arrays, strict=True):
            setattr(owner, attribute, array)
        self._layer.dtype = arrays[0].dtype
        return self._layer

    def _tensors(self) -> list[Tensor]:
        return [getattr(self, name) for name, _, _ in _slots(self._layer)]

    def forward(
        self, hidden: Tensor, target: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Return the mean of -log p(target), weighted by `sample_weight`.

        Parameters
        ----------
        hidden : Tensor, shape (N, D)
            Converted to the dtype of the parameters.
        target : Tensor of int, shape (N,)
            The class of each row.
        sample_weight : Tensor, shape (N,), optional
        """
        refuse_others(hidden, "hidden")
        refuse_others(target, "target")
        refuse_gradient(sample_weight, "sample_weight", "the loss of a layer")
        tensors = self._tensors()
        arguments = hidden.to(tensors[0].dtype), tensors, target, sample_weight, self._number
        result: Tensor
        trained = torch.is_grad_enabled() and any(t.requires_grad for t in (hidden, *tensors))
        if trained and self.sparse:
            return _sparse_loss(*arguments)
        if trained:
            result, *_ = LAYER_LOSS_WITH_GRAD(*arguments)
        else:
            result = LAYER_LOSS(*arguments)
        return result

    # ---- queries: without gradients ----

    def log_prob(self, hidden: Tensor) -> Tensor:
        """Return the log-probability of every class, (N, n_classes), without a gradient."""
        return as_tensor(self.layer.log_prob_all(_read(hidden)))

    def topk(self, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return log-probabilities and numbers of the k likeliest classes, as `torch.topk` does."""
        ids, log_probs = self.layer.topk(_read(hidden), k)
        return as_tensor(log_probs), as_tensor(ids)

    def predict(self, hidden: Tensor) -> Tensor:
        """Return the likeliest class of each row, (N,)."""
        return as_tensor(self.layer.predict(_read(hidden)))

    def extra_repr(self) -> str:
        """Return what ``repr`` shows."""
        return f"{self._layer!r}" + (", sparse=True" if self.sparse else "")


class HierarchicalSoftmax(OutputLayer):
    """A softmax over the leaves of a tree: `boltzmax.HierarchicalSoftmax` as a module.

    Parameters
    ----------
    tree : Tree
        The classes.
    n_features : int
        The length of a hidden vector.
    bias, dtype, seed : see `boltzmax.HierarchicalSoftmax`
        `dtype` is one of PyTorch's.
    sparse : see `OutputLayer`

    Examples
    --------
    >>> import torch, boltzmax, boltzmax.torch
    >>> module = boltzmax.torch.HierarchicalSoftmax(boltzmax.Tree.huffman([4, 2, 1, 1]), 3)
    >>> module(torch.zeros(1, 3), torch.tensor([0]))
    tensor(0.6931, grad_fn=<...>)
    """

    def __init__(
        self,
        tree: Tree,
        n_features: int,
        *,
        bias: bool = True,
        dtype: torch.dtype = torch.float32,
        seed: int | np.random.Generator | None = None,
        sparse: bool = False,
    ) -> None:
        layer = _TreeLayer(tree, n_features, bias=bias, dtype=_numpy_dtype(dtype), seed=seed)
        super().__init__(layer, sparse=sparse)


class LinearSoftmax(OutputLayer):
    """A linear layer and its softmax: `boltzmax.LinearSoftmax` as a module.

    Parameters
    ----------
    n_classes, n_features : int
    bias, dtype, seed : see `boltzmax.LinearSoftmax`
        `dtype` is one of PyTorch's.

    Examples
    --------
    >>> import torch, boltzmax.torch
    >>> module = boltzmax.torch.LinearSoftmax(4, 3)
    >>> module(torch.zeros(1, 3), torch.tensor([0]))
    tensor(1.3863, grad_fn=<...>)
    """

    def __init__(
        self,
        n_classes: int,
        n_features: int,
        *,
        bias: bool = True,
        dtype: torch.dtype = torch.float32,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        dtype_of_layer = _numpy_dtype(dtype)
        super().__init__(
            _LinearLayer(n_classes, n_features, bias=bias, dtype=dtype_of_layer, seed=seed)
        )


def _read(hidden: Tensor) -> Array:
    refuse_others(hidden, "hidden")
    array: Array = read(hidden)
    return array


def _numpy_dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# ---- operators ----


def _bound(layer: int, parameters: list[Tensor]) -> Any:
    """Return the layer of that number on the memory of the parameters."""
    bound = _with_arrays(_LAYERS[layer], [read(p) for p in parameters])
    bound.dtype = bound.weight.dtype
    return bound


def _loss_cpu(
    hidden: Tensor,
    parameters: list[Tensor],
    target: Tensor,
    sample_weight: Tensor | None,
    layer: int,
) -> Tensor:
    bound = _bound(layer, parameters)
    loss = bound.loss(read(hidden), read(target), read(sample_weight))
    return hidden.new_tensor(loss)


def _with_grad(
    hidden: Tensor,
    parameters: list[Tensor],
    target: Tensor,
    sample_weight: Tensor | None,
    layer: int,
) -> tuple[Tensor, Tensor, list[tuple[Any, Array | None]]]:
    bound = _bound(layer, parameters)
    found = bound.loss_with_grad(read(hidden), read(target), read(sample_weight))
    loss = hidden.new_tensor(found.loss)
    return loss, as_tensor(found.d_hidden), list(_gradients(bound, found))


def _with_grad_cpu(
    hidden: Tensor, parameters: list[Tensor], *others: Any
) -> tuple[Tensor, Tensor, list[Tensor]]:
    loss, by_hidden, gradients = _with_grad(hidden, parameters, *others)
    dense = [_dense(p, *found) for p, found in zip(parameters, gradients, strict=True)]
    return loss, by_hidden, dense


def _dense(parameter: Tensor, units: Any, gradient: Array | None) -> Tensor:
    """Return the gradient of all units."""
    if gradient is not None and isinstance(units, slice):
        return as_tensor(gradient)
    whole = torch.zeros_like(parameter)
    if gradient is not None:
        whole[as_tensor(units)] = as_tensor(gradient)
    return whole


def _loss_like(hidden: Tensor, *_: Any) -> Tensor:
    return hidden.new_empty(())


def _with_grad_like(
    hidden: Tensor, parameters: list[Tensor], *_: Any
) -> tuple[Tensor, Tensor, list[Tensor]]:
    like = [torch.empty_like(p) for p in parameters]
    return hidden.new_empty(()), hidden.new_empty(hidden.shape), like


_ARGUMENTS = "Tensor hidden, Tensor[] parameters, Tensor target, Tensor? sample_weight, int layer"
LAYER_LOSS = define(f"layer_loss({_ARGUMENTS}) -> Tensor", _loss_cpu, _loss_like)
LAYER_LOSS_WITH_GRAD = define(
    f"layer_loss_with_grad({_ARGUMENTS}) -> (Tensor, Tensor, Tensor[])",
    _with_grad_cpu,
    _with_grad_like,
)


# ---- gradients ----


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    hidden, parameters, target, sample_weight, ctx.layer = inputs
    ctx.n = len(parameters)
    ctx.save_for_backward(hidden, target, sample_weight, *parameters)


def _gradient(ctx: Any, g: Tensor) -> Any:
    _refuse_second()
    hidden, target, sample_weight, *parameters = ctx.saved_tensors
    found = LAYER_LOSS_WITH_GRAD(hidden, parameters, target, sample_weight, ctx.layer)
    _, by_hidden, gradients = found
    return g * by_hidden, [g * d for d in gradients], None, None, None


def _keep_with_grad(ctx: Any, inputs: Any, output: Any) -> None:
    _keep(ctx, inputs, output)
    _, by_hidden, gradients = output
    # Detached: a result that its own node keeps would be a cycle, freed by the garbage collector.
    ctx.gradients = [d.detach() for d in (by_hidden, *gradients)]
    ctx.set_materialize_grads(False)


def _given_gradients(ctx: Any, g: Tensor | None, *_: Any) -> Any:
    """Hand out the gradients that the forward pass has computed, once; later compute them again."""
    _refuse_second()
    if g is None:
        return None, [None] * ctx.n, None, None, None
    if ctx.gradients and type(ctx.gradients[0]) is not Tensor:  # being traced: nothing is in place
        scaled = [d * g for d in ctx.gradients]
    else:
        gradients, ctx.gradients = ctx.gradients, []
        if not gradients:
            return _gradient(ctx, g)
        scaled = [times(d, g) for d in gradients]
    return scaled[0], scaled[1:], None, None, None


def _refuse_second() -> None:
    if torch.is_grad_enabled():
        raise RuntimeError("boltzmax.torch has no second derivative of an output layer's loss")


differentiate(LAYER_LOSS, _gradient, _keep)
differentiate(LAYER_LOSS_WITH_GRAD, _given_gradients, _keep_with_grad)


class _SparseLoss(torch.autograd.Function):  # type: ignore[misc]
    """The loss, with sparse gradients of the parameters."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        target: Tensor,
        sample_weight: Any,
        layer: int,
        *parameters: Tensor,
    ) -> Tensor:
        """Compute the loss and all gradients."""
        loss, by_hidden, gradients = _with_grad(
            hidden, list(parameters), target, sample_weight, layer
        )
        of_parameters = [_sparse(p, *d) for p, d in zip(parameters, gradients, strict=True)]
        ctx.gradients = [by_hidden, *of_parameters]
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, g: Tensor) -> Any:
        """Multiply the gradients by that of the loss."""
        by_hidden, *gradients = (d * g for d in ctx.gradients)
        return by_hidden, None, None, None, *gradients


def _sparse_loss(
    hidden: Tensor, parameters: list[Tensor], target: Tensor, sample_weight: Any, layer: int
) -> Tensor:
    result: Tensor = _SparseLoss.apply(hidden, target, sample_weight, layer, *parameters)
    return result


def _sparse(parameter: Tensor, units: Any, gradient: Array | None) -> Tensor:
    """Return the gradient of the units that have one, ascending and each once."""
    if isinstance(units, slice):
        return _dense(parameter, units, gradient)
    assert gradient is not None
    return torch.sparse_coo_tensor(
        as_tensor(units)[None],
        as_tensor(gradient),
        parameter.shape,
        is_coalesced=True,
        check_invariants=False,
    )
