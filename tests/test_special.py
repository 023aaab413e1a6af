"""boltzmax.special against scipy.special: all observable behaviour."""

from __future__ import annotations

import inspect
import itertools
import warnings
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from boltzmax import special

scipy_special = pytest.importorskip("scipy.special")

Array = npt.NDArray[Any]
NAMES = ("softmax", "log_softmax", "logsumexp")
INF, NAN = np.inf, np.nan
AXES = (None, 0, -1, (), (0,), (0, 1), (1, 0))
BAD_AXES = (5, -4, (0, 5), (0, 0), (0, -2), [0], 1.0, "a", True, (0.5,), np.array([0, 1]))


def outcome(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The result of a call, or the type of the error that it raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("error" if function.__module__ == "boltzmax.special" else "ignore")
        try:
            return function(*args, **kwargs)
        except Exception as error:
            return type(error)


def close(ours: Any, peer: Any, eps: float | None) -> None:
    if isinstance(peer, type):
        assert isinstance(ours, type), f"SciPy raises {peer}, ours returns {ours!r}"
        assert issubclass(ours, peer), f"SciPy raises {peer}, ours {ours}"
        return
    assert type(ours) is type(peer), f"{ours!r} for {peer!r}"
    if isinstance(peer, tuple):
        assert len(ours) == len(peer)
        for a, b in zip(ours, peer, strict=True):
            close(a, b, eps)
        return
    assert ours.dtype == peer.dtype
    assert ours.shape == peer.shape
    if ours.dtype.kind not in "fc":
        ours, peer, eps = ours.astype(float), peer.astype(float), 1e-2
    if ours.dtype == np.clongdouble:  # SciPy's pi and imaginary parts are at most double
        ours, peer = ours.astype(complex), peer.astype(complex)
    if eps is None:
        eps = float(np.finfo(ours.dtype).eps)
    np.testing.assert_allclose(ours, peer, rtol=8 * eps, atol=8 * eps)


def check(name: str, *args: Any, eps: float | None = None, **kwargs: Any) -> None:
    peer = outcome(getattr(scipy_special, name), *args, **kwargs)
    ours = outcome(getattr(special, name), *args, **kwargs)
    close(ours, peer, eps)


def sample(dtype: str, shape: tuple[int, ...] = (3, 4), seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    x = 2 * rng.standard_normal(shape)
    if dtype.startswith("c"):
        x = x + 3j * rng.standard_normal(shape)
    return x.astype(dtype)


def matrix(rows: list[list[float]]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        return np.asmatrix(rows)


FLOATS = ("float16", "float32", "float64", "longdouble", ">f8", ">f4")
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool")
COMPLEX = ("complex64", "complex128", "clongdouble")

INPUTS: dict[str, Any] = {
    **{d: sample(d) for d in (*FLOATS, *COMPLEX)},
    **{d: np.sort(np.abs(sample(d)))[:, ::-1] for d in ("int8", "int16", "int32", "int64", "bool")},
    **{f"0-d {d}": sample(d, ()) for d in (*FLOATS, *COMPLEX)},
    **{f"scalar {d}": sample(d, (1,))[0] for d in ("float16", "float32", "float64", "longdouble")},
    **{f"one {d}": sample(d, (1,)) for d in FLOATS},
    "int": 3,
    "float": 3.5,
    "complex": 1 + 5j,
    "True": True,
    "list": [1, 2, 3],
    "nested list": [[1.5, 2], [3, 4]],
    "tuple": (1.0, 2.0),
    "strided": sample("float64", (5, 8))[::-2, ::3],
    "fortran": np.asfortranarray(sample("float32")),
    "4-d": sample("float32", (2, 3, 2, 2)),
    "read-only": np.broadcast_to(sample("float64", (4,)), (3, 4)),
    "object": np.array([1.0, 2.0], object),
    "decimal object": np.array([[1.0, 2.0]], object),
    "string": np.array(["a", "b"]),
    "number string": np.array(["1.5", "2"]),
    "text": "abc",
    "None": None,
    "ragged": [[1, 2], [3]],
    "structured": np.ones(2, [("a", float), ("b", int)]),
    "dates": np.array(["1970-01-03", "1970-01-04"], "M8[D]"),
    "time spans": np.array([1, 2], "m8[s]"),
    "memmap-like": sample("float64").view(type("Sub", (np.ndarray,), {})),
    "matrix": matrix([[1.0, 2.0], [3.0, 4.0]]),
    "masked": np.ma.array([[1.0, 2.0, 3.0], [2.0, 5.0, 1.0]], mask=[[0, 1, 0], [0, 0, 0]]),
    "special": np.array([[INF, 1, 2], [-INF, -INF, -INF], [NAN, 1, INF], [INF, INF, -INF]]),
    "special 0-d": np.array(INF),
    "-inf": -INF,
    "nan": np.float32(NAN),
}


try:
    from ml_dtypes import bfloat16
except ImportError:
    pass
else:
    INPUTS["bfloat16"] = sample("float64").astype(bfloat16)


def coarse(key: str) -> float | None:
    """SciPy computes half precision in half precision."""
    return 1e-3 if any(word in key for word in ("16", "int8")) else None


@pytest.mark.parametrize("key", INPUTS)
@pytest.mark.parametrize("name", NAMES[:2])
def test_softmax_and_log_softmax(name: str, key: str) -> None:
    x = INPUTS[key]
    for axis in (*AXES, *BAD_AXES):
        if key == "None":  # SciPy's AttributeError is accidental
            with pytest.raises((TypeError, ValueError)):
                getattr(special, name)(x, axis=axis)
        elif key != "ragged" or axis is None:
            check(name, x, axis=axis, eps=coarse(key))


@pytest.mark.parametrize("key", INPUTS)
def test_logsumexp(key: str) -> None:
    x = INPUTS[key]
    for axis, keepdims, return_sign in itertools.product(AXES, (False, True), (False, True)):
        if key == "masked" and axis == ():
            continue  # SciPy ignores the mask elsewhere, but gives 0 for masked elements here
        options = {"axis": axis, "keepdims": keepdims, "return_sign": return_sign}
        check("logsumexp", x, eps=coarse(key), **options)
    for axis in BAD_AXES:
        if key not in ("matrix", "object", "decimal object", "None"):
            check("logsumexp", x, axis=axis)


WEIGHTS: dict[str, Any] = {
    "int": 2,
    "float": 2.5,
    "negative": -1,
    "zero": 0,
    "float32": np.float32(2),
    "float64": np.float64(2),
    "bool": True,
    "list": [1, -2, 3, 0.5],
    "column": [[1], [2], [0]],
    "more axes": np.arange(-12, 12).reshape(2, 3, 4) / 4,
    "integers": np.array([1, 2, 0, 5]),
    "mask": np.array([[True, False, True, True]]),
    "half": sample("float16", (4,)),
    "float32 array": sample("float32", (4,)),
    "longdouble": sample("longdouble", (3, 1)),
    "complex": 1j,
    "complex64 array": sample("complex64"),
    "inf": INF,
    "-inf": -INF,
    "nan": NAN,
    "signed": sample("float64", seed=4),
    "does not fit": [1, 2],
    "empty": np.zeros((0, 3, 4)),
    "string": "a",
    "object": np.ones(4, object),
    "matrix": matrix([[1.0, 2.0, 3.0, 4.0]]),
}


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("dtype", [*FLOATS, *COMPLEX, "int32", "0-d", "list"])
def test_weights(dtype: str, weights: str) -> None:
    b = WEIGHTS[weights]
    if dtype in ("0-d", "list"):
        a: Any = 1.5 if dtype == "0-d" else [1, 2, 3, 4]
    else:
        a = sample(dtype)
    if weights == "matrix":  # SciPy multiplies matrices, which fails in several ways
        with pytest.raises(TypeError, match="matrix"):
            special.logsumexp(a, b=b)
        return
    for axis, keepdims, return_sign in itertools.product(AXES, (False, True), (False, True)):
        if weights == "empty" and axis not in (0, (0,)):
            continue  # see test_empty_sums
        options = {"axis": axis, "keepdims": keepdims, "return_sign": return_sign}
        eps = 1e-14 if (dtype, weights) == ("int32", "signed") else coarse(f"{dtype} {weights}")
        check("logsumexp", a, b=b, eps=eps, **options)


@pytest.mark.parametrize("return_sign", [False, True])
def test_every_pair_of_special_values(return_sign: bool) -> None:
    """Infinities, NaN and zeros among the elements and among the weights."""
    elements = (INF, -INF, NAN, 0.0, 1.0, -2.0)
    weights = (0.0, -0.0, 1.0, -1.0, 2.5, INF, -INF, NAN)
    for a in itertools.product(elements, repeat=2):
        check("logsumexp", a, return_sign=return_sign)
        for b in itertools.product(weights, repeat=2):
            check("logsumexp", np.array(a), b=np.array(b), return_sign=return_sign)


@pytest.mark.parametrize("return_sign", [False, True])
def test_every_pair_of_special_complex_values(return_sign: bool) -> None:
    parts = itertools.product((INF, -INF, NAN, 0.0, 1.0), (0.0, -1.0, 4.0, INF, NAN))
    for a in itertools.product([complex(*p) for p in parts], repeat=2):
        peer = outcome(scipy_special.logsumexp, np.array(a), return_sign=return_sign)
        ours = outcome(special.logsumexp, np.array(a), return_sign=return_sign)
        if not return_sign and peer.real != -INF:  # otherwise the phase is that of a signed zero
            close(ours, peer, None)
        elif return_sign:
            close(ours[1], peer[1], None)
            if not np.isnan(peer[1]):
                close(ours[0], peer[0], None)


def test_imaginary_parts_are_wrapped() -> None:
    for imaginary in (np.pi, -np.pi, 3, 4, -4, 2 * np.pi, 100, -100, 1e-20, -0.0):
        check("logsumexp", complex(0.5, imaginary), eps=1e-14)
        if abs(imaginary) != np.pi:  # rounded to single, that is beyond pi
            check("logsumexp", np.array([complex(0.5, imaginary), -1], np.complex64))
    assert special.logsumexp(complex(1, -np.pi)).imag == np.pi


def test_phases_of_the_sign() -> None:
    check("logsumexp", [1j, 2 + 1j], b=[1, -1j], return_sign=True)
    check("logsumexp", [0, 1, 2], b=[1, -1, 1e-3], return_sign=True)


# --- Empty arrays --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype", ["float16", "float64", "int8", "int64", "longdouble", "complex64"]
)
def test_empty(dtype: str) -> None:
    for shape in ((0,), (0, 3), (3, 0), (0, 0), (2, 0, 3)):
        x = np.zeros(shape, dtype)
        for axis in (*AXES, 1, 5, [0], True):
            for name in NAMES[:2]:
                check(name, x, axis=axis)
        for axis, keepdims, return_sign in itertools.product((0, -1), (False, True), (False, True)):
            options = {"axis": axis, "keepdims": keepdims, "return_sign": return_sign}
            check("logsumexp", x, **options)
    check("logsumexp", [])
    check("logsumexp", [], return_sign=True)
    check("logsumexp", np.zeros((3, 0)), axis=1, b=2)


def test_empty_sums() -> None:
    """SciPy raises IndexError or returns a wrong shape for these."""
    for shape in ((0, 3), (3, 0)):
        assert special.logsumexp(np.zeros(shape)) == -INF
        value, sign = special.logsumexp(np.zeros(shape), (0, 1), return_sign=True, keepdims=True)
        assert value.tolist() == [[-INF]]
        assert sign.tolist() == [[-1]]
        assert special.logsumexp(np.zeros(shape), ()).shape == shape
    with pytest.raises(np.exceptions.AxisError):
        special.logsumexp([], axis=1)


# --- Better than SciPy ---------------------------------------------------------------------------


def test_integers_do_not_wrap_around() -> None:
    for dtype in INTEGERS[:-1]:
        info = np.iinfo(dtype)
        x = np.array([info.max, info.max - 1, info.min], dtype)
        expected = np.exp([0.0, -1, -INF]) / (1 + np.exp(-1.0))
        tolerance = 1e-3 if info.bits == 8 else 1e-7
        got = special.softmax(x)
        assert got.dtype == {8: np.float16, 16: np.float32}.get(info.bits, np.float64)
        np.testing.assert_allclose(got, expected, rtol=tolerance)
        got = special.log_softmax(x[:2])
        np.testing.assert_allclose(got, np.log(expected[:2]), rtol=tolerance)


def test_digits_that_scipy_loses() -> None:
    np.testing.assert_allclose(special.log_softmax([0.0, 40])[1], -np.log1p(np.exp(-40.0)), 1e-15)
    np.testing.assert_allclose(special.logsumexp([0.0, -40]), np.exp(-40.0), 1e-15)
    np.testing.assert_allclose(special.logsumexp([0j, -40]).real, np.exp(-40.0), 1e-15)
    assert special.logsumexp([1000, 1000], b=[1, -1]) == -INF
    np.testing.assert_allclose(special.logsumexp([1000, 1000, 999], b=[1, -1, 1]), 999, 1e-15)
    np.testing.assert_allclose(special.logsumexp([800, 0], b=[1e-300, 1e300]), 690.775527898, 1e-12)


def test_arguments_are_not_modified() -> None:
    a, b = sample("float64"), sample("float64", seed=1)
    b[0] = 0
    before = a.copy(), b.copy()
    for x in (a, a.astype(np.longdouble), a + 1j):
        special.softmax(x), special.log_softmax(x), special.logsumexp(x, axis=())
        special.logsumexp(x, b=b, return_sign=True)
    np.testing.assert_array_equal((a, b), before)
    result = special.logsumexp(a, axis=())
    assert not np.shares_memory(result, a)


@pytest.mark.parametrize("name", NAMES)
def test_signature_is_scipys(name: str) -> None:
    ours, peer = (inspect.signature(getattr(m, name)) for m in (special, scipy_special))
    assert list(ours.parameters) == list(peer.parameters)
    for one, other in zip(ours.parameters.values(), peer.parameters.values(), strict=True):
        assert (one.kind, one.default) == (other.kind, other.default)


class Half(float):
    """A subclass of float."""


SCALARS: list[Any] = [Fraction(1, 3), Decimal("1.5"), 3, 2.5, True, 1 + 2j, Half(0.5), "1.5", "one"]
SCALARS += [np.float32(2), np.longdouble(2), np.array(2, "f4"), np.bool_(True), None, object()]


@pytest.mark.parametrize("scalar", SCALARS, ids=repr)
def test_scalars_of_every_kind(scalar: Any) -> None:
    """Converted as in SciPy: anything but Python and NumPy numbers becomes float64."""
    if scalar is None or type(scalar) is object:
        with pytest.raises((TypeError, ValueError)):
            special.logsumexp(scalar)
        return
    for a in (scalar, [scalar, scalar]):
        if not isinstance(a, list) or isinstance(scalar, (int, float, complex, np.generic)):
            check("logsumexp", a)
            check("logsumexp", a, None, None, True, True)
    for a in (1.0, 2, np.float32(1), np.ones(2, "f4"), [1.0, 2.0], np.ones((2, 2), int)):
        check("logsumexp", a, None, scalar)
        check("logsumexp", scalar, None, a)


def test_tensors_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    for tensor in (torch.tensor(2.0), torch.tensor([1.0, 2.0]), torch.tensor(2)):
        plain = tensor.numpy()
        for a, b in ((tensor, None), (tensor, 2.0), ([1.0, 2.0], tensor), (np.float32(1), tensor)):
            first, second = (plain if v is tensor else v for v in (a, b))
            close(special.logsumexp(a, b=b), special.logsumexp(first, b=second), None)


SMALL_FLOATS = ["float8_e5m2", "float8_e4m3fn", "float8_e4m3", "float6_e2m3fn"]


@pytest.mark.parametrize("name", SMALL_FLOATS)
@pytest.mark.parametrize("function", NAMES[:2])
def test_floats_of_eight_bits_and_less(name: str, function: str) -> None:
    """Results keep their type, as in SciPy."""
    dtype = np.dtype(getattr(pytest.importorskip("ml_dtypes"), name))
    x = np.array([[1, 2, 0.5], [0, 3, 1]]).astype(dtype)
    for axis in (None, 0, 1):
        ours, peer = (getattr(m, function)(x, axis) for m in (special, scipy_special))
        assert ours.dtype == peer.dtype == dtype
        assert ours.tobytes() == peer.tobytes()


# --- Properties ----------------------------------------------------------------------------------

shapes = hnp.array_shapes(max_dims=3, max_side=6)


@given(st.data())
def test_like_scipy_on_anything(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(["float32", "float64"]))
    width = np.dtype(dtype).itemsize * 8
    elements = st.one_of(st.floats(-80, 80, width=width), st.sampled_from([INF, -INF, NAN]))
    x = data.draw(hnp.arrays(dtype, shapes, elements=elements))
    axis = data.draw(st.one_of(st.none(), st.integers(-x.ndim, x.ndim - 1)))
    keepdims = data.draw(st.booleans())
    return_sign = data.draw(st.booleans())
    # SciPy loses |x - max| / 2 units in its exponentials, and the digits of a result near 0
    eps = 50 * float(np.finfo(dtype).eps)
    for name in NAMES[:2]:
        check(name, x, axis=axis, eps=eps)
    check("logsumexp", x, axis, None, keepdims, return_sign, eps=eps)
    weights = st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.0])
    b = data.draw(hnp.arrays(dtype, x.shape[-1:], elements=weights))
    check("logsumexp", x, axis, b, keepdims, return_sign, eps=eps)
