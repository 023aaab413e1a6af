"""Where public objects are found, and so what pickles, tracebacks and help say of them."""

from __future__ import annotations

from typing import Any, get_type_hints


def show_in(namespace: dict[str, Any]) -> None:
    """Name a public module as the place of what its ``__all__`` lists.

    Modules below it may then move or be split, and the pickles that users keep do not notice.

    Parameters
    ----------
    namespace : dict
        The public module's ``globals()``.
    """
    for name in namespace["__all__"]:
        public = namespace[name]
        if isinstance(public, type) and vars(public).get("__annotations__"):
            # Names in the module that defines the class, which nobody will find any more.
            public.__annotations__ = get_type_hints(public, include_extras=True)
        if callable(public):
            public.__module__ = namespace["__name__"]
