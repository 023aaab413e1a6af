"""The steps from logits to the distribution that a class is drawn from.

A step is a small immutable object. Its numbers are scalars or one for each row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import (
    LARGEST_TEMPERATURE,
    LEAST_TEMPERATURE,
    as_input,
    as_integer,
    as_number,
    is_real,
    one_of,
    quietly,
)
from boltzmax._lib.bad_rows import at_place
from boltzmax._lib.numbers import as_float64, real_numbers

Floats = NDArray[np.float64]
Numbers = float | Floats


class Line(NamedTuple):
    """A step as the compiled code reads it: its name, its numbers and its rule."""

    name: str
    number: Numbers
    other: Numbers = 0.0
    rule: int = 0


@quietly
def read_numbers(value: ArrayLike, name: str, allowed: str, low: float, high: float) -> Numbers:
    """Return one number, or one per row, from `low` to `high`; `allowed` says so in messages."""
    array = _real(value, name)
    good = (array >= low) & (array <= high)
    if not good.all():
        place = np.argwhere(~good)[0]
        raise ValueError(f"{name} must be {allowed}, got {array[tuple(place)]:g}{at_place(place)}")
    if array.ndim == 0:
        return float(array)
    array.flags.writeable = False
    return array


def _real(value: ArrayLike, name: str) -> Floats:
    """Return a new array of real numbers in float64."""
    if np.ndim(value) == 0:
        return np.array(as_number(value, name), np.float64)
    array = as_input(value, name, "pass its data")
    if not is_real(array.dtype) or array.dtype == np.bool_:
        raise TypeError(f"{name} must be a number or one per row, got {value!r}")
    return as_float64(array).copy()


_LEAST = math.ulp(0.0)  # the least number above 0
_BELOW_1 = math.nextafter(1.0, 0.0)


@dataclass(frozen=True, eq=False)
class Step:
    """What all steps have."""

    def line(self) -> Line:
        """Return the step as the compiled code reads it."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the step, arrays as lists."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return the step that `get_config` described."""
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        """Return whether the other is the same step."""
        return (
            isinstance(other, Step)
            and type(self) is type(other)
            and (self.get_config() == other.get_config())
        )

    def __hash__(self) -> int:
        """Return a hash of the step."""
        return hash((type(self), repr(self.get_config())))

    def _set(self, name: str, value: Any) -> None:
        """Set a field while the step is made."""
        object.__setattr__(self, name, value)


@dataclass(frozen=True, eq=False)
class Temperature(Step):
    """Divide the logits by a temperature.

    Parameters
    ----------
    temperature : float or array_like
        0, or from 1e-30 to 1e30. At 0 only the largest logit is left, and among equal ones that
        with the lowest id.

    Examples
    --------
    >>> from boltzmax.sampling import Chain, Temperature
    >>> Chain([Temperature(0.5)]).filter_logits([3.0, 2.0, 1.0])
    array([6., 4., 2.])
    """

    temperature: Any

    def __post_init__(self) -> None:
        """Check the temperature."""
        allowed = f"0, or from {LEAST_TEMPERATURE:g} to {LARGEST_TEMPERATURE:g}"
        t = read_numbers(self.temperature, "temperature", allowed, 0.0, LARGEST_TEMPERATURE)
        least = np.where(np.asarray(t) == 0.0, LEAST_TEMPERATURE, t)
        read_numbers(least, "temperature", allowed, LEAST_TEMPERATURE, LARGEST_TEMPERATURE)
        self._set("temperature", t)

    def line(self) -> Line:
        """Return the step as the compiled code reads it."""
        return Line("temperature", self.temperature)


@dataclass(frozen=True, eq=False)
class TopK(Step):
    """Keep the k largest logits.

    Parameters
    ----------
    k : int or array_like
        At least 1.
    ties : {"lowest", "all"}, default "lowest"
        Of equal logits on the border, the lowest ids are kept, so that exactly k are left; or all.

    Examples
    --------
    >>> from boltzmax.sampling import Chain, TopK
    >>> Chain([TopK(2)]).filter_logits([3.0, 2.0, 1.0, 2.0])
    array([  3.,   2., -inf, -inf])
    """

    k: Any
    ties: str = "lowest"

    def __post_init__(self) -> None:
        """Check k and the rule."""
        one_of(self.ties, "ties", ("lowest", "all"))
        if np.ndim(self.k) == 0:
            k: Any = as_integer(self.k, "k")
        else:
            k = as_input(self.k, "k", "pass its data")
            if k.dtype.kind not in "iu":
                raise TypeError(f"k must be an integer or one per row, got dtype {k.dtype}")
        allowed = "at least 1"
        self._set("k", read_numbers(k, "top_k", allowed, 1.0, math.inf))

    def line(self) -> Line:
        """Return the step as the compiled code reads it."""
        return Line("top_k", self.k, rule=int(self.ties == "all"))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the step, arrays as lists."""
        k = np.asarray(self.k).astype(np.int64).tolist() if np.ndim(self.k) else int(self.k)
        return {"k": k, "ties": self.ties}


