"""Every registered loss satisfies the contract, and so does a newly added one."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import boltzmax
import every_function
import loss_conformance
from boltzmax.losses.registry import LOSSES, Loss
from loss_oracles import ORACLES, Options, Oracle, log_prob, of_targets
from point_oracle import wide

Check = Callable[[Loss, Oracle], None]


def test_every_public_loss_is_registered() -> None:
    with_grad = {n for n in boltzmax.__all__ if n.endswith("_with_grad")}
    with_grad -= every_function.OF_SAMPLES  # their arguments are others
    assert {f"{name}_with_grad" for name in LOSSES} == with_grad
    for name, loss in LOSSES.items():
        assert getattr(boltzmax, name) is loss.function
        assert getattr(boltzmax, f"{name}_with_grad") is loss.with_grad
    assert LOSSES.keys() == ORACLES.keys()


def words(path: Path) -> set[str]:
    """The names that a module uses or imports, and its strings (docstrings aside)."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.alias):
            found.add(node.name)
        elif isinstance(node, ast.Constant):
            found.add(str(node.value))
    return found


def test_shared_modules_do_not_name_losses() -> None:
    """So a new loss needs only its module, public names and an oracle."""
    package = Path(boltzmax.__file__).parent
    rooms = [sorted((package / room).glob("*.py")) for room in ("_lib", "arrays", "losses")]
    homes = {name: inspect.getsourcefile(loss.function) for name, loss in LOSSES.items()}
    for path in itertools.chain(*rooms):
        for name in words(path) & LOSSES.keys():
            assert str(path) == homes[name], f"{path.name} names {name}"


@pytest.mark.parametrize("check", loss_conformance.CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", LOSSES)
def test_contract(name: str, check: Check) -> None:
    check(LOSSES[name], ORACLES[name])


def test_values_on_every_isa(isa: str) -> None:
    for name, loss in LOSSES.items():
        loss_conformance.check_values(loss, ORACLES[name])


# ---- a new loss: only its module and its oracle ----


def toy_oracle(x: Any, target: Any, o: Options) -> tuple[Any, Any]:
    used, q = of_targets(o.get("weight"), target), o.get("q", 0.7)
    return used * (1 - np.exp(log_prob(wide(x), target)) ** wide(q)) / wide(q), used


@pytest.fixture
def toy() -> Iterator[Loss]:
    """The loss of `toy_loss.py`, registered for the duration of a test."""
    module = importlib.reload(importlib.import_module("toy_loss"))
    yield LOSSES["toy_loss"]
    assert LOSSES.pop("toy_loss").function is module.toy_loss


@pytest.mark.parametrize("check", loss_conformance.CHECKS, ids=lambda c: c.__name__)
def test_contract_of_a_new_loss(toy: Loss, check: Check) -> None:
    check(toy, Oracle(toy_oracle, lambda fill, shape: {"q": 0.4}))


def test_examples_of_a_new_loss(toy: Loss) -> None:
    module = importlib.import_module("toy_loss")
    assert doctest.testmod(module) == (0, 2)


def test_wrong_losses_are_detected(toy: Loss) -> None:
    """The checks fail for a different definition."""

    def other(x: Any, target: Any, o: Options) -> tuple[Any, Any]:
        each, used = toy_oracle(x, target, o)
        return each * 1.001, used

    for check in (loss_conformance.check_values, loss_conformance.check_gradients):
        with pytest.raises(AssertionError):
            check(toy, Oracle(other, lambda fill, shape: {"q": 0.4}))
