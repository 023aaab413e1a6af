"""Draw from 5 * 10^7 classes by tables, and test how the draws are distributed.

    python benchmarks/many_candidates.py

takes a minute and 3 GB of memory, and needs SciPy.
"""

from __future__ import annotations

import numpy as np

from boltzmax.candidates import LearnedSampler, LogUniformSampler, UniformSampler, UnigramSampler
from many_draws import chi_square

CLASSES, DRAWS = 50_000_000, 50_000_000


def parts_and_bits(title: str, ids: np.ndarray, edges: np.ndarray, p: np.ndarray) -> None:
    """Test ranges of classes, and the low bits of ids where neighbours are about as likely."""
    chi_square(f"{title}, ranges", np.histogram(ids, edges)[0], p)
    for bits in (1, 8, 16):
        low = np.bincount(ids[ids >= 2**24] % 2**bits, minlength=2**bits)
        chi_square(f"{title}, low {bits} bits above 2^24", low, np.ones(2**bits))


def main() -> None:
    """Test all samplers that have no features."""
    edges = np.linspace(0, CLASSES, 4097).astype(np.int64)
    ids, _ = UniformSampler(CLASSES).sample(DRAWS, rng=1)
    parts_and_bits("uniform", ids, edges, np.diff(edges))
    ids, _ = LogUniformSampler(CLASSES).sample(DRAWS, rng=2)
    parts_and_bits("log-uniform", ids, edges, np.diff(np.log1p(edges)))
    few = np.bincount(ids[ids < 1000], minlength=1000)
    chi_square("log-uniform, first 1000", few, np.diff(np.log1p(np.arange(1001))))
    counts = (np.arange(CLASSES) % 2**16) % 5 + 1
    sampler = UnigramSampler(counts, power=1.0)
    ids, _ = sampler.sample(DRAWS, rng=3)
    weights = np.add.reduceat(counts, edges[:-1])
    chi_square("unigram, ranges", np.histogram(ids, edges)[0], weights)
    period = (np.arange(2**16) % 5 + 1) * (CLASSES // 2**16 + (np.arange(2**16) < CLASSES % 2**16))
    chi_square("unigram, low 16 bits", np.bincount(ids % 2**16, minlength=2**16), period)
    del sampler
    learned = LearnedSampler(CLASSES)
    learned.update(ids)
    learned.update(ids[: CLASSES // 4])
    drawn, _ = learned.sample(DRAWS, rng=4)
    weights = np.add.reduceat(learned.counts + 1, edges[:-1])
    chi_square("learned, ranges", np.histogram(drawn, edges)[0], weights)


if __name__ == "__main__":
    main()
