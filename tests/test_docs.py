"""The documentation is correct: examples run, signatures match, docstrings are complete."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import json
import re
import sys
import tomllib
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import boltzmax
import compiled
import public_api
from device import needs_device

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [
    README,
    *(p for p in sorted(DOCS.rglob("*.md")) if not {"examples", "generated"} & {*p.parts}),
]

SIGNATURES = {
    "softmax": "(x, axis=-1, *, where=None, temperature=1.0, empty='nan', dtype=None, out=None)",
    "log_softmax": (
        "(x, axis=-1, *, where=None, temperature=1.0, empty='nan', dtype=None, out=None)"
    ),
    "logsumexp": (
        "(x, axis=-1, *, b=None, keepdims=False, return_sign=False, where=None, temperature=1.0, "
        "dtype=None, out=None)"
    ),
    "softmax_backward": "(dy, y, axis=-1, *, out=None)",
    "log_softmax_backward": "(dy, y, axis=-1, *, out=None)",
    "set_num_threads": "(n)",
    "get_num_threads": "()",
    "isa": "()",
    "available_isas": "()",
    "show_config": "()",
    "get_include": "()",
    "get_cmake_dir": "()",
}
SPECIAL_SIGNATURES = {
    "softmax": "(x, axis=None)",
    "log_softmax": "(x, axis=None)",
    "logsumexp": "(a, axis=None, b=None, keepdims=False, return_sign=False)",
}
MODULES = (
    *("boltzmax", "boltzmax.special", "boltzmax.sklearn", "boltzmax.cuda"),
    *("boltzmax.margin", "boltzmax.sampling", "boltzmax.testing", "boltzmax.calibration"),
    *("boltzmax.conformal", "boltzmax.selective", "boltzmax.ood", "boltzmax.priors"),
    *("boltzmax.candidates", "boltzmax.dask", "boltzmax.mpi", "boltzmax.torch"),
    *("boltzmax.sparse", "boltzmax.jax", "boltzmax.keras", "boltzmax.tensorflow"),
)
# Modules that need a process of their own: test_keras_bridge.py runs their examples.
OWN_PROCESS = ("boltzmax.keras", "boltzmax.tensorflow")


def is_absent(module: str) -> bool:
    """Whether a module cannot be imported here."""
    return module in OWN_PROCESS or not public_api.is_here(module)


WITHOUT_DEVICE = ("is_available", "why_unavailable")  # of boltzmax.cuda
PUBLIC = sorted(name for name in boltzmax.__all__ if callable(getattr(boltzmax, name)))


def documented() -> list[Any]:
    """Every public function, and the modules themselves."""
    found: list[Any] = [pytest.param(boltzmax, id="boltzmax")]
    for module_name in MODULES:
        if is_absent(module_name):
            continue
        module = importlib.import_module(module_name)
        if module is not boltzmax:
            found.append(pytest.param(module, id=module_name))
        for name in getattr(module, "__all__", []):
            value = getattr(module, name)
            if callable(value):
                on_device = module_name == "boltzmax.cuda" and name not in WITHOUT_DEVICE
                marks = [needs_device] if on_device else []
                if module_name == "boltzmax.mpi":
                    marks = [pytest.mark.skip(reason="test_mpi_bridge.py runs these under MPI")]
                found.append(pytest.param(value, id=f"{module_name}.{name}", marks=marks))
    return found


def run_examples(text: str, name: str, namespace: dict[str, Any]) -> int:
    """Run the examples of a text as doctest does, and return their number."""
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    test = doctest.DocTestParser().get_doctest(text, namespace, name, None, 0)
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=flags, verbose=False)
    runner.run(test, out=report.append, clear_globs=False)
    namespace.update(test.globs)
    assert runner.failures == 0, "".join(report)
    return runner.tries


@pytest.mark.parametrize("thing", documented())
def test_docstring_examples(thing: Any) -> None:
    doc = inspect.getdoc(thing)
    assert doc, "documented"
    threads = boltzmax.get_num_threads()
    try:
        tries = run_examples(doc, getattr(thing, "__name__", "boltzmax"), {"np": np})
    finally:
        boltzmax.set_num_threads(threads)
    if not isinstance(thing, ModuleType):
        assert tries > 0, "an example"


@pytest.mark.parametrize("name", PUBLIC)
def test_docstring_sections(name: str) -> None:
    """NumPy style: a one-line summary, every parameter by name, return values, examples."""
    function = getattr(boltzmax, name)
    doc = inspect.getdoc(function) or ""
    lines = doc.splitlines()
    assert lines[0].endswith("."), "a summary of one sentence"
    assert len(lines) == 1 or lines[1] == ""
    sections = {a for a, b in pairwise(lines) if re.fullmatch("-{3,}", b)}
    parameters = list(inspect.signature(function).parameters)
    if parameters:
        assert "Parameters" in sections
    for parameter in parameters:
        assert re.search(rf"^(\w+, )*{parameter}(, \w+)* : ", doc, re.M), parameter
    if name not in ("set_num_threads", "show_config") and not inspect.isclass(function):
        assert "Returns" in sections
    assert "Examples" in sections


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures(name: str) -> None:
    """As documented, and as `help` and editors show them (built-in functions included)."""
    signature = inspect.signature(getattr(boltzmax, name))
    assert plain(signature) == SIGNATURES[name]
    assert name in boltzmax.__all__


@pytest.mark.parametrize("name", SPECIAL_SIGNATURES)
def test_signatures_of_the_drop_ins(name: str) -> None:
    special = importlib.import_module("boltzmax.special")
    assert plain(inspect.signature(getattr(special, name))) == SPECIAL_SIGNATURES[name]
    scipy = pytest.importorskip("scipy.special")
    assert plain(inspect.signature(getattr(scipy, name))) == SPECIAL_SIGNATURES[name]


def plain(signature: inspect.Signature) -> str:
    """Without annotations."""
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def test_everything_public_is_listed() -> None:
    missing = set(SIGNATURES) - set(boltzmax.__all__)
    assert not missing
    assert all(hasattr(boltzmax, name) for name in boltzmax.__all__)
    assert sorted(set(boltzmax.__all__)) == sorted(boltzmax.__all__)


def fences(text: str) -> list[str]:
    found: list[str] = re.findall(r"^```(?:python|pycon)\n(.*?)^```", text, re.M | re.S)
    return found


WITH_EXAMPLES = [page for page in PAGES if fences(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_of_pages(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python of a page, run from top to bottom in one session."""
    blocks = fences(page.read_text(encoding="utf-8"))
    for name in ("sklearn", "scipy", "dask", "jax", "torch", "pandas", "polars", "xarray"):
        if any(re.search(rf"\b(import|from) [\w., ]*\b{name}\b", block) for block in blocks):
            pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    threads = boltzmax.get_num_threads()
    namespace: dict[str, Any] = {}
    try:
        for number, block in enumerate(blocks, 1):
            assert ">>>" in block, "examples have prompts"
            run_examples(block, f"{page.name}, block {number}", namespace)
    finally:
        boltzmax.set_num_threads(threads)


