"""The text so far: the ids that each row of logits follows, and how often they occur."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.numbers import real_array, unmasked_ids
from boltzmax._lib.ragged import integers, read_indptr

Ints = NDArray[np.int64]


class Places(NamedTuple):
    """Places of texts: the rows that they belong to, and the ids that are there."""

    rows: Ints
    ids: Ints


class Occurrences(NamedTuple):
    """The ids that occur in texts, each once a row, in ascending order of rows and ids."""

    places: Places
    counts: Ints


class History:
    """The texts of all rows: row r has the ids from ``indptr[r]`` up to ``indptr[r + 1]``."""

    def __init__(self, ids: Ints, indptr: Ints, prompt: Ints | None, classes: int) -> None:
        self._ids = ids
        self._indptr = indptr
        self._prompt = prompt
        self._classes = classes
        self._row_of = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))

    def texts(self, last_n: int | None = None) -> Iterator[Ints]:
        """Yield the text of every row, or its last n ids."""
        for start, end in zip(self._starts(last_n, True), self._indptr[1:], strict=True):
            yield self._ids[start:end]

    def places(self, last_n: int | None = None, prompt: bool = True) -> Places:
        """Return the last n places of each text, in its prompt only if asked to."""
        if last_n is None and prompt:
            return Places(self._row_of, self._ids)
        counted = np.arange(len(self._ids)) >= self._starts(last_n, prompt)[self._row_of]
        return Places(self._row_of[counted], self._ids[counted])

    def occurrences(self, last_n: int | None = None, prompt: bool = True) -> Occurrences:
        """Count the ids in these places."""
        rows, ids = self.places(last_n, prompt)
        found, counts = np.unique(rows * self._classes + ids, return_counts=True)
        return Occurrences(Places(*np.divmod(found, self._classes)), counts)

    def places_after(self, n: int) -> Places:
        """Return the places, anywhere in a text, that follow the same n ids as its end does."""
        ids, starts, ends = self._ids, self._indptr[:-1], self._indptr[1:]
        n = min(n, len(ids))  # no text is longer, and then there are no places
        places = np.flatnonzero(np.arange(len(ids)) >= starts[self._row_of] + n)
        for back in range(1, n + 1):
            last = ids[ends[self._row_of[places]] - back]
            places = places[ids[places - back] == last]
        return Places(self._row_of[places], ids[places])

    def _starts(self, last_n: int | None, prompt: bool) -> Ints:
        """Return the first place of each text that counts."""
        starts = self._indptr[:-1]
        if not prompt:
            if self._prompt is None:
                raise ValueError(
                    "prompt is missing: a penalty counts only the ids after it; pass the length "
                    "of each row's prompt, or 0"
                )
            starts = starts + self._prompt
        return starts if last_n is None else np.maximum(starts, self._indptr[1:] - last_n)


def read_history(
    history: Any, shape: tuple[int, ...], classes: int, prompt: ArrayLike | None = None
) -> History:
    """Return the texts of rows of this shape.

    Parameters
    ----------
    history : array_like, list of array_like or (values, indptr)
        One array of ids if there is one row without axes; otherwise a list of one for each row in
        C order, or a tuple of all ids one after the other and their offsets, as in CSR.
    shape : tuple of int
        The shape of the rows, without classes.
    classes : int
        How many classes there are.
    prompt : int or array_like of int, optional
        How many ids at the beginning of each text are its prompt.
    """
    ids, indptr = _read_ids(history, shape)
    outside = (ids < 0) | (ids >= classes)
    if outside.any():
        at = int(outside.argmax())
        row = int(np.searchsorted(indptr, at, side="right")) - 1
        raise ValueError(
            f"history must be ids from 0 to {classes - 1}, got {ids[at]} in row {row} at position "
            f"{at - indptr[row]}"
        )
    lengths = None if prompt is None else _read_prompt(prompt, shape, np.diff(indptr))
    return History(ids, indptr, lengths, classes)


def _read_ids(history: Any, shape: tuple[int, ...]) -> tuple[Ints, Ints]:
    """Return the ids of all rows, and their offsets."""
    rows = math.prod(shape)
    if history is None:
        raise ValueError("history is missing: a step reads the text so far")
    if not shape:
        ids = _text(history, "history")
        return ids, np.array([0, len(ids)])
    if isinstance(history, tuple):
        return _read_compressed(history, rows)
    try:
        _check_rows(len(history), rows)
    except TypeError:
        raise TypeError(
            f"history must be a list of arrays of ids, or (values, indptr), got {history!r}"
        ) from None
    texts = [_text(text, f"history[{row}]") for row, text in enumerate(history)]
    indptr = np.cumsum([0, *map(len, texts)])
    return np.concatenate([*texts, np.empty(0, np.int64)]), indptr


def _read_compressed(history: tuple[Any, ...], rows: int) -> tuple[Ints, Ints]:
    """Return the ids and the offsets that a tuple has."""
    try:
        values, offsets = history
        ids = _text(values, "the values of history")
        indptr = read_indptr(offsets, len(ids))
        _check_rows(len(indptr) - 1, rows)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"history is a tuple, which means (values, indptr); a list has one text for each row: "
            f"{error}"
        ) from None
    return ids, indptr


def _text(ids: Any, name: str) -> Ints:
    return integers(unmasked_ids(ids, name), name)


def _check_rows(texts: int, rows: int) -> None:
    if texts != rows:
        raise ValueError(f"history must have one text for each of the {rows} rows, got {texts}")


def _read_prompt(prompt: ArrayLike, shape: tuple[int, ...], lengths: Ints) -> Ints:
    """Return the length of each row's prompt."""
    array = real_array(prompt, "prompt")
    if array.dtype.kind not in "iu":
        raise TypeError(f"prompt must be an integer or one per row, got dtype {array.dtype}")
    try:
        prompts = np.broadcast_to(array, shape).reshape(-1)
    except ValueError:
        raise ValueError(
            f"prompt of shape {array.shape} does not broadcast to one per row, {shape}"
        ) from None
    bad = (prompts < 0) | (prompts > lengths)
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(
            f"prompt must be from 0 to the length of the text, {lengths[row]} in row {row}, got "
            f"{prompts[row]}"
        )
    return prompts.astype(np.int64)
