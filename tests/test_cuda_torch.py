"""boltzmax.cuda and PyTorch: on a device, or on the host, whose memory the emulated one uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import boltzmax
import boltzmax.cuda as cuda
from boltzmax.cuda import libraries as device_libraries
from device import IS_EMULATED, needs_device

torch: Any = pytest.importorskip("torch")
DEVICE = "cpu" if IS_EMULATED else "cuda"
pytestmark = [
    needs_device,
    pytest.mark.skipif(
        not IS_EMULATED and not torch.cuda.is_available(), reason="PyTorch without CUDA"
    ),
    pytest.mark.skipif(
        not hasattr(torch.Tensor, "__dlpack_c_exchange_api__"), reason="PyTorch before 2.10"
    ),
]
DTYPES = ("float32", "float64", "float16", "bfloat16")


def scores(*shape: int, dtype: str = "float32") -> Any:
    torch.manual_seed(0)
    return (3 * torch.randn(*shape, dtype=torch.float64)).to(getattr(torch, dtype)).to(DEVICE)


def check(got: Any, expected: Any) -> None:
    """The same kind of tensor, and the same numbers up to rounding."""
    assert type(got) is torch.Tensor
    assert (got.dtype, got.device) == (expected.dtype, expected.device)
    tolerance = {torch.float64: 1e-13, torch.float32: 4e-6, torch.float16: 2e-3}
    allowed = tolerance.get(got.dtype, 2e-2)
    torch.testing.assert_close(got, expected, rtol=allowed, atol=allowed * 0.1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_plain_calls(name: str, dtype: str) -> None:
    ours: Callable[..., Any] = getattr(cuda, name)
    theirs: Callable[..., Any] = getattr(torch, name)
    for shape, axis in (((3, 40), -1), ((3, 40), 0), ((2, 3, 5), 1), ((7,), 0), ((2, 0), 0)):
        x = scores(*shape, dtype=dtype)
        got = device_libraries.plain_result(name.upper(), x, axis, 1.0)
        check(got, theirs(x, axis))
        check(ours(x, axis), theirs(x, axis))
    x = scores(3, 40, dtype=dtype)
    check(ours(x, temperature=2.0), theirs(x.double() / 2, -1).to(x.dtype))


def test_other_calls() -> None:
    """Calls that take the general path, or are refused there."""
    x = scores(4, 6)
    plain = device_libraries.plain_result

    class Mine(torch.Tensor):  # type: ignore[misc]
        pass

    columns, mine = x.t(), x.as_subclass(Mine)
    for other in (columns, mine):
        assert plain("SOFTMAX", other, -1, 1.0) is None
    check(cuda.softmax(columns), torch.softmax(columns, -1))
    check(cuda.softmax(x, (0, 1)), torch.softmax(x.ravel(), 0).reshape(x.shape))
    check(cuda.softmax(x, temperature=2), torch.softmax(x / 2, -1))
    mask = x > -1
    check(cuda.softmax(x, where=mask), torch.softmax(x.where(mask, -torch.inf), -1))
    for axis, temperature in (
        (2, 1.0),
        (-3, 1.0),
        (2**70, 1.0),
        (True, 1.0),
        (0, 0.0),
        (0, np.nan),
    ):
        assert plain("SOFTMAX", x, axis, temperature) is None
    with pytest.raises(np.exceptions.AxisError):
        cuda.softmax(x, 2)
    with pytest.raises(ValueError, match="temperature"):
        cuda.softmax(x, temperature=float("nan"))
    for wrong in (x.long(), x > 0, x.to(torch.complex64)):
        with pytest.raises(TypeError, match="dtype"):
            cuda.softmax(wrong)
    check(cuda.softmax(torch.tensor(1.5, device=DEVICE), None), torch.tensor(1.0, device=DEVICE))


def test_tensors_that_require_gradients_are_refused() -> None:
    x = scores(2, 3).requires_grad_()
    derived = torch.nn.Parameter(x.detach())
    for y in (x, derived):
        with pytest.raises(TypeError, match=r"x requires a gradient.*x\.detach\(\)"):
            cuda.softmax(y)
    with pytest.raises(TypeError, match="logits requires a gradient"):
        cuda.row_stats(x)
    check(cuda.softmax(x.detach()), torch.softmax(x.detach(), -1))
    with torch.no_grad():
        check(cuda.softmax(x), torch.softmax(x.detach(), -1))


def test_lazily_negated_tensors() -> None:
    """PyTorch represents the imaginary part of a conjugate as numbers and a sign flag."""
    negated = torch.complex(scores(3), scores(3)).conj().imag
    assert negated.is_neg()
    assert device_libraries.plain_result("SOFTMAX", negated, -1, 1.0) is None
    check(cuda.softmax(negated), torch.softmax(negated, -1))


def test_out_is_marked_as_written() -> None:
    x = scores(3, 5)
    expected, before = torch.softmax(x, -1), x._version
    assert cuda.softmax(x, out=x) is x
    check(x, expected)
    assert x._version > before


def test_remaining_functions() -> None:
    x, y = scores(5, 7), torch.softmax(scores(5, 7), -1)
    check(cuda.logsumexp(x), torch.logsumexp(x, -1))
    check(cuda.softmax_backward(x, y), y * (x - (x * y).sum(-1, keepdim=True)))
    log = torch.log_softmax(x, -1)
    check(cuda.log_softmax_backward(x, log), x - log.exp() * x.sum(-1, keepdim=True))
    target = torch.tensor([0, 6, 3, -100, 2], device=DEVICE)
    expected = torch.nn.functional.cross_entropy(x, target)
    check(cuda.cross_entropy(x, target), expected)
    loss, gradient = cuda.cross_entropy_with_grad(x, target)
    check(loss, expected)
    x.requires_grad_()
    torch.nn.functional.cross_entropy(x, target).backward()
    check(gradient, x.grad)
    stats = cuda.row_stats(x.detach(), k=2)
    host = boltzmax.row_stats(x.detach().cpu().numpy(), k=2)
    np.testing.assert_array_equal(stats.top_ids.cpu().numpy(), host.top_ids)
    hidden, weight = scores(5, 4), scores(7, 4)
    check(
        cuda.linear_cross_entropy(hidden, weight, target),
        torch.nn.functional.cross_entropy(hidden @ weight.t(), target),
    )


def test_tensors_without_memory() -> None:
    """Tensors that stand for numbers elsewhere, or nowhere, are refused."""
    zero = torch._efficientzerotensor(4, device=DEVICE)
    for function in (cuda.softmax, cuda.logsumexp):
        with pytest.raises(TypeError, match="no memory of its own"):
            function(zero)
    with pytest.raises(TypeError, match="no memory of its own"):
        torch.func.functionalize(lambda x: cuda.softmax(x))(scores(4))
    for wrong in (torch.max(scores(2, 3), 0), torch.nn.Linear(2, 2), torch.Size([2])):
        with pytest.raises(TypeError, match="must be an array on a CUDA device"):
            cuda.softmax(wrong)


@pytest.mark.filterwarnings("ignore")
def test_traced_tensors_are_refused() -> None:
    """A trace would record the memory of the result, not the computation."""
    with pytest.raises(TypeError, match="being traced"):
        torch.jit.trace(lambda x: cuda.softmax(x) + 1, scores(4), check_trace=False)
    from torch.fx.experimental.proxy_tensor import make_fx

    with pytest.raises(TypeError, match="being traced"):
        make_fx(lambda x: cuda.softmax(x))(scores(4))
    forward = torch.autograd.forward_ad
    with forward.dual_level():
        with pytest.raises(TypeError, match="has a tangent"):
            cuda.softmax(forward.make_dual(scores(4), scores(4)))
        check(cuda.softmax(scores(4)), torch.softmax(scores(4), -1))


def test_input_that_changes_during_allocation() -> None:
    class Meddles(torch.overrides.TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = function(*args, **(kwargs or {}))
            if function is torch.empty_like:
                args[0].set_(torch.zeros(2, device=DEVICE))
            return result

    x = scores(40)
    with Meddles():
        got = cuda.softmax(x)
    check(got, torch.softmax(torch.zeros(2, device=DEVICE), -1))
