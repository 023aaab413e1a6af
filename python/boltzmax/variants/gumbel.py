"""Softmax with Gumbel noise, and its layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import (
    LARGEST_TEMPERATURE,
    LEAST_TEMPERATURE,
    as_flag,
    as_input,
    as_number,
    axis_with_classes,
    check_count,
    check_positive,
    check_temperature,
    checked_out,
    normalized_axes,
    one_of,
    quietly,
    row_temperature,
)
from boltzmax._lib.numbers import gradient_dtype
from boltzmax._lib.random import check_first_row, random_key
from boltzmax._lib.same_kind import same_kind
from boltzmax.arrays.calls import Call, read_call
from boltzmax.variants.calls import map_of_call

Array = NDArray[Any]

NOISES = ("gumbel", "normal")


@same_kind
@quietly
def gumbel_softmax(
    logits: ArrayLike,
    axis: Any = -1,
    *,
    temperature: ArrayLike = 1.0,
    hard: bool = False,
    noise: str = "gumbel",
    rng: Any = None,
    first_row: int = 0,
    return_soft: bool = False,
    where: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
    out: Array | None = None,
) -> Any:
    """Softmax of scores with random noise: softmax((logits + g) / temperature).

    With Gumbel noise, the largest element of a result is class i with probability
    softmax(logits)_i, at every temperature. As the temperature falls, the results tend to one-hot
    vectors, which are draws from softmax(logits); as it rises, to the uniform distribution.

    Parameters
    ----------
    logits : array_like
        Scores of any real dtype.
    axis : int, tuple of int or None, default -1
        The class axis or axes; None takes all axes as one row.
    temperature : float or array_like, default 1.0
        At least 0; an array has one number for each row. At 0, the result is 1 at the largest
        perturbed score and 0 elsewhere.
    hard : bool, default False
        Return that one-hot vector at every temperature. The gradient passes *straight through* to
        the probabilities: `gumbel_softmax_backward` takes those.
    noise : {"gumbel", "normal"}, default "gumbel"
        With "normal", standard normal noise is added instead. Texts on noisy softmax do so, but
        then the largest elements are *not* draws from softmax(logits): the noise has thinner
        tails and half the variance, and likely classes are drawn too often.
    rng : int, numpy.random.Generator or None
        An int is the key of the noise, from 0 to 2**64 - 1: the same key gives the same noise. A
        generator yields a key for each call, and None takes one from the system.
    first_row : int, default 0
        The number of the first row, modulo 2**64. The noise depends on the key, the number of the
        row and the index of the element in it, and on nothing else: a batch that is split into
        several calls has the same noise if each call states its first row.
    return_soft : bool, default False
        Return the probabilities too, for the gradient of a hard result. Without `hard`, they are
        the same array.
    where : array_like of bool, optional
        False leaves an element out: its result is 0.
    dtype : dtype, optional
        The dtype of the computation and of the result; by default that of `logits`, or float64
        for integers.
    out : ndarray, optional
        The result, with the shape of `logits`.

    Returns
    -------
    ndarray, or (ndarray, ndarray)
        The result; with `return_soft`, also the probabilities. A row with NaN, with +inf, or
        without a finite score is NaN, and 0 where masked.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; nothing is written then.

    See Also
    --------
    gumbel_softmax_backward : The gradient.
    gumbel_max : Draws as class ids, without computing probabilities.

    Notes
    -----
    The noise is g = -log(-log(1 - w)) for a uniform w from Philox4x32-10 [3]_, whose spacing is at
    most 2^-20 of w itself: g is from -3.81 to 45.06. In float32 its error is at most 2^-21
    max(1, abs(g)), and the perturbed scores, (logits - max) + g, are rounded once more; so their
    largest elements are the same on every instruction set unless two are closer than that.

    References
    ----------
    .. [1] E. Jang, S. Gu, B. Poole, "Categorical reparameterization with Gumbel-softmax", ICLR
       2017.
    .. [2] C. J. Maddison, A. Mnih, Y. W. Teh, "The concrete distribution", ICLR 2017.
    .. [3] J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as
       1, 2, 3", SC 2011.

    Examples
    --------
    >>> import boltzmax
    >>> y = boltzmax.gumbel_softmax([1.0, 2.0, 3.0], temperature=0.5, rng=7)
    >>> float(round(y.sum(), 12))
    1.0
    >>> boltzmax.gumbel_softmax([1.0, 2.0, 3.0], hard=True, rng=7).sum()
    np.float64(1.0)
    """
    plain_noise = type(noise) is str and noise == "gumbel" and type(rng) is int
    if plain_noise and hard is False and return_soft is False:
        y = _core.map_rows("gumbel_softmax", logits, axis, where, temperature, dtype, out,
                           0.0, 0, rng, first_row)  # fmt: skip
        if y is not None:
            return y
    call = read_call("gumbel_softmax", as_input(logits, "logits"), axis, where, temperature, dtype)
    hard, return_soft = as_flag(hard, "hard"), as_flag(return_soft, "return_soft")
    options = {
        "count": NOISES.index(one_of(noise, "noise", NOISES)),
        "first_row": check_first_row(first_row),
    }
    if out is not None:
        checked_out(out, call.x.shape, call.dtype)
    options["key"] = random_key(rng)
    if not hard:
        y = _soft(call, out, options)
        return (y, y) if return_soft else y
    soft = _soft(call, None, options) if return_soft else None
    y = _one_hot(call, out, options)
    return (y, soft) if return_soft else y


def _soft(call: Call, out: Array | None, options: dict[str, int]) -> Any:
    """Return the probabilities; rows of temperature 0 are one-hot."""
    if not call.has_zero_temperature:
        return map_of_call("gumbel_softmax", call, out, **options)
    t = call.temperature
    assert t is not None
    cold = np.expand_dims(t == 0.0, call.axes)
    warm = call._replace(temperature=np.where(t == 0.0, 1.0, t))
    y = np.where(cold, _one_hot(call, None, options),
                 map_of_call("gumbel_softmax", warm, None, **options))  # fmt: skip
    if out is None:
        return y[()]
    out[...] = y
    return out


def _one_hot(call: Call, out: Array | None, options: dict[str, int]) -> Any:
    return map_of_call("gumbel_softmax", call._replace(temperature=None), out, **options, flag=True)


@same_kind
@quietly
def gumbel_softmax_backward(
    dy: ArrayLike,
    y_soft: ArrayLike,
    axis: Any = -1,
    *,
    temperature: ArrayLike = 1.0,
    out: Array | None = None,
) -> Any:
    """Gradient of `gumbel_softmax` by the logits: y (dy - sum(y dy)) / temperature.

    Parameters
    ----------
    dy : array_like
        The gradient by the result.
    y_soft : array_like
        The probabilities. For a hard result, too: then this is the straight-through estimator.
    axis : int, tuple of int or None, default -1
        As in the forward call.
    temperature : float or array_like, default 1.0
        As in the forward call. Where it is 0, the result does not change with the logits, and the
        gradient is 0.
    out : ndarray, optional
        The result, with the shape of `dy`.

    Returns
    -------
    ndarray
        The gradient, with the common dtype of `dy` and `y_soft`.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; nothing is written then.

    See Also
    --------
    gumbel_softmax : The forward call.

    Examples
    --------
    >>> import boltzmax
    >>> y, y_soft = boltzmax.gumbel_softmax([1.0, 2.0], hard=True, rng=7, return_soft=True)
    >>> dx = boltzmax.gumbel_softmax_backward([1.0, 0.0], y_soft)
    >>> float(round(dx.sum(), 12))
    0.0
    """
    y = as_input(y_soft, "y_soft", "pass its data")
    axes = normalized_axes(axis, y.ndim)
    t = row_temperature(temperature, y, axes)
    if t is None:
        return _core.softmax_backward(dy, y, axes, out=out)
    gradient = as_input(dy, "dy", "pass its data")
    dtype = gradient_dtype("gumbel_softmax_backward", gradient, y, "y_soft")
    if out is not None:
        checked_out(out, y.shape, dtype)
    # In at least float32, so that the quotient is rounded once.
    wide = np.result_type(dtype, np.float32) if dtype.kind == "f" else np.dtype(np.float32)
    dx = _core.softmax_backward(gradient.astype(wide), y.astype(wide), axes)
    t = np.expand_dims(t, axes)
    result = np.where(t == 0.0, 0.0, dx / np.where(t == 0.0, 1.0, t)).astype(dtype)
    if out is None:
        return result[()] if result.ndim == 0 else result
    out[...] = result
    return out


class GumbelSoftmax:
    """`gumbel_softmax` as a layer that remembers what its gradient needs.

    The rows of all calls are numbered on, so that no two have the same noise, and a batch has the
    same noise as its parts in a row of calls.

    Parameters
    ----------
    temperature : float, default 1.0
        At least 0.
    hard : bool, default False
        Return one-hot vectors; the gradient is the straight-through estimator.
    noise : {"gumbel", "normal"}, default "gumbel"
        As for `gumbel_softmax`.
    num_classes : int, optional
        The number of classes that logits must have.
    rng : int, numpy.random.Generator or None
        An int is the key of the noise; a generator or None yields one now.

    Attributes
    ----------
    temperature : float
        For the next call.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.

    See Also
    --------
    gumbel_softmax : The function.

    Examples
    --------
    >>> import boltzmax
    >>> layer = boltzmax.GumbelSoftmax(temperature=2.0, rng=0)
    >>> y = layer([[1.0, 2.0, 3.0]])
    >>> layer.backward([[1.0, 0.0, 0.0]]).shape
    (1, 3)
    >>> layer.anneal(0.5, 0.1)
    1.0
    """

    def __init__(
        self,
        temperature: float = 1.0,
        hard: bool = False,
        noise: str = "gumbel",
        num_classes: int | None = None,
        rng: Any = None,
    ) -> None:
        self.temperature = check_temperature(temperature, or_0=True)
        self.hard = as_flag(hard, "hard")
        self.noise = one_of(noise, "noise", NOISES)
        self.num_classes = num_classes
        if num_classes is not None:
            self.num_classes = check_count(num_classes, "num_classes", 1)
        self._key = random_key(rng)
        self._rng = None if rng is None or isinstance(rng, np.random.Generator) else self._key
        self._next_row = 0
        self._last: tuple[Array, int, float] | None = None

    def __call__(self, logits: ArrayLike, axis: int = -1, *, where: ArrayLike | None = None) -> Any:
        """Return `gumbel_softmax` of the logits, with the noise of the next rows.

        Parameters
        ----------
        logits : array_like
            Scores of any real dtype.
        axis : int, default -1
            The class axis.
        where : array_like of bool, optional
            False leaves an element out.

        Returns
        -------
        ndarray
            With the shape of `logits`.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit, or there are not `num_classes` classes.
        """
        array = as_input(logits, "logits")
        along = axis_with_classes(array.shape, axis, "logits")
        classes = array.shape[along]
        if self.num_classes not in (None, classes):
            raise ValueError(
                f"logits must have {self.num_classes} classes on axis {axis}, got {classes}"
            )
        y, soft = gumbel_softmax(
            array,
            along,
            temperature=self.temperature,
            hard=self.hard,
            noise=self.noise,
            rng=self._key,
            first_row=self._next_row,
            return_soft=True,
            where=where,
        )
        self._next_row += array.size // classes
        self._last = np.array(soft), along, self.temperature  # the caller may write to y
        return y

    def backward(self, dy: ArrayLike) -> Any:
        """Return the gradient by the logits of the last call.

        Parameters
        ----------
        dy : array_like
            The gradient by the result of that call.

        Returns
        -------
        ndarray
            With the shape of `dy`.

        Raises
        ------
        RuntimeError
            If there was no call yet.
        TypeError, ValueError
            If `dy` does not fit.
        """
        if self._last is None:
            raise RuntimeError("backward needs the result of a call: call the layer first")
        soft, axis, temperature = self._last
        return gumbel_softmax_backward(dy, soft, axis, temperature=temperature)

    def anneal(self, rate: float, minimum: float) -> float:
        """Multiply the temperature by `rate`, but keep it at least `minimum`, and return it.

        Parameters
        ----------
        rate : float
            Above 0.
        minimum : float
            At least 0.

        Returns
        -------
        float
            max(minimum, temperature * rate)

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit.

        Examples
        --------
        >>> import boltzmax
        >>> boltzmax.GumbelSoftmax(temperature=1.0).anneal(0.3, 0.5)
        0.5
        """
        factor = check_positive(rate, "rate")
        least = 0.0 if as_number(minimum, "minimum") == 0.0 else check_positive(minimum, "minimum")
        lower = max(least, self.temperature * factor)
        self.temperature = min(lower, LARGEST_TEMPERATURE) if lower >= LEAST_TEMPERATURE else 0.0
        return self.temperature

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of a layer like this one.

        Returns
        -------
        dict
            For `from_config`. ``"rng"`` is the key if the layer was given one, else None.
        """
        return {
            "temperature": self.temperature,
            "hard": self.hard,
            "noise": self.noise,
            "num_classes": self.num_classes,
            "rng": self._rng,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> GumbelSoftmax:
        """Return a new layer with these arguments.

        Parameters
        ----------
        config : dict
            From `get_config`.

        Returns
        -------
        GumbelSoftmax
            It numbers its rows from 0.

        Examples
        --------
        >>> import boltzmax
        >>> config = boltzmax.GumbelSoftmax(0.5, hard=True).get_config()
        >>> boltzmax.GumbelSoftmax.from_config(config).temperature
        0.5
        """
        return cls(**config)
