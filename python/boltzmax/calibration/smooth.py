"""The smooth calibration error: a kernel in place of bins."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import quietly
from boltzmax._lib.scored import read_scores_and_labels
from boltzmax.calibration.events import Events, top_label_events

Array = NDArray[Any]
Doubles = NDArray[np.float64]

_CELLS = 1 << 12  # of the first grid
_MOST_CELLS = 1 << 20
_PER_WIDTH = 32  # cells that a kernel's width needs: an error below 1e-4 of the result
_CHUNK = 1 << 15


@quietly
def smooth_ece(
    logits: ArrayLike,
    y: ArrayLike,
    *,
    from_probs: bool = False,
    sample_weight: ArrayLike | None = None,
) -> float:
    r"""Return the smooth expected calibration error.

    It is the width s of a Gaussian kernel K, reflected at 0 and 1, for which

    .. math::
        \int_0^1 \Bigl| \frac1N \sum_i K_s(t, p_i) ([\text{right}_i] - p_i) \Bigr| dt = s

    so there is no number of bins to choose, and it is continuous in the probabilities.

    Parameters
    ----------
    logits, y, from_probs, sample_weight
        As for `ece`; of the likeliest class, or of class 1 for single numbers.

    Returns
    -------
    float
        The error, from 0 to 1. Its relative error is below 1e-3 from 1e-4 on, and its absolute
        error below 1e-6 otherwise.

    Raises
    ------
    IndexError, TypeError, ValueError
        As from `ece`.

    References
    ----------
    Blasiok & Nakkiran, "Smooth ECE: principled reliability diagrams via kernel smoothing", ICLR
    2024, definition 1.

    Examples
    --------
    >>> from boltzmax.calibration import smooth_ece
    >>> round(smooth_ece([0.5, 0.5, 0.5, 0.5], [1, 1, 1, 1], from_probs=True), 3)
    0.5
    """
    rows = read_scores_and_labels(logits, y, from_probs=from_probs, sample_weight=sample_weight)
    events = top_label_events(rows)
    cells, width = _CELLS, 0.1
    while True:
        width = _fixed_point(_Spectrum(events, cells), width)
        if width * cells >= _PER_WIDTH or width == 0.0 or cells >= _MOST_CELLS:
            return width
        cells = min(_MOST_CELLS, max(2 * cells, int(2 ** np.ceil(np.log2(2 * _PER_WIDTH / width)))))


class _Spectrum:
    """The residuals on a grid of nodes 0, h, 2h, ..., 1, and their smoothed size.

    Reflected at 0 and 1 they have a period of 2, over which a Gaussian of width s multiplies the
    frequency k by exp(-(pi k s)^2 / 2).
    """

    def __init__(self, events: Events, cells: int) -> None:
        self.cells = cells
        mass = _on_nodes(events, cells) / events.total_weight
        period = np.concatenate([mass, mass[-2:0:-1]])
        period[[0, cells]] *= 2  # nodes that are their own mirror images
        self.frequencies = np.fft.rfft(period)
        self.exponents = -0.5 * np.square(np.pi * np.arange(len(self.frequencies)))

    def smoothed_size(self, width: float) -> float:
        """Return the integral of the smoothed residuals' absolute value."""
        damped = self.frequencies * np.exp(self.exponents * width * width)
        size = np.abs(np.fft.irfft(damped, 2 * self.cells)[: self.cells + 1])
        return float(size.sum() - (size[0] + size[-1]) / 2)


def _on_nodes(events: Events, cells: int) -> Doubles:
    """Return the sums of the residuals, each divided between its two neighbouring nodes."""
    nodes = np.zeros(cells + 2)
    for start in range(0, len(events.p), _CHUNK):
        part = slice(start, start + _CHUNK)
        p = events.p[part].astype(np.float64)
        residual = events.happened[part] - p
        if events.weight is not None:
            residual *= events.weight[part]
        at = p * cells
        node = at.astype(np.intp)
        upper = residual * (at - node)
        nodes += np.bincount(node, weights=residual - upper, minlength=len(nodes))
        nodes[1:] += np.bincount(node, weights=upper, minlength=len(nodes))[:-1]
    return nodes[:-1]


def _fixed_point(spectrum: _Spectrum, guess: float) -> float:
    """Return the width that is the smoothed size; the size falls as the width grows."""
    if spectrum.smoothed_size(1e-12) < 1e-12:
        return 0.0
    low, high = guess / 1.2, min(guess * 1.2, 1.0)
    while spectrum.smoothed_size(low) < low:
        low, high = low / 4, low
    while high < 1.0 and spectrum.smoothed_size(high) > high:
        low, high = high, min(4 * high, 1.0)
    while high - low > 1e-7 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if spectrum.smoothed_size(middle) > middle else (low, middle)
    return high
