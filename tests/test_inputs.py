"""Array-likes: lists, scalars, subclasses, memory maps, foreign byte order, objects."""

from __future__ import annotations

import gc
import importlib.util
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import boltzmax
import ulp
from operations import GRADIENTS
from rows import normal

Array = npt.NDArray[Any]
pytestmark = pytest.mark.usefixtures("strict")


def plain(got: Any, expected: Any) -> None:
    """A base-class array of the same bits."""
    assert type(got) is type(expected)
    assert got.dtype == expected.dtype
    assert got.dtype.isnative
    assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize("op", ulp.OPS)
def test_lists_and_scalars(op: str) -> None:
    function = getattr(boltzmax, op)
    likes: list[Any] = [[1, 2, 3], (1.5, 2.5), [[1, 2], [3, 4]], [True, False], range(4), [[]]]
    likes += [[np.float32(1), np.float32(2)]]
    for x in likes:
        plain(function(x), function(np.array(x)) if np.size(x) else function(np.empty(np.shape(x))))
    assert function([np.float16(1), np.float16(2)]).dtype == np.float16
    with pytest.raises((TypeError, ValueError)):
        function([[1, 2], [3]])
    for bad in (None, "text", {1: 2}, object(), lambda: 0):
        with pytest.raises(TypeError):
            function(bad)


@pytest.mark.parametrize("op", ulp.OPS)
@pytest.mark.parametrize("name", ["float16", "float32", "float64", "int32"])
def test_foreign_byte_order(isa: str, name: str, op: str) -> None:
    """The result is in native byte order."""
    function = getattr(boltzmax, op)
    x = (4 * normal(5, 33)).astype(name)
    foreign = x.astype(x.dtype.newbyteorder())
    assert not foreign.dtype.isnative
    for axis in (0, 1, None):
        plain(function(foreign, axis), function(x, axis))
    plain(function(foreign[::-1, ::2]), function(np.ascontiguousarray(x[::-1, ::2])))


def test_foreign_byte_order_of_other_arguments() -> None:
    x = normal(4, 5, dtype=np.float32)
    foreign = x.astype(">f4" if x.dtype.str[0] == "<" else "<f4")
    t = np.array([1.0, 2.0, 3.0, 4.0])
    plain(
        boltzmax.softmax(x, temperature=t.astype(t.dtype.newbyteorder())),
        boltzmax.softmax(x, temperature=t),
    )
    plain(boltzmax.softmax_backward(foreign, foreign), boltzmax.softmax_backward(x, x))
    plain(boltzmax.log_softmax_backward(foreign, foreign), boltzmax.log_softmax_backward(x, x))
    # An output in foreign byte order is refused.
    out = np.full_like(foreign, 7)
    with pytest.raises(TypeError, match=f"out has dtype {foreign.dtype}"):
        boltzmax.softmax(x, out=out)
    assert (out == 7).all()


