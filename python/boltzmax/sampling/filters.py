"""Draw from filtered logits in one call, with options instead of steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import LARGEST_TEMPERATURE, LEAST_TEMPERATURE, one_of
from boltzmax.sampling.program import Sample, run_filter, run_sample
from boltzmax.sampling.steps import (
    Bias,
    Epsilon,
    Eta,
    MinP,
    Step,
    Temperature,
    TopH,
    TopK,
    TopNSigma,
    TopP,
    TypicalP,
    read_numbers,
)

ORDER = (
    *("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon", "eta"),
    *("top_n_sigma", "top_h"),
)
_ENGINE_ORDERS = {
    "transformers": (
        *("temperature", "top_h", "top_k", "top_p", "min_p", "typical_p", "epsilon", "eta"),
    ),
    "vllm": ("temperature", "min_p", "top_k", "top_p"),
    "llama.cpp": ("top_n_sigma", "top_k", "typical_p", "top_p", "min_p", "temperature"),
}

_DEFAULTS: dict[str, Callable[[Any], Step]] = {
    "temperature": Temperature,
    "top_k": TopK,
    "top_p": TopP,
    "min_p": MinP,
    "typical_p": TypicalP,
    "epsilon": Epsilon,
    "eta": Eta,
    "top_n_sigma": TopNSigma,
    "top_h": TopH,
}


def sample(
    logits: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    top_k: ArrayLike | None = None,
    top_p: ArrayLike | None = None,
    min_p: ArrayLike | None = None,
    typical_p: ArrayLike | None = None,
    epsilon: ArrayLike | None = None,
    eta: ArrayLike | None = None,
    top_n_sigma: ArrayLike | None = None,
    top_h: ArrayLike | None = None,
    bias: Any = None,
    where: ArrayLike | None = None,
    order: Sequence[str] = ORDER,
    compat: str | None = None,
    n: int | None = None,
    replace: bool = True,
    rng: Any = None,
    counters: ArrayLike | None = None,
    errors: str = "raise",
) -> Sample:
    r"""Draw classes from filtered logits.

    The filters act one after the other, in the order `order`. Each leaves out classes; the next one
    sees the probabilities of those that are left, :math:`p_i = e^{z_i} / \sum_j e^{z_j}`. Of
    classes with equal logits, the one with the lower id counts as likelier.

    Parameters
    ----------
    logits : array_like of shape (..., V)
        In float16, bfloat16, float32 or float64; -inf for classes that are never drawn.
    temperature : float or array_like, default 1.0
        The logits are divided by it: 0, or from 1e-30 to 1e30. At 0 only the largest logit is
        left. This and all following numbers may be arrays of one per row.
    top_k : int, optional
        Keep exactly the k likeliest classes.
    top_p : float, optional
        Keep the smallest set of the likeliest classes whose probability is at least p, in (0, 1]
        (Holtzman et al., ICLR 2020).
    min_p : float, optional
        Keep the classes whose probability is at least `min_p` times the largest, in [0, 1]
        (Nguyen et al., ICLR 2025).
    typical_p : float, optional
        Keep the classes whose information is nearest to the entropy, until their probability is at
        least `typical_p`, in (0, 1], and those that are as near as the last one (Meister et al.,
        TACL 2023).
    epsilon : float, optional
        Keep the classes whose probability is at least epsilon, in (0, 1); if there is none, the
        likeliest ones (Hewitt, Manning & Liang, EMNLP Findings 2022).
    eta : float, optional
        The same with the threshold min(eta, sqrt(eta) exp(-entropy)).
    top_n_sigma : float, optional
        Keep the logits that are at most this many standard deviations below the largest (Tang et
        al., ACL 2025).
    top_h : float, optional
        Of the 100 likeliest classes, keep the likeliest ones whose part of the entropy is at most
        h of it, in (0, 1] (Baghaei Potraghloo et al., 2025).
    bias : dict or array_like, optional
        Added to the logits before anything else: ``{id: bias}``, or an array that broadcasts.
    where : array_like of bool, optional
        False for classes that are never drawn; broadcasts to the logits.
    order : sequence of str
        The order of the filters. An option that is given but not in it is an error.
    compat : {"transformers", "vllm", "llama.cpp"}, optional
        Follow that engine's order and rules instead; see the guide.
    n : int, optional
        The number of draws from each row, on a new last axis. By default one, without that axis.
    replace : bool, default True
        Whether a class can be drawn again. If not, draws are in the order of drawing, and classes
        whose probability underflows come last.
    rng : int, numpy.random.Generator or None
        An int is the key of all random numbers; a generator gives one for each call.
    counters : array_like of int, optional
        The number of each row, by default 0, 1, and so on: a draw depends on the key, this number,
        the number of the draw and the logits.
    errors : {"raise", "mark"}, default "raise"
        Whether a row with NaN, with +inf or without a finite logit is an error, or gets the id -1.

    Returns
    -------
    Sample
        ``ids``, their ``log_probs`` in the distribution that was drawn from, and the number
        ``kept`` of classes that were left in each row. Log-probabilities are in double, with the
        same bits on every ISA; their error is at most 1e-12, or 3e-7 for logits of 32 or 16 bits
        in rows of more than 128.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or, with errors="raise", for a row that nothing can be drawn
        from.

    See Also
    --------
    filter_logits : The logits that are left.
    token_probs : Their probabilities.

    Notes
    -----
    Nothing is sorted. A pass over a row sums its probabilities, a second one what is below a
    bracket around the border, and the border is found among the few classes in that bracket. Fast
    sums decide only where their rounding cannot matter, otherwise sums in double do, so that the
    ids are the same on every instruction set. A draw takes two uniform numbers of 53 bits. The
    log-probabilities are from sums in double as well, and have the same bits everywhere.

    Examples
    --------
    >>> from boltzmax.sampling import sample
    >>> drawn = sample([[1.0, 3.0, 2.0, -1.0]], top_k=2, n=6, rng=1)
    >>> drawn.kept
    array([2])
    >>> sorted(set(drawn.ids[0].tolist()))
    [1, 2]
    >>> sample([1.0, 3.0, 2.0], temperature=0).ids
    np.int64(1)
    """
    is_plain = (
        typical_p is None
        and epsilon is None
        and eta is None
        and top_n_sigma is None
        and top_h is None
        and bias is None
        and where is None
        and compat is None
        and counters is None
        and order is ORDER
        and replace is True
        and errors == "raise"
    )
    if is_plain:
        drawn = _core.plain_sample(logits, temperature, top_k, top_p, min_p, rng, n)
        if drawn is not None:
            return Sample(*drawn)
    steps = _steps(
        {
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "min_p": min_p,
            "typical_p": typical_p,
            "epsilon": epsilon,
            "eta": eta,
            "top_n_sigma": top_n_sigma,
            "top_h": top_h,
            "bias": bias,
            "order": order,
            "compat": compat,
        }
    )
    return run_sample(
        logits,
        steps,
        where=where,
        n=n,
        replace=replace,
        rng=rng,
        counters=counters,
        errors=errors,
    )


def filter_logits(
    logits: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    top_k: ArrayLike | None = None,
    top_p: ArrayLike | None = None,
    min_p: ArrayLike | None = None,
    typical_p: ArrayLike | None = None,
    epsilon: ArrayLike | None = None,
    eta: ArrayLike | None = None,
    top_n_sigma: ArrayLike | None = None,
    top_h: ArrayLike | None = None,
    bias: Any = None,
    where: ArrayLike | None = None,
    order: Sequence[str] = ORDER,
    compat: str | None = None,
    errors: str = "raise",
) -> NDArray[Any]:
    """Return the logits that filters leave, over the temperature, and -inf elsewhere.

    Parameters
    ----------
    logits, temperature, top_k, top_p, min_p, typical_p, epsilon, eta, top_n_sigma, top_h
        As for `sample`.
    bias, where, order, compat, errors
        As for `sample`. With errors="mark", a bad row is NaN.

    Returns
    -------
    ndarray
        Of the shape and dtype of `logits`. At temperature 0, the logit that is left is unchanged.
        Quotients beyond the range of the dtype are infinite: above 65,504 in float16. (`sample`
        and `token_probs` divide in double.)

    Raises
    ------
    TypeError, ValueError
        As for `sample`.

    Examples
    --------
    >>> from boltzmax.sampling import filter_logits
    >>> filter_logits([1.0, 3.0, 2.0, -1.0], top_k=2, temperature=0.5)
    array([-inf,   6.,   4., -inf])
    """
    return run_filter(logits, _steps(locals()), where=where, errors=errors)


def token_probs(
    logits: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    top_k: ArrayLike | None = None,
    top_p: ArrayLike | None = None,
    min_p: ArrayLike | None = None,
    typical_p: ArrayLike | None = None,
    epsilon: ArrayLike | None = None,
    eta: ArrayLike | None = None,
    top_n_sigma: ArrayLike | None = None,
    top_h: ArrayLike | None = None,
    bias: Any = None,
    where: ArrayLike | None = None,
    order: Sequence[str] = ORDER,
    compat: str | None = None,
    errors: str = "raise",
) -> NDArray[Any]:
    """Return the probabilities with which `sample` draws the classes.

    Parameters
    ----------
    logits, temperature, top_k, top_p, min_p, typical_p, epsilon, eta, top_n_sigma, top_h
        As for `sample`.
    bias, where, order, compat, errors
        As for `sample`. With errors="mark", a bad row is NaN.

    Returns
    -------
    ndarray
        Of the shape and dtype of `logits`; sums are in double.

    Raises
    ------
    TypeError, ValueError
        As for `sample`.

    Examples
    --------
    >>> from boltzmax.sampling import token_probs
    >>> token_probs([0.0, 0.0, -9.0, 0.0], top_p=0.5)
    array([0.5, 0.5, 0. , 0. ])
    """
    return run_filter(logits, _steps(locals()), where=where, probabilities=True, errors=errors)


def _steps(options: dict[str, Any]) -> list[Step]:
    """Return the steps that the options of a call stand for."""
    compat = options["compat"]
    order = options["order"]
    if compat is not None:
        engine_order = _ENGINE_ORDERS[one_of(compat, "compat", tuple(_ENGINE_ORDERS))]
        order = engine_order if order is ORDER else order
    if order is not ORDER:
        order = _check_order(order)
    steps: list[Step] = [] if options["bias"] is None else [Bias(options["bias"])]
    for name in order:
        value = options[name]
        if value is not None and not (name == "temperature" and _is_one(value)):
            steps.append(_step(name, value, compat))
    for name in ORDER:
        is_off = options[name] is None or (name == "temperature" and _is_one(options[name]))
        if name not in order and not is_off:
            has = f"has only {', '.join(order)}" if order else "is empty"
            raise ValueError(f"{name} is given, but order {has}")
    return steps


def _check_order(order: Sequence[str]) -> tuple[str, ...]:
    if isinstance(order, str) or not isinstance(order, Iterable):
        raise TypeError(f"order must be a sequence of names of filters, got {order!r}")
    names = tuple(one_of(name, "a name in order", ORDER) for name in order)
    if len(set(names)) < len(names):
        raise ValueError(f"order must have no name twice, got {names}")
    return names


def _is_one(temperature: Any) -> bool:
    is_number = np.ndim(temperature) == 0 and not isinstance(temperature, bool | np.bool_)
    return is_number and bool(temperature == 1)


def _step(name: str, value: Any, compat: str | None) -> Step:
    """Return a step, with the engine's rule."""
    if name == "top_k" and compat in ("transformers", "vllm"):
        return TopK(value, ties="all")
    if name == "min_p" and compat == "llama.cpp":
        return MinP(value, rule="log")
    if name == "typical_p" and compat == "llama.cpp":
        return TypicalP(value, rule="llama.cpp")
    if name == "temperature" and compat is not None:
        return Temperature(_engine_temperature(value, compat))
    return _DEFAULTS[name](value)


def _engine_temperature(value: ArrayLike, compat: str) -> ArrayLike:
    """Return the temperature that an engine uses."""
    most = LARGEST_TEMPERATURE
    if compat == "transformers":
        allowed = f"from {LEAST_TEMPERATURE:g} to {most:g} for compat='transformers'"
        return read_numbers(value, "temperature", allowed, LEAST_TEMPERATURE, most)
    if compat == "vllm":
        allowed = f"from 0 to {most:g} for compat='vllm'"
        t = read_numbers(value, "temperature", allowed, 0.0, most)
        return np.where(np.equal(t, 0.0), 0.0, np.maximum(t, 0.01))
    allowed = f"at most {most:g} for compat='llama.cpp'"
    return np.maximum(read_numbers(value, "temperature", allowed, -np.inf, most), 0.0)
