"""Declare commands and parse their arguments."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from boltzmax._lib.console import output_path

PROGRAM = "python -m boltzmax"
FIGURES = (".png", ".svg", ".pdf")


def add_command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], None], text: str, *examples: str
) -> argparse.ArgumentParser:
    """Declare a command; its help says what it does and ends with examples."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=show_examples(*(f"{name} {example}".strip() for example in examples)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def show_examples(*commands: str) -> str:
    """Return the examples that end a help text."""
    return "\n".join(("examples:", *(f"  {PROGRAM} {command}" for command in commands)))


def shape(text: str) -> tuple[int, ...]:
    """Parse ``64x1000``."""
    sizes = tuple(int(size) for size in text.split("x"))
    if min(sizes) < 1:
        raise ValueError
    return sizes


def at_least(least: int) -> Callable[[str], int]:
    """Return a parser of integers that are not less than `least`."""

    def integer(text: str) -> int:
        if (number := int(text)) < least:
            raise ValueError
        return number

    integer.__name__ = f"integer of at least {least}"  # argparse shows it in its messages
    return integer


def share(text: str) -> float:
    """Parse a number above 0 and at most 1."""
    if not 0.0 < (number := float(text)) <= 1.0:
        raise ValueError
    return number


share.__name__ = "number above 0 and at most 1"  # argparse shows it in its messages


def between_0_and_1(text: str) -> float:
    """Parse a number above 0 and below 1."""
    if not 0.0 < (number := float(text)) < 1.0:
        raise ValueError
    return number


between_0_and_1.__name__ = "number between 0 and 1"  # argparse shows it in its messages


def list_of(parse: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    """Return a parser of items separated by commas."""

    def items(text: str) -> list[Any]:
        return [parse(item) for item in text.split(",")]

    items.__name__ = f"{parse.__name__} list"  # argparse shows it in its messages
    return items


def one_of(names: Sequence[str]) -> Callable[[str], str]:
    """Return a parser that accepts only these names."""

    def name(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(names)}")
        return text

    return name


def figure_path(text: str) -> Path:
    """Parse the path of a figure."""
    path = output_path(text)
    if path.suffix not in FIGURES:
        raise argparse.ArgumentTypeError(f"not one of {', '.join(FIGURES)}: {text}")
    return path
