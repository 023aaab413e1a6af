"""Arrays of other libraries: read without a copy, answered in kind, refused with advice."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import boltzmax
import boltzmax.special
import every_function
from boltzmax import margin
from boltzmax._lib import foreign
from boltzmax._lib.same_kind import same_kind
from boltzmax.losses.registry import LOSSES
from layer_samples import MADE

X = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
TARGET = np.array([0, 5, 2, 2])


def to_torch(x: Any) -> Any:
    return pytest.importorskip("torch").tensor(x)


def to_jax(x: Any) -> Any:
    return pytest.importorskip("jax.numpy").asarray(x)


def to_strict(x: Any) -> Any:
    return pytest.importorskip("array_api_strict").asarray(x)


LIBRARIES = {"torch": to_torch, "jax": to_jax, "array_api_strict": to_strict}


@pytest.fixture(params=LIBRARIES)
def convert(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    """Makes an array of another library."""
    make = LIBRARIES[request.param]
    make([0.0])  # skips the test if the library is not there
    return make


def same(got: Any, expected: Any, kind: Any, *, exactly: bool = True) -> None:
    """Check that results are of the kind, with the bits and the dtype of NumPy's."""
    if isinstance(expected, tuple):
        assert type(got) is type(expected)
        for one, other in zip(got, expected, strict=True):
            same(one, other, kind, exactly=exactly)
    elif isinstance(expected, (np.ndarray, np.generic)):
        assert type(got) is type(kind)
        array = np.asarray(got)
        assert array.shape == expected.shape
        if (
            not exactly or array.dtype != expected.dtype
        ):  # JAX has neither float64 nor int64 by default
            assert array.dtype.kind == expected.dtype.kind
            np.testing.assert_allclose(array, expected, rtol=1e-6, atol=1e-7)
        else:
            np.testing.assert_array_equal(array, expected)
    else:
        assert got == expected or expected is None


def calls() -> dict[str, Callable[[Callable[[Any], Any]], Any]]:
    """A call of each family, on whatever `a` makes of its arrays."""
    b = boltzmax
    y = b.softmax(X)
    weight = np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)
    return {
        "softmax": lambda a: b.softmax(a(X)),
        "softmax, axis": lambda a: b.softmax(a(X), axis=(0, 1)),
        "log_softmax": lambda a: b.log_softmax(a(X), 0, temperature=2.0),
        "logsumexp": lambda a: b.logsumexp(a(X), keepdims=True),
        "logsumexp, sign": lambda a: b.logsumexp(a(X), b=a(X), return_sign=True),
        "logsumexp, scalar": lambda a: b.logsumexp(a(X), None),
        "where": lambda a: b.softmax(a(X), where=a(X > 0)),
        "temperature": lambda a: b.softmax(a(X), temperature=a(np.float32([1, 2, 3, 4]))),
        "integers": lambda a: b.softmax(a(np.int32([1, 2]))),
        "softmax_backward": lambda a: b.softmax_backward(a(X), a(y)),
        "sparsemax": lambda a: b.sparsemax(a(X)),
        "entmax": lambda a: b.entmax(a(X), 1.3),
        "logcumsumexp": lambda a: b.logcumsumexp(a(X)),
        "taylor_softmax": lambda a: b.taylor_softmax(a(X)),
        "windowed_softmax": lambda a: b.windowed_softmax(a(X), 3),
        "segment_softmax": lambda a: b.segment_softmax(a(X[0]), a(np.int64([0, 2, 6]))),
        "gumbel_softmax": lambda a: b.gumbel_softmax(a(X), rng=7),
        "gumbel_max": lambda a: b.gumbel_max(a(X), rng=7),
        "gumbel_topk": lambda a: b.gumbel_topk(a(X), 2, rng=7),
        "mixture": lambda a: b.mixture_log_softmax(a(X.reshape(2, 2, 6)), a(X[:2, :2])),
        "cross_entropy": lambda a: b.cross_entropy(a(X), a(TARGET)),
        "cross_entropy, none": lambda a: b.cross_entropy(a(X), a(TARGET), reduction="none"),
        "cross_entropy_with_grad": lambda a: b.cross_entropy_with_grad(a(X), a(TARGET)),
        "cross_entropy, weights": lambda a: b.cross_entropy(
            a(X), a(TARGET), weight=a(X[0] ** 2), sample_weight=a(X[:, 0] ** 2)
        ),
        "focal_loss": lambda a: b.focal_loss(a(X), a(TARGET), gamma=1.5),
        "sparsemax_loss": lambda a: b.sparsemax_loss_with_grad(a(X), a(TARGET)),
        "nll_loss": lambda a: b.nll_loss_with_grad(a(b.log_softmax(X)), a(TARGET)),
        "kl_divergence": lambda a: b.kl_divergence(a(b.log_softmax(X)), a(y)),
        "binary": lambda a: b.binary_cross_entropy_with_logits(a(X), a(y)),
        "linear_cross_entropy": lambda a: b.linear_cross_entropy_with_grad(
            a(X), a(weight), a(TARGET % 5)
        ),
        "linear_topk": lambda a: b.linear_topk(a(X), a(weight), 2),
        "linear_logsumexp": lambda a: b.linear_logsumexp(a(X), a(weight)),
        "cosine_logits": lambda a: margin.cosine_logits(a(X), a(weight)),
        "arc_margin": lambda a: margin.arc_margin(a(np.tanh(X)), a(TARGET)),
        "class_weights": lambda a: b.class_weights(a(np.float32([1, 2, 3]))),
    }


