"""All losses, each a pair: the loss, and the loss with its gradient.

A module that defines a loss ends with ``register(Loss(...))``, which completes both docstrings and
lists the loss, so that tests, estimators and documentation pages find it.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any, NamedTuple

from boltzmax._lib.shared_docs import document_loss
from boltzmax.losses.reduction import REDUCTIONS


class Loss(NamedTuple):
    """A loss, and the function that also returns its gradient.

    Parameters
    ----------
    function, with_grad : callable
        ``f(scores, target, *, ...)`` and ``f_with_grad``, which takes the same arguments and `out`,
        and returns the loss and its gradients with respect to the arguments before `target`.
    reductions : tuple of str
        The values that `function` takes for `reduction`; the first is the default.
    per_element : bool
        Whether there is a loss for each number (then "none" returns the shape of the scores),
        not for each row.
    soft : bool
        Whether targets may be probabilities of classes.
    class_weight : str, optional
        The name of the argument with a weight for each class.
    """

    function: Callable[..., Any]
    with_grad: Callable[..., Any]
    reductions: tuple[str, ...] = REDUCTIONS
    per_element: bool = False
    soft: bool = False
    class_weight: str | None = None

    @property
    def name(self) -> str:
        """The name of the function, its key in `LOSSES`."""
        return self.function.__name__

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the function's arguments."""
        return tuple(signature(self.function).parameters)

    @property
    def is_linear(self) -> bool:
        """Whether the scores come from a linear layer, so from several arguments."""
        return self.parameters[0] == "hidden"


LOSSES: dict[str, Loss] = {}


def register(loss: Loss) -> None:
    """List a loss, and complete its docstrings."""
    errors = "TypeError, ValueError" if loss.per_element else "TypeError, ValueError, IndexError"
    document_loss(loss.function, loss.with_grad, loss.reductions, errors)
    LOSSES[loss.name] = loss
