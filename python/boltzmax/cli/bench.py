"""``bench``: softmax, log_softmax and logsumexp against the peers installed on this machine."""

from __future__ import annotations

import argparse
import importlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from boltzmax._lib.config import config, get_num_threads, set_num_threads
from boltzmax._lib.console import output_path, print_table, progress, require, write_json
from boltzmax.cli import peers
from boltzmax.cli.peers import Case
from boltzmax.cli.timing import interleave

SHAPES = ((10,), (64, 1000), (256, 32000))
HEADER = (
    *("function", "shape", "dtype", ">threads", "peer"),
    *(">time", ">ns/element", ">GB/s", ">speed-up"),
)
FIGURES = (".png", ".svg", ".pdf")
REST = 0.02  # seconds: OpenMP threads spin for some milliseconds before they sleep


@dataclass(frozen=True)
class Result:
    """The time of one peer in one case."""

    function: str
    shape: tuple[int, ...]
    dtype: str
    threads: int
    peer: str
    seconds: float
    ns_per_element: float
    gb_per_second: float  # what must be read and written at least, over the time
    speedup: float  # of boltzmax over this peer


def shape(text: str) -> tuple[int, ...]:
    """Parse ``64x1000``."""
    sizes = tuple(int(size) for size in text.split("x"))
    if min(sizes) < 1:
        raise ValueError
    return sizes


def threads(text: str) -> int:
    """Parse a number of threads."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


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


def add_parser(commands: Any) -> None:
    """Declare the arguments of ``bench``."""
    parser = commands.add_parser("bench", help="time boltzmax beside its peers")
    parser.set_defaults(run=run)

    def add_list(option: str, parse: Callable[[str], Any], default: Any, example: str) -> None:
        parser.add_argument(
            option, type=list_of(parse), default=default, metavar="LIST", help=f"as in {example}"
        )

    add_list("--functions", one_of(peers.FUNCTIONS), peers.FUNCTIONS, "softmax,logsumexp")
    add_list("--shapes", shape, SHAPES, "64x1000,256x32000; the last axis is reduced")
    add_list("--dtypes", one_of(peers.DTYPES), None, "float32,float16")
    add_list("--threads", threads, [1], "1,2")
    parser.add_argument("--quick", action="store_true", help="float32 only, and fewer rounds")
    parser.add_argument(
        "--json", type=output_path, metavar="FILE", help="write the results; - for standard output"
    )
    parser.add_argument("--plot", type=figure_path, metavar="OUT.png", help="draw the results")


def run(args: argparse.Namespace) -> None:
    """Measure all cases, then print, write and draw the results."""
    if args.plot:
        require("matplotlib")  # an error now rather than after the measurements
    dtypes = args.dtypes or (["float32"] if args.quick else peers.available_dtypes())
    cases = [
        Case(function, shape, dtype, threads=threads)
        for function, shape, dtype, threads in itertools.product(
            args.functions, args.shapes, dtypes, args.threads
        )
    ]
    results = measure_all(cases, rounds=9 if args.quick else 21)
    if args.json != Path("-"):
        print_results(results)
    if args.json:
        write_json(args.json, {**environment(), "results": [asdict(r) for r in results]})
    if args.plot:
        plot(results, args.plot)


def measure_all(cases: Sequence[Case], rounds: int) -> list[Result]:
    """Return the results of all cases; the number of threads is restored."""
    before = get_num_threads()
    results = []
    try:
        with progress("bench", len(cases)) as advance:
            for case in cases:
                advance(0, str(case))
                results += measure(case, rounds)
                advance(1)
    finally:
        set_num_threads(before)
    return results


def measure(case: Case, rounds: int) -> list[Result]:
    """Return the results of every peer in one case, ours first."""
    tasks = peers.prepare(case)
    rest = REST if case.threads > 1 else 0.0
    times = interleave(tasks, rounds, rest=rest)
    # The minimum: whatever else the machine does can only add to a time.
    seconds = {name: float(values.min()) for name, values in times.items()}
    result = np.asarray(tasks[peers.OURS].call())
    traffic = case.size * peers.dtype(case.dtype).itemsize + result.nbytes
    return [
        Result(
            function=case.function,
            shape=case.shape,
            dtype=case.dtype,
            threads=case.threads,
            peer=name,
            seconds=value,
            ns_per_element=1e9 * value / case.size,
            gb_per_second=1e-9 * traffic / value,
            speedup=value / seconds[peers.OURS],
        )
        for name, value in seconds.items()
    ]


def environment() -> dict[str, Any]:
    """Return what the results depend on: this build, this machine, the versions of the peers."""
    modules = [importlib.import_module(peer.name) for peer in peers.installed()]
    versions = {module.__name__: module.__version__ for module in modules}
    return {"config": config(), "versions": versions}


def print_results(results: Sequence[Result]) -> None:
    """Print one row per peer, one group per case."""

    def case_of(r: Result) -> tuple[str, str, str, str]:
        return r.function, peers.dims(r.shape), r.dtype, str(r.threads)

    def row(r: Result) -> tuple[str, ...]:
        speedup = "" if r.peer == peers.OURS else f"{r.speedup:.2f}x"
        numbers = f"{r.ns_per_element:.3f}", f"{r.gb_per_second:.2f}", speedup
        return *case_of(r), r.peer, duration(r.seconds), *numbers

    groups = [[row(r) for r in group] for _, group in itertools.groupby(results, case_of)]
    print_table("speed-up: the time of the peer / ours", HEADER, groups, bold=peers.OURS)


def duration(seconds: float) -> str:
    """Return ``13.2 us`` for 1.32e-5."""
    for unit, scale in ("ns", 1e9), ("us", 1e6):
        if seconds * scale < 1000:
            return f"{seconds * scale:.1f} {unit}"
    return f"{seconds * 1e3:.1f} ms"


def plot(results: Sequence[Result], path: Path) -> None:
    """Draw nanoseconds per element: one panel per function, one group of bars per case."""
    from matplotlib.figure import Figure

    def label(r: Result) -> str:
        return f"{peers.dims(r.shape)} {r.dtype}" + (f" x{r.threads}" if r.threads > 1 else "")

    functions = list(dict.fromkeys(r.function for r in results))
    labels = list(dict.fromkeys(map(label, results)))
    names = list(dict.fromkeys(r.peer for r in results))
    height = 0.8 / len(names)

    figure = Figure(figsize=(4 * len(functions) + 2, len(labels) + 1), layout="constrained")
    panels = figure.subplots(1, len(functions), sharex=True, sharey=True, squeeze=False)[0]
    for panel, function in zip(panels, functions, strict=True):
        for i, name in enumerate(names):
            bars = [r for r in results if (r.function, r.peer) == (function, name)]
            where = [labels.index(label(r)) + (i + 0.5) * height - 0.4 for r in bars]
            panel.barh(where, [r.ns_per_element for r in bars], height, label=name)
        panel.set(title=function, xscale="log", xlabel="ns per element")
    panels[0].set_yticks(range(len(labels)), labels)
    panels[0].invert_yaxis()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper")
    figure.savefig(path, dpi=150)
