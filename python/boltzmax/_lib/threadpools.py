"""Make threadpoolctl see and limit our threads, without loading it.

threadpoolctl looks through the shared objects of the process, and at each with the controllers that
were registered with it.  Ours is registered as soon as both packages are there, whichever comes
first: at once, or by a finder that waits for this one name and leaves the finding to others.  So
nobody needs to call anything, and nobody who does without threadpoolctl pays for its import.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from boltzmax import _core

_NAME = "threadpoolctl"
_MARK = "_knows_boltzmax"  # so that it is told once, however often we are imported


class _Pool:
    """What a controller of threadpoolctl does; ours is one limit for the whole process."""

    user_api = "boltzmax"
    internal_api = "boltzmax"
    filename_prefixes = ("_core.",)
    check_symbols = ("boltzmax_get_num_threads", "boltzmax_set_num_threads")
    dynlib: Any

    def get_num_threads(self) -> int:
        count: int = self.dynlib.boltzmax_get_num_threads()
        return count

    def set_num_threads(self, num_threads: int) -> None:
        self.dynlib.boltzmax_set_num_threads(num_threads)

    def get_version(self) -> str:
        return _core.version


def _register(threadpoolctl: ModuleType) -> None:
    """Tell threadpoolctl of our controller; releases before 3.2 know their own ones alone."""
    if hasattr(threadpoolctl, "register") and not hasattr(threadpoolctl, _MARK):
        setattr(threadpoolctl, _MARK, True)
        bases = (_Pool, threadpoolctl.LibController)
        threadpoolctl.register(type("BoltzmaxController", bases, {}))


class _Waiting:
    """Lets the other finders find threadpoolctl, and hears when it has been imported.

    It is no subclass of `importlib.abc.MetaPathFinder`, whose module takes milliseconds to import.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _NAME or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)  # or it would be asked again
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            sys.meta_path.insert(0, self)
        loader: Any = None if spec is None else spec.loader
        with contextlib.suppress(AttributeError, TypeError):  # of loaders of another kind
            execute = loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                if module.__name__ == _NAME:
                    _register(module)

            loader.exec_module = execute_and_register
        return spec


def install() -> None:
    """Register now, or once threadpoolctl is imported."""
    loaded = sys.modules.get(_NAME)
    if loaded is not None:
        _register(loaded)
    else:
        ours = (_Waiting.__module__, _Waiting.__qualname__)  # of a package reloaded, another class
        kinds = ((type(f).__module__, type(f).__qualname__) for f in sys.meta_path)
        if ours not in kinds:
            sys.meta_path.insert(0, _Waiting())
