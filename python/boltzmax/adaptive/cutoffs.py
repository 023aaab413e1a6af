r"""Cutoffs of an adaptive softmax: the sizes of its clusters that make a pass cheapest.

The cost model is that of Grave, Joulin, Cissé, Grangier & Jégou, "Efficient softmax approximation
for GPUs", ICML 2017, section 4.2: the product of B vectors with k rows takes

.. math:: g(k, B) = c + \lambda k \max(B, B_0),

where :math:`c` is what a call takes before it multiplies, :math:`\lambda` the time of one logit,
and :math:`B_0` the number of vectors below which fewer vectors save nothing. (The paper's threshold
is on the product k B, as a GPU is idle below it; a CPU is limited by reading the weights, which all
vectors share, so it is on B.)

As in the paper, :math:`\lambda` is the same in all clusters, although the vectors of tails are
shorter. With the true times the cheapest head would have a few hundred of 100,000 classes: nearly
all of the time that short vectors save would be spent on giving still more classes short vectors.
This way they only make tails cheaper than planned, and frequent classes keep whole vectors.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import as_integer, refuse_masked
from boltzmax._lib.numbers import per_class

Array = NDArray[Any]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]


class Costs(NamedTuple):
    """The constants of the model, in nanoseconds.

    Measured for float32 with OpenBLAS and AVX-512, one thread: products of 512 vectors of length
    256 with 1,000 to 4,000 rows, and of 10 to 97 vectors with 9,000 to 90,000 rows. Only their
    ratios matter, and those change little from machine to machine.
    """

    call: float = 20_000.0
    multiplication: float = 0.02
    logit: float = 0.5  # to write, read and exponentiate it
    least_rows: float = 16.0

    def of(self, size: Any, rows: Any, n_features: int) -> Any:
        """Return g(size, rows) for vectors of length `n_features`."""
        each = self.multiplication * n_features + self.logit
        return self.call + size * each * np.maximum(rows, self.least_rows)


COSTS = Costs()
ROWS = 512  # rows of a batch
MOST_TAILS, LEAST_WIDTH = 4, 8  # of tails, and of their vectors; the paper uses up to five clusters
# Candidates of the first round of the search, and steps to each side in later ones.
_GRID, _SIDE = 256, 24
_GREATEST_LOG = 700.0  # of a power of div_value: exp(709) is the greatest number


def widths_of(n_tails: int, n_features: int, div_value: float) -> tuple[int, ...]:
    """Return the lengths of the vectors of tails 1, 2, ...: D / div_value^i, at least 1."""
    log = math.log(div_value)
    return tuple(
        max(1, int(n_features // div_value**i)) if i * log < _GREATEST_LOG else 1
        for i in range(1, n_tails + 1)
    )


def tails_allowed(n_features: int, div_value: float) -> int:
    """Return how many tails there may be: one, or more if their vectors are not too short."""
    widths = widths_of(MOST_TAILS, n_features, div_value)
    return max(1, sum(width >= LEAST_WIDTH for width in widths))


def read_counts(counts: ArrayLike, n_classes: int) -> Doubles:
    """Return how often each class occurs: finite, not negative, and not all 0."""
    numbers = per_class(counts, n_classes, "counts")
    bad = ~((numbers >= 0) & (numbers < np.inf))
    if bad.any():
        at = int(bad.argmax())
        raise ValueError(
            f"counts must be finite and not negative, got {numbers[at]:g} for class {at}"
        )
    if not numbers.any():
        raise ValueError("counts are 0 for every class")
    return numbers


def read_cutoffs(cutoffs: ArrayLike, n_classes: int) -> tuple[int, ...]:
    """Return cutoffs: increasing numbers of classes, from 1 to less than all."""
    refuse_masked(cutoffs, "cutoffs")
    try:
        values = list(cutoffs)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"cutoffs must be a sequence of integers, got {cutoffs!r}") from None
    numbers = tuple(as_integer(value, "cutoffs") for value in values)
    for i, (low, high) in enumerate(zip((0, *numbers), numbers, strict=False)):
        if not low < high < n_classes:
            raise ValueError(
                f"cutoffs must increase, from 1 to at most {n_classes - 1} of {n_classes} classes, "
                f"got {high} at position {i} of {numbers}"
            )
    return numbers


def cost_of(
    cutoffs: tuple[int, ...],
    counts: ArrayLike,
    n_features: int,
    *,
    rows: int = ROWS,
    costs: Costs = COSTS,
) -> float:
    """Return the modelled time of one pass, in nanoseconds; the most frequent class comes first."""
    model = _Model(_shares(counts), n_features, rows, costs)
    bounds = (*cutoffs, model.n_classes)
    total = model.head(bounds[0], len(cutoffs))
    for begin, end in itertools.pairwise(bounds):
        total += model.tail(begin, end)
    return float(total)


def best_cutoffs(
    counts: ArrayLike,
    n_features: int,
    *,
    rows: int = ROWS,
    most_tails: int = MOST_TAILS,
    costs: Costs = COSTS,
) -> tuple[int, ...]:
    """Return the cutoffs of the least cost, by dynamic programming over candidates.

    Parameters
    ----------
    counts : array_like, shape (V,)
        How often each class occurs, the most frequent class first.
    n_features : int
        The length of the hidden vectors.
    rows : int
        The rows of a batch.
    most_tails : int
        The number of tails is from 0 to this.
    costs : Costs
        The constants of the model.

    Notes
    -----
    The first candidates are spaced geometrically. Rounds of finer ones around the best so far
    follow, until the numbers next to it have been among them.
    """
    model = _Model(_shares(counts), n_features, rows, costs)
    n = model.n_classes
    best: tuple[float, tuple[int, ...]] = (float(model.head(n, 0)), ())
    coarse = np.unique(np.geomspace(1, max(n - 1, 1), _GRID).astype(np.int64))
    for count in range(1, min(most_tails, n - 1) + 1):
        found = _search(model, coarse, count)
        span = n
        while span > 1:
            span = max(1, span // 8)
            near = np.arange(-_SIDE, _SIDE + 1) * span
            finer = np.unique(np.add.outer(found[1], near))
            found = min(found, _search(model, finer[(finer >= 1) & (finer < n)], count))
        best = min(best, found)
    return best[1]


def _shares(counts: ArrayLike) -> Doubles:
    """Return the share of the first k classes, for k from 0 to all."""
    numbers = np.asarray(counts, np.float64)
    total = np.concatenate([[0.0], np.cumsum(numbers / numbers.max())])  # huge ones stay finite
    return np.asarray(total / total[-1])


class _Model(NamedTuple):
    """The expected costs of the head and the tails."""

    shares: Doubles
    n_features: int
    rows: int
    costs: Costs

    @property
    def n_classes(self) -> int:
        return len(self.shares) - 1

    def head(self, size: Any, n_tails: int) -> Any:
        """Return the cost of a head with `size` classes and a unit for each tail."""
        return self.costs.of(size + n_tails, self.rows, self.n_features)

    def tail(self, begin: Any, end: Any) -> Any:
        """Return the cost of a tail with the classes from `begin` to `end`."""
        rows = self.rows * (self.shares[end] - self.shares[begin])
        return self.costs.of(end - begin, rows, self.n_features)


def _search(model: _Model, candidates: Ints, n_tails: int) -> tuple[float, tuple[int, ...]]:
    """Return the least cost with this number of tails, and its cutoffs among the candidates."""
    # cost[j]: of the tails from i on, of which tail i begins at candidate j.
    cost = model.tail(candidates, model.n_classes)
    choices: list[Ints] = []
    begin, end = candidates[:, None], candidates[None, :]
    between = np.where(begin < end, model.tail(begin, end), np.inf)
    for _ in range(n_tails - 1):
        both = between + cost[None, :]
        choices.append(both.argmin(axis=1))
        cost = both.min(axis=1)
    cost = cost + model.head(candidates, n_tails)
    at = int(cost.argmin())
    least, cutoffs = float(cost[at]), [int(candidates[at])]
    for choice in reversed(choices):
        at = int(choice[at])
        cutoffs.append(int(candidates[at]))
    return least, tuple(cutoffs)
