"""Compile consumers of the package's headers and .pxd as a user would."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest

GUIDE = Path(__file__).parent.parent / "docs" / "guides" / "compiled_code.md"


def compiler() -> str:
    found = shutil.which("cc")
    if found is None or sys.platform == "win32":
        pytest.skip("no C compiler on the path")
    return found


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def load(name: str, path: Path) -> ModuleType:
    """Import a compiled module from its file."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build_c(name: str, source: str, folder: Path, *flags: str) -> Path:
    """Compile a C99 extension module without warnings, and return its file."""
    (folder / f"{name}.c").write_text(source, encoding="utf-8")
    target = folder / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"
    shared = (
        ["-bundle", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared"]
    )
    strict = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror"] if "-w" not in flags else []
    python = f"-isystem{sysconfig.get_paths()['include']}"
    command = [compiler(), *shared, "-fPIC", "-O1", *strict, *flags, python, f"{name}.c"]
    run([*command, "-o", str(target)], folder)
    return target


def build_cython(name: str, source: str, folder: Path) -> ModuleType:
    """Compile a Cython module without telling it where the package is."""
    if importlib.util.find_spec("Cython") is None:
        pytest.skip("Cython is not installed")
    (folder / f"{name}.pyx").write_text(source, encoding="utf-8")
    run([sys.executable, "-m", "cython", "-3", f"{name}.pyx"], folder)
    generated = (folder / f"{name}.c").read_text(encoding="utf-8")
    return load(name, build_c(name, generated, folder, "-w"))


def guide_block(language: str, containing: str) -> str:
    """Return an example of the guide in some language."""
    blocks = re.findall(
        rf"^```{language}\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.M | re.S
    )
    (found,) = [str(block) for block in blocks if containing in block]
    return found
