"""Build the wheel of boltzmax.cuda for another machine's Python, and collect what its tests need.

    python benchmarks/carried_wheels.py FOLDER --python 3.12

Needs nvcc 13, that Python (on the path or in pyenv) and a network; `on_a_device.py` installs the
folder where there is none of them. The wheel has machine code for the named architectures and
contains CUDA's runtime; PyTorch, cuBLAS and the driver are the other machine's. Compute-sanitizer
is collected too, in the version of nvcc. Prints the sizes, and which C libraries the modules need.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from device_parts import ROOT
from on_a_device import REQUIREMENTS

MOST = 60e6  # bytes: what is usually allowed to travel, less the sources


def find_python(version: str) -> str:
    """Return the interpreter of a version, from the path or from pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [f"python{version}", *map(str, sorted(pyenv.glob(f"{version}.*/bin/python")))]
    for candidate in candidates:
        found = shutil.which(candidate)
        code = [found or "", "-c", "import pip, sys; print(sys.executable)"]
        if found and subprocess.run(code, capture_output=True, check=False).returncode == 0:
            return found
    raise SystemExit(f"there is no Python {version} with pip here")


def nvcc_version() -> str:
    """Return nvcc's version, such as 13.0."""
    done = subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"release (\d+\.\d+)", done.stdout)
    if found is None:
        raise SystemExit("nvcc does not say its version")
    return found[1]


def build(python: str, folder: Path, options: argparse.Namespace) -> None:
    """Build our wheel into a folder."""
    settings = [f"cmake.define.BOLTZMAX_CUDA={options.cuda}", "cmake.define.BOLTZMAX_WERROR=ON"]
    if options.cuda == "ON":
        settings.append(f"cmake.define.CMAKE_CUDA_ARCHITECTURES={options.architectures}")
    if options.build:
        settings.append(f"build-dir={options.build.resolve()}")
    command = [python, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(folder)]
    subprocess.run([*command, *(f"-C{s}" for s in settings), str(ROOT)], check=True)


def collect(python: str, folder: Path, packages: Sequence[str]) -> None:
    """Download the wheels of packages, and of what they require."""
    command = [python, "-m", "pip", "download", "-q", "--only-binary=:all:", "--dest", str(folder)]
    subprocess.run([*command, *packages], check=True)


def libraries(wheel: Path) -> dict[str, str]:
    """Return the newest symbols of the C and C++ libraries that a wheel's modules use."""
    newest: dict[str, tuple[int, ...]] = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(".so"):
                for library, version in re.findall(rb"\b(GLIBC|GLIBCXX)_(\d+(?:\.\d+)+)\0",
                                                   archive.read(name)):  # fmt: skip
                    found = tuple(map(int, version.split(b".")))
                    newest[library.decode()] = max(found, newest.get(library.decode(), (0,)))
    return {library: ".".join(map(str, version)) for library, version in newest.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default="3.12", metavar="VERSION")
    parser.add_argument("--architectures", default="90", help="90: Hopper, and PTX for newer ones")
    parser.add_argument("--cuda", default="ON", choices=("ON", "EMULATED"), help="for a rehearsal")
    parser.add_argument("--build", type=Path, metavar="FOLDER", help="kept for the next time")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    python = find_python(options.python)
    for old in options.folder.glob("boltzmax-*.whl"):
        old.unlink()
    build(python, options.folder, options)
    collect(python, options.folder, REQUIREMENTS)
    if options.cuda == "ON":
        collect(python, options.folder, [f"nvidia-cuda-sanitizer-api=={nvcc_version()}.*"])
    wheels = sorted(options.folder.glob("*.whl"))
    for wheel in wheels:
        print(f"{wheel.stat().st_size / 1e6:7.2f} MB  {wheel.name}")
    total = sum(wheel.stat().st_size for wheel in wheels)
    print(f"{total / 1e6:7.2f} MB  in all{'' if total < MOST else ': TOO MUCH TO CARRY'}")
    own = next(options.folder.glob("boltzmax-*.whl"))
    print("it needs", ", ".join(f"{k} {v}" for k, v in sorted(libraries(own).items())))


if __name__ == "__main__":
    main()
