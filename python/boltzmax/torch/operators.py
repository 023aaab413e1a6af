"""How functions of the package become operators of PyTorch.

An operator has a kernel for the CPU, perhaps one for CUDA, a fake one (the form of its result, for
`torch.compile`), and a formula for its gradient. Its implementation is Python, called by PyTorch's
dispatcher: below autograd, autocast and tracing, with plain tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from boltzmax._lib.foreign import as_tensor, tensor_as_ndarray

Kernel = Callable[..., Any]

_FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

_LIBRARY = torch.library.Library("boltzmax", "DEF")


def define(
    schema: str,
    cpu: Kernel,
    fake: Kernel,
    *,
    cuda: Kernel | None = None,
    in_float32: bool = False,
) -> Operator:
    """Define an operator of PyTorch, ``torch.ops.boltzmax.<name>``, and return it.

    Parameters
    ----------
    schema : str
        Its name and the types of arguments and results, in PyTorch's language.
    cpu, cuda : callable
        The kernels, on tensors in the memory of the CPU or of a CUDA device.
    fake : callable
        Returns empty tensors of the form of the results.
    in_float32 : bool
        Whether autocast converts tensors to float32, as for PyTorch's own softmax and losses.
    """
    name = schema.partition("(")[0]
    _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    _LIBRARY.impl(name, cpu, "CPU")
    if cuda is not None:
        _LIBRARY.impl(name, cuda, "CUDA")
    whole = f"boltzmax::{name}"
    torch.library.register_fake(whole, fake, lib=_LIBRARY)
    if in_float32:
        for device in ("cpu", "cuda"):
            torch.library.register_autocast(whole, device, torch.float32, lib=_LIBRARY)
    return Operator(getattr(torch.ops.boltzmax, name).default, cpu)


class Operator:
    """An operator of PyTorch, which calls of plain tensors on the CPU reach without its dispatcher.

    That finds the kernel, and a way through autograd, by two calls of Python from C++ and back; it
    takes longer than a small softmax.
    """

    def __init__(self, overload: Any, cpu: Kernel) -> None:
        self.overload, self._cpu = overload, cpu
        self._kinds = [_KINDS.get(str(a.type), _never) for a in overload._schema.arguments]
        self._node: Any = None

    def set_gradient(self, node: Any) -> None:
        """Set the `torch.autograd.Function` of a differentiable operator."""
        self._node = node

    def __call__(self, *inputs: Any) -> Any:
        """Return the operator's results, which autograd follows."""
        if _is_dispatched() or len(inputs) != len(self._kinds):
            return self.overload(*inputs)
        for is_kind, x in zip(self._kinds, inputs, strict=True):
            if not is_kind(x):
                return self.overload(*inputs)
        if torch.is_grad_enabled() and torch._C._any_requires_grad(*inputs):
            if self._node is None:
                return self.overload(*inputs)
            # Function.apply unwraps tensors of torch.func, which do not come here.
            of_c: Any = super(torch.autograd.Function, self._node)
            return of_c.apply(self._cpu, *inputs)
        return self._cpu(*inputs)


def _is_dispatched() -> bool:
    """Whether more than autograd takes part: a compiler, a tracer, a mode, torch.func, autocast."""
    return bool(
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._are_functorch_transforms_active()
        or torch._C._is_tracing()
        or torch.is_autocast_enabled("cpu")
    )


def _is_plain(x: Any) -> bool:
    """Whether a value is a tensor of numbers in memory, in which a kernel would get it."""
    kind = type(x)
    return (
        (kind is Tensor or kind is torch.nn.Parameter)
        and x.is_cpu
        and x.layout is torch.strided
        and not x.is_nested
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
    )


def _never(_: Any) -> bool:
    return False


# How arguments of a type are recognised that the dispatcher would hand on as they are.
_KINDS: dict[str, Callable[[Any], bool]] = {
    "Tensor": _is_plain,
    "Optional[Tensor]": lambda x: x is None or _is_plain(x),
    "int": lambda x: type(x) is int,
    "float": lambda x: type(x) is float,
    "bool": lambda x: type(x) is bool,
    "str": lambda x: type(x) is str,
    "List[int]": lambda x: type(x) is list and all(type(i) is int for i in x),
}


