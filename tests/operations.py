"""The operations on rows, as the compiled module has them from cpp/kernels/operations.hpp.

A test of what holds for any operation goes through these lists, so that a new one is tested as
soon as it is there.
"""

from __future__ import annotations

from boltzmax import _core

OPERATIONS = tuple(name for name, *_ in _core.operations)
REDUCTIONS = tuple(name for name, _, reduces, _ in _core.operations if reduces)
MAPS = tuple(name for name in OPERATIONS if name not in REDUCTIONS)
GRADIENTS = tuple(gradient for _, gradient, *_ in _core.operations if gradient is not None)
