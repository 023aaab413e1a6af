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


@contextmanager
def use_dot_products(use: bool) -> Iterator[None]:
    """Use the processor's dot products of bytes (VNNI, SDOT), or do without them, in a block.

    Quantised layers use them where there are any, beyond what an instruction set requires. Results
    have the same bits. The environment variable ``BOLTZMAX_DOT_PRODUCTS=0`` switches them off from
    the start.

    Parameters
    ----------
    use : bool
        Whether to use them, for the whole process.

    Examples
    --------
    >>> from boltzmax.testing import use_dot_products
    >>> with use_dot_products(False):
    ...     pass
    """
    before = _core.uses_dot_products()
    _core.use_dot_products(bool(use))
    try:
        yield
    finally:
        _core.use_dot_products(before)
