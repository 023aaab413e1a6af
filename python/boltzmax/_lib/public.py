"""The module name of public objects, as pickles, tracebacks and help show it."""

from __future__ import annotations

from typing import Any, get_type_hints


def show_in(namespace: dict[str, Any]) -> None:
    """Set ``__module__`` of everything in a module's ``__all__`` to that module.

    Modules below it may then move or be split without breaking users' pickles.

    Parameters
    ----------
    namespace : dict
        The public module's ``globals()``.
    """
    for name in namespace["__all__"]:
        public = namespace[name]
        if isinstance(public, type) and vars(public).get("__annotations__"):
            # Annotations name things in the defining module, where nothing would look them up now.
            public.__annotations__ = get_type_hints(public, include_extras=True)
        if callable(public):
            public.__module__ = namespace["__name__"]
