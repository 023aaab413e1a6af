"""Tensors for the tests of boltzmax.torch."""

from __future__ import annotations

from typing import Any

import pytest

torch: Any = pytest.importorskip("torch")

TARGET = torch.tensor([0, 4, -100, 2])


def scores(*shape: int, dtype: Any = torch.float64, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def leaf(*shape: int, **options: Any) -> Any:
    return scores(*shape, **options).requires_grad_()


WEIGHT = scores(5, seed=3).exp()
SOFT = scores(4, 5, seed=4).softmax(1)
