"""The bits of about 2,000 fixed calls, to check that a change leaves results alone.

    BOLTZMAX_ISA=avx2 python tests/bits_corpus.py > before.txt
    BOLTZMAX_ISA=avx2 python tests/bits_corpus.py --against before.txt

prints for each public function the SHA-256 of everything that its calls return, with a short digest
of each call, so that the first call that differs can be named. Output is comparable only on one
machine, since NumPy's BLAS multiplies the matrices.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import boltzmax
import boltzmax.special
import every_function
from bits_arguments import DTYPES, Draw, layer, reduction
from boltzmax.losses.registry import LOSSES
from layer_samples import MADE
from operations import GRADIENTS, OPERATIONS
from variant_samples import VARIANTS

Array = npt.NDArray[Any]
Case = tuple[tuple[Any, ...], dict[str, Any]]

CALLS = 65  # of each function
DIGITS = 8  # of a call's digest


# ---- the arguments of each function ----


def family(draw: Draw, name: str) -> Case:
    x = draw.scores(draw.shape())
    axis = int(draw.rng.integers(-x.ndim, x.ndim))
    rows = np.delete(x.shape, axis)
    options = draw.maybe(
        axis=draw.one_of(axis, axis, None),
        where=draw.rng.random(x.shape) < 0.7,
        temperature=draw.one_of(0.5, 2.0, 1e-3, 0.0),
        dtype=draw.one_of(*DTYPES),
    )
    if options.get("axis", 0) is not None and draw.rng.random() < 0.2:
        options |= {"axis": axis, "temperature": draw.positive(*rows)}
    if name == "logsumexp":
        options |= draw.maybe(keepdims=True, return_sign=True)
        if draw.rng.random() < 0.2 and np.all(options.get("temperature", 1)):
            options |= {"b": draw.numbers(*x.shape)}
    return (x,), options


def backward(draw: Draw, name: str) -> Case:
    shape = draw.shape()
    y = getattr(boltzmax, name.removesuffix("_backward"))(draw.scores(shape))
    axis = int(draw.rng.integers(-y.ndim, y.ndim))
    return (draw.laid(draw.numbers(*shape, dtype=y.dtype.name)), draw.laid(y)), {"axis": axis}


def scipy_like(draw: Draw, name: str) -> Case:
    x = draw.scores(draw.shape())
    return (x,), draw.maybe(axis=int(draw.rng.integers(x.ndim)))


def counts(draw: Draw, name: str) -> Case:
    if name == "balanced_softmax":
        x = draw.scores(draw.shape())
        return (x, draw.positive(x.shape[-1])), {}
    sizes = draw.rng.integers(1, 1000, draw.length())
    if name == "logit_adjustment":
        return (sizes, draw.one_of(0.5, 1.0)), {}
    return (sizes, draw.one_of("balanced", "effective_number", "sqrt")), {}


def labels(draw: Draw, _: str) -> Case:
    drawn = draw.rng.integers(0, 4, draw.length())
    return (drawn, draw.one_of("balanced", "over", "under")), {"rng": int(draw.rng.integers(99))}


def statistics(draw: Draw, _: str) -> Case:
    x = draw.scores(draw.shape())
    axis = int(draw.rng.integers(-x.ndim, x.ndim))
    target = draw.rng.integers(0, x.shape[axis], np.delete(x.shape, axis)) if x.size else None
    k, entropy = draw.one_of(0, 1, 5), draw.one_of(True, False)
    given = draw.maybe(temperature=0.5, target=target)
    return (x,), given | {"k": k, "entropy": entropy, "axis": axis}


def of_rows(draw: Draw, name: str) -> Case:
    """The arguments of losses of rows."""
    x = draw.scores(draw.shape())
    axis = int(draw.rng.integers(-x.ndim, x.ndim)) if draw.rng.random() < 0.4 else -1
    k, rows = x.shape[axis], tuple(np.delete(x.shape, axis))
    if not k:
        x, k, rows = draw.scores((4, 3)), 3, (4,)
        axis = -1
    target: Array = draw.classes(k, rows)
    options = reduction(draw, name) | {"axis": axis}
    if draw.rng.random() < 0.4:
        options["sample_weight"] = draw.positive(*rows)
    weight = draw.maybe(weight=draw.one_of(draw.positive(k), draw.positive(k).astype("f4")))
    loss = LOSSES[name.removesuffix("_with_grad")]
    options |= {str(loss.class_weight): w for w in weight.values()}
    if loss.name == "focal_loss":
        options |= draw.maybe(gamma=draw.one_of(0.0, 0.5))
    if loss.soft:
        options |= draw.maybe(label_smoothing=0.1, z_loss=1e-3, temperature=0.5)
        if draw.rng.random() < 0.2:
            options["softcap"] = 5.0
    options = {option: value for option, value in options.items() if option in loss.parameters}
    if not loss.soft:
        return (x, target), options
    if draw.rng.random() < 0.25:
        target = np.moveaxis(draw.probabilities(*rows, k), -1, axis)
    return (x, target), options


def of_elements(draw: Draw, name: str) -> Case:
    """The arguments of losses of single numbers."""
    x = draw.scores(draw.shape())
    p = draw.laid(draw.probabilities(*x.shape).astype(draw.one_of("f4", "f8")))
    if name.startswith("kl_divergence"):
        return (x, p), reduction(draw, name, "batchmean") | draw.maybe(log_target=True)
    weights = draw.maybe(weight=draw.positive(*x.shape), pos_weight=draw.positive(x.shape[-1]))
    return (x, p), reduction(draw, name) | weights


def linear_loss(draw: Draw, name: str) -> Case:
    hidden, weight, bias = layer(draw)
    n, v = len(hidden), len(weight)
    options = reduction(draw, name) | draw.maybe(
        label_smoothing=0.1, z_loss=1e-3, temperature=0.5, class_weight=draw.positive(v)
    )
    if draw.rng.random() < 0.3:
        options |= {"softcap": 5.0, "sample_weight": draw.positive(n)}
    target = draw.classes(v, (n,)) if draw.rng.random() < 0.8 else draw.probabilities(n, v)
    return (hidden, weight, target, draw.one_of(bias, None)), options


def linear_query(draw: Draw, name: str) -> Case:
    hidden, weight, bias = layer(draw)
    if name == "linear_topk":
        return (hidden, weight, min(3, len(weight)), bias), {}
    options = draw.maybe(temperature=draw.one_of(0.5, 0.0))
    if name == "linear_sample":
        return (hidden, weight, int(draw.rng.integers(99)), bias), options
    target = (draw.classes(len(weight), (len(hidden),)),) if name == "linear_log_prob" else ()
    return (hidden, weight, *target, bias), options | draw.maybe(softcap=5.0)


def drawn_loss(draw: Draw, name: str) -> Case:
    """The arguments of a loss of drawn classes."""
    hidden, weight, bias = layer(draw)
    rows = len(hidden)
    ids = draw.classes(len(weight), draw.one_of((5,), (rows, 3)))
    draws = (ids, draw.numbers(*ids.shape, dtype="float64"))
    if name == "log_partition_estimate":
        return (hidden, weight, draws), draw.maybe(bias=bias)
    draws = (*draws, draw.numbers(rows, dtype="float64"))
    options = reduction(draw, name) | draw.maybe(remove_hits=False, bias=bias)
    if draw.rng.random() < 0.3:
        options["sample_weight"] = draw.positive(rows)
    return (hidden, weight, draw.classes(len(weight), (rows,)), draws), options


def pairs(draw: Draw, name: str) -> Case:
    """The arguments of a loss of pairs of vectors."""
    n, d, dtype = int(draw.rng.integers(0, 60)), int(draw.rng.integers(1, 40)), draw.one_of(*DTYPES)
    query, key = (draw.laid(draw.numbers(n, d, dtype=dtype)) for _ in range(2))
    options = draw.maybe(symmetric=True, own_view=True, negatives=draw.numbers(7, d, dtype=dtype))
    return (query, key), options | draw.maybe(tile=draw.one_of(8, 33))


def variant(draw: Draw, name: str) -> Case:
    """The arguments of another form of softmax, or of its gradient."""
    x = draw.scores(draw.shape())
    axis = int(draw.rng.integers(-x.ndim, x.ndim))
    if not x.shape[axis]:
        x, axis = draw.scores((4, 3)), -1
    options: dict[str, Any] = {"axis": axis}
    if name.startswith("windowed"):
        options["window"] = draw.one_of(1, 4, 51)
    if "taylor" in name:
        options |= draw.maybe(order=4)
    if name in ("entmax", "entmax_backward", "entmax_alpha_grad"):
        options["alpha"] = draw.one_of(1.2, 1.8, 3.0)
    if name in ("gumbel_softmax", "gumbel_max", "gumbel_topk"):
        options["rng"] = 7
    if name == "gumbel_topk":
        return (x, min(3, x.shape[axis])), options
    if not name.endswith(("_backward", "_grad")):
        return (x,), options
    of_result = name.startswith(("sparsemax", "entmax", "gumbel"))
    other = boltzmax.softmax(x, axis) if of_result else x
    return (draw.laid(draw.numbers(*x.shape, dtype=x.dtype.name)), other), options


def mixture(draw: Draw, name: str) -> Case:
    n, m, k = int(draw.rng.integers(0, 9)), int(draw.rng.integers(1, 6)), draw.length()
    logits, dtype = draw.scores((n, m, k)), draw.one_of(*DTYPES)
    arguments = (logits.astype(dtype), draw.numbers(n, m, dtype=dtype))
    if name.endswith("_backward"):
        return (draw.numbers(n, k, dtype=dtype), *arguments), {}
    return arguments, {}


def segments(draw: Draw, name: str) -> Case:
    n, number = 3 * draw.length(), int(draw.rng.integers(1, 40))
    x, inner = draw.scores((n,)), np.sort(draw.rng.integers(0, n + 1, number - 1))
    arguments = (draw.numbers(n, dtype=x.dtype.name), x) if name.endswith("_backward") else (x,)
    if draw.rng.random() < 0.3:
        ids = draw.rng.integers(0, number, n)
        return arguments, {"segment_ids": ids, "num_segments": number}
    return (*arguments, np.concatenate([[0], inner, [n]])), {}


FUNCTIONS: dict[str, Callable[[Draw, str], Case]] = {
    **dict.fromkeys(OPERATIONS, family),
    **dict.fromkeys(GRADIENTS, backward),
    **{f"special.{name}": scipy_like for name in boltzmax.special.__all__},
    **dict.fromkeys(("balanced_softmax", "class_weights", "logit_adjustment"), counts),
    "resample_indices": labels,
    "row_stats": statistics,
}
for _loss in LOSSES.values():
    _case = of_elements if _loss.per_element else linear_loss if _loss.is_linear else of_rows
    FUNCTIONS |= dict.fromkeys((_loss.name, f"{_loss.name}_with_grad"), _case)
FUNCTIONS |= dict.fromkeys(every_function.OF_DRAWS, drawn_loss)
FUNCTIONS |= dict.fromkeys(every_function.OF_SAMPLES, drawn_loss)
FUNCTIONS |= {"log_partition_estimate": drawn_loss}
FUNCTIONS |= {"info_nce": pairs, "info_nce_with_grad": pairs}
_variants = sorted({name.partition(":")[0] for name in VARIANTS} | {"gumbel_softmax"})
FUNCTIONS |= dict.fromkeys([*_variants, *(f"{name}_backward" for name in _variants)], variant)
FUNCTIONS |= dict.fromkeys(("gumbel_max", "gumbel_topk", "entmax_alpha_grad"), variant)
FUNCTIONS |= dict.fromkeys(("mixture_log_softmax", "mixture_log_softmax_backward"), mixture)
_segments = ("segment_softmax", "segment_log_softmax", "segment_logsumexp")
FUNCTIONS |= dict.fromkeys((*_segments, *(f"{name}_backward" for name in _segments[:2])), segments)
FUNCTIONS |= dict.fromkeys(
    ("linear_logsumexp", "linear_log_prob", "linear_topk", "linear_sample"), linear_query
)


# ---- layers ----

LAYER_CALLS = (
    *("log_prob", "loss", "loss_with_grad", "log_prob_all", "node_log_prob", "predict_node"),
    *("sample", "topk", "sgd_step", "adagrad_step"),
)


def tree(draw: Draw, n: int) -> boltzmax.Tree:
    sizes = draw.rng.integers(1, 1000, n)
    if draw.rng.random() < 0.5:
        return boltzmax.Tree.huffman(sizes)
    return boltzmax.Tree.balanced(n, arity=draw.one_of(2, 4))


def layer_call(draw: Draw, layer: Any, method: str) -> tuple[str, Callable[[], Any]]:
    """A call of a method; a step also returns the weights that it has changed."""
    n, classes, d = int(draw.rng.integers(0, 20)), draw.length() + 1, int(draw.rng.integers(1, 70))
    kind = draw.one_of("float32", "float64")
    if layer is boltzmax.HierarchicalSoftmax:
        model = layer(tree(draw, classes), d, dtype=kind, seed=0)
    else:
        model = MADE[layer](classes, d, dtype=kind, seed=0)
    hidden, target = draw.numbers(n, d, dtype=kind), draw.rng.integers(0, classes, n)
    given: list[Any] = [hidden]
    if method in ("log_prob", "loss", "loss_with_grad"):
        given.append(target)
    elif method == "topk":
        given.append(min(3, classes))
    elif method == "sample":
        given.append(7)
    elif method.endswith("_step"):
        given += [target, 0.1]

    def call() -> Any:
        found = getattr(model, method)(*given)
        return (found, model.weight, model.bias) if method.endswith("_step") else found

    return f"{layer.__name__}.{method} {kind} {(n, classes, d)}", call


# ---- all calls and their results ----


def described(name: str, case: Case) -> str:
    """The call, arrays by dtype, shape and strides."""

    def short(value: Any) -> str:
        if not isinstance(value, np.ndarray):
            return repr(value)
        return f"{value.dtype}{value.shape}/{value.strides}"

    arguments = [short(a) for a in case[0]]
    return f"{name}({', '.join(arguments + [f'{k}={short(v)}' for k, v in case[1].items()])})"


def calls() -> Iterator[tuple[str, str, Callable[[], Any]]]:
    """The function, the call in words, and the call."""
    for name, arguments in FUNCTIONS.items():
        draw = Draw(name)
        module, _, plain = name.rpartition(".")
        function = getattr(boltzmax.special if module else boltzmax, plain)
        for _ in range(CALLS):
            case = arguments(draw, name)
            yield name, described(name, case), partial(function, *case[0], **case[1])
    for kind in MADE:
        draw = Draw(kind.__name__)
        methods = [method for method in LAYER_CALLS if hasattr(kind, method)]
        for _ in range(2 * CALLS // len(methods)):
            for method in methods:
                yield kind.__name__, *layer_call(draw, kind, method)


def parts(found: Any) -> Iterator[Array]:
    """The arrays in a result, with one sign for all NaN: that of a computed one is arbitrary."""
    if isinstance(found, boltzmax.RowStats):
        found = tuple(vars(found).values())
    if isinstance(found, tuple):
        for part in found:
            yield from parts(part)
        return
    array = np.array("None" if found is None else found)
    if array.dtype.kind == "f":
        array[np.isnan(array)] = np.nan
    yield array


def digest(call: Callable[[], Any]) -> bytes:
    """The digest of the result's bits, or of the error."""
    hashed = hashlib.sha256()
    try:
        for array in parts(call()):
            hashed.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    except (TypeError, ValueError) as error:
        hashed.update(type(error).__name__.encode())
    return hashed.digest()