def test_readme_is_short_and_complete() -> None:
    """It is short, with the two commands, examples and plots of speed and accuracy."""
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert len(fences(text)) >= 2
    commands = (
        'pip install ".[demo]" && python -m boltzmax',
        'pip install ".[test]" && python -m pytest',
    )
    assert all(command in text for command in commands)
    assert re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text) == [
        "docs/_static/speed.png",
        "docs/_static/accuracy.png",
    ]


def test_the_citation_names_this_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for line in (f"version: {project['version']}", f"license: {project['license']}"):
        assert re.search(rf"^{re.escape(line)}$", citation, re.M)


def test_links_are_valid() -> None:
    """Relative links of the pages are files; gallery pages and pictures come from examples."""
    missing = []
    for page in [*PAGES, *ROOT.glob("*.md"), *ROOT.glob("cpp/*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" in target or target.startswith("mailto:"):
                continue
            path = (page.parent / target).resolve()
            if path.parent == DOCS / "examples" / "images":
                path = path.parents[1] / re.sub(r"sphx_glr_(\w+)_\d{3}\.png", r"\1", path.name)
            if path.parent == DOCS / "examples":
                name = "GALLERY_HEADER.rst" if path.stem == "index" else f"{path.stem}.py"
                path = DOCS / "gallery" / name
            if not path.exists():
                missing.append(f"{page.relative_to(ROOT)}: {target}")
    assert not missing


# ---- the pages of the API


sys.path.append(str(DOCS / "_ext"))
listings = importlib.import_module("listings")


def listed(page: str) -> list[str]:
    """The full names of the objects that an API page lists."""
    found, module, inside = [], "", False
    for line in page.splitlines():
        if match := re.fullmatch(r"\.\. currentmodule:: (\S+)", line):
            module = match[1]
        elif match := re.fullmatch(r"\.\. py:data:: (\S+)", line):
            found.append(f"{module}.{match[1]}")
        elif line == ".. autosummary::":
            inside = True
        elif line and not line.startswith(" "):
            inside = False
        elif inside and (match := re.fullmatch(r"   (\w+)", line)):
            found.append(f"{module}.{match[1]}")
    return found


def names_in_source(module: str) -> list[str]:
    """The ``__all__`` of a module that cannot be imported."""
    folder = ROOT.joinpath("python", *module.split("."))
    page = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    (found,) = (
        node.value
        for node in ast.parse(page.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    return list(ast.literal_eval(found))


def test_every_public_object_has_one_page() -> None:
    documented = [name for page in listings.pages(DOCS / "api").values() for name in listed(page)]
    assert len(documented) == len(set(documented)), "documented once"
    public = set()
    for name in MODULES:
        if is_absent(name):
            public |= {f"{name}.{n}" for n in names_in_source(name)}
            continue
        module = importlib.import_module(name)
        named = getattr(module, "__all__", None) or [
            n for n, v in vars(module).items() if getattr(v, "__module__", "") == name
        ]
        public |= {f"{name}.{n}" for n in named}
    assert set(documented) == public


def test_every_page_of_the_api_is_in_its_index() -> None:
    index = (DOCS / "api" / "index.md").read_text(encoding="utf-8")
    names = set(listings.pages(DOCS / "api"))
    assert names == set(re.findall(r"^\w+$", index, re.M))


# ---- measurements


@pytest.mark.parametrize(
    ("page", "name"),
    [("performance.md", "rows"), ("performance.md", "speed"), ("concepts/accuracy.md", "accuracy")],
)
def test_measured_tables_are_in_place(page: str, name: str) -> None:
    """They are where benchmarks/pages.py writes them, and contain a table or versions."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.findall(rf"<!-- {name}:begin -->\n(.*?)\n<!-- {name}:end -->", text, re.S)
    assert len(found) == 1
    assert boltzmax.__version__ in found[0]


def test_a_new_table_replaces_the_old_one(tmp_path: Path) -> None:
    pages = compiled.load("pages", ROOT / "benchmarks" / "pages.py")
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- speed:begin -->\nold\n<!-- speed:end -->\nbelow\n")
    pages.update(page, "speed", "new\nlines")
    expected = "above\n<!-- speed:begin -->\nnew\nlines\n<!-- speed:end -->\nbelow\n"
    assert page.read_text() == expected
    with pytest.raises(SystemExit, match="accuracy:begin"):
        pages.update(page, "accuracy", "")
    assert page.read_text() == expected
    for known in (pages.PERFORMANCE, pages.ACCURACY):
        assert known in PAGES


def test_pictures_show_what_was_measured() -> None:
    """The data of the plots has every operation, for boltzmax and NumPy's exp."""
    report = json.loads((DOCS / "_static" / "rows.json").read_text(encoding="utf-8"))
    curves = {(c["operation"], c["peer"]): c for c in report["curves"]}
    for operation in ("softmax", "log_softmax", "logsumexp", "cross_entropy", "row_stats"):
        for peer in ("boltzmax", "torch", "np.exp"):
            curve = curves[operation, peer]
            assert len(curve["n"]) == len(curve["least"]) > 100
            assert all(0 < a <= b for a, b in zip(curve["least"], curve["median"], strict=True))
    assert report["date"] in (DOCS / "performance.md").read_text(encoding="utf-8")
