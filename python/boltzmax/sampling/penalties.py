"""Penalties: lower the logits of ids that the text so far has, so that it repeats itself less."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boltzmax._lib.arguments import as_flag, check_count
from boltzmax._lib.ragged import integers
from boltzmax.sampling.history import History, Places
from boltzmax.sampling.steps import Numbers, Step, read_numbers

Array = NDArray[Any]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_LEAST, _MOST = math.ulp(0.0), float(np.finfo(np.float64).max)
# No power of DRY's base is above exp of this, which is the largest number of single precision.
_LARGEST_EXPONENT = 88.7228391


class Penalty(Step):
    """A step that reads the text so far, and changes only logits of ids in it."""

    def penalize(self, logits: Array, history: History, shape: tuple[int, ...]) -> None:
        """Change a matrix of logits, whose rows have this shape, in place."""
        raise NotImplementedError


class _OfOccurrence(Penalty):
    """A penalty of ids that occur in a part of the text."""

    penalty: Any
    last_n: int | None
    prompt: bool

    def _read(self, allowed: str, low: float, high: float) -> None:
        self._set("penalty", read_numbers(self.penalty, "penalty", allowed, low, high))
        self._set("last_n", _read_last_n(self.last_n))
        self._set("prompt", as_flag(self.prompt, "prompt"))

    def penalize(self, logits: Array, history: History, shape: tuple[int, ...]) -> None:
        """Change a matrix of logits, whose rows have this shape, in place."""
        # An id that occurs often gets the same logit as often.
        places = history.places(self.last_n, self.prompt)
        old = logits[places].astype(np.float64)
        logits[places] = self._changed(old, _of_rows(self.penalty, shape, places))

    def _changed(self, logits: Floats, penalty: Numbers) -> Floats:
        """Return the new logits."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class RepetitionPenalty(_OfOccurrence):
    """Divide the logits of ids in the text if they are positive, otherwise multiply them.

    Parameters
    ----------
    penalty : float or array_like
        Positive; above 1, ids of the text become less likely. An array has one number for each
        row.
    last_n : int, optional
        Only the last n ids of the text count.
    prompt : bool, default True
        Whether the prompt counts.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.

    Notes
    -----
    N. S. Keskar et al., "CTRL: A Conditional Transformer Language Model for Controllable
    Generation", 2019, section 4.1.

    Examples
    --------
    >>> from boltzmax.sampling import Chain, RepetitionPenalty
    >>> Chain([RepetitionPenalty(2.0)]).filter_logits([4.0, 4.0, -1.0], history=[2, 0, 2])
    array([ 2.,  4., -2.])
    """

    penalty: Any
    last_n: int | None = None
    prompt: bool = True

    def __post_init__(self) -> None:
        """Check the arguments."""
        self._read("positive and finite", _LEAST, _MOST)

    def _changed(self, logits: Floats, penalty: Numbers) -> Floats:
        return np.where(logits > 0, logits / penalty, logits * penalty)


@dataclass(frozen=True, eq=False)
class PresencePenalty(_OfOccurrence):
    """Subtract a number from the logits of ids in the text, however often they occur.

    Parameters
    ----------
    penalty : float or array_like
        Finite; above 0, ids of the text become less likely. An array has one number for each row.
    last_n : int, optional
        Only the last n ids of the text count.
    prompt : bool, default True
        Whether the prompt counts.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.

    See Also
    --------
    FrequencyPenalty : It grows with the number of occurrences.

    Examples
    --------
    >>> from boltzmax.sampling import Chain, PresencePenalty
    >>> Chain([PresencePenalty(0.5)]).filter_logits([4.0, 4.0, -1.0], history=[2, 0, 2])
    array([ 3.5,  4. , -1.5])
    """

    penalty: Any
    last_n: int | None = None
    prompt: bool = True

    def __post_init__(self) -> None:
        """Check the arguments."""
        self._read("finite", -_MOST, _MOST)

    def _changed(self, logits: Floats, penalty: Numbers) -> Floats:
        return logits - penalty


