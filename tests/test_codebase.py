"""Rules for the sources: floors, what kernels may use, symbols, versions, sizes."""

from __future__ import annotations

import ast
import inspect
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import boltzmax
from boltzmax.losses.registry import LOSSES

ROOT = Path(__file__).parent.parent
# A file includes only its own floor and lower ones.  Floors with the same number (core and cuda)
# may not include each other.
FLOORS = {
    "cpp/include": 0,
    "cpp/kernels": 1,
    "cpp/core": 2,
    "cpp/cuda": 2,
    "cpp/fuzz": 3,
    "python/bindings": 3,
}
SUFFIXES = {".h", ".hpp", ".c", ".cpp", ".cu", ".cuh", ".in"}
ISAS = ("scalar", "avx2", "avx512", "neon", "avx2_vnni", "avx512_vnni", "neon_dot")

pytestmark = pytest.mark.skipif(not (ROOT / "cpp").is_dir(), reason="the sources are not here")


def sources(*folders: str) -> list[Path]:
    return [p for f in folders for p in sorted((ROOT / f).rglob("*")) if p.suffix in SUFFIXES]


def floor_of(path: Path) -> tuple[str, int] | None:
    for folder, floor in FLOORS.items():
        if path.is_relative_to(ROOT / folder):
            return folder, floor
    return None


def include_directories() -> list[Path]:
    return [ROOT / "cpp" / "include", ROOT / "cpp", *(ROOT / f for f in FLOORS)]


def resolve(include: str, source: Path) -> Path | None:
    """The file of the project that an include line names, if it is one."""
    for folder in (source.parent, *include_directories()):
        candidate = (folder / include).resolve()
        if candidate.is_file() and candidate.is_relative_to(ROOT):
            return candidate
    return None


def includes(source: Path) -> Iterator[tuple[int, str, bool]]:
    """Line number, name, and whether it is in quotation marks."""
    for number, line in enumerate(source.read_text(encoding="utf-8").splitlines(), 1):
        match = re.match(r'\s*#\s*include\s*(["<])([^">]+)[">]', line)
        if match:
            yield number, match[2], match[1] == '"'


def where(source: Path, number: int) -> str:
    return f"{source.relative_to(ROOT)}:{number}"


def test_there_are_sources_on_every_floor() -> None:
    """Otherwise the checks below would be empty."""
    for folder in FLOORS:
        assert sources(folder), folder


def test_includes_go_down_or_stay() -> None:
    wrong = []
    for source in sources(*FLOORS):
        here = floor_of(source)
        assert here is not None
        for number, name, quoted in includes(source):
            target = resolve(name, source)
            if target is None:
                # Our headers are found: a quoted name that is not a file is a typo (generated
                # headers aside), or an external header, which belongs in angle brackets.
                assert not quoted, f"{where(source, number)}: no file {name!r}"
                continue
            there = floor_of(target)
            if there is None or there[0] == here[0]:
                continue
            if there[1] >= here[1]:
                wrong.append(f"{where(source, number)} ({here[0]}) includes {name} ({there[0]})")
    assert not wrong, "\n".join(wrong)


# Containers, threads, input and output, allocation: kernels are loops over the memory they are
# given.  Templates of std would leave weak symbols compiled for one instruction set.
FORBIDDEN_HEADERS = re.compile(
    r"^(Python\.h|numpy/.*|pybind11/.*|vector|string|string_view|map|unordered_map|set|deque|list|"
    r"array|span|tuple|optional|variant|functional|memory|memory_resource|algorithm|numeric|utility|"
    r"thread|mutex|atomic|condition_variable|future|semaphore|latch|barrier|shared_mutex|"
    r"iostream|ostream|istream|fstream|sstream|iterator|ranges|stdexcept|exception|cmath|complex)$"
)
FORBIDDEN_WORDS = re.compile(
    r"\b(new|throw|malloc|calloc|realloc|free|thread_local|static_assert\s*\(\s*false|"
    r"std::(?!size_t\b|ptrdiff_t\b|u?int(8|16|32|64|ptr)_t\b|uintptr_t\b|bit_cast\b|same_as\b|"
    r"is_same_v\b|is_[a-z_]+_v\b|convertible_to\b|floating_point\b|conditional_t\b)\w+)"
)


