"""boltzmax.torch: operators and modules, against PyTorch's own and by PyTorch's own checks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import boltzmax
from device import IS_EMULATED, needs_device
from torch_samples import SOFT, TARGET, WEIGHT, leaf, scores

torch: Any = pytest.importorskip("torch")
bridge: Any = pytest.importorskip("boltzmax.torch")
functional: Any = torch.nn.functional
OPERATORS: Any = torch.ops.boltzmax

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


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_tangents_are_not_lost_silently() -> None:
    with torch.autograd.forward_ad.dual_level():
        x = torch.autograd.forward_ad.make_dual(scores(3, 4), scores(3, 4))
        for function in (bridge.softmax, bridge.logsumexp, bridge.sparsemax):
            with pytest.raises(RuntimeError, match="no forward-mode derivative of "):
                function(x, 1)
        bridge.softmax(scores(3, 4), 1)


def test_refusals() -> None:
    x = leaf(4, 5)
    refused: list[tuple[type[Exception], str, Callable[[], Any]]] = [
        (TypeError, "input must be a tensor, got list", lambda: bridge.softmax([1.0], 0)),
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
            lambda: bridge.OutputLayer(boltzmax.Tree.balanced(3)),
        ),
        (
            ValueError,
            r"hidden must be \(N, 7\)",
            lambda: bridge.LinearSoftmax(5, 7)(x, TARGET),
        ),
    ]
    for kind, words, call in refused:
        with pytest.raises(kind, match=words):
            call()


def test_logsumexp_of_a_number() -> None:
    for dim in ((), 0, -1):
        x = torch.tensor(0.5, requires_grad=True)
        y = bridge.logsumexp(x, dim)
        y.backward()
        assert y.item() == x.item()
        assert x.grad.item() == 1
    assert bridge.logsumexp(scores(2, 3), np.int64(1)).shape == (2,)
