"""The compiled fast path and the general one: the same bits, layouts and errors.

Ordinary calls are handled by the compiled functions without any Python; all others go to
`boltzmax.arrays.general`, which handles every call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import boltzmax
import ulp
from boltzmax.arrays import general
from conftest import RunPython
from fuzzing import attempt
from layouts import LAYOUTS, unaligned

Array = npt.NDArray[Any]
BACKWARD = ("softmax_backward", "log_softmax_backward")
SHAPE = (3, 4, 5)


def scores(dtype: Any = np.float64, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> Array:
    return (4 * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def layouts(x: Array) -> Iterator[Array]:
    """Views and copies of the same elements."""
    for lay_out in LAYOUTS.values():
        yield lay_out(x)


AXES: list[Any] = [
    -1,
    0,
    1,
    None,
    (),
    (0,),
    (1, 2),
    (2, 1),
    (0, 2),
    (-1, 0),
    (2, 0, 1),
    np.int64(1),
]
MASKS: list[Any] = [
    None,
    True,
    np.False_,
    np.array(True),
    scores() > -2,
    (scores() > -2)[:, :1],
    (scores() > -2)[0],
    (scores() > -2)[..., ::-1],
    (scores()[0, 0] > -2).tolist(),
]


def temperatures(axes: tuple[int, ...]) -> Iterator[Any]:
    """One temperature for all rows, and one per row in both shapes."""
    yield from (2.0, 3, True, 1.0, np.float32(0.5), np.int8(2), np.array(0.25), [[[2]]])
    each = np.random.default_rng(1).uniform(0.3, 4, SHAPE)
    kept = each[tuple(slice(0, 1) if d in axes else slice(None) for d in range(3))]
    rows = np.squeeze(kept, axes)
    yield from (kept, rows, rows.tolist(), rows.astype(np.float32), rows.T.copy().T)
    yield from (np.ones_like(kept), np.ceil(kept).astype(np.int16), kept[:1], unaligned(kept, 1))
    if rows.ndim:
        yield from (rows[-1], [1.0], [2])


def result_of(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A description of the result, or of the error raised instead."""
    got, error = attempt(lambda: function(*args, **kwargs), TypeError, ValueError)
    if error is not None:
        return type(error), str(error)
    return [description(part) for part in (got if isinstance(got, tuple) else (got,))]