def without_comments_and_strings(text: str) -> str:
    """The code, with the same number of lines."""

    def blank(match: re.Match[str]) -> str:
        return "\n" * match[0].count("\n") + " "

    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', blank, text, flags=re.S)


def test_kernels_use_no_library() -> None:
    wrong = []
    for source in sources("cpp/kernels"):
        for number, name, _ in includes(source):
            if FORBIDDEN_HEADERS.match(name):
                wrong.append(f"{where(source, number)}: <{name}>")
        code = without_comments_and_strings(source.read_text(encoding="utf-8"))
        for number, line in enumerate(code.splitlines(), 1):
            if not line.lstrip().startswith("#"):
                wrong += [
                    f"{where(source, number)}: {m[0]}" for m in FORBIDDEN_WORDS.finditer(line)
                ]
    assert not wrong, "\n".join(wrong)


def test_lower_floors_do_not_use_python() -> None:
    wrong = [
        f"{where(source, number)}: {name}"
        for source in sources("cpp/include", "cpp/kernels", "cpp/core", "cpp/cuda")
        for number, name, _ in includes(source)
        if re.match(r"Python\.h|numpy/|pybind11/", name)
    ]
    assert not wrong, "\n".join(wrong)


def test_fuzzer_uses_only_the_public_header() -> None:
    """It is a caller like any other, and its reference shares no code with what it tests."""
    for source in sources("cpp/fuzz"):
        for number, name, _ in includes(source):
            target = resolve(name, source)
            folder = None if target is None else floor_of(target)
            assert folder is None or folder[0] in ("cpp/fuzz", "cpp/include"), where(source, number)


# The Python packages, from the ground up.  A module imports from its own package or from lower
# ones; packages on the same floor do not import each other.
PACKAGE = ROOT / "python" / "boltzmax"
PYTHON_FLOORS = (
    {"_core", "_cuda", "cython_boltzmax"},
    {"_lib", "testing"},
    {"arrays"},
    {"variants", "sampling", "candidates"},
    {"losses", "ood", "priors", "screens", "special"},
    {"linear", "margin"},
    {"adaptive", "trees"},
    {"sklearn", "cuda", "sparse", "jax", "tensorflow", "calibration", "conformal", "selective"},
    {"report", "dask", "keras", "mpi", "torch"},
    {"cli"},
    {"", "__main__", "_moved"},  # the package itself, and modules that nothing imports
)
HEIGHTS = {name: height for height, names in enumerate(PYTHON_FLOORS) for name in names}


def module_name(path: Path) -> str:
    """The module of a file, without ``boltzmax.``; empty for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def python_modules() -> dict[str, Path]:
    return {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Lines and modules of the package that a file imports, anywhere in the file."""
    known = {*python_modules(), *PYTHON_FLOORS[0]}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{where(path, node.lineno)}: a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = whole.removeprefix("boltzmax.") in known
                names.append(whole if is_module else str(node.module))
        for name in names:
            if name.partition(".")[0] == "boltzmax":
                yield node.lineno, name.removeprefix("boltzmax").lstrip(".")


def test_every_module_of_python_has_a_floor() -> None:
    rooms = {name.partition(".")[0] for name in python_modules()}
    assert rooms <= HEIGHTS.keys(), rooms - HEIGHTS.keys()
    assert HEIGHTS.keys() - rooms == PYTHON_FLOORS[0]


