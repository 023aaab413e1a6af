"""boltzmax.cython_boltzmax from a Cython consumer, from Numba, and as scipy.LowLevelCallable."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.resources
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import boltzmax
import boltzmax.cython_boltzmax
import c_table
import compiled
from c_table import same

Array = npt.NDArray[Any]

CAPI: dict[str, Any] = boltzmax.cython_boltzmax.__pyx_capi__
SHAPES = [(0, 5), (3, 0), (1, 1), (5, 1), (3, 10), (40, 129), (2, 70_000)]

CONSUMER = """
# cython: boundscheck=False
from boltzmax.cython_boltzmax cimport (
    NULL_POINTER, get_num_threads, isa, log_softmax_f32, log_softmax_f64, logsumexp_f32,
    logsumexp_f64, set_num_threads, softmax_backward_f64, softmax_f32, softmax_f64, status_text,
)

ctypedef fused real:
    float
    double

def softmax(real[:, ::1] x, real[:, ::1] y):
    cdef int status
    with nogil:
        if real is float:
            status = softmax_f32(&x[0, 0], x.shape[0], x.shape[1], &y[0, 0])
        else:
            status = softmax_f64(&x[0, 0], x.shape[0], x.shape[1], &y[0, 0])
    return status

def log_softmax(real[:, ::1] x, real[:, ::1] y):
    if real is float:
        return log_softmax_f32(&x[0, 0], x.shape[0], x.shape[1], &y[0, 0])
    else:
        return log_softmax_f64(&x[0, 0], x.shape[0], x.shape[1], &y[0, 0])

def logsumexp(real[:, ::1] x, real[::1] y):
    if real is float:
        return logsumexp_f32(&x[0, 0], x.shape[0], x.shape[1], &y[0])
    else:
        return logsumexp_f64(&x[0, 0], x.shape[0], x.shape[1], &y[0])

def backward(double[:, ::1] dy, double[:, ::1] y, double[:, ::1] dx):
    return softmax_backward_f64(&dy[0, 0], &y[0, 0], dy.shape[0], dy.shape[1], &dx[0, 0])

def without_memory():
    cdef int status = softmax_f32(NULL, 1, 3, NULL)
    return status, status == NULL_POINTER, status_text(status)

def exchange_threads(int n):
    cdef int before = get_num_threads()
    return before, set_num_threads(n)

def isa_in_use():
    return isa().decode()
"""


@pytest.fixture(scope="module")
def consumer(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    return compiled.build_cython("consumer", CONSUMER, tmp_path_factory.mktemp("cython"))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", ["softmax", "log_softmax", "logsumexp"])
def test_cython_has_the_same_bits_as_python(
    consumer: ModuleType, op: str, dtype: str, shape: tuple[int, int], isa: str
) -> None:
    x = np.random.default_rng(0).normal(scale=5, size=shape).astype(dtype)
    for r, value in enumerate((np.nan, np.inf, -np.inf)):
        if r < shape[0] > 1 and r < shape[1]:
            x[r, r] = value
    y = np.empty(shape[0] if op == "logsumexp" else shape, dtype)
    assert getattr(consumer, op)(x, y) == 0
    assert same(y, getattr(boltzmax, op)(x))
    assert consumer.isa_in_use() == isa


def test_cython_gradients_statuses_and_threads(
    consumer: ModuleType, threads: Callable[[int], None]
) -> None:
    dy, x = np.random.default_rng(0).normal(size=(2, 4, 9))
    y, dx = boltzmax.softmax(x), np.empty_like(x)
    assert consumer.backward(dy, y, dx) == 0
    assert same(dx, boltzmax.softmax_backward(dy, y))
    assert consumer.without_memory() == (1, True, b"a pointer to elements is NULL")
    threads(3)
    assert consumer.exchange_threads(2) == (3, 0)
    assert boltzmax.get_num_threads() == 2


def test_pxd_matches_the_header() -> None:
    """The same functions, and the same status codes."""
    folder = Path(boltzmax.get_include()).parent
    pxd = (folder / "cython_boltzmax.pxd").read_text(encoding="utf-8")
    declared = set(re.findall(r"^cdef (?:int|const char\*) (\w+)\(", pxd, re.M))
    functions = {name for name, kind in c_table.Api._fields_ if hasattr(kind, "_restype_")}
    own = {"logsumexp_filter", "logsumexp_filter1d"}
    assert declared == functions - {"run_strided", "run_strided_backward"} | own
    assert set(CAPI) == declared
    statuses = dict(re.findall(r"^    ([A-Z_]+) = (\d)$", pxd, re.M))
    header = {k.removeprefix("BOLTZMAX_"): v for k, v in c_table.constants().items()}
    assert len(statuses) == 10
    assert all(header[name] == int(value) for name, value in statuses.items())


def test_every_function_calls_its_entry() -> None:
    """Called through __pyx_capi__, each returns what the table's entry returns."""
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    name_of = ctypes.pythonapi.PyCapsule_GetName
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    api = c_table.table()
    x = np.random.default_rng(0).uniform(0.1, 0.4, (6, 8)).astype(np.float32)
    target = np.zeros(6, np.int64)
    rows = 3  # of at most eight doubles
    for name, kind in c_table.Api._fields_:
        if not re.search(r"_b?f\d\d$", name):
            continue
        results = []
        for function in (getattr(api, name), kind(get(CAPI[name], name_of(CAPI[name])))):
            a, b, y, z = (np.full(48, v, np.float32) for v in (1, 1, 7, 7))
            a[:], b[:] = x.ravel(), x[::-1].ravel()
            at = [v.ctypes.data for v in (a, b, y, z)]
            if name.startswith("cross_entropy"):
                status = function(at[0], target.ctypes.data, rows, 8, 0.5, at[3], at[2])
            elif "backward" in name:
                status = function(at[0], at[1], rows, 8, at[2])
            else:
                status = function(at[0], rows, 8, *([0.3] if "_at_" in name else []), at[2])
            results.append((status, y.tobytes(), z.tobytes()))
        assert results[0] == results[1], name
        assert results[0][0] == 0, name