@dataclass(frozen=True, eq=False)
class FrequencyPenalty(_OfOccurrence):
    """Subtract a number from the logits of ids in the text, once for every occurrence.

    Parameters
    ----------
    penalty : float or array_like
        Finite; above 0, ids of the text become less likely. An array has one number for each row.
    last_n : int, optional
        Only the last n ids of the text count.
    prompt : bool, default True
        Whether the prompt counts.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.

    See Also
    --------
    PresencePenalty : It does not depend on the number of occurrences.

    Examples
    --------
    >>> from boltzmax.sampling import Chain, FrequencyPenalty
    >>> Chain([FrequencyPenalty(0.5)]).filter_logits([4.0, 4.0, -1.0], history=[2, 0, 2])
    array([ 3.5,  4. , -2. ])
    """

    penalty: Any
    last_n: int | None = None
    prompt: bool = True

    def __post_init__(self) -> None:
        """Check the arguments."""
        self._read("finite", -_MOST, _MOST)

    def penalize(self, logits: Array, history: History, shape: tuple[int, ...]) -> None:
        """Change a matrix of logits, whose rows have this shape, in place."""
        places, counts = history.occurrences(self.last_n, self.prompt)
        old = logits[places].astype(np.float64)
        logits[places] = old - _of_rows(self.penalty, shape, places) * counts


@dataclass(frozen=True, eq=False)
class NoRepeatNGram(Penalty):
    """Leave out the ids that would complete a sequence of n ids that the text already has.

    Parameters
    ----------
    n : int
        At least 1; with 1, no id occurs twice.

    Raises
    ------
    TypeError, ValueError
        If `n` does not fit.

    Examples
    --------
    >>> from boltzmax.sampling import Chain, NoRepeatNGram
    >>> Chain([NoRepeatNGram(2)]).filter_logits([4.0, 4.0, 4.0], history=[0, 1, 2, 0])
    array([  4., -inf,   4.])
    """

    n: int

    def __post_init__(self) -> None:
        """Check n."""
        self._set("n", check_count(self.n, "n", 1))

    def penalize(self, logits: Array, history: History, shape: tuple[int, ...]) -> None:
        """Change a matrix of logits, whose rows have this shape, in place."""
        logits[history.places_after(self.n - 1)] = -np.inf


