"""Make threadpoolctl see and limit our threads, without loading it.

threadpoolctl matches the shared objects of the process against its registered controllers.  Ours is
registered as soon as both packages are loaded, whichever comes first: at once, or by a meta path
finder that watches for this one name and delegates to the other finders.  So users need not call
anything, and those without threadpoolctl do not pay for its import.
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
_MARK = "_knows_boltzmax"  # registers the controller once, however often we are imported


class _Pool:
    """The interface of a threadpoolctl controller; ours is one limit for the whole process."""

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
    """Register our controller with threadpoolctl, which supports that from release 3.2 on."""
    if hasattr(threadpoolctl, "register") and not hasattr(threadpoolctl, _MARK):
        setattr(threadpoolctl, _MARK, True)
        bases = (_Pool, threadpoolctl.LibController)
        threadpoolctl.register(type("BoltzmaxController", bases, {}))


class _ImportHook:
    """A finder that lets the others find threadpoolctl, and registers us after its import.

    It does not derive from `importlib.abc.MetaPathFinder`, whose module takes milliseconds to load.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _NAME or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)  # or find_spec would recurse
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            sys.meta_path.insert(0, self)
        loader: Any = None if spec is None else spec.loader
        with contextlib.suppress(AttributeError, TypeError):  # from unusual loaders
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
        # By name, since a reloaded package has a new class.
        ours = (_ImportHook.__module__, _ImportHook.__qualname__)
        kinds = ((type(f).__module__, type(f).__qualname__) for f in sys.meta_path)
        if ours not in kinds:
            sys.meta_path.insert(0, _ImportHook())
