"""Switches for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from boltzmax import _core


@contextmanager
def use_isa(name: str) -> Iterator[None]:
    """Run the kernels of one instruction set, for the whole process, inside a ``with`` block.

    Parameters
    ----------
    name : str
        One of `boltzmax.available_isas`.

    Raises
    ------
    ValueError
        If `name` is unknown or not supported here.

    Examples
    --------
    >>> import boltzmax
    >>> from boltzmax.testing import use_isa
    >>> with use_isa("scalar"):
    ...     boltzmax.isa()
    'scalar'
    """
    before = _core.isa()
    _core.select_isa(name)
    try:
        yield
    finally:
        _core.select_isa(before)
