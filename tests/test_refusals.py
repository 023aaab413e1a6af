"""Every function refuses a bad argument with the same error, before it does anything."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

import boltzmax
from boltzmax.losses.registry import LOSSES
from every_function import OF_DRAWS, OF_SAMPLES

Array = npt.NDArray[Any]
Values = dict[str, Any]

ROWS, CLASSES = 2, 3
NAN, INF = float("nan"), float("inf")
HUGE = 10**400  # beyond the range of a float
MASKED = np.ma.masked_array([1.0, 2.0], [False, True])


def arguments(function: Callable[..., Any], as_lists: bool) -> Values:
    """The required arguments of a function, for the compiled path or the general one."""
    scores = {name: np.arange(6.0).reshape(ROWS, CLASSES) for name in ("x", "logits", "log_prob")}
    known: Values = scores | {
        "log_q": np.zeros((ROWS, CLASSES)),
        "p": np.full((ROWS, CLASSES), 0.5),
        "dy": np.zeros((ROWS, CLASSES)),
        "y": np.full((ROWS, CLASSES), 0.5),
        "hidden": np.ones((ROWS, 4)),
        "target": np.array([0, 2]),
        "k": 2,
        "counts": np.array([1, 2, 3]),
        "labels": np.array([0, 1, 1]),
        "sampler": (np.array([0, 1]), np.zeros(2), np.zeros(ROWS)),
        "query": np.ones((ROWS, 4)),
        "key": np.ones((ROWS, 4)),
    }
    parameters = inspect.signature(function).parameters.values()
    given = {p.name: known[p.name] for p in parameters if p.name in known and p.name != "weight"}
    if "hidden" in given:
        given["weight"] = np.ones((CLASSES, 4))
        if function is boltzmax.linear_sample:
            given["rng"] = 0
    if "p" not in given and function.__name__.startswith("binary"):
        given["target"] = np.full((ROWS, CLASSES), 0.5)
    if as_lists:
        given = {n: v.tolist() if isinstance(v, np.ndarray) else v for n, v in given.items()}
    return given


FAMILY = ("softmax", "log_softmax", "logsumexp")
FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: getattr(boltzmax, name)
    for name in (
        *FAMILY,
        *("softmax_backward", "log_softmax_backward", "row_stats", "balanced_softmax"),
        *("class_weights", "logit_adjustment", "resample_indices"),
        *("linear_logsumexp", "linear_log_prob", "linear_topk", "linear_sample"),
        *(*OF_DRAWS, *OF_SAMPLES, "info_nce", "log_partition_estimate"),
    )
}
for _loss in LOSSES.values():
    FUNCTIONS |= {f.__name__: f for f in (_loss.function, _loss.with_grad)}

OF_ROWS = [loss for loss in LOSSES.values() if not loss.per_element]
HARD = {f.__name__ for loss in OF_ROWS if not loss.soft for f in (loss.function, loss.with_grad)}
HARD |= {name for name in (*OF_DRAWS, *OF_SAMPLES) if "target" in arguments(FUNCTIONS[name], True)}
SOFT = {f.__name__ for loss in OF_ROWS if loss.soft for f in (loss.function, loss.with_grad)}
SCALED = {"softmax", "log_softmax", "logsumexp"}  # also by one temperature per row
WITH_LIMIT = {"linear_logsumexp", "linear_log_prob", "linear_sample"}
SEVERAL_AXES = {*FAMILY, "softmax_backward", "log_softmax_backward"}
REDUCTIONS = "'mean', 'sum', 'none'"
RANGE = r"from 1e-30 to 1e\+30"


class Refusal(NamedTuple):
    """Bad values of an argument, and their error, which is the same for all functions."""

    argument: str
    values: tuple[Any, ...]
    error: type[Exception]
    words: str
    functions: set[str] | None = None  # None: all that have the argument

    def takers(self) -> Iterator[str]:
        for name, function in FUNCTIONS.items():
            is_meant = self.functions is None or name in self.functions
            if is_meant and self.argument in inspect.signature(function).parameters:
                yield name


# All but those whose alpha is a number.
WITH_ARRAYS = FUNCTIONS.keys() - {"entmax_loss", "entmax_loss_with_grad"}
NOT_SCALED = FUNCTIONS.keys() - SCALED - WITH_LIMIT
REFUSALS = [
    Refusal(
        "temperature",
        (0, -1.0, NAN, INF, 1e31, -HUGE, HUGE),
        ValueError,
        rf"temperature must be > 0 \({RANGE}\), got .+",
        NOT_SCALED,
    ),
    Refusal(
        "temperature",
        (-1.0, NAN, INF, 1e31),
        ValueError,
        rf"temperature must be >= 0 \(0, or {RANGE}\), got .+",
        SCALED | WITH_LIMIT,
    ),
    Refusal(
        "temperature",
        ("warm", None, 1j, [1.0], np.array([1.0])),
        TypeError,
        r"temperature must be a real number, got .+",
        FUNCTIONS.keys() - SCALED,
    ),
    Refusal(
        "softcap", (0, -1.0, NAN, INF), ValueError, rf"softcap must be > 0 \({RANGE}\), got .+"
    ),
    Refusal("softcap", ("x", 1j, [1.0]), TypeError, r"softcap must be a real number, got .+"),
    Refusal(
        "label_smoothing",
        (-0.1, 1.1, NAN),
        ValueError,
        r"label_smoothing must be from 0 to 1, got .+",
    ),
    Refusal(
        "z_loss",
        (-1.0, NAN, INF, HUGE),
        ValueError,
        r"z_loss must be finite and not negative, got .+",
    ),
    Refusal("gamma", (-1.0, NAN, INF), ValueError, r"gamma must be from 0 to 1e\+06, got .+"),
    Refusal(
        "beta", (-0.1, 1.0, NAN), ValueError, r"beta must be at least 0 and less than 1, got .+"
    ),
    Refusal("tau", (NAN, INF, HUGE), ValueError, r"tau must be finite, got .+"),
    *(
        Refusal(
            name,
            ("x", None, 1j, [0.5], object),
            TypeError,
            rf"{name} must be a real number, got .+",
        )
        for name in ("label_smoothing", "z_loss", "gamma", "beta", "tau")
    ),
    Refusal(
        "reduction",
        ("max", "", None, 1, ["mean"], np.array(["mean", "sum"])),
        ValueError,
        rf"reduction must be one of ('batchmean', )?{REDUCTIONS}, got [\s\S]+",
    ),
    Refusal(
        "reduction",
        ("none",),
        ValueError,
        r"a gradient needs a scalar: reduction must not be 'none'",
        {name for name in FUNCTIONS if name.endswith("_with_grad")},
    ),
    Refusal("empty", ("no", 0.0, None), ValueError, r"empty must be one of 'nan', 'zero', got .+"),
    Refusal(
        "method",
        ("log", None),
        ValueError,
        r"method must be one of 'balanced', '\w+', '\w+', got .+",
    ),
    Refusal(
        "ignore_index", ("x", None, 1.0), TypeError, r"ignore_index must be an integer, got .+"
    ),
    Refusal("k", (-1,), ValueError, r"k must be at least 0, got -1", {"row_stats"}),
    Refusal("k", (-1, 0, 4), ValueError, r"k must be from 1 to 3, got -?\d", {"linear_topk"}),
    Refusal("k", ("x", None, 1.0, [1]), TypeError, r"k must be an integer, got .+"),
    Refusal(
        "axis",
        (2, -3, 10**30),
        np.exceptions.AxisError,
        r"(axis: )?axis -?\d+ is out of bounds for array of dimension 2",
    ),
    Refusal(
        "axis",
        (1.0, "0", None, (0,)),
        TypeError,
        r"axis must be an int, got .+",
        FUNCTIONS.keys() - SEVERAL_AXES,
    ),
    Refusal(
        "axis",
        (1.0, "0", (0, None)),
        TypeError,
        r"axis must be an int, a tuple of ints or None, got .+",
        SEVERAL_AXES,
    ),
    Refusal(
        "sample_weight",
        ([1.0, 2.0, 3.0], np.ones((2, 1)), np.ones((1, 2))),
        ValueError,
        r"sample_weight of shape \([\d, ]+\) does not broadcast to one per row, \(2,\)",
    ),
    *(
        Refusal(
            name,
            (["x", "y"], [1j, 1]),
            TypeError,
            rf"{name} must be real numbers, got dtype .+",
            WITH_ARRAYS,
        )
        for name in ("sample_weight", "alpha", "class_weight", "bias", "pos_weight")
    ),
    *(
        Refusal(
            name,
            (MASKED,),
            TypeError,
            rf"{name} is a masked array; pass its data(, and .+)?",
            WITH_ARRAYS,
        )
        for name in ("sample_weight", "alpha", "class_weight", "target")
    ),
    *(
        Refusal(
            name,
            ([1.0, 2.0], np.ones((1, 3)), 1.0),
            ValueError,
            rf"{name} must have one number per class, \(3,\), got shape \(.*\)",
            takers,
        )
        for name, takers in (
            *(("alpha", WITH_ARRAYS), ("class_weight", None), ("bias", None)),
            (
                "weight",
                {"cross_entropy", "cross_entropy_with_grad", "nll_loss", "nll_loss_with_grad"},
            ),
        )
    ),
    Refusal(
        "target",
        ([0], 0, [[0, 1]]),
        ValueError,
        r"target must have one class for each row, shape \(2,\), got shape \(.*\)",
        HARD | SOFT | {"row_stats", "linear_log_prob"},
    ),
    Refusal(
        "target",
        ([0.0, 1.0], ["a", "b"], [True, False]),
        TypeError,
        r"target must be integers of shape \(2,\), got \S+ of shape \(2,\)",
        HARD | {"row_stats", "linear_log_prob"},
    ),
    Refusal(
        "target",
        ([0.0, 1.0], ["a", "b"], [True, False]),
        TypeError,
        r"target must be integers of shape \(2,\) or probabilities of shape \(2, 3\), got .+",
        SOFT,
    ),
    Refusal(
        "target",
        ([0, 3], [-1, 0]),
        IndexError,
        r"target -?\d at position \d is out of range for 3 classes"
        r"( \(and not ignore_index, -100\))?",
        HARD | SOFT | {"row_stats", "linear_log_prob"},
    ),
    Refusal(
        "rng",
        (-1, "x", 1.5),
        (TypeError, ValueError),  # type: ignore[arg-type]
        r"rng must be a seed that is not negative or a numpy\.random\.Generator, got .+",
    ),
    Refusal("out", ([0.0], "x", 1.0), TypeError, r"out must be an ndarray, got \w+"),
    Refusal(
        "out",
        (np.zeros((3, 2)), np.zeros(6)),
        ValueError,
        r"out has shape \([\d, ]+\), but the result has shape \([\d, ]+\)",
    ),
]


def copies(given: Values) -> Values:
    return {name: np.copy(v) if isinstance(v, np.ndarray) else v for name, v in given.items()}


@pytest.mark.parametrize("as_lists", [False, True], ids=["arrays", "lists"])
@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda r: r.argument)
def test_refusals(refusal: Refusal, as_lists: bool) -> None:
    """The same message everywhere, nothing written to `out`, and no input changed."""
    takers = list(refusal.takers())
    assert takers
    for name, value in itertools.product(takers, refusal.values):
        function = FUNCTIONS[name]
        given = arguments(function, as_lists)
        out = None
        if "out" in inspect.signature(function).parameters and refusal.argument != "out":
            out = np.full((ROWS,) if name == "logsumexp" else (ROWS, CLASSES), 7.0)
            given["out"] = out
        given[refusal.argument] = value
        before = copies(given)
        with pytest.raises(refusal.error) as error:
            function(**given)
        assert re.fullmatch(refusal.words, str(error.value)), f"{name}({value!r}): {error.value}"
        assert out is None or (out == 7.0).all(), name
        for argument, copied in before.items():
            np.testing.assert_array_equal(given[argument], copied, err_msg=argument)


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if n != "resample_indices"])
def test_valid_calls_succeed(name: str) -> None:
    """Otherwise a call might be refused for another reason."""
    for as_lists in (False, True):
        assert FUNCTIONS[name](**arguments(FUNCTIONS[name], as_lists)) is not None


def test_numbers_of_other_kinds() -> None:
    """Any single real number is accepted."""
    logits, target = np.zeros((1, 2)), [0]
    expected = boltzmax.cross_entropy(logits, target, temperature=0.5, label_smoothing=0.25)
    for kind in (float, np.float64, np.float32, np.array, Fraction):
        t, e = kind(0.5), kind(0.25)
        found = boltzmax.cross_entropy(logits, target, temperature=t, label_smoothing=e)  # type: ignore[arg-type]
        assert found == expected


def test_one_weight_for_several_rows() -> None:
    """Row weights broadcast, in every loss that takes them."""
    for name, function in FUNCTIONS.items():
        if "sample_weight" in inspect.signature(function).parameters:
            given = arguments(function, as_lists=False)
            expected = function(**given, sample_weight=np.full(ROWS, 0.5), reduction="sum")
            for weight in (0.5, [0.5], np.float16(0.5), np.array([0.5], np.longdouble)):
                found = function(**given, sample_weight=weight, reduction="sum")
                if isinstance(found, tuple):
                    np.testing.assert_array_equal(found[1], expected[1], err_msg=name)
                    found = found[0]
                assert found == (expected[0] if isinstance(expected, tuple) else expected), name


def test_strided_numbers_per_class() -> None:
    """Numbers per class may have any stride."""
    hidden, weight = np.ones((2, 4)), np.arange(12.0).reshape(3, 4)
    numbers = np.array([0.5, 9.0, -1.0, 9.0, 2.0, 9.0])
    strided, plain = numbers[::2], numbers[::2].copy()
    for name in ("linear_logsumexp", "linear_log_prob", "linear_cross_entropy"):
        given: Values = {"hidden": hidden, "weight": weight}
        if name != "linear_logsumexp":
            given["target"] = [0, 2]
        function = FUNCTIONS[name]
        for softcap in (None, 3.0):
            found = function(**given, bias=strided, softcap=softcap)
            np.testing.assert_array_equal(found, function(**given, bias=plain, softcap=softcap))
    found, expected = (boltzmax.linear_topk(hidden, weight, 2, b) for b in (strided, plain))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["keepdims", "return_sign"])
def test_flags_have_one_truth(name: str) -> None:
    """An array is no flag; nothing is written."""
    out = np.full(4, 7.0)
    with pytest.raises(ValueError, match=f"^{name} must be True or False, got "):
        boltzmax.logsumexp(np.zeros((4, 3)), out=out, **{name: np.array([1, 2])})
    assert (out == 7).all()
