"""Chains of steps, from logits and the text so far to the next class."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import one_of, quietly
from boltzmax._lib.logits import read_logits
from boltzmax._lib.random import random_key
from boltzmax.sampling import compat, penalties, steps
from boltzmax.sampling.history import History, read_history
from boltzmax.sampling.mirostat import Mirostat
from boltzmax.sampling.penalties import Penalty
from boltzmax.sampling.program import Sample, run_filter, run_sample
from boltzmax.sampling.steps import Bias, Step, TopK

Array = NDArray[Any]
Floats = NDArray[np.float64]

STEPS: dict[str, type[Step]] = {
    step.__name__: step
    for step in (
        *(steps.Temperature, steps.TopK, steps.TopP, steps.MinP, steps.TypicalP, steps.Epsilon),
        *(steps.Eta, steps.TopNSigma, steps.TopH, steps.XTC, steps.Bias),
        *(penalties.RepetitionPenalty, penalties.PresencePenalty, penalties.FrequencyPenalty),
        *(penalties.NoRepeatNGram, penalties.Dry, Mirostat),
    )
}


class _Stage(NamedTuple):
    """Steps that change logits of single classes, and the filters that follow them."""

    edits: list[Step]
    filters: list[Step]
    first_place: int  # how many filters come before this stage

    @property
    def reads_text(self) -> bool:
        return any(isinstance(edit, Penalty) for edit in self.edits)


class _Call(NamedTuple):
    """The arguments of a call."""

    logits: Array
    history: History | None
    where: ArrayLike | None
    counters: Any
    errors: str
    first_place: int  # of the filters that come next

    @property
    def shape(self) -> tuple[int, ...]:
        return self.logits.shape[:-1]


class Chain:
    """Draw classes from what a list of steps makes of logits, in the order of the list.

    Parameters
    ----------
    steps : iterable of steps
        Filters, `Temperature`, `Bias` and penalties, in any order; a step acts on what the one
        before it has left. `Mirostat` may be the last one.
    rng : int, numpy.random.Generator or None
        An int from 0 to 2**64 - 1 is the key of the random numbers; a generator or None yields one
        now.

    Attributes
    ----------
    steps : tuple
        The steps.
    key : int
        The key of the random numbers.
    counter : int
        The number of the first row of the next call.
    mu : ndarray of float64 or None
        Mirostat's number of each row; None before its first draw.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.

    See Also
    --------
    sample : The same without a text, and without an object.

    Notes
    -----
    Rows are numbered on from call to call, so that no two draws use the same random numbers: a
    chain that has drawn from a batch of 16 rows is where 16 calls on these rows, one after the
    other, would have left it. The numbers, and Mirostat's, are the whole state of a chain, and
    pickles have it.

    Penalties act on a copy of the logits, in float32 at least, and change only logits of ids in
    the text. Excluded classes stay excluded.

    Examples
    --------
    >>> from boltzmax.sampling import Chain, RepetitionPenalty, Temperature, TopK, TopP
    >>> chain = Chain([RepetitionPenalty(1.1), Temperature(0.8), TopK(50), TopP(0.9)], rng=7)
    >>> logits = [1.0, 5.0, 9.0, 2.0]
    >>> chain(logits, history=[0, 3, 3]).ids
    np.int64(2)
    >>> chain.token_probs(logits, history=[2, 2]).round(3)
    array([0., 0., 1., 0.])
    """

    def __init__(self, steps: Iterable[Step], *, rng: Any = None) -> None:
        self.steps = _read_steps(steps)
        self._stages = _stages(self.steps[:-1] if self._mirostat else self.steps)
        self.key = random_key(rng)
        self.counter = 0
        self.mu: Floats | None = None

    @classmethod
    def compat(cls, engine: str, *, rng: Any = None, **options: Any) -> Self:
        """Return a chain that follows another engine's order and rules.

        Parameters
        ----------
        engine : {"transformers", "vllm", "llama.cpp"}
            The engine.
        rng : int, numpy.random.Generator or None
            As for `Chain`.
        **options
            The engine's own options, under its names and with its own values for "off"; those that
            are not given are off, whatever the engine's defaults are. The guide has a table.

        Returns
        -------
        Chain

        Raises
        ------
        TypeError, ValueError
            If the engine or an option is unknown, or a value does not fit.

        Examples
        --------
        >>> from boltzmax.sampling import Chain
        >>> Chain.compat("vllm", temperature=0.8, top_k=-1, top_p=0.9, rng=0)
        Chain([Temperature(temperature=0.8), TopP(p=0.9)], rng=0)
        """
        return cls(compat.steps_of(engine, options), rng=rng)

    def __call__(
        self,
        logits: ArrayLike,
        *,
        history: Any = None,
        prompt: ArrayLike | None = None,
        where: ArrayLike | None = None,
        n: int | None = None,
        replace: bool = True,
        counters: ArrayLike | None = None,
        errors: str = "raise",
    ) -> Sample:
        """Draw the next class of each row.

        Parameters
        ----------
        logits : array_like
            Of shape (..., V), in float16, float32, float64 or bfloat16.
        history : array_like, list of array_like or (values, indptr), optional
            The whole text so far, in ids: one array for logits of shape (V,); otherwise a list of
            one array for each row, or a tuple of all ids one after the other and their offsets, as
            in CSR. A tuple is never a list of texts. Only chains with penalties need it.
        prompt : int or array_like of int, optional
            How many ids at the beginning of each text are its prompt; penalties that do not count
            prompts need it.
        where : array_like of bool, optional
            False leaves a class out; broadcasts to the logits.
        n, replace, errors
            As for `sample`. With Mirostat, there is one draw from each row.
        counters : array_like of int, optional
            The number of each row, in place of the next ones.

        Returns
        -------
        Sample
            As `sample` returns it.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit; nothing is drawn then, and the chain's state does not
            change.
        """
        call = self._read(logits, history, prompt, where, counters, errors)
        options: dict[str, Any] = {"n": n, "replace": replace, "rng": self.key, "errors": errors}
        options["counters"] = call.counters
        mirostat = self._mirostat
        if mirostat is None:
            left, last = self._before_last(call)
            options["first_place"] = left.first_place
            result = run_sample(left.logits, last, where=left.where, **options)
        else:
            if n is not None or not replace:
                raise ValueError("Mirostat draws one class from each row: n must be None")
            call, top_k = self._truncation(call, mirostat)
            result = run_sample(call.logits, [top_k], **options)
            self.mu = mirostat.next_mu(self._mu_of(call.shape), np.asarray(result.log_probs))
        if counters is None:
            self.counter = (self.counter + math.prod(call.shape)) % 2**64
        return result

    def filter_logits(
        self,
        logits: ArrayLike,
        *,
        history: Any = None,
        prompt: ArrayLike | None = None,
        where: ArrayLike | None = None,
        errors: str = "raise",
    ) -> Array:
        """Return the logits from which the next call would draw, -inf where classes are left out.

        Parameters
        ----------
        logits, history, prompt, where, errors
            As for a call.

        Returns
        -------
        ndarray
            Of the logits' shape and dtype, with the temperature applied. XTC has decided as it
            will in the next call. The chain's state does not change.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit.
        """
        return self._filtered(logits, history, prompt, where, errors, probabilities=False)

    def token_probs(
        self,
        logits: ArrayLike,
        *,
        history: Any = None,
        prompt: ArrayLike | None = None,
        where: ArrayLike | None = None,
        errors: str = "raise",
    ) -> Array:
        """Return the probabilities with which the next call would draw.

        Parameters
        ----------
        logits, history, prompt, where, errors
            As for a call.

        Returns
        -------
        ndarray
            Of the logits' shape and dtype.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit.
        """
        return self._filtered(logits, history, prompt, where, errors, probabilities=True)

    def reset(self) -> None:
        """Start anew: the next row has number 0, and Mirostat begins again."""
        self.counter = 0
        self.mu = None

    def get_config(self) -> dict[str, Any]:
        """Return the steps and the key, without the state, as plain objects.

        Returns
        -------
        dict
            For `from_config`.
        """
        described = [{"step": type(step).__name__, **step.get_config()} for step in self.steps]
        return {"steps": described, "rng": self.key}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return a new chain with the steps and the key of another.

        Parameters
        ----------
        config : dict
            From `get_config`.

        Returns
        -------
        Chain

        Raises
        ------
        TypeError, ValueError
            If a step is unknown, or its arguments do not fit.

        Examples
        --------
        >>> from boltzmax.sampling import Chain, TopK
        >>> Chain.from_config(Chain([TopK(5)], rng=1).get_config())
        Chain([TopK(k=5, ties='lowest')], rng=1)
        """
        missing = {"steps", "rng"} - config.keys()
        if missing:
            raise ValueError(f"config must have steps and rng, got {sorted(config)}")
        made = []
        for described in config["steps"]:
            if not isinstance(described, Mapping):
                raise TypeError(f"a step of config must be a dict, got {described!r}")
            arguments = dict(described)
            name = one_of(arguments.pop("step", None), "step", tuple(STEPS))
            made.append(STEPS[name].from_config(arguments))
        return cls(made, rng=config["rng"])

    def __repr__(self) -> str:
        """Return how to make the chain."""
        return f"Chain([{', '.join(map(_shown, self.steps))}], rng={self.key})"

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickles keep: names of public things only."""
        return {name: value for name, value in vars(self).items() if name != "_stages"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over what a pickle has kept."""
        vars(self).update(state)
        self._stages = _stages(self.steps[:-1] if self._mirostat else self.steps)

    @property
    def _mirostat(self) -> Mirostat | None:
        last = self.steps[-1] if self.steps else None
        return last if isinstance(last, Mirostat) else None

    @quietly
    def _read(
        self,
        logits: ArrayLike,
        history: Any,
        prompt: ArrayLike | None,
        where: ArrayLike | None,
        counters: ArrayLike | None,
        errors: str,
    ) -> _Call:
        array = read_logits(logits).array
        shape = array.shape[:-1]
        text = None
        if any(stage.reads_text for stage in self._stages):
            text = read_history(history, shape, array.shape[-1], prompt)
        numbers: Any = counters
        if counters is None:
            rows = np.arange(math.prod(shape), dtype=np.uint64).reshape(shape)
            numbers = rows + np.uint64(self.counter)  # modulo 2**64
        return _Call(array, text, where, numbers, errors, 0)

    @quietly
    def _before_last(self, call: _Call) -> tuple[_Call, list[Step]]:
        """Run all but the last filters; return what is left, and these."""
        for stage in self._stages[:-1]:
            call = self._run(*_edit(call, stage))
        return _edit(call, self._stages[-1])

    def _run(self, call: _Call, program: list[Step]) -> _Call:
        """Return the call on the logits that steps have left."""
        options: dict[str, Any] = {"rng": self.key, "counters": call.counters}
        wide = call.logits.astype(_wide(call.logits.dtype), copy=False)
        options |= {"where": call.where, "errors": call.errors, "first_place": call.first_place}
        left = run_filter(wide, program, **options)
        return call._replace(logits=left, where=None)

    def _truncation(self, call: _Call, mirostat: Mirostat) -> tuple[_Call, TopK]:
        """Run the steps before Mirostat; return what is left, and Mirostat's own step."""
        left = self._run(*self._before_last(call))
        matrix = left.logits.reshape(-1, left.logits.shape[-1])
        counts = mirostat.counts(matrix, self._mu_of(call.shape).reshape(-1))
        return left, TopK(counts.reshape(call.shape)[()])

    def _mu_of(self, shape: tuple[int, ...]) -> Floats:
        """Return Mirostat's number of each row."""
        assert self._mirostat is not None
        if self.mu is None:
            return np.full(shape, 2.0 * self._mirostat.tau)
        if self.mu.shape != shape:
            raise ValueError(
                f"logits must have rows of shape {self.mu.shape}, as when Mirostat began, got "
                f"{shape}; reset() begins again"
            )
        return self.mu

    def _filtered(
        self,
        logits: ArrayLike,
        history: Any,
        prompt: ArrayLike | None,
        where: ArrayLike | None,
        errors: str,
        *,
        probabilities: bool,
    ) -> Array:
        call = self._read(logits, history, prompt, where, None, errors)
        dtype, mirostat = call.logits.dtype, self._mirostat
        if mirostat is None:
            call, last = self._before_last(call)
        else:
            call, top_k = self._truncation(call, mirostat)
            last = [top_k]
        result = run_filter(
            call.logits,
            last,
            where=call.where,
            probabilities=probabilities,
            rng=self.key,
            counters=call.counters,
            errors=errors,
            first_place=call.first_place,
        )
        with np.errstate(all="ignore"):
            return result.astype(dtype, copy=False)


