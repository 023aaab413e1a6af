"""What is written is true: examples run, signatures are as promised, docstrings are whole."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import inspect
import re
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import boltzmax

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"

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
PUBLIC = sorted(name for name in boltzmax.__all__ if callable(getattr(boltzmax, name)))


def documented() -> list[Any]:
    """Every public function, and the module pages themselves."""
    found: list[Any] = [pytest.param(boltzmax, id="boltzmax")]
    for module_name in ("boltzmax", "boltzmax.special", "boltzmax.testing", "boltzmax.sklearn"):
        if module_name == "boltzmax.sklearn" and importlib.util.find_spec("sklearn") is None:
            continue
        module = importlib.import_module(module_name)
        if module is not boltzmax:
            found.append(pytest.param(module, id=module_name))
        for name in getattr(module, "__all__", []):
            value = getattr(module, name)
            if callable(value):
                found.append(pytest.param(value, id=f"{module_name}.{name}"))
    return found


def run_examples(text: str, name: str, namespace: dict[str, Any]) -> int:
    """Run the examples of a text as doctest does; the number of them."""
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
    """NumPy style: a one-line summary, every parameter by name, what comes back, examples."""
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
    """As promised, and as `help` and editors show them (built-in functions included)."""
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


def test_readme_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python of the README, pasted from top to bottom into one session."""
    if not README.exists():
        pytest.fail("there is no README.md")
    text = README.read_text(encoding="utf-8")
    blocks = fences(text)
    assert blocks, "examples"
    monkeypatch.chdir(tmp_path)
    threads = boltzmax.get_num_threads()
    namespace: dict[str, Any] = {}
    try:
        for number, block in enumerate(blocks, 1):
            if ">>>" in block:
                run_examples(block, f"README.md, block {number}", namespace)
            else:
                exec(compile(block, f"README.md, block {number}", "exec"), namespace)
    finally:
        boltzmax.set_num_threads(threads)


def test_readme_links_lead_somewhere() -> None:
    """Relative links of the pages are files."""
    for page in [README, *ROOT.glob("*.md"), *ROOT.glob("cpp/*.md"), *ROOT.glob("benchmarks/*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target and not target.startswith("mailto:"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_readme_names_every_function() -> None:
    text = README.read_text(encoding="utf-8")
    for name in SIGNATURES:
        assert re.search(rf"\b{name}\b", text), name
