"""The contract of registered losses: checks of one loss, with its oracle."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import loss_samples
from boltzmax.losses.registry import Loss
from loss_oracles import Oracle

Array = npt.NDArray[Any]
Arguments = dict[str, Any]

ROWS, CLASSES, FEATURES = 7, 5, 3
TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "float16": 1e-5}


# ---- arguments ----


def scores_of(loss: Loss, dtype: Any = np.float64) -> Arguments:
    """The arguments that the gradients are with respect to."""
    normal = loss_samples.normal
    if loss.is_linear:
        shapes = {"hidden": (ROWS, FEATURES), "weight": (CLASSES, FEATURES), "bias": (CLASSES,)}
        return {name: (normal(*s) / 3).astype(dtype) for name, s in shapes.items()}
    return {loss.parameters[0]: normal(ROWS, CLASSES).astype(dtype)}


def targets_of(loss: Loss) -> Iterator[Array]:
    """Targets of all kinds; some rows are ignored."""
    soft = np.exp(loss_samples.log_probs(ROWS, CLASSES, seed=3))
    if loss.per_element:
        yield soft
        return
    classes = loss_samples.classes(CLASSES, ROWS)
    yield classes
    yield np.where(np.arange(ROWS) % 3 == 1, -100, classes)
    if loss.soft:
        yield soft


def options_of(loss: Loss, oracle: Oracle) -> Iterator[Arguments]:
    """No option, each alone, and all at once."""
    together = oracle.options(loss_samples.positive, (ROWS, CLASSES))
    if loss.class_weight is not None:
        together[loss.class_weight] = loss_samples.positive(CLASSES)
    if "sample_weight" in loss.parameters:
        together["sample_weight"] = loss_samples.positive(ROWS, seed=5)
    yield {}
    for name, value in together.items():
        yield {name: value}
    yield together


def calls(loss: Loss, oracle: Oracle, dtype: Any = np.float64) -> Iterator[Arguments]:
    target_name = loss.parameters[2 if loss.is_linear else 1]
    for target in targets_of(loss):
        for options in options_of(loss, oracle):
            yield scores_of(loss, dtype) | {target_name: target} | options


def exact(loss: Loss, oracle: Oracle, given: Arguments, reduction: str) -> Array:
    """The loss by definition: with row weights, without ignored rows, reduced."""
    given = dict(given)
    sample = given.pop("sample_weight", 1.0)
    if loss.is_linear:
        hidden, weight, bias = (
            given.pop(n).astype(np.longdouble) for n in ("hidden", "weight", "bias")
        )
        x = hidden @ weight.T + bias
    else:
        x = given.pop(loss.parameters[0])
    target = given.pop("target" if "target" in given else "p")
    if loss.per_element:
        each, _ = oracle.losses(x, target, given)
        divisor = {"mean": each.size, "batchmean": len(each)}.get(reduction, 1)
        return each if reduction == "none" else np.asarray(each.sum() / divisor)
    counted = np.broadcast_to(target.reshape(ROWS, -1)[:, 0] != -100, (ROWS,))
    sample = np.broadcast_to(sample, (ROWS,))[counted]
    each, used = oracle.losses(x[counted], target[counted], given)
    if reduction == "none":
        whole = np.zeros(ROWS, np.longdouble)
        whole[counted] = sample * each
        return whole
    return np.asarray((sample * each).sum() / ((sample * used).sum() if reduction == "mean" else 1))


def exact_at(
    loss: Loss, oracle: Oracle, given: Arguments, reduction: str, name: str, x: Array
) -> Array:
    """The same with one of the arguments replaced."""
    return exact(loss, oracle, given | {name: x}, reduction)


# ---- checks ----


def check_signatures(loss: Loss, oracle: Oracle) -> None:
    """Both functions have the same signature, except for `out`."""
    plain = dict(inspect.signature(loss.function).parameters)
    with_grad = dict(inspect.signature(loss.with_grad).parameters)
    out = with_grad.pop("out", None)
    assert (out is None) == loss.is_linear
    assert list(plain.items()) == list(with_grad.items())
    assert loss.with_grad.__name__ == f"{loss.name}_with_grad"
    assert plain["reduction"].default == loss.reductions[0]
    assert plain["empty"].default == "nan"
    assert loss.class_weight is None or loss.class_weight in plain
    assert ("ignore_index" in plain) == ("sample_weight" in plain) == (not loss.per_element)


def check_docstrings(loss: Loss, oracle: Oracle) -> None:
    for function in (loss.function, loss.with_grad):
        doc = inspect.getdoc(function) or ""
        assert not re.findall(r"^ *\{\w+\}$", doc, re.M), "an unknown paragraph"
        for section in ("Parameters", "Returns", "Raises", "Examples"):
            assert f"\n{section}\n{'-' * len(section)}\n" in doc, section
        for name in inspect.signature(function).parameters:
            assert re.search(rf"^(\w+, )*{name}(, \w+)* : ", doc, re.M), name
        assert max(map(len, (function.__doc__ or "").splitlines())) <= 100
    assert '"none"}' not in (loss.with_grad.__doc__ or "")


def check_values(loss: Loss, oracle: Oracle) -> None:
    """Values in every dtype, with every reduction and option."""
    for name, tolerance in TOLERANCE.items():
        for given in calls(loss, oracle, name):
            for reduction in loss.reductions:
                found = np.asarray(loss.function(**given, reduction=reduction))
                assert found.dtype == (np.float64 if name == "float64" else np.float32)
                expected = exact(loss, oracle, given, reduction).astype(np.float64)
                np.testing.assert_allclose(
                    found, expected, rtol=tolerance, atol=tolerance, err_msg=f"{name} {reduction}"
                )


def check_gradients(loss: Loss, oracle: Oracle) -> None:
    """Central differences of the definition for every argument that has a gradient.

    The calls take the reductions in turn: the differences take most of the time of all checks.
    """
    in_turn = itertools.cycle(r for r in loss.reductions if r != "none")
    for given, reduction in zip(calls(loss, oracle), in_turn, strict=False):
        before = {name: np.copy(value) for name, value in given.items()}
        value, *gradients = loss.with_grad(**given, reduction=reduction)
        for name, copied in before.items():
            np.testing.assert_array_equal(given[name], copied, err_msg="an input has changed")
        assert value == loss.function(**given, reduction=reduction)
        for name, gradient in zip(scores_of(loss), gradients, strict=True):
            of_argument = partial(exact_at, loss, oracle, given, reduction, name)
            expected = loss_samples.differences(of_argument, given[name].astype(np.longdouble))
            assert gradient.shape == given[name].shape
            np.testing.assert_allclose(
                gradient, expected.astype(np.float64), rtol=1e-7, atol=1e-8, err_msg=name
            )


def check_out(loss: Loss, oracle: Oracle) -> None:
    """`out` receives the gradient, even over the scores; errors write nothing."""
    if loss.is_linear:
        return
    name = loss.parameters[0]
    for given in calls(loss, oracle):
        _, expected = loss.with_grad(**given)
        out = np.zeros_like(expected)
        assert loss.with_grad(**given, out=out)[1] is out
        np.testing.assert_array_equal(out, expected)
        out[:] = 7.0
        with pytest.raises(ValueError, match="reduction must"):
            loss.with_grad(**given, out=out, reduction="most")
        assert (out == 7.0).all()
        over = given | {name: given[name].copy()}
        loss.with_grad(**over, out=over[name])
        np.testing.assert_array_equal(over[name], expected)


def check_ignored_rows(loss: Loss, oracle: Oracle) -> None:
    """Ignored rows have no loss and no gradient, whatever they contain."""
    if loss.per_element:
        return
    for given in calls(loss, oracle):
        given["target"] = np.where(np.arange(ROWS) == 2, -100, loss_samples.classes(CLASSES, ROWS))
        expected = loss.function(**given)
        first = loss.parameters[0]
        given[first] = given[first].copy()
        given[first][2] = np.nan
        value, gradient, *_ = loss.with_grad(**given)
        assert value == expected
        assert not gradient[2].any()


def check_axis(loss: Loss, oracle: Oracle) -> None:
    """Classes on any axis give the same bits as on the last axis."""
    if "axis" not in loss.parameters:
        assert loss.per_element or loss.is_linear
        return
    for given in calls(loss, oracle):
        name, target = loss.parameters[:2]
        expected, gradient = loss.with_grad(**given)
        soft = given[target].ndim == 2
        turned = {name: given[name].T, target: given[target].T if soft else given[target]}
        found, other = loss.with_grad(**given | turned, axis=0)
        assert found == expected
        np.testing.assert_array_equal(other, gradient.T)


def check_nothing(loss: Loss, oracle: Oracle) -> None:
    """The mean over no rows is NaN, or 0 if requested; the sum is 0."""
    given = scores_of(loss)
    first = loss.parameters[0]
    given[first] = given[first][:0]
    target = np.zeros((0, CLASSES)) if loss.per_element else np.zeros(0, np.int64)
    given[loss.parameters[2 if loss.is_linear else 1]] = target
    for empty, mean in (("nan", np.nan), ("zero", 0.0)):
        for reduction in loss.reductions:
            if reduction != "none":
                value, gradient, *_ = loss.with_grad(**given, reduction=reduction, empty=empty)
                np.testing.assert_equal(float(value), 0.0 if reduction == "sum" else mean)
                assert gradient.shape == given[first].shape


CHECKS = (
    check_signatures,
    check_docstrings,
    check_values,
    check_gradients,
    check_out,
    check_ignored_rows,
    check_axis,
    check_nothing,
)