def test_imports_go_down_or_stay() -> None:
    """This includes imports in functions and for typing; nothing imports the package itself."""
    wrong = []
    for name, path in python_modules().items():
        here = name.partition(".")[0]
        for number, target in imports(path):
            there = target.partition(".")[0]
            if here != there and HEIGHTS[there] >= HEIGHTS[here]:
                wrong.append(f"{where(path, number)} imports boltzmax.{target}")
    assert not wrong, "\n".join(wrong)


def test_imports_have_no_cycles() -> None:
    known = python_modules()
    edges = {name: {t for _, t in imports(path) if t in known} for name, path in known.items()}
    while leaves := [name for name, targets in edges.items() if not targets & edges.keys()]:
        for name in leaves:
            del edges[name]
    assert not edges, edges


def test_package_docstrings_list_their_modules() -> None:
    for room in (
        *("_lib", "arrays", "variants", "sampling", "losses", "linear", "margin", "trees"),
        *("adaptive", "calibration", "candidates", "conformal", "screens", "selective", "report"),
        *("dask", "jax", "keras", "mpi", "sparse", "torch"),
    ):
        page = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text("utf-8")))
        listed = re.findall(r"^- `(\w+)`: ", str(page), re.M)
        found = {p.stem for p in (PACKAGE / room).glob("*.py")} - {"__init__"}
        if room == "losses":  # the registry lists the modules of the losses
            found -= {Path(str(inspect.getsourcefile(v.function))).stem for v in LOSSES.values()}
        assert listed == sorted(found), room


def test_compiled_code_imports_modules_that_exist() -> None:
    """They are imported by name on first use: the only dependency that goes up."""
    found = [
        name
        for source in sources("python/bindings")
        for name in re.findall(r'Import\w*\("([^"]+)"', source.read_text(encoding="utf-8"))
        if name.startswith("boltzmax")
    ]
    assert sorted(found) == ["boltzmax.arrays.general", "boltzmax.linear.scores"]
    assert all(name.removeprefix("boltzmax.") in python_modules() for name in found)


def test_public_headers_are_c() -> None:
    """They include only C headers, so that they can be used from anywhere."""
    for source in sources("cpp/include"):
        for number, name, quoted in includes(source):
            assert quoted or name.endswith(".h"), f"{where(source, number)}: <{name}> is not C"


# ---- symbols


@pytest.fixture(scope="module")
def isa_objects(request: pytest.FixtureRequest) -> list[Path]:
    """The newest object file of each kernel family and instruction set."""
    folder = request.config.getoption("--objects")
    newest: dict[str, Path] = {}
    pattern = re.compile(rf"(kernels_(?:{'|'.join(ISAS)}))\.dir/.*/(\w+)\.cpp\.(?:o|obj)$")
    for path in (folder or ROOT / "build").rglob("*"):
        if path.is_relative_to(ROOT / "build" / "fuzz"):
            continue
        if match := pattern.search(path.as_posix()):
            name = f"{match[1]}/{match[2]}"
            if name not in newest or path.stat().st_mtime > newest[name].stat().st_mtime:
                newest[name] = path
    if folder is not None:
        assert newest, f"no objects under {folder}"
    elif not newest:
        pytest.skip("no objects under build/ (an editable install with a build-dir leaves them)")
    return list(newest.values())


