"""Complex numbers: the compiled functions, with NumPy for infinities and NaN.

The compiled sums are in double precision, with an error of at most 2**-49 times the sum of the
absolute values of their terms.  Where that exceeds 2**-36 of the result (or of a logarithm near 0),
equal terms are merged, and the sum is computed exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boltzmax import _core
from boltzmax._lib.arguments import is_small_float
from boltzmax.arrays import numpy_path
from boltzmax.arrays.numpy_rows import kept_first, new_reduced
from boltzmax.arrays.numpy_sums import principal_angle, real_dtype, sign

__all__ = ["is_native_complex", "logsumexp", "softmax_like"]

Array = NDArray[Any]


def is_native_complex(dtype: np.dtype[Any]) -> bool:
    """Whether the compiled functions support it."""
    return dtype.char in "FD" and dtype.isnative


def logsumexp(
    x: Array,
    axes: tuple[int, ...],
    *,
    b: Array | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
    where: Array | None = None,
    temperature: Array | None = None,
) -> Any:
    """Compute what `numpy_path.logsumexp` does, for complex64 and complex128.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax.arrays.complex_rows import logsumexp
    >>> x = np.array([2 + 1j, 2 + 1j, -38])
    >>> complex(logsumexp(x, (0,), b=np.array([1, -1, 1])))
    (-38+0j)
    """
    given, full = x, x.shape
    x = kept_first(x, full, axes)
    weights, mask, t = (
        None if a is None else kept_first(a, full, axes) for a in (_native(b), where, temperature)
    )
    shape = x.shape[: x.ndim - len(axes)]
    log_size, total = np.empty(shape), np.empty(shape, np.complex128)
    special = np.empty(shape, bool)
    divisor = None if t is None else t.reshape(*shape, -1)[..., 0].astype(np.float64)
    _core.run_complex_sum(x, weights, log_size, total, special, len(axes), mask, divisor)
    with np.errstate(all="ignore"):
        if return_sign:
            log_sum = new_reduced(given, axes, real_dtype(x.dtype), log_size)
            signs = new_reduced(given, axes, x.dtype, sign(total))
        else:
            log_sum = new_reduced(given, axes, x.dtype, log_size)
            log_sum.imag = principal_angle(total)
    if special.any():
        rows = [None if a is None else a[special] for a in (weights, mask, t)]
        of_special = numpy_path.logsumexp(
            x[special],
            tuple(range(1, len(axes) + 1)),
            b=rows[0],
            return_sign=return_sign,
            where=rows[1],
            temperature=rows[2],
        )
        if return_sign:
            log_sum[special], signs[special] = of_special
        else:
            log_sum[special] = of_special
    results: tuple[Array, ...] = (log_sum, signs) if return_sign else (log_sum,)
    if keepdims:
        results = tuple(np.expand_dims(result, axes) for result in results)
    return results if return_sign else results[0]


def _native(b: Array | None) -> Array | None:
    """Weights in a dtype that compiled code reads."""
    if b is None or not (b.dtype.char in "gG" or is_small_float(b.dtype) or not b.dtype.isnative):
        return b
    return b.astype(np.complex128 if b.dtype.kind == "c" else np.float64)


def softmax_like(
    x: Array, axes: tuple[int, ...], wants_log: bool, plain: Callable[..., Any]
) -> Array:
    """Compute softmax or its logarithm for complex numbers; `plain` does so for special rows.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax.arrays.complex_rows import softmax_like
    >>> p = softmax_like(np.array([0, 1j * np.pi / 3]), (0,), False, np.exp)
    >>> print(p.sum().round(12), abs(p).round(6))
    (1+0j) [0.57735 0.57735]
    """
    y = _core.empty_like(x, x.dtype)
    order = [k for k in range(x.ndim) if k not in axes] + sorted(axes)
    source, target = x.transpose(order), y.transpose(order)
    n_kept = x.ndim - len(axes)
    special = np.empty(source.shape[:n_kept], bool)
    _core.run_complex_softmax(wants_log, source, target, special, len(axes))
    if special.any():
        target[special] = plain(source[special], tuple(range(1, len(axes) + 1)))
    return y
