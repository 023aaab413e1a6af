"""Paragraphs that the docstrings of several functions share."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from typing import Any, TypeVar

_Function = TypeVar("_Function", bound=Callable[..., Any])

_PARAGRAPHS = {
    "axis": """
axis : int, default -1
    The axis of the classes, counted from the end if negative; 1 is PyTorch's. Targets, weights of
    rows and the losses of "none" have the shape without it, probabilities and gradients the whole.
""",
    "empty": """
empty : {"nan", "zero"}, default "nan"
    What the mean over nothing is: over no row, over rows that are all ignored, or over weights that
    sum to 0. NaN is PyTorch's answer; of "zero" the gradient is zeros, too.
""",
}


def with_shared_paragraphs(function: _Function) -> _Function:
    """Put the paragraphs into the docstring of a function, each in the place of its {name}."""

    def paragraph(found: re.Match[str]) -> str:
        return textwrap.indent(_PARAGRAPHS[found["name"]].strip(), found["margin"])

    if function.__doc__:  # there is none under `python -OO`
        names = "|".join(_PARAGRAPHS)
        pattern = rf"^(?P<margin> *)\{{(?P<name>{names})\}}$"
        function.__doc__ = re.sub(pattern, paragraph, function.__doc__, flags=re.M)
    return function
