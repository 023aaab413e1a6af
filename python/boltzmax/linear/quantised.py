r"""A linear layer whose weights are stored in few bits, with bounds of every logit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import as_flag, as_integer, check_count, one_of, quietly
from boltzmax._lib.bad_rows import at_place
from boltzmax._lib.files import FileName, load_npz, write_npz
from boltzmax._lib.numbers import per_class, real_array
from boltzmax._lib.output_layer import Classes, read_hidden, read_target
from boltzmax.linear.codes import LANES, Format, decode, encode, norms
from boltzmax.linear.rotation import Rotation
from boltzmax.linear.scores import NO_SHARES, Totals
from boltzmax.screens.screen import Candidates, Screen

Array = NDArray[Any]
Floats = NDArray[np.float64]

_TILE = 2**18  # numbers in a tile of weights or of logits
_LARGEST_NORM = 3e38  # of a row of weights
_LARGEST_HIDDEN = 1e100
_TINY = 1e-300


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
    stored, not only in theory. With bfloat16 weights, hidden vectors are float32, and the rounding
    of float32 sums, at most :math:`(D + 2) 2^{-24} \|h\| \|\tilde w\|`, takes the place of the
    second term.

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
    ) -> None:
        w = real_array(weight, "weight")
        if w.ndim != 2 or not w.size:
            raise ValueError(f"weight must be (V, D) with V, D > 0, got shape {w.shape}")
        form = _read_format(w.shape[1], bits, scheme, group, dtype)
        blocks = -(-len(w) // LANES)
        shape, stored = form.stored
        self._format = form
        self.n_classes, self.n_features = w.shape
        self._rotation = _read_rotation(rotate, self.n_features)
        self._codes = np.empty((blocks, *shape), stored)
        self._scale = np.empty((blocks, form.groups, LANES), np.float32)
        self._error, self._norm = np.empty((2, blocks * LANES), np.float32)
        self._bias = np.zeros(blocks * LANES)
        if bias is not None:
            self._bias[: self.n_classes] = per_class(bias, self.n_classes, "bias")
            _refuse_rows(np.isfinite(self._bias), "bias must be finite", 0)
        self._has_bias = bias is not None
        rows = max(_TILE // form.width, 1) // LANES * LANES or LANES
        for start in range(0, self.n_classes, rows):
            self._encode(w[start : start + rows], start)

    def _encode(self, w: Array, start: int) -> None:
        """Store some rows of weights."""
        exact = w.astype(np.float64)
        of_rows = norms(exact)
        _refuse_rows(
            of_rows <= _LARGEST_NORM, "weight must be finite, with norms up to 3e38", start
        )
        rounding = 0.0
        if self._rotation is not None:
            exact, rounding = self._rotation(exact), self._rotation.error
        found = encode(self._format, exact, rounding)
        where = slice(start, start + len(found.error))
        of_block = slice(start // LANES, where.stop // LANES)
        self._codes[of_block], self._scale[of_block] = found.codes, found.scale
        self._error[where], self._norm[where] = found.error, found.norm

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

    # ---- logits ----

    def logits(self, hidden: ArrayLike) -> Array:
        """Return the logits of the stored weights, (N, V)."""
        x, dtype = self._hidden(hidden)
        return self._centers(x, 0, self.n_classes).astype(dtype)

    def logsumexp(self, hidden: ArrayLike) -> Array:
        """Return the logsumexp of the logits of each row, (N,)."""
        x, dtype = self._hidden(hidden)
        return self._totals(x).lse.astype(dtype)

    def log_prob(self, hidden: ArrayLike, target: ArrayLike) -> Array:
        """Return log p(target) of each row, (N,).

        Raises
        ------
        IndexError
            For a target that is not a class; the message names the first.
        """
        x, dtype = self._hidden(hidden)
        totals = self._totals(x, label=read_target(target, len(x), self.n_classes))
        return (totals.own - totals.from_reference).astype(dtype)

    def topk(self, hidden: ArrayLike, k: int) -> tuple[Classes, Array]:
        """Return the k likeliest classes of each row, and their log-probabilities, both (N, k).

        They are those of the stored weights, which `candidates` are sure to contain, but which may
        differ from those of the exact weights.
        """
        x, dtype = self._hidden(hidden)
        totals = self._totals(x, top=check_count(k, "k", 1, self.n_classes))
        _core.linear_finish_top(totals.columns, totals.top)
        return totals.ids, totals.scores.astype(dtype)

    # ---- bounds ----

    def error_bound(self, hidden: ArrayLike) -> Floats:
        """Return a bound of ``|logit - exact logit|`` for all classes of each row, (N,).

        `intervals` are narrower for most classes.
        """
        x, dtype = self._hidden(hidden)
        _, relative, absolute = self._hidden_bounds(x)
        size = np.abs(self._bias).max()
        largest = relative * self._error.max() + absolute * self._norm.max() + size * 2.0**-50
        norm = float(self._norm.max())
        rounding = 2.0**-24 if dtype == np.float32 else 0.0
        return (largest + rounding * (relative * norm + size)) * (1.0 + 2.0**-40) + _TINY

    def intervals(
        self, hidden: ArrayLike, first: int = 0, last: int | None = None
    ) -> tuple[Floats, Floats]:
        """Return bounds of the exact logits of the classes from `first` to `last`, (N, last - first)."""
        end = self.n_classes if last is None else last
        begin = check_count(first, "first", 0, self.n_classes)
        end = check_count(end, "last", begin, self.n_classes)
        x, _ = self._hidden(hidden)
        return self._intervals(x, begin, end)

    @quietly
    def candidates(self, hidden: ArrayLike, k: int) -> Candidates:
        """Return every class of each row that may be among the k with the largest exact logits."""
        x, _ = self._hidden(hidden)
        count = check_count(k, "k", 1, self.n_classes)
        found: list[tuple[Array, Array, Array]] = []
        for row in x:
            ids, lower, upper = (np.empty(0, t) for t in (np.int64, np.float64, np.float64))
            for tile in self._tiles(1):
                low, high = self._intervals(row[None], tile.start, tile.stop)
                ids = np.append(ids, np.arange(tile.start, tile.stop))
                lower, upper = np.append(lower, low), np.append(upper, high)
                if len(ids) > count:
                    keep = upper >= np.partition(lower, -count)[-count]
                    ids, lower, upper = ids[keep], lower[keep], upper[keep]
            found.append((ids, lower, upper))
        indptr = np.cumsum([0, *(len(ids) for ids, _, _ in found)])
        return Candidates(indptr, *(np.concatenate([*part]) for part in zip(*found, strict=True)))

    @quietly
    def log_partition(self, hidden: ArrayLike) -> tuple[Floats, Floats]:
        """Return bounds of the logsumexp of the exact logits of each row, both (N,)."""
        x, _ = self._hidden(hidden)
        bounds = [Totals(len(x)), Totals(len(x))]
        for tile in self._tiles(len(x)):
            for totals, s in zip(bounds, self._intervals(x, tile.start, tile.stop), strict=True):
                _add_tile(totals, s, tile.start)
        lower, upper = (totals.lse for totals in bounds)
        return lower - _rounding(lower), upper + _rounding(upper)

    # ---- files ----

    def save(self, path: FileName) -> None:
        """Write the layer to one ``.npz`` file, which appears only when complete."""
        write_npz(path, self._kind, self._arrays())

    @classmethod
    def load(cls, path: FileName, *, verify: bool = True) -> Self:
        """Read what `save` wrote."""
        as_flag(verify, "verify")
        return load_npz(path, cls._kind, cls._from_arrays)

    def _arrays(self) -> dict[str, Array]:
        form, seed = self._format, -1 if self._rotation is None else self._rotation.seed
        shape = (self.n_classes, self.n_features, form.bits, form.group, self._has_bias, seed)
        return {
            "form": np.array(shape, np.int64),
            "codes": self._codes,
            "scale": self._scale,
            "error": self._error,
            "norm": self._norm,
            "bias": self._bias,
        }

    @classmethod
    def _from_arrays(cls, arrays: dict[str, Array]) -> Self:
        layer = cls.__new__(cls)
        classes, features, bits, group, has_bias, seed = map(int, arrays["form"])
        layer.n_classes, layer.n_features = classes, features
        layer._format, layer._has_bias = Format(features, bits, group), bool(has_bias)
        layer._rotation = None if seed < 0 else Rotation(features, seed)
        layer._codes, layer._scale = arrays["codes"], arrays["scale"]
        layer._error, layer._norm, layer._bias = arrays["error"], arrays["norm"], arrays["bias"]
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
        _refuse_rows((np.abs(x) <= _LARGEST_HIDDEN).all(axis=1), "hidden must be at most 1e100", 0)
        return x, np.dtype(np.float32 if short else np.float64)

    def _vectors(self, hidden: ArrayLike) -> Array:
        return self._hidden(hidden)[0]

    def _tiles(self, rows: int) -> Iterator[slice]:
        step = max(_TILE // max(rows, 1) // LANES, 1) * LANES
        for start in range(0, self.n_classes, step):
            yield slice(start, min(start + step, self.n_classes))

    @quietly
    def _totals(self, x: Floats, **wanted: Any) -> Totals:
        """Return the totals of the logits of all classes."""
        totals = Totals(len(x), **wanted)
        for tile in self._tiles(len(x)):
            _add_tile(totals, self._centers(x, tile.start, tile.stop), tile.start)
        return totals

    def _hidden_bounds(self, x: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the hidden vectors as stored weights see them, ||h||, and what multiplies ||w~||."""
        y, rounding = x, 0.0
        if self._rotation is not None:
            y, rounding = self._rotation(x), self._rotation.error
        size = np.abs(y).max(axis=1, initial=0.0)
        if self._format.bits == 16:
            near, eta = y.astype(np.float32).astype(np.float64), (self.n_features + 2) * 2.0**-24
        else:
            t = (size / 32639).astype(np.float32).astype(np.float64)[:, None]
            p = np.rint(np.divide(y, t, out=np.zeros_like(y), where=t > 0)).clip(-32639, 32639)
            near, eta = t * p, (self._format.groups + 4) * 2.0**-52
        norm = _scaled_norms(x)
        rest = _scaled_norms(y - near) + rounding * norm
        return near, norm, (rest + eta * (norm + rest)) * (1.0 + 2.0**-50)

    @quietly
    def _centers(self, x: Floats, first: int, last: int) -> Floats:
        near, _, _ = self._hidden_bounds(x)
        of_block = slice(first // LANES, -(-last // LANES))
        w = decode(self._format, self._codes[of_block], self._scale[of_block])
        begin = first - of_block.start * LANES
        return near @ w[begin : begin + last - first].T + self._bias[first:last]

    @quietly
    def _intervals(self, x: Floats, first: int, last: int) -> tuple[Floats, Floats]:
        _, norm, absolute = self._hidden_bounds(x)
        centers = self._centers(x, first, last)
        some = slice(first, last)
        radius = norm[:, None] * self._error[some] + absolute[:, None] * self._norm[some]
        radius += np.abs(self._bias[some]) * 2.0**-50
        radius = radius * (1.0 + 2.0**-45) + np.abs(centers) * 2.0**-48 + _TINY
        return centers - radius, centers + radius


def _read_format(width: int, bits: int, scheme: str, group: int, dtype: str) -> Format:
    stored = one_of(dtype, "dtype", ("int8", "bfloat16"))
    number = as_integer(bits, "bits")
    if number not in (4, 8):
        raise ValueError(f"bits must be 8 or 4, got {number}")
    by_group = one_of(scheme, "scheme", ("per_row", "per_group")) == "per_group"
    size = check_count(group, "group", 8, 512)
    if size % 8:
        raise ValueError(f"group must be a multiple of 8, got {size}")
    if stored == "bfloat16":
        if number != 8 or by_group:
            raise ValueError("bfloat16 has neither bits nor groups")
        return Format(width, 16, 0)
    return Format(width, number, size if by_group else 0)


def _read_rotation(rotate: bool | int, width: int) -> Rotation | None:
    if isinstance(rotate, bool | np.bool_):
        return Rotation(width, 0) if rotate else None
    return Rotation(width, check_count(rotate, "rotate", 0, 2**62))


def _refuse_rows(good: NDArray[np.bool_], what: str, start: int) -> None:
    """Raise for the first row that is not good."""
    if not good.all():
        row = start + int(good.argmin())
        raise ValueError(f"{what}; it is not{at_place((row,))}")


def _add_tile(totals: Totals, s: Array, first: int) -> None:
    shares = NO_SHARES.of((), slice(0, 0), s.dtype)
    _core.linear_add_tile(s, first, None, 1.0, 0.0, shares, totals.columns, totals.top)


def _scaled_norms(x: Floats) -> Floats:
    """Return upper bounds of the norms of rows of any size."""
    _, exponent = np.frexp(np.abs(x).max(axis=1, initial=0.0))
    return np.ldexp(norms(np.ldexp(x, -exponent[:, None])), exponent)


def _rounding(lse: Floats) -> Floats:
    """Return a bound of the error of a logsumexp in float64."""
    return 1e-11 + np.abs(lse) * 2.0**-44
