"""Where public objects are found, and so what pickles, tracebacks and help say of them."""

from __future__ import annotations

from typing import Any


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
        if callable(public):
            public.__module__ = namespace["__name__"]
