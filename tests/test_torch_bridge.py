"""boltzmax.torch: operators and modules, against PyTorch's own and by PyTorch's own checks."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import boltzmax
from device import IS_EMULATED, needs_device

torch: Any = pytest.importorskip("torch")
bridge: Any = pytest.importorskip("boltzmax.torch")
functional: Any = torch.nn.functional
OPERATORS: Any = torch.ops.boltzmax

TARGET = torch.tensor([0, 4, -100, 2])


def scores(*shape: int, dtype: Any = torch.float64, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def leaf(*shape: int, **options: Any) -> Any:
    return scores(*shape, **options).requires_grad_()


# ---- maps and logsumexp

MAPS: dict[str, Callable[[Any], Any]] = {
    "softmax": lambda x: bridge.softmax(x, 1),
    "softmax, columns": lambda x: bridge.softmax(x, 0),
    "log_softmax": lambda x: bridge.log_softmax(x, -1),
    "logsumexp": lambda x: bridge.logsumexp(x, 1),
    "logsumexp, all": lambda x: bridge.logsumexp(x, (0, 1), keepdim=True),
    "logsumexp, none named": lambda x: bridge.logsumexp(x, ()),
    "sparsemax": lambda x: bridge.sparsemax(x),
    "entmax15": lambda x: bridge.entmax15(x, 0),
    "entmax": lambda x: bridge.entmax(x, 1.3),
    "entmax, columns": lambda x: bridge.entmax(x, 1.7, 0),
    "entmax, rows": lambda x: bridge.entmax(x, torch.tensor([1.2, 1.5, 1.9])),
}


@pytest.mark.parametrize("name", MAPS)
def test_first_and_second_derivatives(name: str) -> None:
    x = leaf(3, 4)
    assert torch.autograd.gradcheck(MAPS[name], (x,))
    assert torch.autograd.gradgradcheck(MAPS[name], (x,))


@pytest.mark.parametrize("name", MAPS)
def test_compiled_programs_are_whole(name: str) -> None:
    """A program with the operator in it is one graph, forward and backward."""
    torch.compiler.reset()
    x, other = leaf(3, 4), leaf(3, 4)

    def program(x: Any) -> Any:
        return (MAPS[name](x * 2) ** 2).sum()

    expected = program(x)
    expected.backward()
    compiled = torch.compile(program, fullgraph=True, backend="aot_eager")(other)
    compiled.backward()
    torch.testing.assert_close(compiled, expected)
    torch.testing.assert_close(other.grad, x.grad)


def layouts() -> list[Any]:
    x = scores(2, 3, 4)
    return [x, x.transpose(0, 2), x[:, ::2], x[:1].expand(3, 3, 4), scores(5), scores(0, 3)]


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp", "sparsemax", "entmax15"])
def test_pytorch_checks_the_operators(name: str) -> None:
    operator = getattr(OPERATORS, name).default
    for x in (leaf(2, 3), scores(4, 3).T.requires_grad_(), scores(2, 3, 4)[:, ::2]):
        last = x.ndim - 1
        torch.library.opcheck(operator, (x, [last], False) if name == "logsumexp" else (x, last))


def test_pytorch_checks_entmax() -> None:
    torch.library.opcheck(
        OPERATORS.entmax.default, (leaf(2, 3), torch.tensor([1.3, 1.8]).requires_grad_(), 1)
    )


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_layouts_are_those_of_pytorch(name: str) -> None:
    for x in layouts():
        for dim in range(x.ndim):
            got, expected = getattr(bridge, name)(x, dim), getattr(torch, name)(x, dim)
            torch.testing.assert_close(got, expected, rtol=1e-14, atol=1e-14)
            if name != "logsumexp" and x.numel():
                assert got.stride() == torch.empty_like(x).stride()
    single = torch.tensor(2.0)
    torch.testing.assert_close(getattr(bridge, name)(single, 0), getattr(torch, name)(single, 0))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dtypes(dtype: str) -> None:
    kind = getattr(torch, dtype)
    x = leaf(4, 6, dtype=kind)
    exact = x.detach().double()
    tolerance = {"atol": float(torch.finfo(kind).eps) * 4, "rtol": float(torch.finfo(kind).eps) * 2}
    for ours, theirs in (
        (bridge.softmax, torch.softmax),
        (bridge.log_softmax, torch.log_softmax),
        (bridge.logsumexp, torch.logsumexp),
    ):
        got = ours(x, 1)
        assert got.dtype == kind
        torch.testing.assert_close(got.double(), theirs(exact, 1), **tolerance)
        (gradient,) = torch.autograd.grad(got.sum(), x)
        assert gradient.dtype == kind
    assert bridge.softmax(x, 1, dtype=torch.float64).dtype == torch.float64
    loss = bridge.cross_entropy(x, TARGET)
    assert loss.dtype == kind
    loss.backward()
    assert x.grad.dtype == kind
    for function in (bridge.sparsemax, bridge.entmax15, bridge.entmax):
        assert function(x).dtype == kind


def test_autocast_computes_in_float32() -> None:
    x, weight = scores(4, 5, dtype=torch.bfloat16), scores(6, 5, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        for got in (
            bridge.softmax(x, 1),
            bridge.logsumexp(x, 1),
            bridge.entmax15(x),
            bridge.cross_entropy(x, TARGET),
            bridge.linear_cross_entropy(x, weight, TARGET),
        ):
            assert got.dtype == torch.float32
        torch.testing.assert_close(bridge.softmax(x, 1), torch.softmax(x.float(), 1))


def test_gradient_by_alpha() -> None:
    x = leaf(3, 4)
    for alpha in (torch.tensor(1.4), torch.tensor([1.2, 1.5, 1.9]), torch.full((3, 1), 1.3)):
        learned = alpha.double().requires_grad_()
        assert torch.autograd.gradcheck(bridge.entmax, (x, learned))
    (gradient,) = torch.autograd.grad(bridge.entmax(x, learned)[0, 0], learned, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative of entmax by alpha"):
        gradient.sum().backward()


# ---- cross-entropy

WEIGHT = scores(5, seed=3).exp()
SOFT = scores(4, 5, seed=4).softmax(1)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    ("target", "weight", "smoothing"),
    [(TARGET, None, 0.0), (TARGET, WEIGHT, 0.1), (SOFT, None, 0.0), (SOFT, WEIGHT, 0.1)],
    ids=["plain", "weights", "soft", "soft, weights"],
)
def test_cross_entropy(reduction: str, target: Any, weight: Any, smoothing: float) -> None:
    options = {"reduction": reduction, "label_smoothing": smoothing}

    def ours(x: Any) -> Any:
        return bridge.cross_entropy(x, target, weight, **options)

    x = leaf(4, 5)
    expected = functional.cross_entropy(x, target, weight, **options)
    torch.testing.assert_close(ours(x), expected, rtol=1e-13, atol=1e-14)
    assert torch.autograd.gradcheck(ours, (x,))
    assert torch.autograd.gradgradcheck(ours, (x,))


def test_cross_entropy_of_other_shapes() -> None:
    for shape, target in (
        ((5,), torch.tensor(2)),
        ((2, 5, 3), torch.randint(0, 5, (2, 3))),
        ((2, 5, 3, 2), torch.randint(0, 5, (2, 3, 2))),
    ):
        x, other = leaf(*shape), leaf(*shape)
        got, expected = bridge.cross_entropy(x, target), functional.cross_entropy(other, target)
        torch.testing.assert_close(got, expected)
        got.backward()
        expected.backward()
        torch.testing.assert_close(x.grad, other.grad)
    everywhere = torch.full((4,), -100)
    assert bridge.cross_entropy(scores(4, 5), everywhere).isnan()


def test_a_gradient_is_handed_out_once_and_then_computed_again() -> None:
    x = leaf(4, 5)
    loss = bridge.cross_entropy(x, TARGET)
    (first,) = torch.autograd.grad(loss, x, torch.tensor(3.0).double(), retain_graph=True)
    (second,) = torch.autograd.grad(loss, x, torch.tensor(3.0).double(), retain_graph=True)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    (third,) = torch.autograd.grad(loss, x)
    torch.testing.assert_close(third * 3, first)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss, x)


def test_a_trained_target() -> None:
    x, target = leaf(4, 5), SOFT.clone().requires_grad_()
    for reduction in ("mean", "sum", "none"):
        options = {"reduction": reduction, "label_smoothing": 0.2}
        expected = functional.cross_entropy(x, target, WEIGHT, **options)
        got = bridge.cross_entropy(x, target, WEIGHT, **options)
        torch.testing.assert_close(got, expected)
        for mine, theirs in zip(
            torch.autograd.grad(got.sum(), (x, target)),
            torch.autograd.grad(expected.sum(), (x, target)),
            strict=True,
        ):
            torch.testing.assert_close(mine, theirs)
    with pytest.raises(ValueError, match=r"target must have the shape of input, \(4, 5\), got"):
        bridge.cross_entropy(x, target[:, 0])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_linear_cross_entropy(reduction: str, smoothing: float) -> None:
    options = {"weight": WEIGHT, "reduction": reduction, "label_smoothing": smoothing}

    def ours(x: Any, weight: Any, bias: Any) -> Any:
        return bridge.linear_cross_entropy(x, weight, TARGET, linear_bias=bias, **options)

    arrays = leaf(4, 3), leaf(5, 3, seed=1), leaf(5, seed=2)
    logits = functional.linear(*arrays)
    torch.testing.assert_close(ours(*arrays), functional.cross_entropy(logits, TARGET, **options))
    assert torch.autograd.gradcheck(ours, arrays)
    no_bias = bridge.linear_cross_entropy(*arrays[:2], SOFT, reduction=reduction).sum()
    by_weight = torch.autograd.grad(no_bias, arrays[1])[0]
    expected = functional.cross_entropy(arrays[0] @ arrays[1].T, SOFT, reduction=reduction).sum()
    torch.testing.assert_close(by_weight, torch.autograd.grad(expected, arrays[1])[0])
    with pytest.raises(RuntimeError, match="no second derivative of linear_cross_entropy"):
        torch.autograd.grad(ours(*arrays).sum(), arrays, create_graph=True)


def losses() -> dict[str, Callable[[Any, Any, Any], Any]]:
    return {
        "cross_entropy": lambda x, w, b: bridge.cross_entropy(x @ w.T + b, TARGET) * 3,
        "none": lambda x, w, b: bridge.cross_entropy(x @ w.T, TARGET, reduction="none").sum(),
        "linear": lambda x, w, b: bridge.linear_cross_entropy(x, w, TARGET, linear_bias=b) * 2,
        "linear, none": lambda x, w, b: bridge.linear_cross_entropy(
            x, w, TARGET, linear_bias=b, reduction="none"
        ).sum(),
    }


@pytest.mark.parametrize("name", losses())
def test_compiled_losses(name: str) -> None:
    loss = losses()[name]
    arrays = leaf(4, 3), leaf(5, 3, seed=1), leaf(5, seed=2)
    expected = torch.autograd.grad(loss(*arrays), arrays, allow_unused=True)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    got = torch.autograd.grad(compiled(*arrays), arrays, allow_unused=True)
    for mine, theirs in zip(got, expected, strict=True):
        if theirs is not None:
            torch.testing.assert_close(mine, theirs)


def test_pytorch_checks_the_losses() -> None:
    check, options = torch.library.opcheck, (None, "mean", -100, 0.0)
    x, many = leaf(4, 5), leaf(2, 5, 3)
    check(OPERATORS.cross_entropy.default, (x, TARGET, WEIGHT, "none", -100, 0.1))
    check(OPERATORS.cross_entropy.default, (many, torch.ones(2, 3, dtype=torch.int64), *options))
    check(
        OPERATORS.cross_entropy_with_grad.default,
        (scores(5, 4).T.requires_grad_(), TARGET, *options),
    )
    linear = leaf(4, 3), leaf(5, 3), TARGET, leaf(5)
    check(OPERATORS.linear_cross_entropy.default, (*linear, *options))
    check(OPERATORS.linear_cross_entropy_with_grad.default, (*linear, *options, None))


# ---- PyTorch's own samples


def samples() -> list[tuple[str, Any]]:
    names = ("softmax", "log_softmax", "logsumexp", "nn.functional.cross_entropy")
    module: Any = pytest.importorskip(
        "torch.testing._internal.common_methods_invocations", exc_type=ImportError
    )
    return [(info.name.rpartition(".")[2], info) for info in module.op_db if info.name in names]


@pytest.mark.filterwarnings("ignore")
def test_pytorchs_own_samples() -> None:
    """Those of its OpInfo database, by which PyTorch tests its operators."""
    count = 0
    for name, info in samples():
        for sample in info.sample_inputs("cpu", torch.float64, requires_grad=True):
            arguments = sample.input, *sample.args
            expected = info(*arguments, **sample.kwargs)
            got = getattr(bridge, name)(*arguments, **sample.kwargs)
            torch.testing.assert_close(got, expected)
            g = torch.randn_like(expected)
            mine = torch.autograd.grad(got, sample.input, g)
            torch.testing.assert_close(mine, torch.autograd.grad(expected, sample.input, g))
            count += 1
    assert count > 40


# ---- layers

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
            make(23, 7, cutoffs=(5, 12), dtype=np.float64, seed=0)
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


# ---- CUDA


def on_fake_cuda(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Put NumPy's functions in the place of those of boltzmax.cuda; return the list of calls."""
    called: list[str] = []

    def fake(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            called.append(name)
            assert not any(
                a is not None and a.requires_grad for a in arguments if torch.is_tensor(a)
            )
            if "cross" in name:
                options["ignore_index"] = -1  # there, negative targets are ignored
            return getattr(boltzmax, name)(*arguments, **options)

        return call

    names = ("softmax", "softmax_backward", "log_softmax", "log_softmax_backward", "logsumexp")
    names += ("cross_entropy", "cross_entropy_with_grad")
    names += ("linear_cross_entropy", "linear_cross_entropy_with_grad")
    module = SimpleNamespace(**{name: fake(name) for name in names})
    for room in ("functions", "losses", "linear"):
        monkeypatch.setattr(f"boltzmax.torch.{room}.cuda", module)
    return called


def check_cuda_kernels() -> None:
    """Kernels for CUDA, called with tensors that the functions below them take."""
    functions, ours, linear = bridge.functions, bridge.losses, bridge.linear
    x, y = leaf(4, 5), scores(4, 5, seed=1)
    check = torch.testing.assert_close
    check(functions._softmax_cuda(x, 1), torch.softmax(x, 1).detach())
    check(functions._log_softmax_cuda(x, 0), torch.log_softmax(x, 0).detach())
    check(functions._logsumexp_cuda(x, [0, 1], True), torch.logsumexp(x, (0, 1), True).detach())
    for name in ("softmax", "log_softmax"):
        arguments = y, getattr(torch, name)(y, 1), 1
        cpu = getattr(functions, f"_{name}_backward_cpu")(*arguments)
        check(getattr(functions, f"_{name}_backward_cuda")(*arguments), cpu)
    for reduction in ("mean", "sum", "none"):
        options = TARGET, None, reduction, -100, 0.0
        check(ours._cross_entropy_cuda(x, *options), ours._cross_entropy_cpu(x, *options))
        g = scores(4) if reduction == "none" else torch.tensor(2.0)
        check(ours._backward_cuda(g, x, *options), ours._backward_cpu(g, x, *options))
    check(ours._with_grad_cuda(x, *options[:2], "sum", -100, 0.0)[1],
          ours._with_grad_cpu(x, *options[:2], "sum", -100, 0.0)[1])  # fmt: skip
    arrays = leaf(4, 3), leaf(5, 3), TARGET, leaf(5), None, "mean", -100, 0.0
    check(linear._linear_cuda(*arrays), linear._linear_cpu(*arrays))
    for mine, theirs in zip(
        linear._with_grad_cuda(*arrays), linear._with_grad_cpu(*arrays), strict=True
    ):
        check(mine, theirs)
    for call in (
        lambda: ours._cross_entropy_cuda(x, TARGET, WEIGHT, "mean", -100, 0.0),
        lambda: ours._cross_entropy_cuda(x, SOFT, None, "mean", -100, 0.0),
        lambda: linear._linear_cuda(*arrays[:4], None, "mean", -100, 0.1),
    ):
        with pytest.raises(TypeError, match="on CUDA devices"):
            call()


def test_cuda_goes_to_boltzmax_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake takes the place of the device: what is tested is the way there."""
    names = ("softmax", "softmax_backward", "log_softmax", "logsumexp", "cross_entropy")
    for name in (*names, "cross_entropy_with_grad", "linear_cross_entropy_with_grad"):
        has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key(f"boltzmax::{name}", "CUDA")
        assert has_kernel
    called = on_fake_cuda(monkeypatch)
    with torch.no_grad():
        check_cuda_kernels()
    assert len(set(called)) == 9


@needs_device
@pytest.mark.skipif(not IS_EMULATED, reason="tensors of the CPU stand for those of the device")
def test_cuda_kernels_on_the_emulated_device() -> None:
    check_cuda_kernels()


# ---- threads, refusals


def test_threads() -> None:
    x, results = scores(64, 1000, dtype=torch.float32), {}

    def work(name: int) -> None:
        own = x.clone().requires_grad_()
        bridge.cross_entropy(own, torch.zeros(64, dtype=torch.int64)).backward()
        results[name] = own.grad

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for gradient in results.values():
        assert torch.equal(gradient, results[0])


def test_refusals() -> None:
    x = leaf(4, 5)
    refused: list[tuple[type[Exception], str, Callable[[], Any]]] = [
        (TypeError, "softmax takes a tensor, got list", lambda: bridge.softmax([1.0], 0)),
        (
            TypeError,
            "softmax takes float16, .*got torch.int64; pass dtype=",
            lambda: bridge.softmax(TARGET, 0),
        ),
        (IndexError, "axis 2 is out of bounds", lambda: bridge.softmax(x, 2)),
        (IndexError, "target 7 at position 1", lambda: bridge.cross_entropy(x, TARGET + 3)),
        (
            TypeError,
            r"weight requires a gradient, .*pass weight.detach\(\)",
            lambda: bridge.cross_entropy(x, TARGET, x[0]),
        ),
        (
            ValueError,
            "reduction must be one of",
            lambda: bridge.cross_entropy(x, TARGET, reduction="all"),
        ),
        (ValueError, "alpha must be from 1 to 50", lambda: bridge.entmax(x, 0.5)),
        (
            TypeError,
            "linear_weight must have the dtype of input, torch.float64, got torch.float32",
            lambda: bridge.linear_cross_entropy(x, x.float(), TARGET),
        ),
        (
            TypeError,
            "layer must be an output layer with weights, got Tree",
            lambda: bridge.OutputLayer(TREE),
        ),
        (
            ValueError,
            r"hidden must be \(N, 7\)",
            lambda: bridge.HierarchicalSoftmax(TREE, 7)(x, TARGET),
        ),
    ]
    for kind, words, call in refused:
        with pytest.raises(kind, match=words):
            call()