class Subclass(np.ndarray[Any, Any]):
    """An ndarray that overrides ufuncs."""

    def __array_ufunc__(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("kernels must use the data")


@pytest.mark.parametrize("op", ulp.OPS)
def test_subclasses_return_plain_arrays(op: str) -> None:
    function = getattr(boltzmax, op)
    x = normal(3, 4)
    plain(function(x.view(Subclass)), function(x))
    plain(function(x.view(np.recarray)), function(x))
    out = np.empty_like(function(x)).view(Subclass)
    assert function(x, out=out) is out
    assert out.tobytes() == function(x).tobytes()


@pytest.mark.parametrize("op", ulp.OPS)
def test_matrix(op: str) -> None:
    """np.matrix, which always has two axes, works like a plain array."""
    x = normal(3, 4)
    with warnings.catch_warnings(action="ignore"):
        matrix = np.matrix(x)
    plain(getattr(boltzmax, op)(matrix), getattr(boltzmax, op)(x))


@pytest.mark.parametrize("op", ulp.OPS)
def test_masks_of_masked_arrays_are_not_ignored(op: str) -> None:
    """They are refused, and the message suggests ``where=~mask``."""
    x = normal(3, 4)
    with pytest.raises(TypeError, match="pass its data, and where=~mask"):
        getattr(boltzmax, op)(np.ma.MaskedArray(x, mask=x > 1))


@pytest.mark.parametrize("op", ulp.OPS)
def test_memory_maps(tmp_path: Path, op: str) -> None:
    function = getattr(boltzmax, op)
    x = normal(30, 40, dtype=np.float32)
    np.save(tmp_path / "x.npy", x)
    for mode in ("r", "r+", "c"):
        mapped = np.load(tmp_path / "x.npy", mmap_mode=mode)
        assert isinstance(mapped, np.memmap)
        got = function(mapped)
        assert type(got) is np.ndarray
        plain(got, function(x))
    if op != "logsumexp":
        out = np.lib.format.open_memmap(tmp_path / "out.npy", "w+", np.float32, x.shape)
        assert function(x, out=out) is out
        out.flush()
        assert np.array_equal(np.load(tmp_path / "out.npy"), function(x))
        # In place, on the file.
        mapped = np.load(tmp_path / "x.npy", mmap_mode="r+")
        function(mapped, out=mapped)
        mapped.flush()
        assert np.array_equal(np.load(tmp_path / "x.npy"), function(x))


class Converts:
    """An object with __array__, like a data frame column or a tensor of another library."""

    def __init__(self, x: Array) -> None:
        self.x = x

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return self.x if dtype is None else self.x.astype(dtype)


class Interface:
    def __init__(self, x: Array) -> None:
        self.__array_interface__ = x.__array_interface__
        self.keep = x


@pytest.mark.parametrize("op", ulp.OPS)
@pytest.mark.parametrize("wrap", [Converts, Interface, memoryview], ids=lambda w: w.__name__)
def test_objects_that_convert_themselves(wrap: Callable[[Array], Any], op: str) -> None:
    function = getattr(boltzmax, op)
    x = normal(6, 7, dtype=np.float32)
    plain(function(wrap(x)), function(x))
    plain(function(wrap(x), axis=0), function(x, axis=0))
    plain(function(wrap(x), dtype=np.float64), function(x, dtype=np.float64))


class OnlyDLPack:
    """An array of a library that NumPy does not know, with the common protocol."""

    def __init__(self, x: Array) -> None:
        self.x = x

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.x.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> Any:
        return self.x.__dlpack_device__()


def not_quite_arrays() -> Iterator[tuple[Any, str]]:
    yield None, "is None, not an array of numbers"
    yield (float(i) for i in range(3)), r"is an iterator \(generator\).*pass list\("
    yield iter([1.0, 2.0]), r"is an iterator \(list_iterator\).*pass list\("
    yield (
        OnlyDLPack(normal(3)),
        r"can be read through DLPack alone \(test_inputs.OnlyDLPack\).*numpy.from_dlpack\(",
    )
    if "scipy" in INSTALLED:
        sparse = importlib.import_module("scipy.sparse")
        for x in (sparse.eye(3, format="csr"), sparse.coo_array(np.eye(3))):
            yield x, rf"is sparse \({type(x).__module__}.{type(x).__name__}\); pass \w+.toarray\(\)"


INSTALLED = {name for name in ("scipy",) if importlib.util.find_spec(name)}


@pytest.mark.parametrize("op", [*ulp.OPS, *GRADIENTS])
def test_advice_for_objects_that_can_be_converted(op: str) -> None:
    function = getattr(boltzmax, op)
    backward = op.endswith("backward")
    for bad, words in not_quite_arrays():
        calls = [("dy", (bad, normal(3))), ("y", (normal(3), bad))] if backward else [("x", (bad,))]
        for name, args in calls:
            with pytest.raises(TypeError, match=f"^{name} {words}"):
                function(*args)
    # The advice works.
    x = OnlyDLPack(normal(3))
    assert np.shape(boltzmax.softmax(np.from_dlpack(x))) == (3,)


def arguments_named(bad: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    x, special = normal(3), boltzmax.special
    yield "where", lambda: boltzmax.softmax(x, where=bad)
    yield "b", lambda: boltzmax.logsumexp(x, b=bad)
    yield "hidden", lambda: boltzmax.linear_logsumexp(bad, [[1.0]])
    yield "weight", lambda: boltzmax.linear_topk([[1.0]], bad, 1)
    yield "x", lambda: special.softmax(bad)
    yield "x", lambda: special.log_softmax(bad)
    yield "a", lambda: special.logsumexp(bad)
    yield "b", lambda: special.logsumexp(x, b=bad)


def test_advice_for_other_arguments() -> None:
    for bad, words in not_quite_arrays():
        for name, call in arguments_named(bad):
            if bad is not None:  # None means no mask or weights; SciPy's messages differ
                with pytest.raises(TypeError, match=f"^{name} {words}"):
                    call()


SMALL_FLOATS = [
    "float4_e2m1fn",
    "float6_e2m3fn",
    "float6_e3m2fn",
    "float8_e3m4",
    "float8_e4m3",
    "float8_e4m3b11fnuz",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
]


@pytest.mark.parametrize("name", SMALL_FLOATS)
def test_floats_of_eight_bits_and_less_are_read_as_float32(name: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    if not hasattr(ml_dtypes, name):
        pytest.skip("this version of ml_dtypes does not have it")
    small = np.array([[1, 2, 0.5], [4, 0.5, 1]]).astype(getattr(ml_dtypes, name))
    x = small.astype(np.float32)
    for op in ulp.OPS:
        function = getattr(boltzmax, op)
        for axis in (0, 1, None):
            plain(function(small, axis), function(x, axis))
            plain(function(small, axis, dtype=np.float64), function(x, axis, dtype=np.float64))
        plain(function(x, temperature=small[:, :1]), function(x, temperature=x[:, :1]))
        with pytest.raises(TypeError, match=f"cannot compute in dtype {name}"):
            function(x, dtype=small.dtype)
    plain(boltzmax.logsumexp(x, b=small), boltzmax.logsumexp(x, b=x))
    for op in GRADIENTS:
        plain(getattr(boltzmax, op)(small, small), getattr(boltzmax, op)(x, x))
        plain(getattr(boltzmax, op)(small, x), getattr(boltzmax, op)(x, x))


@pytest.mark.parametrize("name", ["int1", "int2", "int4", "uint1", "uint2", "uint4"])
def test_integers_of_less_than_eight_bits_are_refused(name: str) -> None:
    """Their character codes are those of NumPy's floating types."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    if not hasattr(ml_dtypes, name):
        pytest.skip("this version of ml_dtypes does not have it")
    x = np.zeros(3, getattr(ml_dtypes, name))
    for op in ulp.OPS:
        with pytest.raises(TypeError, match=f"does not support dtype {name}"):
            getattr(boltzmax, op)(x)
        with pytest.raises(TypeError, match=f"cannot compute in dtype {name}"):
            getattr(boltzmax, op)([1.0], dtype=x.dtype)


def test_conversion_errors_are_not_swallowed() -> None:
    class Broken:
        def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
            raise RuntimeError("no data today")

    for op in ulp.OPS:
        with pytest.raises(RuntimeError, match="no data today"):
            getattr(boltzmax, op)(Broken())


def test_object_arrays() -> None:
    """Object arrays are refused as such, even 0-d ones."""
    for x in (np.array(1.5, object), np.array([1.5, None]), np.array([None])):
        with pytest.raises(TypeError, match="does not support dtype object"):
            boltzmax.softmax(x)


def test_backward_takes_array_likes() -> None:
    dy, y = [[1.0, 2.0], [3.0, 4.0]], [[0.25, 0.75], [0.5, 0.5]]
    for op in GRADIENTS:
        function = getattr(boltzmax, op)
        plain(function(dy, y), function(np.array(dy), np.array(y)))
        plain(
            function(Converts(np.array(dy)), np.array(y).data),
            function(np.array(dy), np.array(y)),
        )


@pytest.mark.parametrize("op", GRADIENTS)
def test_gradients_without_a_common_dtype(op: str) -> None:
    bfloat16 = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    x = normal(3).astype(bfloat16)
    for other in (np.float16, np.int64):
        for dy, y in ((x, x.astype(other)), (x.astype(other), x)):
            with pytest.raises(TypeError) as error:
                getattr(boltzmax, op)(dy, y)
            expected = f"{op} finds no common dtype for dy of {dy.dtype} and y of {y.dtype}; "
            assert str(error.value) == expected + "convert one of them"


def test_nothing_is_kept_alive() -> None:
    """No reference to inputs or outputs leaks, on success or on error."""
    x, out, where = normal(5, 6), normal(5, 6), np.ones((5, 6), bool)
    temperature = np.ones(5)

    def count() -> list[int]:
        gc.collect()
        return [
            sys.getrefcount(a)
            for a in (x, out, where, temperature, np.dtype(np.float64), np.dtype(np.float32))
        ]

    def exercise() -> None:
        for op in ulp.OPS:
            function = getattr(boltzmax, op)
            function(x)
            function(x, 0)
            function(x, None, where=where)
            function(x, temperature=temperature, dtype=np.float32)
            function(x.tolist(), (1,), where=where.tolist(), temperature=[2.0] * 5, dtype="f4")
            for bad in (
                {"out": out[:2]},
                {"temperature": -1},
                {"axis": 5},
                {"where": where[:2]},
                {"dtype": object},
            ):
                with pytest.raises((TypeError, ValueError)):
                    function(x, **bad)
        boltzmax.softmax(x, out=out)
        boltzmax.logsumexp(x, (1, 0), return_sign=True, keepdims=True)
        boltzmax.softmax_backward(x, out)
        boltzmax.softmax_backward(x, out, out=out)
        boltzmax.softmax_backward(x.astype(np.float32), where)

    exercise()
    before = count()
    for _ in range(50):
        exercise()
    assert all(b - a < 10 for a, b in zip(before, count(), strict=True))