@pytest.mark.parametrize("name", calls())
def test_results_are_of_the_kind_of_the_first_array(name: str, convert: Any) -> None:
    call = calls()[name]
    # Of a linear layer, small arrays of NumPy are computed in one piece: the order of sums differs.
    exactly = not name.startswith("linear")
    same(call(convert), call(np.asarray), convert([0.0]), exactly=exactly)


def test_every_loss_answers_in_kind(convert: Any) -> None:
    for loss in LOSSES.values():
        if not loss.per_element and loss.function.__name__ != "linear_cross_entropy":
            kind = convert([0.0])
            same(loss.function(convert(X), convert(TARGET)), loss.function(X, TARGET), kind)


def test_every_public_function_answers_in_kind() -> None:
    """One call of each, with tensors in the place of all arrays."""
    torch = pytest.importorskip("torch")

    def tensors(x: Any) -> Any:
        return torch.from_numpy(x.copy()) if isinstance(x, np.ndarray) else x

    def kinds(result: Any) -> set[type]:
        parts = result if isinstance(result, tuple) else (result,)
        return {type(part) for part in parts if part is not None} - {float}

    layers = {kind.__name__ for kind in MADE}
    every = {name for name in every_function.names() if not name.startswith("special.")} - layers
    checked = set()
    for label, call in every_function.everything(X[:3].copy(), np.linspace(0.5, 1.5, 7)):
        name = label.partition(" ")[0]
        if name in checked or name not in every:
            continue
        assert isinstance(call, functools.partial)
        named = {key: tensors(value) for key, value in call.keywords.items()}
        result = call.func(*map(tensors, call.args), **named)
        if name == "row_stats":
            result = result.lse, result.entropy, result.top_ids
        assert kinds(result) == {torch.Tensor}, name
        checked.add(name)
    assert checked == every


def test_row_stats(convert: Any) -> None:
    got = boltzmax.row_stats(convert(X), convert(TARGET), k=2)
    expected = boltzmax.row_stats(X, TARGET, k=2)
    for name in ("lse", "entropy", "top_ids", "top_log_probs", "target_rank", "argmax", "margin"):
        same(getattr(got, name), getattr(expected, name), convert([0.0]))


def test_lists_have_no_kind_and_numpy_stays_numpy(convert: Any) -> None:
    assert type(boltzmax.softmax([1.0, 2.0], where=convert([True, True]))) is type(convert([0.0]))
    plain = boltzmax.cross_entropy(X, convert(TARGET))
    assert isinstance(plain, np.float32)
    assert plain == boltzmax.cross_entropy(X, TARGET)
    assert type(boltzmax.special.softmax(convert(X))) is np.ndarray  # as SciPy does


