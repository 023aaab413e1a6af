"""The command line, ``python -m boltzmax``: demos, benchmarks, build information and files.

Each command is a module with two functions: ``add_parser(commands)`` declares its arguments and
``run(args)`` does the work. Mistakes are reported in one line, with exit status 2.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from boltzmax import _core
from boltzmax._lib.console import CommandError
from boltzmax.cli import apply, bench, demo, info, quantize, report, text
from boltzmax.cli.arguments import PROGRAM, show_examples

__all__ = ["main"]

MAIN_JOB = (["demo"], ["bench", "--quick"])


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Softmax for NumPy. Without arguments: demo, then bench --quick.",
        epilog=show_examples("demo", "bench --quick", "apply softmax logits.npy probabilities.npy")
        + f"\n\n{PROGRAM} COMMAND --help lists the options of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=_core.version)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (demo, text, report, bench, info, apply, quantize):
        command.add_parser(commands)
    return parser


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell if it asks for completions and argcomplete is installed."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    try:
        import argcomplete
    except ImportError:
        return
    argcomplete.autocomplete(parser)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments, ``sys.argv[1:]`` by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = make_parser()
    complete(parser)
    try:
        for command in [arguments] if arguments else MAIN_JOB:
            args = parser.parse_args(command)
            args.run(args)
    except (CommandError, OSError) as error:
        print(f"{PROGRAM}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return 130
    return 0
