"""boltzmax.torch: losses, and PyTorch's own samples of its functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from torch_samples import SOFT, TARGET, WEIGHT, leaf, scores

torch: Any = pytest.importorskip("torch")
bridge: Any = pytest.importorskip("boltzmax.torch")
functional: Any = torch.nn.functional
OPERATORS: Any = torch.ops.boltzmax


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


def test_half_precision_keeps_what_a_scaled_loss_is_to_keep() -> None:
    x = scores(2048, 200, dtype=torch.float16)
    target = torch.arange(2048) % 200
    weight = (scores(200, 3) / 10).half()
    calls: dict[str, Callable[[Any], Any]] = {
        "cross_entropy": lambda logits: bridge.cross_entropy(logits, target),
        "linear": lambda logits: bridge.linear_cross_entropy(logits, weight.T, target % 3),
        "linear, twice": lambda logits: bridge.linear_cross_entropy(logits, weight.T, target % 3),
    }
    for name, call in calls.items():
        half, exact = x.clone().requires_grad_(), x.double().requires_grad_()
        loss = call(half)
        if name == "linear, twice":
            torch.autograd.grad(loss, half, retain_graph=True)
        assert loss.dtype == torch.float16
        (loss * 1024).backward()
        if name == "cross_entropy":
            expected = functional.cross_entropy(exact, target)
        else:
            expected = functional.cross_entropy(exact @ weight.double(), target % 3)
        (expected * 1024).backward()
        assert half.grad.dtype == torch.float16
        torch.testing.assert_close(half.grad.double(), exact.grad, rtol=1e-3, atol=6e-8)


def test_arguments_that_are_not_tensors_are_named() -> None:
    x, weight = scores(4, 5), scores(3, 5)
    calls: dict[str, Callable[[], Any]] = {
        "input must be a tensor, got ndarray": lambda: bridge.softmax(x.numpy(), 1),
        "target must be a tensor, got list": lambda: bridge.cross_entropy(x, [0, 1, 2, 3]),
        "target must be a tensor, got ndarray": lambda: bridge.linear_cross_entropy(
            x, weight, TARGET.numpy()
        ),
        "linear_weight must be a tensor, got ndarray": lambda: bridge.linear_cross_entropy(
            x, weight.numpy(), TARGET
        ),
        "linear_bias must be a tensor, got ndarray": lambda: bridge.linear_cross_entropy(
            x, weight, TARGET, linear_bias=np.zeros(3)
        ),
        "weight must be a tensor, got ndarray": lambda: bridge.cross_entropy(x, TARGET, np.ones(5)),
        "dim must be an integer or a sequence of integers, got None": lambda: bridge.logsumexp(
            x, None
        ),
        "got torch.float8_e4m3fn": lambda: bridge.softmax(x.to(torch.float8_e4m3fn), 1),
    }
    for message, call in calls.items():
        with pytest.raises(TypeError, match=message):
            call()
    for reduction in ("avg", None):
        with pytest.raises((TypeError, ValueError), match=r"reduction must be .*got"):
            bridge.cross_entropy(x, TARGET, reduction=reduction)
    with pytest.raises(ValueError, match=r"must have classes, got shape \(3, 0\)"):
        bridge.cross_entropy(scores(3, 0), leaf(3, 0))
