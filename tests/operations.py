"""The operations on rows, as the compiled module lists them from cpp/kernels/operations.hpp.

Tests of what holds for any operation go through these lists, so that a new one is tested as soon as
it exists.
"""

from __future__ import annotations

from boltzmax import _core

OPERATIONS = tuple(name for name, *_ in _core.operations)
REDUCTIONS = tuple(name for name, _, reduces, _ in _core.operations if reduces)
MAPS = tuple(name for name in OPERATIONS if name not in REDUCTIONS)
GRADIENTS = tuple(gradient for _, gradient, *_ in _core.operations if gradient is not None)