def _shown(step: Step) -> str:
    """Return how to make a step."""
    arguments = ", ".join(f"{name}={value!r}" for name, value in step.get_config().items())
    return f"{type(step).__name__}({arguments})"


def _read_steps(steps: Iterable[Step]) -> tuple[Step, ...]:
    """Return the steps if they are some, and Mirostat at most the last one."""
    if isinstance(steps, Step) or not isinstance(steps, Iterable):
        raise TypeError(f"steps must be a list of steps, got {steps!r}")
    read = tuple(steps)
    for at, step in enumerate(read):
        if not isinstance(step, Step):
            raise TypeError(f"steps must be steps, such as TopK(50), got {step!r} at {at}")
        if isinstance(step, Mirostat) and at + 1 < len(read):
            raise ValueError(f"Mirostat must be the last of {len(read)} steps, got it at {at}")
    return read


def _stages(steps: tuple[Step, ...]) -> list[_Stage]:
    """Split the steps where one that changes logits of single classes follows a filter."""
    stages = [_Stage([], [], 0)]
    for step in steps:
        is_edit = isinstance(step, (Penalty, Bias))
        if is_edit and stages[-1].filters:
            place = stages[-1].first_place + len(stages[-1].filters)
            stages.append(_Stage([], [], place))
        (stages[-1].edits if is_edit else stages[-1].filters).append(step)
    return stages


def _edit(call: _Call, stage: _Stage) -> tuple[_Call, list[Step]]:
    """Apply the penalties of a stage; return what is left to do."""
    call = call._replace(first_place=stage.first_place)
    if not stage.reads_text:
        return call, [*stage.edits, *stage.filters]
    assert call.history is not None
    changed = np.array(call.logits, _wide(call.logits.dtype), order="C")
    matrix = changed.reshape(-1, changed.shape[-1])
    for edit in stage.edits:
        if isinstance(edit, Penalty):
            edit.penalize(matrix, call.history, call.shape)
        else:
            _add_bias(edit, matrix, changed.shape)
    return call._replace(logits=changed), stage.filters


def _add_bias(step: Step, matrix: Array, shape: tuple[int, ...]) -> None:
    """Add a bias to a matrix of logits, which have this shape."""
    assert isinstance(step, Bias)
    read = step.read(shape)
    if isinstance(read, tuple):
        ids, numbers = read
        matrix[:, ids] = matrix[:, ids] + numbers
    else:
        matrix[...] = matrix + read


def _wide(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of logits that have changed: single precision at least."""
    return np.dtype(np.float32) if dtype.itemsize < 4 else dtype
