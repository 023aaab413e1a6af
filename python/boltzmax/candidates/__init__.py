"""Draw candidate classes: samplers for losses that look at some of very many classes.

- `base`: what all samplers share
- `fixed`: distributions that need no table: uniform and log-uniform
- `unigram`: classes by their counts
"""

from __future__ import annotations

from boltzmax._lib.public import show_in
from boltzmax.candidates.base import Sampler
from boltzmax.candidates.fixed import LogUniformSampler, UniformSampler
from boltzmax.candidates.unigram import UnigramSampler

__all__ = [
    "LogUniformSampler",
    "Sampler",
    "UniformSampler",
    "UnigramSampler",
]

show_in(globals())