def corpus() -> tuple[dict[str, list[str]], dict[str, list[bytes]]]:
    """The calls in words, and their digests, by function."""
    words: dict[str, list[str]] = {}
    found: dict[str, list[bytes]] = {}
    for name, text, call in calls():
        words.setdefault(name, []).append(text)
        found.setdefault(name, []).append(digest(call))
    return words, found


def lines(found: dict[str, list[bytes]]) -> Iterator[str]:
    """A line per function and one for all: the name, the SHA-256, and the digests of the calls."""
    whole = hashlib.sha256()
    for name, each in found.items():
        together = hashlib.sha256(b"".join(each))
        whole.update(together.digest())
        yield f"{name} {together.hexdigest()} {''.join(d.hex()[:DIGITS] for d in each)}"
    yield f"all {whole.hexdigest()} {sum(map(len, found.values()))} calls"


def compare(path: Path, words: dict[str, list[str]], found: dict[str, list[bytes]]) -> int:
    """Print the first call of each function that differs; return how many functions do."""
    before = {line.split()[0]: line.split() for line in path.read_text("utf-8").splitlines()}
    differing = 0
    for line in lines(found):
        name, whole, short = line.split()[:3]
        if name == "all" or before.get(name, ["", ""])[1] == whole:
            continue
        differing += 1
        old = before.get(name, ["", "", ""])[2]
        for i, text in enumerate(words[name]):
            at = slice(i * DIGITS, (i + 1) * DIGITS)
            if old[at] != short[at]:
                print(f"{name}, call {i}: {text}")
                break
    print(f"{differing} of {len(found)} functions differ")
    return differing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--against", type=Path, help="compare with earlier output")
    against = parser.parse_args().against
    words, found = corpus()
    if against is not None:
        return int(compare(against, words, found) > 0)
    print(*lines(found), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