@dataclass(frozen=True, eq=False)
class Dry(Penalty):
    """Lower the logits of ids that would continue a repetition, the longer the more ("DRY").

    If the last L ids of the text occurred before, and an id came next there, then
    ``multiplier * base**(L - allowed_length)`` is subtracted from the logit of that id, provided
    that L is at least `allowed_length`. L is the greatest such length.

    Parameters
    ----------
    multiplier : float
        At least 0.
    base : float, default 1.75
        At least 1.
    allowed_length : int, default 2
        At least 1.
    breakers : iterable of int or of sequences of int, default ()
        Ids, or sequences of them, over which no repetition extends. Ids that are breakers on
        their own are never penalized.
    last_n : int, optional
        Only the last n ids of the text count.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.

    Notes
    -----
    The sampler is P. E. Weidmann's (2024). Powers stop growing at the largest number of single
    precision, 3.4e38. A call compares, for each length up to L, the places that still match.

    Examples
    --------
    >>> from boltzmax.sampling import Chain, Dry
    >>> text = [0, 1, 2, 3, 0, 1, 2]
    >>> Chain([Dry(0.5, base=2.0)]).filter_logits([4.0, 4.0, 4.0, 4.0], history=text)
    array([4., 4., 4., 3.])
    """

    multiplier: float
    base: float = 1.75
    allowed_length: int = 2
    breakers: Any = ()
    last_n: int | None = None

    def __post_init__(self) -> None:
        """Check the arguments."""
        self._set("multiplier", _one_number(self.multiplier, "multiplier", 0.0))
        self._set("base", _one_number(self.base, "base", 1.0))
        self._set("allowed_length", check_count(self.allowed_length, "allowed_length", 1))
        self._set("breakers", _read_breakers(self.breakers))
        self._set("last_n", _read_last_n(self.last_n))

    def penalize(self, logits: Array, history: History, shape: tuple[int, ...]) -> None:
        """Change a matrix of logits, whose rows have this shape, in place."""
        for row, text in zip(logits, history.texts(self.last_n), strict=True):
            ids, lengths = self._repetitions(text)
            exponents = np.minimum(lengths - self.allowed_length, self._largest_exponent)
            row[ids] = row[ids] - self.multiplier * self.base ** exponents.astype(np.float64)

    @property
    def _largest_exponent(self) -> int:
        """The largest exponent; with a base of 1, all are the same."""
        return int(_LARGEST_EXPONENT / math.log(self.base)) if self.base > 1.0 else 0

    def _repetitions(self, text: Ints) -> tuple[Ints, Ints]:
        """Return the ids that would continue a repetition, and its length."""
        longest = min(self._after_a_breaker(text), self.allowed_length + self._largest_exponent)
        lengths = np.zeros(len(text), np.int64)  # of what is repeated just before each place
        places = np.arange(1, len(text))
        for length in range(longest):
            places = places[places > length]
            places = places[text[places - 1 - length] == text[len(text) - 1 - length]]
            if not places.size:
                break
            lengths[places] = length + 1
        found = np.flatnonzero(lengths >= self.allowed_length)
        ids, which = np.unique(text[found], return_inverse=True)
        longest_of = np.zeros(len(ids), np.int64)
        np.maximum.at(longest_of, which, lengths[found])
        allowed = ~np.isin(ids, [b[0] for b in self.breakers if len(b) == 1])
        return ids[allowed], longest_of[allowed]

    def _after_a_breaker(self, text: Ints) -> int:
        """Return how many ids follow the last breaker, which is found by its first id."""
        starts = np.flatnonzero(np.isin(text, [b[0] for b in self.breakers]))
        for start in starts[::-1]:
            rest = text[start:]
            found = [len(b) for b in self.breakers if tuple(rest[: len(b)].tolist()) == b]
            if found:
                return len(rest) - max(found)
        return len(text)


def _one_number(value: Any, name: str, least: float) -> float:
    """Return a single finite number of at least `least`."""
    number = read_numbers(value, name, f"at least {least:g} and finite", least, _MOST)
    if not isinstance(number, float):
        raise TypeError(f"{name} must be a single number, got {value!r}")
    return number


def _read_last_n(last_n: Any) -> int | None:
    return None if last_n is None else check_count(last_n, "last_n", 0)


def _read_breakers(breakers: Any) -> tuple[tuple[int, ...], ...]:
    """Return sequences of ids; a single id is a sequence of one."""
    if isinstance(breakers, (str, bytes)) or not isinstance(breakers, Iterable):
        raise TypeError(f"breakers must be ids or sequences of ids, got {breakers!r}")
    read = []
    for breaker in breakers:
        ids = tuple(integers(np.atleast_1d(np.asarray(breaker)), "a breaker").tolist())
        if not ids or min(ids) < 0:
            raise ValueError(f"a breaker must be ids of at least 0, one or more, got {breaker!r}")
        read.append(ids)
    return tuple(read)


def _of_rows(penalty: Any, shape: tuple[int, ...], places: Places) -> Numbers:
    """Return one penalty for all places, or that of each place's row."""
    if isinstance(penalty, float):
        return penalty
    try:
        return np.broadcast_to(penalty, shape).reshape(-1)[places.rows]
    except ValueError:
        raise ValueError(
            f"penalty of shape {penalty.shape} does not broadcast to one per row, {shape}"
        ) from None