def test_nothing_is_copied(monkeypatch: pytest.MonkeyPatch, convert: Any) -> None:
    """The kernels get the memory of the array."""
    x = convert(X)
    seen = []

    def keep(x: Any) -> Any:
        seen.append(x)
        return x

    again = same_kind(keep)(x)
    assert type(seen[0]) is np.ndarray
    address = seen[0].__array_interface__["data"][0]
    pointer = getattr(x, "data_ptr", None) or getattr(x, "unsafe_buffer_pointer", None)
    assert address == (pointer() if pointer else x._array.__array_interface__["data"][0])
    np.testing.assert_array_equal(np.asarray(again), X)


# ---- PyTorch


def test_dtypes_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for name in ("float16", "float32", "float64", "bfloat16"):
        dtype = np.dtype(getattr(ml_dtypes, name) if name == "bfloat16" else name)
        x = torch.tensor(X, dtype=getattr(torch, name))
        got = boltzmax.softmax(x, dim_of(x))
        assert got.dtype == x.dtype
        expected = boltzmax.softmax(np.asarray(x.double()).astype(dtype))
        np.testing.assert_array_equal(got.double().numpy(), expected.astype(np.float64))
        as_dtype = boltzmax.softmax(torch.tensor(X), dtype=getattr(torch, name))
        assert as_dtype.dtype == x.dtype
        loss, gradient = boltzmax.cross_entropy_with_grad(x, torch.tensor(TARGET))
        assert gradient.dtype == x.dtype
        assert loss.ndim == 0
    small = torch.tensor(X).to(torch.float8_e4m3fn)
    assert boltzmax.softmax(small).dtype == torch.float32
    conjugate = torch.tensor([1 + 2j, 3 - 1j]).conj()
    expected_of_complex = boltzmax.logsumexp(conjugate.resolve_conj().numpy())
    assert boltzmax.logsumexp(conjugate).item() == expected_of_complex


def dim_of(x: Any) -> int:
    return int(x.ndim) - 1


def test_strides_and_out_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    x = torch.tensor(X)
    for view in (x.T, x[::2], x[:, 1:4], x[:1].expand(3, 6)):
        np.testing.assert_array_equal(boltzmax.softmax(view), boltzmax.softmax(view.numpy()))
    out = torch.empty_like(x)
    assert boltzmax.softmax(x, out=out) is out
    np.testing.assert_array_equal(out.numpy(), boltzmax.softmax(X))
    assert boltzmax.softmax(x, out=x) is x
    np.testing.assert_array_equal(x.numpy(), boltzmax.softmax(X))
    _, gradient = boltzmax.cross_entropy_with_grad(x, torch.tensor(TARGET), out=out)
    assert gradient is out
    with pytest.raises(ValueError, match=r"out has elements that share memory.* clone it"):
        boltzmax.softmax(x, out=torch.empty(1, 6).expand(4, 6))
    array = np.empty_like(X)
    assert boltzmax.softmax(x, out=array) is array
    with pytest.raises(ValueError, match=r"out has shape \(4,\)"):
        boltzmax.softmax(x, out=torch.empty(4))


def test_tensors_that_pytorch_follows() -> None:
    torch = pytest.importorskip("torch")
    x = torch.tensor(X, requires_grad=True)
    words = "requires a gradient.*boltzmax.torch, or pass {}.detach"
    for call, name in (
        (lambda: boltzmax.softmax(x), "x"),
        (lambda: boltzmax.sparsemax(x), "x"),
        (lambda: boltzmax.cross_entropy(x, torch.tensor(TARGET)), "logits"),
        (lambda: boltzmax.cross_entropy(X, TARGET, weight=x[0]), "weight"),
        (lambda: boltzmax.LinearSoftmax(3, 6).log_prob_all(x), "hidden"),
    ):
        with pytest.raises(TypeError, match=f"^{name} {words.format(name)}"):
            call()
    with torch.no_grad():
        assert not boltzmax.softmax(x).requires_grad
    np.testing.assert_array_equal(boltzmax.softmax(x.detach()), boltzmax.softmax(X))


