"""Programs without Python, and how builds find the package: CMake and pkg-config.

The library takes minutes to compile, so `.ci/doors` builds it and passes --library-prefix.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import boltzmax
import boltzmax.testing
import compiled

PROGRAM = """
#include <boltzmax/boltzmax.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char** argv) {
  const boltzmax_api* bm = boltzmax_get_api(BOLTZMAX_ABI_VERSION);
  float x[10];
  if (boltzmax_get_api(BOLTZMAX_ABI_VERSION + 1) != NULL) return 3;
  if (!boltzmax_fits(bm)) return 2;
  for (int i = 0; i < 10; ++i) x[i] = (float)atof(argv[1 + i % (argc - 1)]) * (float)(i + 1);
  if (bm->softmax_f32(x, 2, 5, x) != BOLTZMAX_OK) return 1;
  printf("%s %s %d", bm->version, bm->isa(), bm->get_num_threads());
  for (int i = 0; i < 10; ++i) printf(" %a", (double)x[i]);
  return 0;
}
"""
CMAKE = """
cmake_minimum_required(VERSION 3.26)
project(consumer LANGUAGES {language})
find_package(boltzmax {version} REQUIRED)
add_executable(program program.c)
target_link_libraries(program PRIVATE boltzmax::{target})
"""


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> Path:
    given = request.config.getoption("--library-prefix")
    if given is None:
        pytest.skip("no --library-prefix: .ci/doors builds the library without Python")
    return Path(given).resolve()


def needs(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def library_folder(prefix: Path) -> Path:
    """The library folder, whose name differs between systems: lib, lib64."""
    (found,) = (folder.parent for folder in prefix.glob("lib*/pkgconfig"))
    return found


def write(folder: Path, target: str, source: str = PROGRAM, language: str = "C") -> None:
    version = ".".join(boltzmax.__version__.split(".")[:2])
    cmake = CMAKE.format(language=language, version=version, target=target)
    (folder / "CMakeLists.txt").write_text(cmake, encoding="utf-8")
    (folder / "program.c").write_text(source, encoding="utf-8")


def check(program: Path, folder: Path, isa: str = "scalar") -> None:
    """The program runs, obeys the environment, and gives the same bits as Python."""
    environment = os.environ | {"BOLTZMAX_ISA": isa, "BOLTZMAX_NUM_THREADS": "3"}
    libraries = {"LD_LIBRARY_PATH": str(library_folder(folder))}
    done = subprocess.run(
        [program, "0.3", "-0.7"],
        env=environment | libraries,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    version, used, threads, *numbers = done.stdout.split()
    assert (version, used, threads) == (boltzmax.__version__, isa, "3")
    x = np.where(np.arange(10) % 2, np.float32(-0.7), np.float32(0.3)) * np.arange(
        1, 11, dtype=np.float32
    )
    with boltzmax.testing.use_isa(isa):
        expected = boltzmax.softmax(x.reshape(2, 5)).ravel()
    assert [np.float32(float.fromhex(n)) for n in numbers] == expected.tolist()
    environment["BOLTZMAX_ISA"] = "abacus"
    refused = subprocess.run([program, "1"], env=environment | libraries, check=False)
    assert refused.returncode == 2


def test_find_package(prefix: Path, tmp_path: Path) -> None:
    cmake = needs("cmake")
    compiled.compiler()
    write(tmp_path, "boltzmax")
    compiled.run([cmake, "-S", ".", "-B", "build", f"-DCMAKE_PREFIX_PATH={prefix}"], tmp_path)
    compiled.run([cmake, "--build", "build"], tmp_path)
    check(tmp_path / "build" / "program", prefix)


def test_pkg_config(prefix: Path, tmp_path: Path) -> None:
    pkg_config = needs("pkg-config")
    (tmp_path / "program.c").write_text(PROGRAM, encoding="utf-8")
    os_path = str(library_folder(prefix) / "pkgconfig")
    command = ["env", f"PKG_CONFIG_PATH={os_path}", pkg_config, "--cflags", "--libs", "boltzmax"]
    flags = compiled.run(command, tmp_path).split()
    strict = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror"]
    compiled.run([compiled.compiler(), *strict, "program.c", *flags, "-o", "program"], tmp_path)
    check(tmp_path / "program", prefix)


def test_guide_program(prefix: Path, tmp_path: Path) -> None:
    cmake = needs("cmake")
    compiled.compiler()
    write(tmp_path, "boltzmax", compiled.guide_block("c", "boltzmax_get_api"))
    compiled.run([cmake, "-S", ".", "-B", "build", f"-DCMAKE_PREFIX_PATH={prefix}"], tmp_path)
    compiled.run([cmake, "--build", "build"], tmp_path)
    environment = os.environ | {"LD_LIBRARY_PATH": str(library_folder(prefix))}
    assert subprocess.run([tmp_path / "build" / "program"], env=environment).returncode == 0


def test_library_exports_one_function(prefix: Path, tmp_path: Path) -> None:
    nm = needs("nm")
    library = library_folder(prefix) / "libboltzmax.so"
    if not library.exists():
        pytest.skip("the library is static, or of another name here")
    listing = compiled.run([nm, "-D", "--defined-only", str(library)], tmp_path)
    names = [line.split()[-1] for line in listing.splitlines()]
    assert [name for name in names if "boltzmax" in name] == ["boltzmax_get_api"]


# ---- build support in the Python package


def test_the_package_is_found_by_cmake(tmp_path: Path) -> None:
    """Headers only: there is nothing to link with."""
    cmake = needs("cmake")
    compiled.compiler()
    source = "#include <boltzmax/boltzmax.h>\nint main(void) { return BOLTZMAX_OK; }\n"
    write(tmp_path, "headers", source)
    where = f"-Dboltzmax_DIR={boltzmax.get_cmake_dir()}"
    compiled.run([cmake, "-S", ".", "-B", "build", where], tmp_path)
    compiled.run([cmake, "--build", "build"], tmp_path)
    assert subprocess.run([tmp_path / "build" / "program"]).returncode == 0


def test_the_package_is_found_by_pkg_config(tmp_path: Path) -> None:
    pkg_config = needs("pkg-config")
    folder = Path(boltzmax.get_cmake_dir()).parent / "pkgconfig"
    command = ["env", f"PKG_CONFIG_PATH={folder}", pkg_config, "--cflags", "boltzmax"]
    flag = compiled.run(command, tmp_path).strip()
    assert Path(flag.removeprefix("-I")).resolve() == Path(boltzmax.get_include()).resolve()
    command[-2] = "--modversion"
    assert compiled.run(command, tmp_path).strip() == boltzmax.__version__