def symbols_of(path: Path, which: str) -> list[tuple[str, str]]:
    """Names and kinds of symbols, from the program in the environment variable NM."""
    nm = shutil.which(os.environ.get("NM", "nm"))
    if nm is None:
        pytest.skip("nm is not installed")
    command = [nm, which, "--format=posix", str(path)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [(fields[0], fields[1]) for fields in map(str.split, listing.splitlines())]


def test_one_global_symbol_and_no_weak_one_per_isa_object(isa_objects: list[Path]) -> None:
    """The linker may keep a weak function compiled with AVX-512 for all callers."""
    for path in isa_objects:
        symbols = symbols_of(path, "--defined-only")
        weak = [name for name, kind in symbols if kind in "wWvVuiC"]
        external = [name for name, kind in symbols if kind.isupper() and name not in weak]
        # (Symbols like DW.ref.__gxx_personality_v0 would be weak data for exception handling.)
        assert not weak, f"{path.name}: {weak}"
        assert len(external) == 1, f"{path.name}: {external}"


def test_isa_objects_need_nothing_from_the_standard_library(isa_objects: list[Path]) -> None:
    for path in isa_objects:
        names = {name for name, _ in symbols_of(path, "--undefined-only")}
        allowed = {"memcpy", "memset", "memmove", "_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail"}
        allowed |= {"log", "log1p", "fma", "sqrt", "sqrtf"}  # of libm, which dispatches at run time
        isa = path.as_posix().partition("kernels_")[2].partition(".dir")[0]
        tables = re.compile(rf"_ZN8boltzmax{len(isa)}{isa}\d+k\w+E$")  # of its other families
        names -= {n for n in names if tables.match(n)}
        assert not {n for n in names - allowed if not n.startswith("__asan") and "ubsan" not in n}


# ---- the rest


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    if "version" in project:
        assert boltzmax.__version__ == project["version"]
    else:
        assert "version" in project["dynamic"]
    cmake = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    header = (ROOT / "cpp/include/boltzmax/version.h").read_text(encoding="utf-8")
    declared = re.search(r"^project\(boltzmax VERSION ([\d.]+)", cmake, re.M)
    assert declared is not None
    assert declared[1] == project["version"]
    assert re.findall(r'VERSION_STRING "([^"]+)"', header) == [project["version"]]
    base = re.match(r"\d+\.\d+\.\d+", boltzmax.__version__)
    assert base, "three numbers"
    headings = re.findall(r"^## \[?v?([^\]\s]+)", changelog, re.M)
    assert headings[0].lower() == "unreleased"
    assert base[0] in headings or len(headings) == 1, "the changelog has the version"


def text_files() -> Iterator[Path]:
    """The files of the project, without built or downloaded ones."""
    skipped = {"build", "dist", "node_modules", "__pycache__"}
    kinds = {*SUFFIXES, ".py", ".pyi", ".md", ".toml", ".txt", ".cmake", ".yml", ".yaml", ".sh"}
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        hidden = any(p.startswith(".") and p != ".ci" for p in parts)
        if path.is_file() and path.suffix in kinds and not hidden and not skipped & set(parts):
            yield path


def test_there_are_no_todo_comments() -> None:
    marks = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK:")))
    found = [
        where(path, number)
        for path in text_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if marks.search(line)
    ]
    assert not found, "\n".join(found)


def test_sources_are_short() -> None:
    """At most 400 lines each; docstrings do not count, and the list of a module's signatures."""
    code = {*SUFFIXES, ".py"}
    sizes = {}
    for path in text_files():
        if path.suffix not in code:
            continue
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".py":
            text = re.sub(r'(?ms)^ *r?""".*?"""$', "", text)
        sizes[str(path.relative_to(ROOT))] = len(text.splitlines())
    long = {name: lines for name, lines in sizes.items() if lines > 400}
    assert not long, long


def test_text_is_tidy() -> None:
    """UTF-8, LF, no tabs outside makefiles, no trailing blanks, a newline at the end."""
    for path in text_files():
        raw = path.read_bytes()
        text = raw.decode("utf-8")
        name = path.relative_to(ROOT)
        assert b"\r" not in raw, name
        assert "\t" not in text, name
        assert raw == b"" or raw.endswith(b"\n"), name
        lines = text.splitlines()
        if path.suffix != ".md":
            assert not [i for i, line in enumerate(lines, 1) if line != line.rstrip()], name


def test_build_downloads_nothing_and_lists_its_files() -> None:
    cmake = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    code = re.sub(r"#[^\n]*", "", cmake)
    for word in ("FetchContent", "ExternalProject", "file(DOWNLOAD", "GLOB", "-march=native"):
        assert word not in code, word
