"""Make threadpoolctl see and limit our threads, without loading it.

threadpoolctl looks through the shared objects of the process, and at each with the controllers that
were registered with it.  Ours is registered as soon as both packages are there, whichever comes
first: at once, or by a finder that waits for this one name and leaves the finding to others.  So
nobody needs to call anything, and nobody who does without threadpoolctl pays for its import.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from boltzmax import _core

_NAME = "threadpoolctl"


def _register(threadpoolctl: ModuleType) -> None:
    """Tell threadpoolctl of our controller; releases before 3.2 know their own ones alone."""
    if not hasattr(threadpoolctl, "register"):
        return
    base: type = threadpoolctl.LibController

    class BoltzmaxController(base):
        """The pool of this package: one limit for the whole process."""

        user_api = "boltzmax"
        internal_api = "boltzmax"
        filename_prefixes = ("_core.",)
        check_symbols = ("boltzmax_get_num_threads", "boltzmax_set_num_threads")

        def get_num_threads(self) -> int:
            count: int = self.dynlib.boltzmax_get_num_threads()
            return count

        def set_num_threads(self, num_threads: int) -> None:
            self.dynlib.boltzmax_set_num_threads(num_threads)

        def get_version(self) -> str:
            return _core.version

    threadpoolctl.register(BoltzmaxController)


class _Waiting(MetaPathFinder):
    """Finds what the other finders find, and hears when it has been imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _NAME:
            return None
        others = [f for f in sys.meta_path if f is not self and hasattr(f, "find_spec")]
        found = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                if module.__name__ == _NAME:
                    _register(module)

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def install() -> None:
    """Register now, or once threadpoolctl is imported."""
    loaded = sys.modules.get(_NAME)
    if loaded is not None:
        _register(loaded)
    else:
        sys.meta_path.insert(0, _Waiting())
