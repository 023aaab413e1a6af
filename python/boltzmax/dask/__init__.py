"""Softmax and its family on Dask arrays, whose class axis may be chunked, too.

Everything is lazy. Chunks of a row tell each other 120 bytes, which merge without rounding:
results have the same bits for any chunks, schedulers and instruction sets. It needs Dask:
``pip install "boltzmax[dask]"``.

- `blocks`: functions of chunks, and what chunks of a row tell each other
- `losses`: cross-entropy and its gradient
- `rows`: softmax, log_softmax and logsumexp
- `statistics`: row_stats and the expected calibration error
"""

from __future__ import annotations

from boltzmax._lib.public import show_in

try:
    from boltzmax.dask.losses import cross_entropy, cross_entropy_with_grad
    from boltzmax.dask.rows import log_softmax, logsumexp, softmax
    from boltzmax.dask.statistics import ece, row_stats
except ImportError as error:
    if (error.name or "").partition(".")[0] != "dask":
        raise
    raise ImportError(
        'boltzmax.dask needs dask, with its arrays: pip install "boltzmax[dask]"', name=error.name
    ) from error

__all__ = [
    "cross_entropy",
    "cross_entropy_with_grad",
    "ece",
    "log_softmax",
    "logsumexp",
    "row_stats",
    "softmax",
]

show_in(globals())