@dataclass(frozen=True, eq=False)
class TopP(Step):
    """Keep the smallest set of the likeliest classes whose probability is at least p.

    Parameters
    ----------
    p : float or array_like
        Above 0 and at most 1. Of equal logits on the border, the lowest ids are kept.

    Examples
    --------
    >>> from boltzmax.sampling import Chain, TopP
    >>> Chain([TopP(0.7)]).filter_logits([3.0, 2.0, 1.0, 0.0])
    array([  3.,   2., -inf, -inf])
    """

    p: Any

    def __post_init__(self) -> None:
        """Check p."""
        self._set("p", read_numbers(self.p, "top_p", "in (0, 1]", _LEAST, 1.0))

    def line(self) -> Line:
        """Return the step as the compiled code reads it."""
        return Line("top_p", self.p)


@dataclass(frozen=True, eq=False)
class MinP(Step):
    """Keep the classes whose probability is at least p times the largest one.

    Parameters
    ----------
    p : float or array_like
        From 0 to 1.
    rule : {"ratio", "log"}, default "ratio"
        Whether exp(z - max) is compared with p, or z with max + log p: they differ by rounding.

    Examples
    --------
    >>> from boltzmax.sampling import Chain, MinP
    >>> Chain([MinP(0.2)]).filter_logits([3.0, 2.0, 1.0])
    array([  3.,   2., -inf])
    """

    p: Any
    rule: str = "ratio"

    def __post_init__(self) -> None:
        """Check p and the rule."""
        one_of(self.rule, "rule", ("ratio", "log"))
        self._set("p", read_numbers(self.p, "min_p", "in [0, 1]", 0.0, 1.0))

    def line(self) -> Line:
        """Return the step as the compiled code reads it."""
        return Line("min_p", self.p, rule=int(self.rule == "log"))


@dataclass(frozen=True, eq=False)
class TypicalP(Step):
    """Keep the classes whose information, -log p, is nearest to the entropy.

    Parameters
    ----------
    mass : float or array_like
        Their probability: above 0 and at most 1.
    rule : {"transformers", "llama.cpp"}, default "transformers"
        Stop when the probability is at least `mass`, and keep classes that are as near as the
        last one; or stop when it exceeds `mass`. The latter takes, of two classes that are equally
        near, first the likelier one.

    Examples
    --------
    >>> from boltzmax.sampling import Chain, TypicalP
    >>> Chain([TypicalP(0.2)]).filter_logits([3.0, 2.0, 1.0, 0.0])
    array([-inf,   2., -inf, -inf])
    """

    mass: Any
    rule: str = "transformers"

    def __post_init__(self) -> None:
        """Check the mass and the rule."""
        one_of(self.rule, "rule", ("transformers", "llama.cpp"))
        self._set("mass", read_numbers(self.mass, "typical_p", "in (0, 1]", _LEAST, 1.0))

    def line(self) -> Line:
        """Return the step as the compiled code reads it."""
        return Line("typical_p", self.mass, rule=int(self.rule == "llama.cpp"))


@dataclass(frozen=True, eq=False)
class Epsilon(Step):
    """Keep the classes whose probability is at least epsilon; if there is none, the likeliest ones.

    Parameters
    ----------
    epsilon : float or array_like
        Above 0 and below 1.

    Examples
    --------
    >>> from boltzmax.sampling import Chain, Epsilon
    >>> Chain([Epsilon(0.1)]).filter_logits([3.0, 2.0, 1.0])
    array([  3.,   2., -inf])
    """

    epsilon: Any

    def __post_init__(self) -> None:
        """Check epsilon."""
        self._set("epsilon", read_numbers(self.epsilon, "epsilon", "in (0, 1)", _LEAST, _BELOW_1))

    def line(self) -> Line:
        """Return the step as the compiled code reads it."""
        return Line("epsilon", self.epsilon)


@dataclass(frozen=True, eq=False)
class Eta(Step):
    """Keep the classes whose probability is at least min(eta, sqrt(eta) exp(-entropy)).

    If there is none, keep the likeliest ones.

    Parameters
    ----------
    eta : float or array_like
        Above 0 and below 1.

    Examples
    --------
    >>> from boltzmax.sampling import Chain, Eta
    >>> Chain([Eta(0.3)]).filter_logits([3.0, 2.0, 1.0])
    array([  3.,   2., -inf])
    """

    eta: Any

    def __post_init__(self) -> None:
        """Check eta."""
        self._set("eta", read_numbers(self.eta, "eta", "in (0, 1)", _LEAST, _BELOW_1))

    def line(self) -> Line:
        """Return the step as the compiled code reads it."""
        return Line("eta", self.eta)


