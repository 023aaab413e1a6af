"""Draw candidate classes: samplers for losses that look at some of very many classes.

- `base`: what all samplers share
- `batch`: the classes of a batch as each other's candidates
- `draws`: draws and expected counts when some classes are excluded
- `exclusion`: classes that are never drawn
- `fixed`: distributions that need no table: uniform and log-uniform
- `inclusion`: how likely a class is among n different ones
- `law`: distributions as draws need them
- `learned`: classes by what has been observed
- `quadratic`: classes by a quadratic kernel of features and weights
- `unigram`: classes by their counts
"""

from __future__ import annotations

from boltzmax._lib.public import show_in
from boltzmax.candidates.base import Sampler
from boltzmax.candidates.batch import InBatchSampler
from boltzmax.candidates.fixed import LogUniformSampler, UniformSampler
from boltzmax.candidates.learned import LearnedSampler
from boltzmax.candidates.quadratic import QuadraticKernelSampler
from boltzmax.candidates.unigram import UnigramSampler

__all__ = [
    "InBatchSampler",
    "LearnedSampler",
    "LogUniformSampler",
    "QuadraticKernelSampler",
    "Sampler",
    "UniformSampler",
    "UnigramSampler",
]

show_in(globals())
