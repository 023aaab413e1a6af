r"""A linear layer whose weights are stored in few bits, with bounds of every logit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import as_array, as_flag, check_count, one_of, quietly, refuse_masked
from boltzmax._lib.bad_rows import at_place
from boltzmax._lib.files import FileName
from boltzmax._lib.mapped import map_npz, write_mapped
from boltzmax._lib.numbers import per_class, real_array
from boltzmax._lib.output_layer import Classes, read_hidden, read_target
from boltzmax._lib.random import check_first_row, check_key
from boltzmax.linear.codes import LANES, Format, decode, nearest_above, read_format
from boltzmax.linear.rotation import Rotation, read_rotation
from boltzmax.linear.scores import NO_SHARES, Totals
from boltzmax.screens.screen import Candidates, Levels, Screen, Split, Winners, read_threshold

Array = NDArray[Any]
Floats = NDArray[np.float64]

_TILE = 2**18  # numbers in a tile of weights or of logits
_ARRAYS = ("codes", "scale", "error", "norm", "bias", "bias_above")
_LARGEST_HIDDEN = 1e100
_ROWS = 256  # in a block
_FEW_ROWS = 4  # as many are read in the time that memory takes; candidates of more have 8 bits
_MODERATE = (1e-30, 1e12)  # scales and errors whose products neither vanish nor overflow in float


class QuantizedLinear(Screen):
    r"""A linear layer and its softmax with weights of 8, 4 or 16 bits.

    Each weight is stored as a whole number times a scale, one for each row or for each group of
    features: :math:`w \approx \tilde w = s q`. Besides, each class has a bound of
    :math:`\|w - \tilde w\|`, from which every logit gets an interval that contains the exact
    number.

    Parameters
    ----------
    weight : array_like, shape (V, D)
        One row for each class; a memory map is read tile by tile.
    bias : array_like, shape (V,), optional
        Added to the logits; kept in float64.
    bits : {8, 4}, default 8
        Of a weight, with dtype="int8".
    scheme : {"per_row", "per_group"}, default "per_row"
        What shares a scale: all weights of a class, or `group` neighbouring ones.
    group : int, default 64
        A multiple of 8, from 8 to 512.
    dtype : {"int8", "bfloat16"}, default "int8"
        "bfloat16" stores floats of 16 bits instead, without scales; `bits` must then be 8.
    rotate : bool or int, default False
        Whether weights and hidden vectors are rotated at random first, which spreads large
        features over all; an integer is the seed.

    hidden_dtype : {"int16", "float32"}, default "int16"
        Whether hidden vectors are rounded to whole numbers of 16 bits, for which sums are exact and
        the same on every processor, or to float32, as they always are with dtype="bfloat16".

    Attributes
    ----------
    n_classes, n_features : int
        V and D.

    Raises
    ------
    ValueError
        If an option is out of range, or a row of weights is not finite or has a norm above 3e38;
        the message names the first such row.
    TypeError
        If `weight` or `bias` is not made of real numbers.

    See Also
    --------
    LinearSoftmax : the layer with all digits, which can learn.

    Notes
    -----
    Hidden vectors are rounded, too: :math:`h \approx \tilde h = t p` with whole numbers p of 16
    bits. Products of whole numbers are exact, so logits have the same bits on every processor. The
    error of a logit is at most

    .. math:: \|h\| \, \|w - \tilde w\| + \|h - \tilde h\| \, \|\tilde w\|

    by the inequality of Cauchy and Schwarz, plus the rounding of a few float64 operations. Norms
    are stored and computed with outward rounding, so that this holds for numbers as they are
    stored, not only in theory. With hidden vectors of float32, the rounding of float32 sums, about
    :math:`D \, 2^{-24} \|h\| \|\tilde w\|`, takes the place of the second term.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import QuantizedLinear
    >>> rng = np.random.default_rng(0)
    >>> weight, hidden = rng.normal(size=(1000, 64)), rng.normal(size=(2, 64))
    >>> layer = QuantizedLinear(weight)
    >>> exact = hidden @ weight.T
    >>> lower, upper = layer.intervals(hidden)
    >>> bool(np.all((lower <= exact) & (exact <= upper)))
    True
    >>> ids, log_probs = layer.topk(hidden, 1)
    >>> bool(np.all(ids[:, 0] == exact.argmax(axis=1)))
    True
    """

    n_classes: int
    n_features: int
    _format: Format
    _rotation: Rotation | None
    _codes: Array
    _scale: Array
    _error: Array
    _norm: Array
    _bias: Floats
    _bias_above: Array
    _float_hidden: bool
    _ratio: float
    _is_moderate: bool

    _kind = "boltzmax quantised linear layer, version 1"

    @quietly
    def __init__(
        self,
        weight: ArrayLike,
        bias: ArrayLike | None = None,
        *,
        bits: int = 8,
        scheme: str = "per_row",
        group: int = 64,
        dtype: str = "int8",
        rotate: bool | int = False,
        hidden_dtype: str = "int16",
    ) -> None:
        refuse_masked(weight, "weight")
        w = as_array(weight, "weight")  # whose tiles are converted one by one
        if w.ndim != 2 or not w.size:
            raise ValueError(f"weight must be (V, D) with V, D > 0, got shape {w.shape}")
        real_array(w[:0], "weight")
        form = read_format(w.shape[1], bits, scheme, group, dtype)
        self._format = form
        floats = one_of(hidden_dtype, "hidden_dtype", ("int16", "float32")) == "float32"
        self._float_hidden = floats or form.bits == 16
        self.n_classes, self.n_features = w.shape
        self._rotation = read_rotation(rotate, self.n_features)
        for name, (shape, stored) in form.arrays(self.n_classes).items():
            setattr(self, f"_{name}", np.zeros(shape, stored))
        self._ratio, self._is_moderate = 0.0, False
        if bias is not None:
            self._bias[: self.n_classes] = per_class(bias, self.n_classes, "bias")
            _refuse_rows(np.isfinite(self._bias), "bias must be finite")
        rows = max(_TILE // form.width // LANES, 1) * LANES
        for start in range(0, self.n_classes, rows):
            self._encode(real_array(w[start : start + rows], "weight"), start)
        self._summarize()

    def _encode(self, w: Array, start: int) -> None:
        """Store some rows of weights, from class `start` on."""
        tile, rounding = self._rotated(np.ascontiguousarray(w, np.float64))
        refused = _core.quantised_encode(self._compiled, tile, start, rounding)
        if refused < len(tile):
            row = at_place((start + refused,))
            raise ValueError(f"weight must be finite, with norms up to 3e38; it is not{row}")

    def _summarize(self) -> None:
        """Compute what the search for candidates needs besides the arrays."""
        more = np.abs(self._bias) * 2.0**-20
        self._bias_above = nearest_above(self._bias + more)
        self._bias_above[self.n_classes :] = -np.inf
        if self._format.groups == 1:
            scale = self._scale.ravel()
            ratio = np.divide(self._norm, scale, out=np.zeros_like(scale), where=scale > 0)
            self._ratio = float(ratio.max()) * (1.0 + 2.0**-20)
            least, most = _MODERATE
            both = np.concatenate((scale, self._error))
            fits = bool(np.all((both == 0.0) | ((both >= least) & (both <= most))))
            self._is_moderate = fits and float(np.abs(self._bias).max()) <= 1e30

    # ---- sizes ----

    @property
    def nbytes(self) -> int:
        """The number of bytes of codes, scales, bounds and biases."""
        return sum(array.nbytes for array in self._arrays().values())

    @quietly
    def dequantize(self) -> Array:
        """Return the weights that the codes stand for, (V, D), in float32."""
        result = np.empty((self.n_classes, self.n_features), np.float32)
        rows = max(_TILE // self._format.width // LANES, 1)
        for start in range(0, len(self._codes), rows):
            some = slice(start, start + rows)
            w = decode(self._format, self._codes[some], self._scale[some])
            w = w if self._rotation is None else self._rotation.inverse(w)
            first = start * LANES
            result[first : first + len(w)] = w[: self.n_classes - first]
        return result

    @quietly
    def _rows(self, ids: Classes) -> Array:
        """Return the weights of some classes, decoded, in float32."""
        block, place = np.divmod(ids, LANES)
        known, where = np.unique(block, return_inverse=True)
        w = decode(self._format, self._codes[known], self._scale[known])
        w = w if self._rotation is None else self._rotation.inverse(w)
        return w[where * LANES + place].astype(np.float32)

    # ---- logits ----

    @quietly
    def logits(self, hidden: ArrayLike) -> Array:
        """Return the logits of the stored weights, (N, V).

        Parameters
        ----------
        hidden : array_like, shape (N, D)
            Finite numbers of at most 1e100.

        Returns
        -------
        ndarray, shape (N, V)
            As all results but bounds, float64 if `hidden` is float64 or integer, otherwise float32,
            where logits above 3.4e38 are infinite.

        Raises
        ------
        ValueError
            As in all methods, for a row that is not finite or too large, whose number it says.
        """
        x, dtype = self._hidden(hidden)
        logits = np.empty((len(x), self.n_classes), dtype)
        for block in self._blocks(x):
            for tile in self._tiles(block.rows):
                logits[block.where, tile] = self._centers(block, tile)
        return logits

    @quietly
    def logsumexp(self, hidden: ArrayLike) -> Array:
        """Return the logsumexp of the logits of each row, (N,)."""
        x, dtype = self._hidden(hidden)
        lse = np.empty(len(x), dtype)
        for block in self._blocks(x):
            lse[block.where] = self._totals(block).lse
        return lse

    @quietly
    def log_prob(self, hidden: ArrayLike, target: ArrayLike) -> Array:
        """Return log p(target) of each row, (N,).

        Parameters
        ----------
        hidden : array_like, shape (N, D)
        target : array_like of int, shape (N,)
            A class for each row.

        Raises
        ------
        IndexError
            For a target that is not a class; the message names the first.
        """
        x, dtype = self._hidden(hidden)
        classes, log_p = read_target(target, len(x), self.n_classes), np.empty(len(x), dtype)
        for block in self._blocks(x):
            totals = self._totals(block, label=classes[block.where])
            log_p[block.where] = totals.own - totals.from_reference
        return log_p

    @quietly
    def topk(self, hidden: ArrayLike, k: int) -> tuple[Classes, Array]:
        """Return the k likeliest classes of each row, and their log-probabilities.

        They are those of the stored weights, which may differ from those of the exact weights:
        `candidates` are sure to contain the latter.

        Parameters
        ----------
        hidden : array_like, shape (N, D)
        k : int
            From 1 to V.

        Returns
        -------
        ids : ndarray of int64, shape (N, k)
            The likeliest first, ties in favour of the lower class.
        log_probs : ndarray, shape (N, k)
        """
        x, dtype = self._hidden(hidden)
        count = check_count(k, "k", 1, self.n_classes)
        ids, log_p = np.empty((len(x), count), np.int64), np.empty((len(x), count), dtype)
        for block in self._blocks(x):
            totals = self._totals(block, top=count)
            _core.linear_finish_top(totals.columns, totals.top)
            ids[block.where], log_p[block.where] = totals.top
        return ids, log_p

    # ---- bounds ----

    @quietly
    def error_bound(self, hidden: ArrayLike) -> Floats:
        """Return a bound of ``|logit - exact logit|`` for all classes of each row, (N,).

        It includes the rounding of `logits`, and is infinite where these may exceed the range of
        their dtype. `intervals` are narrower for most classes.
        """
        x, dtype = self._hidden(hidden)
        of_rows = np.empty((len(x), 3))
        for block in self._blocks(x):
            _core.quantised_row_bounds(block.hidden, of_rows[block.where])
        by_error, by_norm, vanished = of_rows.T
        norm, bias = float(self._norm.max()), float(np.abs(self._bias[: self.n_classes]).max())
        rounding = 2.0**-24 if dtype == np.float32 else 2.0**-50
        limits = np.finfo(dtype)
        size = (by_error + by_norm) * norm + bias  # at least that of any logit
        bound = by_error * float(self._error.max()) + by_norm * norm + rounding * size
        bound = bound * (1.0 + 2.0**-40) + (vanished + float(limits.tiny))
        return np.where(size < float(limits.max), bound, np.inf)

    def intervals(
        self, hidden: ArrayLike, first: int = 0, last: int | None = None
    ) -> tuple[Floats, Floats]:
        """Return bounds of the exact logits.

        Parameters
        ----------
        hidden : array_like, shape (N, D)
        first, last : int, optional
            The classes, ``range(first, last)``; by default all.

        Returns
        -------
        lower, upper : ndarray of float64, shape (N, last - first)
            The real number h . w + b is at least `lower` and at most `upper`; both
            are infinite where a logit may exceed the range of the sums.
        """
        end = self.n_classes if last is None else last
        begin = check_count(first, "first", 0, self.n_classes)
        end = check_count(end, "last", begin, self.n_classes)
        x, _ = self._hidden(hidden)
        lower, upper = np.empty((2, len(x), end - begin))
        for block in self._blocks(x):
            both = lower[block.where], upper[block.where]
            _core.quantised_intervals(self._compiled, block.hidden, begin, end, *both)
        return lower, upper

    @quietly
    def candidates(self, hidden: ArrayLike, k: int) -> Candidates:
        """Return every class of each row that may be among the k with the largest exact logits.

        Parameters
        ----------
        hidden : array_like, shape (N, D)
            In calls of more than four rows, they are rounded to 8 bits instead of 16.
        k : int
            From 1 to V.

        Returns
        -------
        indptr : ndarray of int64, shape (N + 1,)
            Row i has the elements from ``indptr[i]`` to ``indptr[i + 1]`` of the other arrays.
        ids : ndarray of int64
            The classes whose upper bound reaches the k-th largest lower bound, in rising order.
        lower, upper : ndarray of float64
            Their bounds.
        """
        x, _ = self._hidden(hidden)
        count = check_count(k, "k", 1, self.n_classes)
        rows = self._prepared(x, few_bits=len(x) > _FEW_ROWS)
        return Candidates(*_core.quantised_candidates(self._compiled, rows, count))

    @quietly
    def log_partition(self, hidden: ArrayLike) -> tuple[Floats, Floats]:
        """Return bounds of the logsumexp of the exact logits of each row.

        Returns
        -------
        lower, upper : ndarray of float64, shape (N,)
        """
        x = self._vectors(hidden)
        return self._passed(x, np.full(len(x), np.inf), None, False)[1:]

    @quietly
    def split(self, hidden: ArrayLike, threshold: ArrayLike) -> Split:
        """Return the classes whose upper bound exceeds a row's threshold, and sum up the rest.

        See `Screen.split`.
        """
        x = self._vectors(hidden)
        return self._passed(x, read_threshold(threshold, len(x)), None, False)

    def _split_at(self, x: Array, levels: Levels) -> Split:
        bar = np.full(len(x), -np.inf)
        return self._passed(x.astype(np.float64), bar, levels, len(x) > _FEW_ROWS)

    def _passed(self, x: Floats, bar: Floats, levels: Levels | None, few_bits: bool) -> Split:
        """Return the classes above a bar, and bounds of the rest, after one pass."""
        rows = self._prepared(x, few_bits)
        above, *rest = _core.quantised_split(self._compiled, rows, bar, levels)
        return Split(Candidates(*above), *rest)

    @quietly
    def winners(self, hidden: ArrayLike, key: int, first_row: int = 0) -> Winners:
        """Return every class that may have a row's largest sum of logit and Gumbel noise.

        See `Screen.winners`.
        """
        x, noise, first = self._vectors(hidden), check_key(key, "key"), check_first_row(first_row)
        rows = self._prepared(x, few_bits=len(x) > _FEW_ROWS)
        return Winners(*_core.quantised_winners(self._compiled, rows, False, noise, first))

    def _stored_winners(self, x: Floats, key: int) -> Winners:
        """Return the class with the largest sum for the weights as they are stored."""
        return Winners(*_core.quantised_winners(self._compiled, self._prepared(x), True, key, 0))

    # ---- files ----

    def save(self, path: FileName) -> None:
        """Write the layer to one ``.npz`` file, which appears only when complete."""
        write_mapped(path, self._kind, self._arrays())

    @classmethod
    def load(cls, path: FileName, *, verify: bool = True) -> Self:
        """Map what `save` wrote into memory, read-only.

        Parameters
        ----------
        path : str or path-like
            The file, which must not change while the layer is used.
        verify : bool, default True
            Whether to read all of it first, compare checksums and check every number. Without,
            loading takes no time, and a damaged file may give wrong results.

        Raises
        ------
        ValueError
            If the file is damaged or something else; the message names it.
        """
        checked = as_flag(verify, "verify")

        return map_npz(
            path, cls._kind, lambda arrays: cls._from_arrays(arrays, checked), verify=checked
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self)._from_arrays, (self._arrays(), False)

    def _arrays(self) -> dict[str, Array]:
        form, seed = self._format, -1 if self._rotation is None else self._rotation.seed
        floats = int(self._float_hidden)
        shape = (self.n_classes, self.n_features, form.bits, form.group, seed, floats)
        return {
            "form": np.array(shape, np.int64),
            "search": np.array((self._ratio, float(self._is_moderate))),
            **{name: getattr(self, f"_{name}") for name in _ARRAYS},
        }

    @classmethod
    def _from_arrays(cls, arrays: dict[str, Array], verify: bool) -> Self:
        if set(arrays) != {"form", "search", *_ARRAYS}:
            raise ValueError("not a quantised layer: its arrays are others")
        layer = cls.__new__(cls)
        form, search = (np.asarray(arrays[name]) for name in ("form", "search"))
        if form.shape != (6,) or form.dtype != np.int64 or search.shape != (2,):
            raise ValueError("not a quantised layer: no form")
        classes, features, bits, group, seed, floats = map(int, form)
        plain = group == 0 or (bits < 16 and group in range(8, 513, 8))
        if min(classes, features) < 1 or bits not in (4, 8, 16) or not plain or seed < -1:
            raise ValueError(f"not a quantised layer: no such form, {tuple(map(int, form))}")
        layer.n_classes, layer.n_features = classes, features
        layer._format, layer._float_hidden = Format(features, bits, group), bool(floats)
        for name, (shape, dtype) in layer._format.arrays(classes).items():
            array = arrays[name]
            if array.shape != shape or array.dtype != dtype or not array.flags.c_contiguous:
                raise ValueError(f"not a quantised layer: {name} does not fit its form")
            if verify and name in ("scale", "error", "norm") and not np.all(array >= 0):
                raise ValueError(f"not a quantised layer: {name} is negative or NaN")
            setattr(layer, f"_{name}", array)
        if verify and not np.isfinite(layer._bias).all():
            raise ValueError("not a quantised layer: a bias is not finite")
        layer._rotation = None if seed < 0 else Rotation(features, seed)
        layer._ratio, layer._is_moderate = float(search[0]), bool(search[1])
        if verify:
            layer._summarize()
        return layer

    def __repr__(self) -> str:
        form = self._format
        what = 'dtype="bfloat16"' if form.bits == 16 else f"bits={form.bits}"
        return f"{type(self).__name__}({self.n_classes}, {self.n_features}, {what})"

    # ---- the work ----

    @quietly
    def _hidden(self, hidden: ArrayLike) -> tuple[Floats, np.dtype[Any]]:
        """Return finite hidden vectors in float64, and the dtype of results."""
        given = real_array(hidden, "hidden")
        short = given.dtype.kind not in "biu" and given.dtype.itemsize <= 4
        x = read_hidden(given, self.n_features, np.dtype(np.float64))
        size = np.abs(x).max(axis=1, initial=0.0)
        _refuse_rows(size <= _LARGEST_HIDDEN, "hidden must be finite and at most 1e100")
        return x, np.dtype(np.float32 if short else np.float64)

    def _vectors(self, hidden: ArrayLike) -> Array:
        return self._hidden(hidden)[0]

    def _blocks(self, x: Floats) -> Iterator[_Block]:
        """Yield hidden vectors, prepared for the stored weights, in blocks."""
        for start in range(0, len(x), _ROWS):
            where = slice(start, min(start + _ROWS, len(x)))
            yield _Block(where, where.stop - start, self._prepared(x[where]))

    @quietly
    def _prepared(self, x: Floats, few_bits: bool = False) -> _core.QuantisedRows:
        return _core.QuantisedRows(self._compiled, *self._rotated(x), few_bits)

    def _rotated(self, x: Floats) -> tuple[Floats, float]:
        """Return vectors as the stored weights see them, and their relative error."""
        if self._rotation is None:
            return x, 0.0
        return np.ascontiguousarray(self._rotation(x)), self._rotation.error

    @property
    def _compiled(self) -> tuple[Any, ...]:
        """The layer as compiled functions take it."""
        form = self._format
        shape = (self.n_classes, self.n_features, form.width, form.section, form.groups)
        arrays = (self._codes, self._scale, self._error, self._norm, self._bias)
        search = (self._bias_above, self._ratio, self._is_moderate)
        return (form.bits, *shape, *arrays, *search, self._float_hidden)

    def _tiles(self, rows: int) -> Iterator[slice]:
        step = max(_TILE // rows // LANES, 1) * LANES
        for start in range(0, self.n_classes, step):
            yield slice(start, min(start + step, self.n_classes))

    @quietly
    def _totals(self, block: _Block, **wanted: Any) -> Totals:
        """Return the totals of the logits of all classes."""
        totals = Totals(block.rows, **wanted)
        for tile in self._tiles(block.rows):
            _add_tile(totals, self._centers(block, tile), tile.start)
        return totals

    def _centers(self, block: _Block, tile: slice) -> Floats:
        """Return the logits of the stored weights."""
        z = np.empty((block.rows, tile.stop - tile.start))
        _core.quantised_centers(self._compiled, block.hidden, tile.start, tile.stop, z)
        return z


class _Block(NamedTuple):
    """Some hidden vectors, and where they are among all."""

    where: slice
    rows: int
    hidden: _core.QuantisedRows


def _refuse_rows(good: NDArray[np.bool_], what: str) -> None:
    """Raise for the first row that is not good."""
    if not good.all():
        raise ValueError(f"{what}; it is not{at_place((int(good.argmin()),))}")


def _add_tile(totals: Totals, s: Array, first: int) -> None:
    shares = NO_SHARES.of((), slice(0, 0), s.dtype)
    _core.linear_add_tile(s, first, None, 1.0, 0.0, shares, totals.columns, totals.top)
