"""Paragraphs that the docstrings of several functions share, and those of a loss and its gradient.

A docstring names a paragraph in braces, on a separate line.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

_PLACE = re.compile(r"^(?P<margin> *)\{(?P<name>\w+)\}$", re.M)
_WIDTH = 92  # of a docstring line, without its indentation
_Function = Callable[..., Any]

_PARAGRAPHS = {
    "axis": """
axis : int, default -1
    The class axis, counted from the end if negative; PyTorch's is 1. Targets, weights and
    losses of rows have the shape of the scores without it, probabilities and gradients the
    full shape.
""",
    "empty": """
empty : {"nan", "zero"}, default "nan"
    The mean over no rows, over rows that are all ignored, or over weights that sum to 0. NaN is
    PyTorch's answer; with "zero" the gradient is zeros, too.
""",
    "sample_weight": """
sample_weight : array_like, optional
    A weight for each row; broadcasts to the shape of the rows by NumPy's rules.
""",
}


def document_loss(
    function: _Function,
    with_grad: _Function,
    reductions: tuple[str, ...],
    errors: str = "TypeError, ValueError, IndexError",
    more: Mapping[str, str] | None = None,
) -> None:
    """Complete the docstrings of a loss and of its variant that also returns the gradient.

    Parameters
    ----------
    function : callable
        Its docstring may use any of the shared paragraphs, and ``{see_gradient}``.
    with_grad : callable
        Its docstring may use ``{parameters}``, ``{loss}`` and ``{raises}``, which refer to those
        of `function` and state the differences.
    reductions : tuple of str
        The values that `function` takes for `reduction`.
    errors : str
        The errors that both raise.
    more : mapping, optional
        Paragraphs of a family of losses.
    """
    paragraphs = _PARAGRAPHS | dict(more or {})
    name = function.__name__
    out = "; if `out` does not fit" * ("out" in _parameters(with_grad))
    _fill(function, paragraphs | {"see_gradient": _SEE_GRADIENT.format(name=name)})
    _fill(with_grad, paragraphs | {
        "parameters": _parameters_of_gradient(name, with_grad, reductions),
        "loss": f"loss : scalar\n    As from `{name}`.",
        "raises": _RAISES.format(errors=errors, conditions=textwrap.fill(
            f'As from `{name}`; if `reduction` is "none"{out}. Nothing is written then.',
            _WIDTH, initial_indent="    ", subsequent_indent="    ",
        )),
    })  # fmt: skip


def complete(paragraphs: Mapping[str, str], *functions: _Function) -> None:
    """Complete the docstrings of functions of one family, which share these paragraphs."""
    for function in functions:
        _fill(function, paragraphs)


_RAISES = """
Raises
------
{errors}
{conditions}
"""

_SEE_GRADIENT = """
See Also
--------
{name}_with_grad : the loss and its gradient.
"""


def _parameters(function: _Function) -> tuple[str, ...]:
    code = function.__code__
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _parameters_of_gradient(name: str, with_grad: _Function, reductions: tuple[str, ...]) -> str:
    """Return the section: the parameters shared with `name`, and those that differ."""
    given = _parameters(with_grad)
    own = [p for p in ("reduction", "axis", "empty", "out") if p in given]
    others = ", ".join(p for p in given if p not in own)
    lines = textwrap.wrap(others, _WIDTH - len(f" : see `{name}`"))
    scalars = ", ".join(f'"{r}"' for r in reductions if r != "none")
    paragraphs = {
        "reduction": f'reduction : {{{scalars}}}, default "{reductions[0]}"\n'
        '    A gradient needs a scalar, so not "none".',
        "out": "out : array, optional\n"
        f"    Receives the gradient: of the shape and dtype of `{given[0]}`, which it may be.",
        **_PARAGRAPHS,
    }
    return "\n".join([
        "Parameters",
        "----------",
        *(f"{line.removesuffix(',')} : see `{name}`" for line in lines),
        *(paragraphs[p].strip() for p in own),
    ])  # fmt: skip


def _fill(function: _Function, paragraphs: Mapping[str, str]) -> None:
    """Insert paragraphs into the docstring of a function, each in place of its {name}."""

    def paragraph(found: re.Match[str]) -> str:
        return textwrap.indent(paragraphs[found["name"]].strip(), found["margin"])

    if function.__doc__:  # there is none under `python -OO`
        function.__doc__ = _PLACE.sub(paragraph, function.__doc__)
