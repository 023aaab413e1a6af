"""Logarithms of sums of exponentials whose terms come in chunks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import as_input, is_real, normalized_axes, quietly, working_dtype

Array = NDArray[Any]
Doubles = NDArray[np.float64]

# ln 2 = _LN2_HI + _LN2_LO; the product of the first with an integer below 2^21 is exact.
_LN2_HI, _LN2_LO = float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")
_NO_UNIT = -1e308  # the exponent of an empty sum: below every other
_MOST = 9e307  # the largest exponent


class OnlineLogSumExp:
    """logsumexp of numbers that come in chunks, in any order, in one process or several.

    Parameters
    ----------
    shape : int or tuple of int, default: ()
        The shape of the result: one sum for each of its elements.
    dtype : dtype, default: float64
        The dtype of `value` and `max`: a float. Sums are kept in float64.

    Raises
    ------
    TypeError, ValueError, MemoryError
        If `shape` or `dtype` is not one of an array, or the array does not fit into memory.

    Notes
    -----
    The state is a compensated sum (hi + lo) 2^k for each element. Units are powers of two, so that
    changing them and merging rounds nothing, and 200,000 updates lose no more digits than one: the
    error stays within some 4 ULP of float64, of the larger of the value and 1, for any order of
    updates and merges. It can be pickled.

    Examples
    --------
    >>> import numpy as np
    >>> import boltzmax
    >>> total = boltzmax.OnlineLogSumExp()
    >>> for chunk in np.zeros((10, 100)):
    ...     total.update(chunk)
    >>> round(float(total.value), 12), round(float(np.log(1000.0)), 12)
    (6.907755278982, 6.907755278982)
    >>> other = boltzmax.OnlineLogSumExp()
    >>> other.update([7.0])
    >>> total.merge(other)
    >>> float(total.max), int(total.count)
    (7.0, 1001)
    """

    def __init__(self, shape: int | tuple[int, ...] = (), dtype: DTypeLike = np.float64) -> None:
        self._dtype = working_dtype(np.empty(0), dtype, "OnlineLogSumExp")
        self._hi: Doubles = _zeros(shape)
        self._lo: Doubles = np.zeros(shape)
        self._unit: Doubles = np.full(shape, _NO_UNIT)
        self._max: Doubles = np.full(shape, -np.inf)
        self._count = 0

    def __repr__(self) -> str:
        return f"OnlineLogSumExp(shape={self.shape}, dtype={self._dtype.name!r})"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the result."""
        return self._hi.shape

    @property
    def count(self) -> int:
        """The number of elements so far, for each element of the result."""
        return self._count

    @property
    @quietly
    def max(self) -> Any:
        """The largest element so far; -inf before the first, NaN from the first NaN on."""
        return self._max.astype(self._dtype)[()]

    @property
    @quietly
    def value(self) -> Any:
        """The logarithm of the sum; -inf before the first element."""
        mantissa, exponent = np.frexp(self._hi)
        small = mantissa < np.sqrt(0.5)
        mantissa, exponent = np.where(small, 2 * mantissa, mantissa), exponent - small
        unit = self._unit + exponent
        low = unit * _LN2_LO + self._lo / self._hi
        finite = unit * _LN2_HI + (np.log(mantissa) + low)
        # Beyond 2^1000 the exponent may be cut, and the maximum is the result to the last digit.
        is_usual = np.abs(self._max) < 2.0**1000
        result = np.where(is_usual, finite, self._max)
        return result.astype(self._dtype)[()]

    @quietly
    def update(self, chunk: ArrayLike, axis: Any = -1) -> None:
        """Add the exponentials of a chunk.

        Parameters
        ----------
        chunk : array_like
            Scores; without the reduced axes, they have the shape of the result.
        axis : int, tuple of int or None, default: -1
            The axes to sum over; None for all of them.

        Raises
        ------
        TypeError, ValueError
            As for `boltzmax.logsumexp`; and if the shape does not match. Nothing is added then.
        """
        x = as_input(chunk, "chunk", "pass its data, and -inf at the mask")
        if not is_real(x.dtype):
            raise TypeError(f"chunk must be real numbers, got dtype {x.dtype}")
        axes = normalized_axes(axis, x.ndim)
        kept = tuple(n for d, n in enumerate(x.shape) if d not in axes)
        if kept != self.shape:
            raise ValueError(
                f"chunk of shape {x.shape} without axis {axis} has shape {kept}, but the result "
                f"has shape {self.shape}"
            )
        count = int(np.prod([x.shape[d] for d in axes], dtype=np.int64))
        if count == 0:
            return
        lse = np.asarray(_core.logsumexp(x, axis=axes, dtype=np.float64))
        largest = np.asarray(x.max(axis=axes), np.float64)
        unit = np.clip(np.rint(lse / np.log(2.0)), -_MOST, _MOST)
        unit = np.where(np.isfinite(lse), unit, _NO_UNIT)
        rest = (lse - unit * _LN2_HI) - unit * _LN2_LO
        # Beyond 2^20 the rest is rounded, as the score itself is.
        terms = np.where(np.isfinite(lse), np.exp(np.clip(rest, -0.5, 0.5)), 0.0)
        self._add(terms, np.zeros(self.shape), unit)
        self._max = np.maximum(self._max, largest)
        self._count += count

    @quietly
    def merge(self, other: OnlineLogSumExp) -> None:
        """Add the elements of another one, of the same shape."""
        if not isinstance(other, OnlineLogSumExp):
            raise TypeError(f"other must be an OnlineLogSumExp, got {type(other).__name__}")
        if other.shape != self.shape:
            raise ValueError(f"other has shape {other.shape}, but this one has {self.shape}")
        self._add(other._hi, other._lo, other._unit)
        self._max = np.maximum(self._max, other._max)
        self._count += other._count

    def _add(self, hi: Doubles, lo: Doubles, unit: Doubles) -> None:
        """Add (hi + lo) 2^unit, exactly but for the last bit of twice the precision."""
        common = np.maximum(self._unit, unit)
        of_self, of_other = _power_of_2(self._unit - common), _power_of_2(unit - common)
        a, b = self._hi * of_self, hi * of_other
        total = a + b
        rest = total - a
        error = (a - (total - rest)) + (b - rest)  # Knuth's sum of two numbers
        low = (self._lo * of_self + lo * of_other) + error
        self._hi = np.asarray(total + low)
        self._lo = np.asarray(low - (self._hi - total))
        self._unit = common


def _zeros(shape: Any) -> Doubles:
    """Return zeros, or raise an error that names the argument."""
    try:
        return np.zeros(shape)
    except ValueError as error:
        raise ValueError(f"shape must be that of an array, got {shape!r}: {error}") from None
    except MemoryError as error:
        raise MemoryError(f"shape {shape!r} is too large: {error}") from None
    except TypeError:
        raise TypeError(f"shape must be an integer or a tuple of them, got {shape!r}") from None


def _power_of_2(exponent: Doubles) -> Any:
    """Return 2^exponent for exponents of at most 0."""
    return np.ldexp(1.0, np.maximum(exponent, -2000.0).astype(np.intc))
