"""An extension module in C99 works, or names the versions that do not fit."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import boltzmax
import compiled
from c_table import same

SOURCE = """
#include <Python.h>
#include <boltzmax/boltzmax.h>

static const boltzmax_api* bm;

static PyObject* softmax(PyObject* self, PyObject* args) {
  Py_buffer x, y;
  Py_ssize_t rows, n;
  int status;
  (void)self;
  if (!PyArg_ParseTuple(args, "y*nw*", &x, &rows, &y)) return NULL;
  Py_BEGIN_ALLOW_THREADS
  n = rows > 0 ? x.len / 4 / rows : 0;
  status = bm->softmax_f32((const float*)x.buf, rows, n, (float*)y.buf);
  Py_END_ALLOW_THREADS
  PyBuffer_Release(&x);
  PyBuffer_Release(&y);
  return PyLong_FromLong(status);
}

static PyObject* state(PyObject* self, PyObject* none) {
  (void)self, (void)none;
  return Py_BuildValue("iss", bm->get_num_threads(), bm->isa(), bm->version);
}

static PyMethodDef methods[] = {
    {"softmax", softmax, METH_VARARGS, NULL},
    {"state", state, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "NAME", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_NAME(void);
PyMODINIT_FUNC PyInit_NAME(void) {
  bm = boltzmax_import();
  return bm == NULL ? NULL : PyModule_Create(&definition);
}
"""


def build(name: str, folder: Path, include: str) -> Path:
    return compiled.build_c(name, SOURCE.replace("NAME", name), folder, f"-I{include}")


@pytest.fixture(scope="module")
def extension(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    folder = tmp_path_factory.mktemp("c")
    return compiled.load("door", build("door", folder, boltzmax.get_include()))


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (3, 10), (2, 70_000)], ids=str)
def test_same_bits_as_python(extension: ModuleType, shape: tuple[int, int], isa: str) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    y = np.empty_like(x)
    assert extension.softmax(x, shape[0], y) == 0
    assert same(y, boltzmax.softmax(x))
    assert extension.state() == (boltzmax.get_num_threads(), isa, boltzmax.__version__)


def changed_header(folder: Path, pattern: str, replacement: str) -> str:
    """A copy of the headers with another version."""
    shutil.copytree(Path(boltzmax.get_include()) / "boltzmax", folder / "include" / "boltzmax")
    header = folder / "include" / "boltzmax" / "boltzmax.h"
    text, count = re.subn(pattern, replacement, header.read_text(encoding="utf-8"))
    assert count == 1
    header.write_text(text, encoding="utf-8")
    return str(folder / "include")


def test_other_abi_version_is_refused(tmp_path: Path) -> None:
    include = changed_header(tmp_path, "(#define BOLTZMAX_ABI_VERSION) 1", r"\1 2")
    path = build("another", tmp_path, include)
    with pytest.raises(ImportError, match=r"C ABI 2 .* boltzmax .* has ABI 1 "):
        compiled.load("another", path)


def test_a_newer_header_is_refused(tmp_path: Path) -> None:
    """A header with an entry that the library lacks."""
    include = changed_header(tmp_path, "} boltzmax_api;", "int (*more)(void); } boltzmax_api;")
    path = build("newer", tmp_path, include)
    with pytest.raises(ImportError, match="of at least"):
        compiled.load("newer", path)


def test_an_older_header_works(tmp_path: Path) -> None:
    """A header without the last entry."""
    pattern = r"  int \(\*run_strided_backward\)\([^)]*\);\n"
    path = build("older", tmp_path, changed_header(tmp_path, pattern, ""))
    assert compiled.load("older", path).state()[2] == boltzmax.__version__


@pytest.mark.parametrize("missing", ["package", "table"])
def test_no_package_or_no_table_is_an_import_error(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {
        "package": ('"boltzmax._core._C_API"', '"no_such_package._core._C_API"'),
        "table": ('"boltzmax._core._C_API"', '"boltzmax._core._no_such_table"'),
    }
    path = build("missing", tmp_path, changed_header(tmp_path, *changes[missing]))
    with pytest.raises(ImportError):
        compiled.load("missing", path)


def test_guide_example(tmp_path: Path) -> None:
    """It compiles unchanged."""
    example = compiled.guide_block("c", "boltzmax_import")
    caller = "int call(float* x);\nint call(float* x) { return softmax_in_place(x, 1, 1); }\n"
    compiled.build_c("guide", example + caller, tmp_path, f"-I{boltzmax.get_include()}")
