"""Paragraphs that the docstrings of several functions share, and those that a pair is given.

A docstring has the name of a paragraph in braces on a line of its own.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

_PLACE = re.compile(r"^(?P<margin> *)\{(?P<name>\w+)\}$", re.M)
_WIDTH = 92  # of a line in a docstring, without its margin
_Function = Callable[..., Any]

_PARAGRAPHS = {
    "axis": """
axis : int, default -1
    The axis of the classes, counted from the end if negative; 1 is PyTorch's. Targets, weights
    and losses of rows have the shape without it, probabilities and gradients the whole.
""",
    "empty": """
empty : {"nan", "zero"}, default "nan"
    What the mean over nothing is: over no row, over rows that are all ignored, or over weights
    that sum to 0. NaN is PyTorch's answer; of "zero" the gradient is zeros, too.
""",
    "sample_weight": """
sample_weight : array_like, optional
    A weight for each row: broadcasts to the shape of the rows, as NumPy broadcasts.
""",
}


def document_loss(
    function: _Function,
    with_grad: _Function,
    reductions: tuple[str, ...],
    errors: str = "TypeError, ValueError, IndexError",
) -> None:
    """Complete the docstrings of a loss and of the same with its gradient.

    Parameters
    ----------
    function : callable
        Its docstring may have any of the shared paragraphs, and ``{see_gradient}``.
    with_grad : callable
        Its docstring may have ``{parameters}``, ``{loss}`` and ``{raises}``, which refer to those
        of `function` and say what is different.
    reductions : tuple of str
        What `function` takes for its `reduction`.
    errors : str
        What both raise.
    """
    name = function.__name__
    out = "; if `out` does not fit" * ("out" in _parameters(with_grad))
    _fill(function, _PARAGRAPHS | {"see_gradient": _SEE_GRADIENT.format(name=name)})
    _fill(with_grad, _PARAGRAPHS | {
        "parameters": _parameters_of_gradient(name, with_grad, reductions),
        "loss": f"loss : scalar\n    As from `{name}`.",
        "raises": _RAISES.format(errors=errors, conditions=textwrap.fill(
            f'As from `{name}`; if `reduction` is "none"{out}. Nothing is written then.',
            _WIDTH, initial_indent="    ", subsequent_indent="    ",
        )),
    })  # fmt: skip


_RAISES = """
Raises
------
{errors}
{conditions}
"""

_SEE_GRADIENT = """
See Also
--------
{name}_with_grad : the same, and its gradient.
"""


def _parameters(function: _Function) -> tuple[str, ...]:
    code = function.__code__
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _parameters_of_gradient(name: str, with_grad: _Function, reductions: tuple[str, ...]) -> str:
    """Return the section: what is as in `name`, and what is not."""
    given = _parameters(with_grad)
    own = [p for p in ("reduction", "axis", "empty", "out") if p in given]
    others = ", ".join(p for p in given if p not in own)
    lines = textwrap.wrap(others, _WIDTH - len(f" : see `{name}`"))
    scalars = ", ".join(f'"{r}"' for r in reductions if r != "none")
    paragraphs = {
        "reduction": f'reduction : {{{scalars}}}, default "{reductions[0]}"\n'
        '    A gradient needs a scalar, so not "none".',
        "out": "out : array, optional\n"
        f"    Where the gradient goes: of the shape and dtype of `{given[0]}`, which it may be.",
        **_PARAGRAPHS,
    }
    return "\n".join([
        "Parameters",
        "----------",
        *(f"{line.removesuffix(',')} : see `{name}`" for line in lines),
        *(paragraphs[p].strip() for p in own),
    ])  # fmt: skip


def _fill(function: _Function, paragraphs: Mapping[str, str]) -> None:
    """Put paragraphs into the docstring of a function, each in the place of its {name}."""

    def paragraph(found: re.Match[str]) -> str:
        return textwrap.indent(paragraphs[found["name"]].strip(), found["margin"])

    if function.__doc__:  # there is none under `python -OO`
        function.__doc__ = _PLACE.sub(paragraph, function.__doc__)