def test_guide_example(tmp_path: Path) -> None:
    module = compiled.build_cython(
        "guide", compiled.guide_block("cython", "cimport softmax_f32"), tmp_path
    )
    x = np.random.default_rng(0).normal(size=(3, 10)).astype(np.float32)
    expected = boltzmax.softmax(x)
    assert module.softmax_in_place(x) == 0
    assert same(x, expected)
    for shape in ((0, 3), (3, 0)):
        assert module.softmax_in_place(np.zeros(shape, np.float32)) == 0


# ---- Numba


def test_numba(tmp_path: Path) -> None:
    """The example of the guide."""
    pytest.importorskip("numba")
    namespace: dict[str, Any] = {}
    exec(compiled.guide_block("py", "get_cython_function_address"), namespace)
    x = np.random.default_rng(0).normal(size=(3, 10)).astype(np.float32)
    expected = boltzmax.softmax(x)
    assert namespace["softmax_in_place"](x) == 0
    assert same(x, expected)


# ---- SciPy


@pytest.mark.parametrize("temperature", [None, 0.01, 3.0])
def test_moving_windows(temperature: float | None) -> None:
    """T log sum exp(x / T) of each window of generic_filter and generic_filter1d."""
    scipy = pytest.importorskip("scipy")
    ndimage = pytest.importorskip("scipy.ndimage")
    data = None
    if temperature is not None:
        number = ctypes.c_double(temperature)
        data = ctypes.cast(ctypes.pointer(number), ctypes.c_void_p)

    def window(values: Array) -> float:
        t = temperature or 1.0
        return t * float(boltzmax.logsumexp(values, temperature=t))

    def line(values: Array, results: Array) -> None:
        for i in range(len(results)):
            results[i] = window(values[i : i + 4].copy())

    x = np.random.default_rng(0).normal(size=(9, 11))
    door = scipy.LowLevelCallable.from_cython
    fast = door(boltzmax.cython_boltzmax, "logsumexp_filter", user_data=data)
    assert same(ndimage.generic_filter(x, fast, size=3), ndimage.generic_filter(x, window, size=3))
    fast = door(boltzmax.cython_boltzmax, "logsumexp_filter1d", user_data=data)
    slow = ndimage.generic_filter1d(x, line, filter_size=4)
    assert same(ndimage.generic_filter1d(x, fast, filter_size=4), slow)


def test_a_failure_in_a_window_is_an_error() -> None:
    scipy = pytest.importorskip("scipy")
    ndimage = pytest.importorskip("scipy.ndimage")
    number = ctypes.c_double(-1.0)
    data = ctypes.cast(ctypes.pointer(number), ctypes.c_void_p)
    for name, arguments in (("logsumexp_filter", {"size": 3}), ("logsumexp_filter1d", {})):
        call = scipy.LowLevelCallable.from_cython(boltzmax.cython_boltzmax, name, user_data=data)
        run = ndimage.generic_filter if arguments else ndimage.generic_filter1d
        with pytest.raises(RuntimeError):
            run(np.ones((3, 3)), call, **(arguments or {"filter_size": 2}))


# ---- entry points for builds


@pytest.mark.parametrize(
    ("group", "file"), [("cmake.root", "boltzmaxConfig.cmake"), ("pkg_config", "boltzmax.pc")]
)
def test_entry_points(group: str, file: str) -> None:
    (found,) = importlib.metadata.entry_points(group=group, name="boltzmax")
    assert importlib.resources.files(found.value).joinpath(file).is_file()
