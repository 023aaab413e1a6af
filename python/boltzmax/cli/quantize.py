"""``quantize``: the weights of a linear layer, in a ``.npy`` file, with fewer bits."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boltzmax._lib.console import Advance, CommandError, output_path, print_table, progress
from boltzmax.cli.arguments import add_command, at_least
from boltzmax.linear.quantised import QuantizedLinear
from boltzmax.linear.two_stage import TwoStageClassifier

# With --check, the k likeliest classes of so many rows of weights, as hidden vectors, are compared.
ROWS, BLOCK, K = 256, 16, 10


def add_parser(commands: Any) -> None:
    """Declare the arguments of ``quantize``."""
    parser = add_command(
        commands,
        "quantize",
        run,
        "store the weights of a linear layer in fewer bits",
        "weight.npy small.npz --bits 8 --check",
        "weight.npy small.npz --bits 4 --group 64 --rotate --bias bias.npy",
    )
    parser.add_argument("source", type=Path, metavar="IN.npy", help="weights, one row per class")
    parser.add_argument("target", type=output_path, metavar="OUT.npz")
    parser.add_argument("--bias", type=Path, metavar="BIAS.npy", help="one number per class")
    parser.add_argument("--bits", type=int, choices=(8, 4), default=8, help="8 by default")
    parser.add_argument(
        "--group", type=at_least(8), metavar="N", help="a scale for each N features, not each row"
    )
    parser.add_argument("--rotate", action="store_true", help="rotate the weights at random first")
    parser.add_argument(
        "--check",
        action="store_true",
        help="compare answers with those of the exact weights, and print what they cost",
    )


def run(args: argparse.Namespace) -> None:
    """Write the layer, and check it if that is wanted."""
    weight = read(args.source)
    bias = None if args.bias is None else read(args.bias)
    options: dict[str, Any] = {"bits": args.bits, "rotate": args.rotate}
    if args.group is not None:
        options |= {"scheme": "per_group", "group": args.group}
    try:
        with progress("quantize", weight.size) as advance:
            layer = quantized(advance, weight, bias, **options)
    except (TypeError, ValueError) as error:
        raise CommandError(f"{args.source}: {error}") from error
    layer.save(args.target)
    print(
        f"{args.target}: {layer.n_classes:,} classes of {layer.n_features}, "
        f"from {weight.nbytes / 1e6:,.1f} MB to {layer.nbytes / 1e6:,.1f} MB"
    )
    if args.check:
        check(args.target, weight, bias)


def quantized(advance: Advance, *args: Any, **options: Any) -> QuantizedLinear:
    """Return a layer; `advance` is told of the weights that are stored."""

    class Shown(QuantizedLinear):
        def _encode(self, w: NDArray[Any], start: int) -> None:
            super()._encode(w, start)
            advance(w.size)

    return Shown(*args, **options)


def read(path: Path) -> NDArray[Any]:
    """Return a mapped array."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise CommandError(f"{path} is no .npy file: {error}") from error
    if not isinstance(array, np.ndarray):
        raise CommandError(f"{path} is no .npy file")
    return array


def check(path: Path, weight: NDArray[Any], bias: NDArray[Any] | None) -> None:
    """Read the file again, and compare its answers for some rows of weights with exact ones."""
    w = np.asarray(weight, np.float32)
    b = None if bias is None else np.asarray(bias, np.float32)
    layer = QuantizedLinear.load(path)
    rounded = [(w, weight)] if bias is None or b is None else [(w, weight), (b, bias)]
    is_float = all(np.array_equal(given, read) for given, read in rounded)
    screen = layer if is_float else QuantizedLinear(w, b)
    exact = TwoStageClassifier(w, b, screen=screen)
    k = min(K, layer.n_classes)
    hidden = w[:: max(1, len(w) // ROWS)][:ROWS]
    same, rescored, outside, width = 0, 0, 0, 0.0
    with progress("check", len(hidden)) as advance:
        for start in range(0, len(hidden), BLOCK):
            x = hidden[start : start + BLOCK]
            top = exact.topk(x, k, log_probs=False)
            same += int((layer.topk(x, k)[0] == top.ids).all(axis=1).sum())
            rescored += int(top.rescored.sum())
            lower, upper = layer.log_partition(x)
            narrow = exact.log_partition(x, 1e-6)
            outside += int(((narrow.upper < lower) | (upper < narrow.lower)).sum())
            width += float((upper - lower).sum())
            advance(len(x))
    n = len(hidden)
    rows = [
        (f"the {k} likeliest classes are the same, in order", f"{same / n:.1%} of rows"),
        ("exact logits that prove them", f"{rescored / n:,.1f} a row"),
        ("bounds of the log-partition", f"{width / n:.3f} apart"),
        ("bounds that are wrong", str(outside)),
    ]
    print_table(f"{n} rows of the weights as hidden vectors", ("checked", ">result"), [rows])
    if outside:
        raise CommandError(f"{path}: {outside} bounds do not contain the exact value")
