"""Tables, progress bars and errors, drawn by rich if it is installed, else in plain text."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

Row = Sequence[str]
Groups = Sequence[Sequence[Row]]
Advance = Callable[..., None]

PIPE_WIDTH = 120  # columns, when standard output is not a terminal


class CommandError(Exception):
    """A mistake to report in one line, without a traceback."""


def require(module: str) -> ModuleType:
    """Import and return a module that the ``demo`` extra installs."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        name = (error.name or module).partition(".")[0]
        raise CommandError(f'{name} is missing: pip install "boltzmax[demo]"') from None


def output_path(text: str) -> Path:
    """Return the path of a file to write; its directory must exist already."""
    path = Path(text)
    if not path.parent.is_dir():
        raise CommandError(f"no such directory: {path.parent}")
    return path


def write_json(
    path: Path, environment: Mapping[str, Any], name: str, records: Iterable[Mapping[str, Any]]
) -> None:
    """Write what was measured in which environment to a file, or standard output for ``-``.

    Under `name`, each record has a line of its own.
    """
    head = json.dumps({**environment, name: []}, indent=1).removesuffix("[]\n}")
    lines = ",\n".join(map(json.dumps, records))
    text = f"{head}[\n{lines}\n]}}\n"
    if path == Path("-"):
        sys.stdout.write(text)
    else:
        path.write_text(text, encoding="utf-8")


def print_table(title: str, header: Row, groups: Groups, bold: str = "") -> None:
    """Print a table whose groups of rows are separated.

    A column whose name starts with ``>`` is aligned on the right. A row with a cell equal to
    `bold` is emphasised.
    """
    draw = _print_rich_table if find_spec("rich") else _print_plain_table
    draw(title, header, groups, bold)


def _print_rich_table(title: str, header: Row, groups: Groups, bold: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for name in header:
        table.add_column(name.removeprefix(">"), justify="right" if name[0] == ">" else "left")
    for group in groups:
        for row in group:
            table.add_row(*row, style="bold" if bold in row else None)
        table.add_section()
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    # Cells may be anybody's words: "[red]" and ":smile:" are printed as they are.
    Console(width=width, markup=False, emoji=False).print(table)


def _print_plain_table(title: str, header: Row, groups: Groups, bold: str) -> None:
    names = [name.removeprefix(">") for name in header]
    rows = [row for group in groups for row in group]
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    aligns = [">" if name[0] == ">" else "<" for name in header]

    def line(row: Row) -> str:
        cells = zip(row, aligns, widths, strict=True)
        return "  ".join(f"{cell:{align}{width}}" for cell, align, width in cells).rstrip()

    print(title, line(names), sep="\n")
    for group in groups:
        print("-" * len(line(names)), *map(line, group), sep="\n")


@contextmanager
def progress(title: str, total: int) -> Iterator[Advance]:
    """Show a progress bar on standard error; yield ``advance(step, note="")``."""
    show = _rich_progress if find_spec("rich") else _plain_progress
    with show(title, total) as advance:
        yield advance


@contextmanager
def _rich_progress(title: str, total: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import Progress, TextColumn

    note = TextColumn("{task.fields[note]}")
    with Progress(*Progress.get_default_columns(), note, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total, note="")
        yield lambda step, note="": bar.update(task, advance=step, note=note)


@contextmanager
def _plain_progress(title: str, total: int) -> Iterator[Advance]:
    done = 0

    def advance(step: int, note: str = "") -> None:
        nonlocal done
        done += step
        if sys.stderr.isatty():
            end = "\n" if done >= total else ""
            sys.stderr.write(f"\r{title} {done / max(1, total):4.0%} {note}{end}")
            sys.stderr.flush()

    yield advance
