"""``report``: what the probabilities of a classifier are worth, from its logits and the labels."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from boltzmax._lib.console import (
    Advance,
    CommandError,
    output_path,
    print_table,
    progress,
    require,
)
from boltzmax._lib.files import replacing
from boltzmax._lib.mapped import BAD_HEADER
from boltzmax.cli.arguments import add_command, between_0_and_1
from boltzmax.trees.text import plain
from boltzmax.trees.tree import Tree

if TYPE_CHECKING:
    from boltzmax.report.numbers import Report

PAGE = "report.html"


def add_parser(commands: Any) -> None:
    """Declare the arguments of ``report``."""
    parser = add_command(
        commands,
        "report",
        run,
        "tell how far a classifier's probabilities can be trusted",
        "",
        "logits.npy labels.npy --classes names.txt --out results",
        "logits.npy labels.npy --risk 0.005 --alpha 0.05 --json report.json",
    )
    parser.add_argument(
        "logits",
        type=Path,
        nargs="?",
        metavar="LOGITS.npy",
        help="(rows, classes), or (rows,) for two classes; by default those of digits",
    )
    parser.add_argument("labels", type=Path, nargs="?", metavar="LABELS.npy", help="(rows,)")
    parser.add_argument("--classes", type=Path, metavar="TXT", help="a line for each class")
    parser.add_argument(
        "--tree", type=Path, metavar="TXT", help="a path, such as animal/cat, for each class"
    )
    parser.add_argument(
        "--out", type=directory, default=Path(), metavar="DIR", help=f"of {PAGE}; by default ."
    )
    parser.add_argument(
        "--risk", type=between_0_and_1, default=0.01, help="of wrong answers, 0.01 by default"
    )
    parser.add_argument(
        "--alpha", type=between_0_and_1, default=0.1, help="of sets without the label, 0.1"
    )
    parser.add_argument(
        "--json", type=file_path, metavar="FILE", help="write the numbers; - for standard output"
    )


def directory(text: str) -> Path:
    """Return the path of a directory, which need not exist."""
    path = output_path(text)
    if path.exists() and not path.is_dir():
        raise CommandError(f"not a directory: {path}")
    return path


def file_path(text: str) -> Path:
    """Return the path of a file to write."""
    path = output_path(text)
    if path.is_dir():
        raise CommandError(f"a directory, not a file: {path}")
    return path


def run(args: argparse.Namespace) -> None:
    """Measure, print, and write the page."""
    # These need scikit-learn if it is there, which takes a second to load; other commands do not.
    from boltzmax.report.digits import overtrained_digits
    from boltzmax.report.numbers import STEPS, measure
    from boltzmax.report.page import page_of
    from boltzmax.report.summary import as_json

    require("matplotlib.figure")  # before the work
    if args.logits is None:
        logits, labels = overtrained_digits()
        title = "Report on handwritten digits, by an over-trained model"
    elif args.labels is None:
        raise CommandError("LABELS.npy is missing")
    else:
        logits, labels = mapped(args.logits), mapped(args.labels)
        title = f"Report on {args.logits.name}"
    n_classes = logits.shape[1] if logits.ndim == 2 else 2
    tree = None if args.tree is None else tree_of(args.tree, n_classes)
    names = names_of(args.classes, tree, n_classes)
    with errors_named(args.logits, args.labels), _shown(STEPS - (tree is None)) as advance:
        report = measure(
            logits, labels, risk=args.risk, alpha=args.alpha, tree=tree, advance=advance
        )
    args.out.mkdir(exist_ok=True)
    page = args.out / PAGE
    write(page, page_of(report, names, title))
    if args.json == Path("-"):
        sys.stdout.write(as_json(report, names))
        return
    show(report, names, title)
    print(f"written to {page}")
    if args.json:
        write(args.json, as_json(report, names))


def mapped(path: Path) -> NDArray[Any]:
    """Return the array of a file, which is read where it is used."""
    with errors_named(path):
        return open_memmap(path, mode="r")


@contextmanager
def errors_named(*paths: Path | None) -> Iterator[None]:
    """Report errors with the files that they are about."""
    try:
        yield
    except (IndexError, TypeError, ValueError, *BAD_HEADER) as error:
        names = ", ".join(str(path) for path in paths if path)
        raise CommandError(f"{names}: {error}" if names else str(error)) from error


def lines_of(path: Path, n_classes: int) -> list[str]:
    """Return the lines of a file, one for each class."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            lines = [line.removesuffix("\n") for line in file]
    except UnicodeDecodeError:
        raise CommandError(f"{path} is not UTF-8 text") from None
    if len(lines) != n_classes:
        raise CommandError(f"{path} has {len(lines)} lines, but there are {n_classes} classes")
    return lines


def tree_of(path: Path, n_classes: int) -> Tree:
    """Return the tree whose paths are in a file."""
    with errors_named(path):
        return Tree.from_paths(lines_of(path, n_classes))


def names_of(path: Path | None, tree: Tree | None, n_classes: int) -> Sequence[str]:
    """Return the names of the classes: from a file, or those of the leaves, or numbers."""
    if path is not None:
        return [plain(line) for line in lines_of(path, n_classes)]
    if tree is not None and tree.names is not None:
        return [plain(name) for name in tree.names[:n_classes]]
    return [str(c) for c in range(n_classes)]


def write(path: Path, text: str) -> None:
    """Write a file, which appears when it is complete."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def show(report: Report, names: Sequence[str], title: str) -> None:
    """Print the summary."""
    from boltzmax.report.summary import headline, over_sure, tables, where_measured

    print(title, headline(report), sep="\n")
    print(f"temperature {report.temperature:.4g}, {over_sure(report)}")
    print(where_measured(report))
    for note in report.notes:
        print(f"note: {note}")
    for table in tables(report, names):
        print()
        rows = [[printable(cell) for cell in row] for row in table.rows]
        print_table(table.title, table.header, [rows])
    print()


def printable(text: str) -> str:
    """Escape characters that standard output does not have."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _shown(steps: int) -> AbstractContextManager[Advance]:
    """Return a progress bar if somebody sees it: errors are one line elsewhere."""
    return progress("report", steps) if sys.stderr.isatty() else nullcontext(_ignore)


def _ignore(step: float, note: str = "") -> None:
    pass
