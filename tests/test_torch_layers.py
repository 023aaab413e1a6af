"""boltzmax.torch: output layers as modules."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import boltzmax
from torch_samples import TARGET, leaf, scores

torch: Any = pytest.importorskip("torch")
bridge: Any = pytest.importorskip("boltzmax.torch")
OPERATORS: Any = torch.ops.boltzmax

TREE = boltzmax.Tree.huffman(1 / np.arange(1, 24))
HIDDEN, CLASSES = scores(6, 7), torch.tensor([0, 3, 22, 3, 7, 1])


def modules() -> dict[str, Callable[[], Any]]:
    options: dict[str, Any] = {"dtype": torch.float64, "seed": 0}
    found: dict[str, Callable[[], Any]] = {
        "tree": lambda: bridge.HierarchicalSoftmax(TREE, 7, **options),
        "tree, no bias": lambda: bridge.HierarchicalSoftmax(TREE, 7, bias=False, **options),
        "linear": lambda: bridge.LinearSoftmax(23, 7, **options),
    }
    if hasattr(boltzmax, "AdaptiveSoftmax"):
        make = boltzmax.AdaptiveSoftmax
        found["adaptive"] = lambda: bridge.OutputLayer(
            make(7, 23, cutoffs=(5, 12), dtype=np.float64, seed=0)
        )
    return found


def of_module(module: Any, *arguments: Any) -> Callable[..., Any]:
    """The module as a function of hidden vectors and parameters."""
    names = [name for name, _ in module.named_parameters()]

    def call(hidden: Any, *parameters: Any) -> Any:
        named = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(module, named, (hidden, *arguments))

    return call


@pytest.mark.parametrize("name", modules())
def test_modules(name: str) -> None:
    module = modules()[name]()
    hidden, parameters = HIDDEN.clone().requires_grad_(), list(module.parameters())
    of_row = scores(6, seed=5).exp()
    assert torch.autograd.gradcheck(of_module(module, CLASSES, of_row), (hidden, *parameters))
    loss = module(hidden, CLASSES)
    assert loss.item() == module.layer.loss(HIDDEN.numpy(), CLASSES.numpy())
    expected = torch.autograd.grad(loss, (hidden, *parameters))
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")(hidden, CLASSES)
    for got, wanted in zip(
        torch.autograd.grad(compiled, (hidden, *parameters)), expected, strict=True
    ):
        torch.testing.assert_close(got, wanted)
    with torch.no_grad():
        assert module(hidden, CLASSES) == loss
    with pytest.raises(RuntimeError, match="no second derivative of an output layer"):
        torch.autograd.grad(module(hidden, CLASSES), hidden, create_graph=True)
    arguments = hidden, parameters, CLASSES, None, module._number
    torch.library.opcheck(OPERATORS.layer_loss.default, arguments)
    torch.library.opcheck(OPERATORS.layer_loss_with_grad.default, arguments)


@pytest.mark.parametrize("name", modules())
def test_modules_share_the_memory_of_their_layers(name: str) -> None:
    module = modules()[name]()
    layer = module.layer
    assert np.shares_memory(layer.weight, module.weight.detach().numpy())
    torch.optim.SGD(module.parameters(), lr=0.5).step(lambda: backward(module))
    np.testing.assert_array_equal(layer.weight, module.weight.detach().numpy())
    layer.weight[:] = 0
    assert not module.weight.any()


def backward(module: Any) -> Any:
    module.zero_grad()
    loss = module(HIDDEN.to(module.weight.dtype), CLASSES)
    loss.backward()
    return loss


@pytest.mark.parametrize("name", modules())
def test_modules_are_copied_and_converted(name: str) -> None:
    module = modules()[name]()
    loss = module(HIDDEN, CLASSES)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert other(HIDDEN, CLASSES) == loss
        assert np.shares_memory(other.layer.weight, other.weight.detach().numpy())
        assert not np.shares_memory(other.layer.weight, module.layer.weight)
        with torch.no_grad():
            other.weight.zero_()
        assert module(HIDDEN, CLASSES) == loss
    single = copy.deepcopy(module).float()
    assert single(HIDDEN, CLASSES).dtype == torch.float32
    torch.testing.assert_close(single(HIDDEN, CLASSES).double(), loss, rtol=1e-5, atol=1e-6)
    assert single.layer.dtype == np.float32
    assert single.predict(HIDDEN).tolist() == module.predict(HIDDEN).tolist()
    fresh = modules()[name]()
    with torch.no_grad():
        fresh.weight.zero_()
    fresh.load_state_dict(module.state_dict(), assign=True)
    assert fresh(HIDDEN, CLASSES) == loss


def test_sparse_gradients() -> None:
    dense = bridge.HierarchicalSoftmax(TREE, 7, seed=0)
    sparse = bridge.HierarchicalSoftmax(TREE, 7, seed=0, sparse=True)
    for module, optimizer in ((dense, torch.optim.SGD), (sparse, torch.optim.SGD)):
        step = optimizer(module.parameters(), lr=0.1)
        for _ in range(3):
            backward(module)
            step.step()
    assert sparse.weight.grad.is_sparse
    torch.testing.assert_close(sparse.weight.grad.to_dense(), dense.weight.grad)
    torch.testing.assert_close(sparse.weight, dense.weight)
    sparse.zero_grad()
    few = torch.tensor([0, 0])
    sparse(HIDDEN[:2].float(), few).backward()
    assert sparse.weight.grad.coalesce().indices().numel() < TREE.n_units


class Tailed:
    """A layer whose arrays are also in its tails; its loss is the sum of all products."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.dtype, self.n_features = np.dtype(np.float64), 2
        self.weight, self.bias = rng.normal(size=(3, 2)), None
        self.tails = [
            SimpleNamespace(
                projection=rng.normal(size=(1, 2)), weight=rng.normal(size=4), bias=None
            ),
            SimpleNamespace(
                projection=rng.normal(size=(1, 2)), weight=rng.normal(size=2), bias=None
            ),
        ]

    def loss_with_grad(self, hidden: Any, target: Any, sample_weight: Any = None) -> Any:
        tail = self.tails[0]
        sums = hidden.sum(), self.weight.sum(), tail.projection.sum(), tail.weight.sum()
        product = float(np.prod(sums))
        arrays = hidden, self.weight, tail.projection, tail.weight
        d = [np.full_like(a, product / total) for a, total in zip(arrays, sums, strict=True)]
        of_tail = SimpleNamespace(d_projection=d[2], d_weight=d[3], d_bias=None)
        return SimpleNamespace(
            loss=product, d_hidden=d[0], d_weight=d[1], unit_ids=slice(None), tails=[of_tail, None]
        )

    def loss(self, *arguments: Any) -> float:
        return float(self.loss_with_grad(*arguments).loss)


