"""The public API as text; run as a script, this writes tests/data/public_api.txt."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

LISTING = Path(__file__).parent / "data" / "public_api.txt"
MODULES = (
    *("boltzmax", "boltzmax.special", "boltzmax.sklearn"),
    *("boltzmax.cuda", "boltzmax.margin", "boltzmax.sampling", "boltzmax.testing"),
    *("boltzmax.calibration", "boltzmax.conformal", "boltzmax.selective"),
    *("boltzmax.ood", "boltzmax.priors", "boltzmax.candidates", "boltzmax.dask", "boltzmax.mpi"),
    *("boltzmax.sparse", "boltzmax.torch"),
)


# Modules of which each needs another library.
NEEDS = {
    "boltzmax.sklearn": "sklearn",
    "boltzmax.dask": "dask.array",
    "boltzmax.mpi": "mpi4py.MPI",
    "boltzmax.sparse": "scipy",
    "boltzmax.torch": "torch",
    "boltzmax.jax": "jax",
}


def is_here(module: str) -> bool:
    """Whether the library that a module needs is here, and loads."""
    needed = NEEDS.get(module)
    if needed is None:
        return True
    try:
        if needed == "mpi4py.MPI":  # which would start MPI in this process otherwise
            importlib.import_module("mpi4py").rc.initialize = False
        importlib.import_module(needed)
    except (ImportError, RuntimeError):
        return False
    return True


def described(thing: Any) -> str:
    """The signature of a callable, the type of a property or value."""
    if not callable(thing):
        return f": {type(thing).__name__}"
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(thing)))


def members(thing: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties of a class that the package defines."""
    ours = {n: v for c in thing.__mro__[::-1] if c.__module__.startswith("boltzmax")
            for n, v in vars(c).items()}  # fmt: skip
    for name in sorted(ours):
        # scikit-learn adds methods (set_fit_request) to the classes.
        if not re.match(r"_|set_\w+_request$", name):
            value = getattr(thing, name)
            if callable(value) or isinstance(value, property):
                yield name, value


def names(module: ModuleType) -> list[str]:
    """The names in ``__all__``, or without it, those that the module defines."""
    own = [n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__]
    return sorted(getattr(module, "__all__", [n for n in own if not n.startswith("_")]))


def entries(module_name: str) -> Iterator[str]:
    """A line for each public object of a module, and for each member of a class."""
    module = importlib.import_module(module_name)
    yield f"# {module_name}"
    for name in names(module):
        thing = getattr(module, name)
        yield f"{name}{described(thing)}" + (f"  [{thing.__module__}]" if callable(thing) else "")
        for member, value in members(thing) if isinstance(thing, type) else ():
            yield f"    .{member}{described(value)}"


def listing(module_name: str) -> str:
    return "\n".join(entries(module_name)) + "\n"


def recorded() -> dict[str, str]:
    """The recorded text of each module."""
    parts = LISTING.read_text(encoding="utf-8").split("# ")[1:]
    return {part.partition("\n")[0]: f"# {part}" for part in parts}


if __name__ == "__main__":
    LISTING.write_text("".join(map(listing, MODULES)), encoding="utf-8", newline="\n")