def differentiate(operator: Operator, backward: Kernel, setup_context: Kernel) -> None:
    """Set the formula of an operator's gradient, in the terms of `torch.autograd.Function`.

    As `torch.library.register_autograd` does, which takes some 10 microseconds more in a call: it
    looks for defaults of arguments, of which operators here have none.
    """
    overload = operator.overload
    name = str(overload.name()).partition(".")[0]
    if "[]" in str(overload._schema).replace("int[]", ""):  # lists of tensors
        torch.library.register_autograd(name, backward, setup_context=setup_context, lib=_LIBRARY)
        return

    def forward(ctx: Any, run: Kernel, *inputs: Any) -> Any:
        result = run(*inputs)
        setup_context(ctx, inputs, result)
        return result

    def derived(ctx: Any, *gradients: Any) -> Any:
        return None, *_as_tuple(backward(ctx, *gradients))

    class Node(torch.autograd.Function):  # type: ignore[misc]
        pass

    Node.__name__ = f"Boltzmax{name.partition('::')[2].title().replace('_', '')}"
    Node.forward, Node.backward = staticmethod(forward), staticmethod(derived)

    def below(keyset: Any, *inputs: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return overload.redispatch(keyset & torch._C._after_autograd_keyset, *inputs)

    def call(keyset: Any, *inputs: Any) -> Any:
        run = partial(below, keyset)
        if torch._C.is_grad_enabled() and torch._C._any_requires_grad(*inputs):
            return Node.apply(run, *inputs)
        return run(*inputs)

    _LIBRARY.impl(name, call, "Autograd", with_keyset=True)
    operator.set_gradient(Node)


def _as_tuple(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


def no_second_derivative(operator: Operator, what: str) -> None:
    """Let an operator, which computes a gradient, raise an error where it is differentiated."""

    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    def backward(ctx: Any, *gradients: Any) -> Any:
        raise RuntimeError(f"boltzmax.torch has no second derivative of {what}")

    differentiate(operator, backward, setup_context)


# ---- tensors and ndarrays ----


def read(x: Tensor | None) -> Any:
    """Return a CPU tensor as an ndarray on the same memory; None as None."""
    return None if x is None else tensor_as_ndarray(x)


def destination(x: Tensor) -> Any:
    """Return an ndarray for a result of the layout that ``torch.empty_like(x)`` has.

    None if that is what NumPy's functions return of themselves, in recycled memory.
    """
    return None if x.is_contiguous() else tensor_as_ndarray(torch.empty_like(x))


def tensor(result: Any) -> Tensor:
    """Return a result as a tensor on the same memory."""
    made: Tensor = as_tensor(result)
    return made


def times(gradient: Tensor, g: Tensor) -> Tensor:
    """Return a gradient that nobody else has, multiplied by g in place."""
    return gradient if bool(g == 1) else gradient.mul_(g)


# ---- arguments ----


def floating(input: Any, function: str, dtype: torch.dtype | None = None) -> Tensor:
    """Return a tensor of a floating dtype, converted to `dtype` if that is given."""
    refuse_others(input, "input")
    if getattr(forward_ad, "_current_level", -1) >= 0:
        refuse_tangent(input, function)
    x: Tensor = input if dtype is None else input.to(dtype)
    if x.dtype not in _FLOATING:
        raise TypeError(
            f"{function} takes float16, bfloat16, float32 or float64, got {x.dtype}; pass dtype= "
            "or convert the tensor"
        )
    return x


def refuse_tangent(x: Tensor, function: str) -> None:
    """Raise if forward-mode differentiation follows a tensor; operators would lose the tangent."""
    if forward_ad.unpack_dual(x).tangent is not None:
        raise RuntimeError(f"boltzmax.torch has no forward-mode derivative of {function}")


def dims(dim: int | Sequence[int]) -> list[int]:
    """Return the dimensions of a row as a list."""
    if isinstance(dim, Sequence):
        return list(dim)
    if dim is None:
        raise TypeError("dim must be an integer or a sequence of integers, got None")
    return [int(dim)]


def refuse_others(x: Any, name: str) -> None:
    """Raise if an argument is not a tensor."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(x).__name__}")


def refuse_gradient(x: Tensor | None, name: str, function: str) -> None:
    """Raise if `x` requires a gradient that `function` does not compute, or is not a tensor."""
    if x is None:
        return
    refuse_others(x, name)
    if x.requires_grad and torch.is_grad_enabled():
        raise TypeError(
            f"{name} requires a gradient, which {function} does not compute; pass {name}.detach()"
        )