def test_tensors_without_numbers_in_memory() -> None:
    torch = pytest.importorskip("torch")
    x = torch.tensor(X)
    for bad, words in (
        (torch.empty(3, device="meta"), r"is a tensor on the device 'meta', which has no numbers"),
        (x.to_sparse(), r"is a tensor of layout torch.sparse_coo; pass x.to_dense\(\)"),
        (torch.nested.as_nested_tensor([x, x[:2]], layout=torch.jagged), "is a nested tensor"),
    ):
        with pytest.raises(TypeError, match=f"^x {words}"):
            boltzmax.softmax(bad)
    with pytest.raises(TypeError, match=r"x has no numbers .*boltzmax\.torch"):
        torch.func.vmap(boltzmax.softmax)(x)
    with pytest.raises(ValueError, match="out is a view that negates"):
        boltzmax.softmax(x, out=torch._neg_view(torch.zeros_like(x)))


# ---- devices, mixtures


class OnDevice:
    """An array on some device, by the array API and DLPack."""

    def __init__(self, kind: int) -> None:
        self.kind = kind

    def __array_namespace__(self) -> Any:
        raise AssertionError

    def __dlpack__(self, **options: Any) -> Any:
        raise AssertionError

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.kind, 0


def test_other_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    x = OnDevice(14)  # oneAPI's, as dpnp has
    words = "on a device that boltzmax does not know .*device type 14.*pass a copy of it"
    with pytest.raises(TypeError, match=f"^x is {words}"):
        boltzmax.softmax(x)
    x = OnDevice(2)
    with pytest.raises(TypeError, match=r"^logits is on a CUDA device .*boltzmax.cuda, or pass"):
        boltzmax.cross_entropy(x, TARGET)
    with pytest.raises(TypeError, match=r"^hidden is on a CUDA device"):
        boltzmax.LinearSoftmax(3, 6).log_prob_all(x)
    # Functions that boltzmax.cuda has under the same name go there.
    called = []
    fake = SimpleNamespace(
        softmax=lambda *args, **options: called.append((args, options)) or "done"
    )
    monkeypatch.setitem(sys.modules, "boltzmax.cuda", fake)
    assert boltzmax.softmax(x, 0, temperature=2.0) == "done"
    assert called == [((x, 0), {"temperature": 2.0})]


def test_mixed_libraries() -> None:
    jax = pytest.importorskip("jax.numpy")
    with pytest.raises(
        TypeError, match=r"^logits is an array of PyTorch, but target is one of JAX: convert one"
    ):
        boltzmax.cross_entropy(to_torch(X), jax.asarray(TARGET))


def test_traced_arrays_of_jax() -> None:
    jax = pytest.importorskip("jax")
    for transform in (jax.jit, jax.vmap):
        with pytest.raises(TypeError, match=r"^x is being traced by JAX.*boltzmax.jax"):
            transform(boltzmax.softmax)(to_jax(X))
    assert not isinstance(to_jax(X), jax.core.Tracer)
    with pytest.raises(ValueError, match="out is read-only"):
        boltzmax.softmax(to_jax(X), out=to_jax(X))


def test_types_are_remembered_but_not_for_ever() -> None:
    limit = foreign._library_of_type.cache_info().maxsize
    assert limit is not None
    for _ in range(limit + 10):
        kind = type("Passing", (), {"__array__": lambda self, *_, **__: X[0]})
        boltzmax.softmax(kind())
    assert foreign._library_of_type.cache_info().currsize <= limit


def test_wrapped_functions_keep_their_signature() -> None:
    """They are pickled by name, and shown with their own arguments."""
    assert functools.reduce(getattr, ["sparsemax", "__wrapped__"], boltzmax) is not None
    assert boltzmax.sparsemax.__name__ == "sparsemax"
    with pytest.raises(TypeError, match="positional argument"):
        boltzmax.sparsemax(to_torch(X), -1, None)  # type: ignore[misc]
