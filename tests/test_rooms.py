"""The rooms of the C++: folders of a floor, whose files include only their own or lower ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from test_codebase import FLOORS, ROOT, includes, resolve, sources, where

# From the ground up; rooms on the same line do not include each other.  At the top of kernels/ are
# the headers that its callers also include (""), and the tables (".cpp").
ROOMS = {
    "cpp/kernels": (
        {""},
        {"isa"},
        {"math"},
        {"rows"},
        {"columns"},
        {"panels"},
        {"losses", "weighted", "layers", "variants", "sampling", "quantised"},
        {"operations"},
        {".cpp"},
    ),
    "cpp/core": (
        {"runtime"},
        {"rows", "weighted"},
        {"candidates", "losses", "sampling", "sets", "stats", "trees", "variants"},
        {"linear"},
        {"quantised"},
        {"api"},
    ),
}

pytestmark = pytest.mark.skipif(not (ROOT / "cpp").is_dir(), reason="the sources are not here")


def room_of(path: Path, floor: str) -> str:
    """The folder of a file on its floor; for a file at the top, its suffix, or "" for a header."""
    parts = path.relative_to(ROOT / floor).parts
    top = "" if path.suffix == ".hpp" else path.suffix
    return parts[0] if len(parts) > 1 else top


def included(source: Path) -> Iterator[tuple[int, Path]]:
    """Line numbers, and the project files that are included there."""
    for number, name, _ in includes(source):
        if target := resolve(name, source):
            yield number, target


@pytest.mark.parametrize("floor", ROOMS)
def test_includes_between_rooms_go_down(floor: str) -> None:
    heights = {room: height for height, rooms in enumerate(ROOMS[floor]) for room in rooms}
    assert {room_of(source, floor) for source in sources(floor)} == heights.keys()
    wrong = []
    for source in sources(floor):
        here = room_of(source, floor)
        for number, target in included(source):
            if not target.is_relative_to(ROOT / floor):
                continue
            there = room_of(target, floor)
            if here != there and heights[there] >= heights[here]:
                wrong.append(f"{where(source, number)} includes {target.relative_to(ROOT)}")
    assert not wrong, "\n".join(wrong)


def test_callers_of_kernels_include_only_top_level_headers() -> None:
    """The rooms are compiled once per instruction set."""
    kernels = ROOT / "cpp" / "kernels"
    for source in sources("cpp/core", "cpp/cuda", "python/bindings"):
        for number, target in included(source):
            if target.is_relative_to(kernels):
                assert room_of(target, "cpp/kernels") == "", where(source, number)


def test_includes_have_no_cycles() -> None:
    edges = {source: {target for _, target in included(source)} for source in sources(*FLOORS)}
    while leaves := [source for source, targets in edges.items() if not targets & edges.keys()]:
        for source in leaves:
            del edges[source]
    assert not edges, edges