def description(got: Any) -> Any:
    flags = getattr(got, "flags", None)
    order = None if flags is None else (flags.c_contiguous, flags.f_contiguous)
    # (Some bytes of a longdouble are padding with arbitrary contents.)
    bits = got.tobytes() if got.dtype != np.longdouble else [repr(v) for v in np.ravel(got)]
    return type(got), got.dtype, got.shape, order, bits


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make a call on both paths; the first must not reach the general one."""

    def both(op: str, *args: Any, **kwargs: Any) -> None:
        expected = result_of(general.FUNCTIONS[op], *args, **kwargs)
        assert isinstance(expected, list), expected

        def refuse(*_: Any, **__: Any) -> None:
            raise AssertionError(f"{op} of {args} with {kwargs} went through Python")

        with monkeypatch.context() as patch:
            patch.setitem(general.FUNCTIONS, op, refuse)
            got = result_of(getattr(boltzmax, op), *args, **kwargs)
        assert got == expected, (args, kwargs)

    return both


# ---- ordinary calls


@pytest.mark.parametrize("op", ulp.OPS)
def test_axes_of_every_layout(
    isa: str, dtype: np.dtype[Any], op: str, compare: Callable[..., None]
) -> None:
    for x in layouts(scores(dtype)):
        for axis in AXES:
            compare(op, x, axis)
            compare(op, x, axis=axis, temperature=2.5)


@pytest.mark.parametrize("op", ulp.OPS)
@pytest.mark.parametrize("kind", ["?", "b", "B", "h", "H", "i", "I", "l", "L", "q", "Q", "e", "f"])
def test_types(op: str, kind: str, compare: Callable[..., None]) -> None:
    for x in layouts(abs(scores()).astype(kind)):
        for dtype in (None, np.float32, "float64", "f2", np.dtype(np.float16), float):
            compare(op, x, 1, dtype=dtype)


@pytest.mark.parametrize("op", ulp.OPS)
def test_masks(isa: str, op: str, compare: Callable[..., None]) -> None:
    for x in layouts(scores(np.float32)):
        for where in MASKS:
            for axis in (-1, 0, (0, 2), None):
                compare(op, x, axis, where=where)
    compare(op, scores(np.int32), where=MASKS[4], dtype=np.float32, temperature=0.5)


@pytest.mark.parametrize("op", ulp.OPS)
def test_temperatures(isa: str, op: str, compare: Callable[..., None]) -> None:
    for axis in (2, 1, (0, 2), (0, 1, 2), ()):
        axes = axis if isinstance(axis, tuple) else (axis,)
        for temperature in temperatures(axes):
            compare(op, scores(), axis, temperature=temperature)
            compare(op, scores(np.float32).T, axis, temperature=2, where=MASKS[4].T)


LISTS: list[Any] = [
    [1.0, 2.0, -3.5],
    (1, 2, 3),
    [[1.5, 2.5], [3.5, -4.5]],
    [[[1, 2], [3, 4]]],
    ([1.0], (2.0,)),
    [0, 1.5],
    [1.5, 0],
    [True, False],
    [np.float32(1), np.float32(2)],
    [np.float16(1), 2.5],
    [2**62, 1, -(2**53) - 1],
    [2**63, 1],
    [np.arange(3.0), [1, 2, 3]],
    [],
    [[], []],
    [float("nan"), float("-inf")],
    3.5,
    7,
    True,
    np.float32(2.5),
    np.int8(3),
    np.bool_(True),
    np.float64(-0.0),
    np.array(2.5),
    np.array(3, np.uint8),
]


@pytest.mark.parametrize("op", ulp.OPS)
def test_lists_and_numbers(op: str, compare: Callable[..., None]) -> None:
    for x in LISTS:
        compare(op, x)
        compare(op, x, axis=None)
        compare(op, x, dtype=np.float32)
        compare(op, x, where=True, temperature=2)
    ragged: Any
    for ragged in ([[1.0], [2.0, 3.0]], [[1.0], 2.0], [1.0, [2.0]], [[1, 2], (3,)]):
        assert result_of(getattr(boltzmax, op), ragged) == result_of(general.FUNCTIONS[op], ragged)


def test_self_referential_list() -> None:
    x: list[Any] = []
    x.append(x)
    with pytest.raises((TypeError, ValueError)):
        boltzmax.softmax(x)


def test_outputs(isa: str, dtype: np.dtype[Any]) -> None:
    """Ordinary outputs without Python, overlapping ones with it: the same bits."""
    x = scores(dtype)
    for axis in (0, (0, 2), None):
        for op in ulp.OPS:
            function = getattr(boltzmax, op)
            expected = np.asarray(function(x, axis))
            for out in layouts(np.zeros(SHAPE, dtype)) if op != "logsumexp" else ():
                assert function(x, axis, out=out) is out
                assert out.tobytes() == expected.tobytes()
            if op == "logsumexp":
                kept = boltzmax.logsumexp(x, axis, keepdims=True)
                for out in (np.empty_like(kept), unaligned(np.empty_like(kept), 1)):
                    got = boltzmax.logsumexp(x, axis, keepdims=True, out=out)
                    assert got is out
                    assert out.tobytes() == kept.tobytes() == expected.tobytes()


def test_outputs_need_no_python(monkeypatch: pytest.MonkeyPatch) -> None:
    x = scores(np.float32)
    for op in (*ulp.OPS, *BACKWARD):
        monkeypatch.delitem(general.FUNCTIONS, op)
    for out in layouts(np.zeros_like(x)):
        boltzmax.softmax(x, (0, 2), out=out)
        boltzmax.log_softmax(x.astype(np.float64), where=x > 0, dtype="f4", out=out)
        boltzmax.softmax_backward(x, x, (0, 1), out=out)
    boltzmax.softmax(x, out=x)
    boltzmax.softmax_backward(x, scores(np.float32), out=x)
    boltzmax.logsumexp(x, out=np.empty((3, 4), np.float32))
    sign = boltzmax.logsumexp(x, out=np.empty((3, 4), np.float32), return_sign=True)[1]
    assert (sign == 1).all()


@pytest.mark.parametrize("name", ["float16", "float32", "float64", "int8"])
def test_reductions(isa: str, name: str, compare: Callable[..., None]) -> None:
    x = scores(name)
    if x.dtype.kind == "f":
        x[0, 0] = -np.inf
        x[1, 1, 1] = np.nan
        x[2, 2, 2] = np.inf
    for view in layouts(x):
        for axis in AXES:
            for keepdims in (False, True):
                for return_sign in (False, True):
                    compare("logsumexp", view, axis, keepdims=keepdims, return_sign=return_sign)
    compare("logsumexp", 2.5, keepdims=True, return_sign=True)
    compare("logsumexp", x[:0], axis=0, keepdims=True, return_sign=True)
    compare("logsumexp", x[:, :0], axis=1, return_sign=True)


def test_weights(isa: str, compare: Callable[..., None]) -> None:
    b = scores(seed=3)
    every: list[Any] = [2.0, -3, True, np.float16(2), b[0, 0].tolist(), b[:, :1].astype("i1")]
    for weights in (*every, *layouts(b)):
        for x in (scores(np.float32), scores("i1")[:, ::-1], scores().T.copy().T):
            for axis in (1, (0, 2), None, ()):
                compare("logsumexp", x, axis, b=weights, return_sign=True)
        compare("logsumexp", b, 0, b=weights, where=b > 0, temperature=2, dtype="f4", keepdims=True)
    for bad in ("b", 1j, 2**70, b[:2], [b, b], np.array(1, object), b.astype(">f4")):
        same_both_ways("logsumexp", (b,), {"b": bad})


@pytest.mark.parametrize("op", BACKWARD)
def test_gradients(isa: str, dtype: np.dtype[Any], op: str, compare: Callable[..., None]) -> None:
    for dy in layouts(scores(dtype)):
        for y in layouts(-abs(scores(dtype, seed=1))):
            for axis in (-1, None, (2, 0), ()):
                compare(op, dy, y, axis)
        compare(op, dy, dy, axis=np.int32(0))
    for kinds in ("fd", "df", "ed", "if", "hf", "ib", "?b", "dl", "ll"):
        dy, y = (np.asarray(scores(), order="F").astype(kind) for kind in kinds)
        compare(op, dy, y, 1)
        compare(op, dy=dy.tolist(), y=y, axis=0)
    compare(op, 2.0, 0.5)
    compare(op, [1.0, 2.0], [0.25, 0.75])
    compare(op, np.empty((3, 0)), np.empty((3, 0)))


# ---- declined calls: the general path and its errors


def strange() -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    x = scores()
    yield (), {}
    yield (x, -1, None), {}
    yield (x,), {"x": x}
    yield (x,), {"temprature": 2}
    yield (x,), {"keepdims": 1, "out": x}
    for axis in (3, -4, 10**10, -(10**30), (0, 0), (0, -3), (0, 3), 1.0, "0", [0.5], b"0", {}):
        yield (x, axis), {}
        yield (2.0, axis), {}
    for where in ("yes", 0.5, 1, x, np.ones(SHAPE, int), np.ones((2, 1, 1), bool), [[True], []]):
        yield (x,), {"where": where}
    for where in (np.ones(4, bool), np.ones((1, *SHAPE), bool), np.ones((3, 4, 0), bool)):
        yield (x,), {"where": where}
    for temperature in (0, 0.0, -1, 1e31, 1e-31, np.inf, np.nan, None, "warm", 1j, 2**70, False):
        yield (x,), {"temperature": temperature}
    for t in (np.ones(3), np.ones(SHAPE), np.ones((3, 4, 2)), [1, 0, 1, 1], [[1], [2, 3]], x):
        yield (x,), {"temperature": t}
    yield (x,), {"temperature": np.array([1, 2, 3, 4], object)}
    for dtype in (int, "U5", object, complex, "nonsense", 7, np.dtype([("a", "f4")])):
        yield (x,), {"dtype": dtype}
    for bad in (
        None,
        "text",
        {1: 2},
        object(),
        range,
        {1.0},
        [None],
        [1.0, "a"],
        [2**70],
        [[1.0], [1j]],
    ):
        yield (bad,), {}
    yield (np.array([1, 2], "datetime64[s]"),), {}
    yield (np.ma.MaskedArray(x, mask=x > 0),), {}
    read_only = np.zeros(SHAPE)
    read_only.flags.writeable = False
    outs: list[Any] = [
        [0.0],
        "out",
        1.0,
        np.zeros(3),
        np.zeros(SHAPE, "f4"),
        np.zeros(SHAPE, ">f8"),
    ]
    for out in (*outs, read_only, np.zeros((5, 4, 3)).T[:2]):
        yield (x,), {"out": out}


def same_both_ways(op: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    got = result_of(getattr(boltzmax, op), *args, **kwargs)
    assert got == result_of(general.FUNCTIONS[op], *args, **kwargs), (args, kwargs)


@pytest.mark.parametrize("op", ulp.OPS)
def test_errors_match_the_general_path(op: str) -> None:
    for args, kwargs in strange():
        same_both_ways(op, args, kwargs)


@pytest.mark.parametrize("op", BACKWARD)
def test_errors_of_gradients(op: str) -> None:
    x = scores()
    for axis in (3, (1, 1), 10**10, 0.5):
        same_both_ways(op, (x, x, axis), {})
    for y in (x[0], x[:2], 1.0, [1.0], None, "y", x.astype(complex), x.astype("U3")):
        same_both_ways(op, (x, y), {})
        same_both_ways(op, (y, x), {})
    for kwargs in ({"y": x}, {"out": x[0]}, {"out": x.astype("f4")}, {"dx": x}, {"out": [1]}):
        same_both_ways(op, (x, x), kwargs)
    same_both_ways(op, (x,), {})
    same_both_ways(op, (x, x, -1, x), {})


@pytest.mark.parametrize("op", ulp.OPS)
def test_unusual_arrays(op: str) -> None:
    """Kinds that only the general path takes, alone and with ordinary arguments."""
    x = scores()
    for strange_x in (x.astype(">f8"), x.astype(np.longdouble), x.view(np.recarray), memoryview(x)):
        same_both_ways(op, (strange_x,), {"axis": (0, 1), "where": x > 0})
    same_both_ways(op, (x,), {"dtype": np.longdouble})
    same_both_ways(op, (x,), {"dtype": ">f4"})
    same_both_ways(op, (x,), {"where": memoryview(x > 0), "temperature": np.ones((3, 4), ">f8")})
    same_both_ways(op, (x,), {"temperature": np.full((3, 4), 2, np.longdouble)})
    same_both_ways(op, (x,), {"axis": [0, 1]})
    same_both_ways(op, (x,), {"axis": True})


def test_bfloat16_before_registration(run_python: RunPython) -> None:
    """The first bfloat16 array takes the general path, which registers the type."""
    pytest.importorskip("ml_dtypes")
    done = run_python(
        """
import ml_dtypes, numpy as np, boltzmax
for make in (lambda: np.ones(4, ml_dtypes.bfloat16), lambda: [ml_dtypes.bfloat16(1)] * 4):
    for _ in range(2):
        p = boltzmax.softmax(make())
        assert p.dtype == ml_dtypes.bfloat16 and (p == 0.25).all()
    assert boltzmax.softmax(np.ones(4), dtype=ml_dtypes.bfloat16).dtype == ml_dtypes.bfloat16
"""
    )
    assert done.returncode == 0, done.stderr


def test_an_interrupt_while_a_list_is_read_is_not_lost() -> None:
    class Interrupts:
        def __float__(self) -> float:
            raise KeyboardInterrupt

        def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        boltzmax.softmax([Interrupts(), 1.0])