@dataclass(frozen=True, eq=False)
class TopNSigma(Step):
    """Keep the logits that are at most n standard deviations below the largest.

    The standard deviation is that of the logits that are left at this point.

    Parameters
    ----------
    n : float or array_like
        Above 0.

    Examples
    --------
    >>> from boltzmax.sampling import Chain, TopNSigma
    >>> Chain([TopNSigma(1.0)]).filter_logits([3.0, 2.0, 1.0, 0.0])
    array([  3.,   2., -inf, -inf])
    """

    n: Any

    def __post_init__(self) -> None:
        """Check n."""
        most = np.finfo(np.float64).max
        self._set(
            "n", read_numbers(self.n, "top_n_sigma", "positive and finite", _LEAST, float(most))
        )

    def line(self) -> Line:
        """Return the step as the compiled code reads it."""
        return Line("top_n_sigma", self.n)


@dataclass(frozen=True, eq=False)
class TopH(Step):
    """Keep the likeliest classes as long as their entropy is at most h times that of all.

    Only the 100 likeliest count. The likeliest one is always kept.

    Parameters
    ----------
    h : float or array_like
        Above 0 and at most 1.

    Examples
    --------
    >>> from boltzmax.sampling import Chain, TopH
    >>> Chain([TopH(0.8)]).filter_logits([3.0, 2.0, 1.0, 0.0])
    array([  3.,   2., -inf, -inf])
    """

    h: Any

    def __post_init__(self) -> None:
        """Check h."""
        self._set("h", read_numbers(self.h, "top_h", "in (0, 1]", _LEAST, 1.0))

    def line(self) -> Line:
        """Return the step as the compiled code reads it."""
        return Line("top_h", self.h)


@dataclass(frozen=True, eq=False)
class XTC(Step):
    """Leave out, with some probability, all classes of at least a threshold but the last one.

    Parameters
    ----------
    probability : float or array_like
        That of applying the step to a row: from 0 to 1.
    threshold : float or array_like
        The least probability of a class that may be left out: from 0 to 1.

    Examples
    --------
    >>> from boltzmax.sampling import XTC, Chain
    >>> Chain([XTC(1.0, threshold=0.1)]).filter_logits([3.0, 2.0, 1.0, 0.0])
    array([-inf,   2.,   1.,   0.])
    """

    probability: Any
    threshold: Any

    def __post_init__(self) -> None:
        """Check both numbers."""
        for name in ("probability", "threshold"):
            self._set(name, read_numbers(getattr(self, name), name, "in [0, 1]", 0.0, 1.0))

    def line(self) -> Line:
        """Return the step as the compiled code reads it."""
        return Line("xtc", self.probability, self.threshold)


@dataclass(frozen=True, eq=False)
class Bias(Step):
    """Add a bias to the logits.

    Parameters
    ----------
    bias : dict or array_like
        ``{id: bias}``, or an array that broadcasts to the logits; -inf leaves a class out.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax.sampling import Bias, Chain
    >>> Chain([Bias({2: 1.5, 0: -np.inf})]).filter_logits([3.0, 2.0, 1.0])
    array([-inf,  2. ,  2.5])
    """

    bias: Any

    def __post_init__(self) -> None:
        """Check the numbers."""
        if isinstance(self.bias, Mapping):
            read: Any = {
                as_integer(id_, "an id of bias"): as_number(b, "bias")
                for id_, b in self.bias.items()
            }
            bad = [b for b in read.values() if not b < math.inf]
        else:
            read = real_numbers(self.bias, "bias").copy()
            read.flags.writeable = False
            bad = read[~(read < math.inf)].tolist()
        if bad:
            raise ValueError(f"bias must be below +inf and not NaN, got {bad[0]:g}")
        self._set("bias", read)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return the step that `get_config` described; JSON has made strings of ids."""
        bias = config["bias"]
        if isinstance(bias, Mapping):
            bias = {int(i) if isinstance(i, str) else i: b for i, b in bias.items()}
        return cls(bias)

    def line(self) -> Line:
        """Raise, since a bias is read with the logits."""
        raise TypeError("a bias must come before the filters")

    def read(self, shape: tuple[int, ...]) -> Any:
        """Return ids in ascending order and their values, or one number for each logit."""
        classes = shape[-1]
        if isinstance(self.bias, np.ndarray):
            try:
                full = np.broadcast_to(self.bias, shape)
            except ValueError:
                raise ValueError(
                    f"bias of shape {self.bias.shape} does not broadcast to logits of shape {shape}"
                ) from None
            if self.bias.ndim <= 1:
                return np.broadcast_to(self.bias, (math.prod(shape[:-1]), classes))
            return full.reshape(-1, classes)
        for id_ in self.bias:
            if not 0 <= id_ < classes:
                raise ValueError(f"an id of bias must be from 0 to {classes - 1}, got {id_}")
        ids = np.array(sorted(self.bias), np.int64)
        return ids, np.array([self.bias[i] for i in ids.tolist()], np.float64)
