"""``bench``: softmax, log_softmax and logsumexp against the peers installed on this machine."""

from __future__ import annotations

import argparse
import importlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from boltzmax._lib.config import config
from boltzmax._lib.console import CommandError, output_path, print_table, require, write_json
from boltzmax.cli import peers, sweep
from boltzmax.cli.arguments import add_command, at_least, figure_path, list_of, one_of, shape
from boltzmax.cli.peers import Case
from boltzmax.cli.timing import least

SHAPES = ((10,), (100000, 10), (64, 1000), (256, 32000))
HEADER = (
    *("function", "shape", "dtype", ">threads", "library"),
    *(">time", ">ns/element", ">GB/s", ">speed-up"),
)
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
    gb_per_second: float  # the bytes that must be read and written, over the time
    speedup: float  # of boltzmax over this peer


def add_parser(commands: Any) -> None:
    """Declare the arguments of ``bench``."""
    parser = add_command(
        commands,
        "bench",
        run,
        "time boltzmax against other libraries",
        "--quick",
        "--shapes 64x1000,256x32000 --threads 1,2 --plot bench.png",
        "--sweep --functions softmax --plot sweep.png",
    )

    def add_list(option: str, parse: Callable[[str], Any], default: Any, example: str) -> None:
        parser.add_argument(
            option, type=list_of(parse), default=default, metavar="LIST", help=f"as in {example}"
        )

    add_list("--functions", one_of(peers.FUNCTIONS), peers.FUNCTIONS, "softmax,logsumexp")
    add_list("--shapes", shape, None, "64x1000,256x32000; the last axis is reduced")
    add_list("--dtypes", one_of(peers.DTYPES), None, "float32,float16")
    add_list("--threads", at_least(1), [1], "1,2")
    parser.add_argument(
        "--sweep",
        action="store_true",
        help="the time of a row against its length, on one thread; float32 by default",
    )
    parser.add_argument(
        "--quick", action="store_true", help="float32 only, fewer rounds; fewer lengths of a sweep"
    )
    parser.add_argument(
        "--json", type=output_path, metavar="FILE", help="write the results; - for standard output"
    )
    parser.add_argument("--plot", type=figure_path, metavar="OUT.png", help="draw the results")


def run(args: argparse.Namespace) -> None:
    """Measure all cases, then print, write and draw the results."""
    if args.plot:
        require("matplotlib")  # an error now rather than after the measurements
    (run_sweep if args.sweep else run_shapes)(args)


def run_shapes(args: argparse.Namespace) -> None:
    """Compare the peers in some shapes."""
    dtypes = args.dtypes or (["float32"] if args.quick else peers.available_dtypes())
    cases = [
        Case(function, shape, dtype, threads=threads)
        for function, shape, dtype, threads in itertools.product(
            args.functions, args.shapes or SHAPES, dtypes, args.threads
        )
    ]
    results = measure_all(cases, rounds=9 if args.quick else 21)
    if args.json != Path("-"):
        print_results(results)
    if args.json:
        write_json(args.json, environment(), "results", map(asdict, results))
    if args.plot:
        plot(results, args.plot)


def run_sweep(args: argparse.Namespace) -> None:
    """Compare the peers over all lengths of a row."""
    if args.shapes or args.threads != [1]:
        raise CommandError("--sweep chooses the shapes, and runs on one thread")
    cases = [
        Case(function, shape, dtype)
        for function, dtype, shape in itertools.product(
            args.functions, args.dtypes or ["float32"], sweep.shapes(args.quick)
        )
    ]
    curves = sweep.measure(cases, rounds=3 if args.quick else 21)
    found = environment()
    if args.json != Path("-"):
        sweep.print_curves(curves)
    if args.json:
        sweep.write(curves, found, args.json)
    if args.plot:
        sweep.draw(curves, conditions(found), args.plot)


def measure_all(cases: Sequence[Case], rounds: int) -> list[Result]:
    """Return the results of all cases."""
    results: list[Result] = []
    peers.work_through("bench", cases, lambda case: results.extend(measure(case, rounds)))
    return results


def measure(case: Case, rounds: int) -> list[Result]:
    """Return the results of every peer in one case, ours first."""
    tasks = peers.prepare(case)
    rest = REST if case.threads > 1 else 0.0
    seconds = least(tasks, rounds, rest=rest)
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
    """Return what the results depend on: date, build, machine and versions of the peers."""
    modules = [importlib.import_module(peer.name) for peer in peers.installed()]
    versions = {module.__name__: module.__version__ for module in modules}
    return {"date": str(date.today()), "config": config(), "versions": versions}


def conditions(found: Mapping[str, Any]) -> str:
    """Return an environment in a line."""
    versions = (f"{name} {version}" for name, version in found["versions"].items())
    commit = [f"commit {found['commit']}"] if "commit" in found else []
    machine = f"{found['date']}, {found['config']['cpu']}, {found['config']['isa']}"
    return f"{machine}; {', '.join((*versions, *commit))}"


def print_results(results: Sequence[Result]) -> None:
    """Print one row per peer, one group per case."""

    def case_of(r: Result) -> tuple[str, str, str, str]:
        return r.function, peers.dims(r.shape), r.dtype, str(r.threads)

    def row(r: Result) -> tuple[str, ...]:
        speedup = "" if r.peer == peers.OURS else f"{r.speedup:.2f}x"
        numbers = f"{r.ns_per_element:.3f}", f"{r.gb_per_second:.2f}", speedup
        return *case_of(r), r.peer, duration(r.seconds), *numbers

    groups = [[row(r) for r in group] for _, group in itertools.groupby(results, case_of)]
    print_table("speed-up: the time of the library / ours", HEADER, groups, bold=peers.OURS)


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