def test_a_layer_with_tails() -> None:
    """Its arrays are parameters as well; a tail that no row opens has a gradient of zeros."""
    module = bridge.OutputLayer(Tailed())
    names = [name for name, _ in module.named_parameters()]
    assert names == ["weight", *(f"tail{i}_{n}" for i in (0, 1) for n in ("projection", "weight"))]
    hidden, parameters = leaf(3, 2), list(module.parameters())
    assert torch.autograd.gradcheck(of_module(module, TARGET[:3]), (hidden, *parameters))
    module(hidden, TARGET[:3]).backward()
    assert not module.tail1_weight.grad.any()
    assert np.shares_memory(module.layer.tails[1].weight, module.tail1_weight.detach().numpy())
    double = copy.deepcopy(module)
    assert not np.shares_memory(double.layer.tails[0].weight, module.layer.tails[0].weight)


def test_queries_of_modules() -> None:
    module = bridge.HierarchicalSoftmax(TREE, 7, seed=0)
    hidden = HIDDEN.float().requires_grad_()
    whole = module.log_prob(hidden)
    torch.testing.assert_close(whole.exp().sum(1), torch.ones(6))
    values, ids = module.topk(hidden, 3)
    expected, _ = torch.topk(whole, 3)
    torch.testing.assert_close(values, expected)
    assert (ids[:, 0] == module.predict(hidden)).all()
    assert not whole.requires_grad
    assert "Tree of 23 classes" in repr(module)


def test_a_loss_that_nobody_differentiates_is_freed_at_once() -> None:
    module = bridge.LinearSoftmax(23, 7, dtype=torch.float64, seed=0)
    loss = module(HIDDEN, CLASSES)
    node = weakref.ref(loss.grad_fn)
    gc.disable()
    try:
        del loss
        assert node() is None
    finally:
        gc.enable()


def test_arguments_of_modules_are_named() -> None:
    module = bridge.LinearSoftmax(23, 7, dtype=torch.float64, seed=0)
    with pytest.raises(TypeError, match="hidden must be a tensor, got ndarray"):
        module(HIDDEN.numpy(), CLASSES)
    with pytest.raises(TypeError, match="target must be a tensor, got list"):
        module(HIDDEN, [0, 3, 22, 3, 7, 1])
    with pytest.raises(TypeError, match="hidden must be a tensor, got ndarray"):
        module.predict(HIDDEN.numpy())
    with pytest.raises(TypeError, match="sample_weight must be a tensor, got ndarray"):
        module(HIDDEN, CLASSES, np.ones(6))
    with pytest.raises(TypeError, match="sample_weight requires a gradient"):
        module(HIDDEN, CLASSES, torch.ones(6, requires_grad=True))
