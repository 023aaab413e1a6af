"""Hierarchical softmax, compared with gensim, fastText and the full softmax.

``python benchmarks/bench_tree.py`` prints the ratios of one run, on one thread. gensim and fastText
are optional: ``pip install gensim fasttext``. The large layers need 3 GB of memory, with
``--quick`` much less.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

import boltzmax
from boltzmax import HierarchicalSoftmax, Tree
from boltzmax._lib.console import require
from boltzmax.cli.timing import Task, least

if TYPE_CHECKING:
    from conftest import Measure

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

VOCABULARY, FEATURES, WINDOW = 50_000, 128, 5
SENTENCES, LENGTH = 40, 5_000
BATCH = 1024
RATE = 0.025


def zipf(n: int) -> NDArray[np.float64]:
    """Return word frequencies, proportional to 1 / r for the r-th word."""
    share = 1.0 / np.arange(1, n + 1)
    return np.asarray(share / share.sum())


def corpus(sentences: int) -> Ids:
    rng = np.random.default_rng(0)
    return rng.choice(VOCABULARY, (sentences, LENGTH), p=zipf(VOCABULARY))


def counts() -> NDArray[np.float64]:
    return np.asarray(np.ceil(1e8 * zipf(VOCABULARY)))


def pairs(words: Ids) -> tuple[Ids, Ids]:
    """Return the (context, word) pairs of skip-gram, word by word for each sentence."""
    contexts, targets = [], []
    for sentence in words:
        at = np.arange(LENGTH)[:, None] + np.array([i for i in range(-WINDOW, WINDOW + 1) if i])
        inside = (at >= 0) & (at < LENGTH)
        contexts.append(sentence[at.clip(0, LENGTH - 1)][inside])
        targets.append(np.broadcast_to(sentence[:, None], at.shape)[inside])
    return np.concatenate(contexts), np.concatenate(targets)


class SkipGram:
    """Input vectors for all words, and the layer that predicts their neighbours."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        shape = (VOCABULARY, FEATURES)
        self.vectors = ((rng.random(shape, np.float32) - np.float32(0.5)) / FEATURES).astype("f4")
        self.layer = HierarchicalSoftmax(Tree.huffman(counts()), FEATURES, bias=False)

    def layer_only(self, hidden: Floats, target: Ids) -> None:
        for i in range(0, len(target), BATCH):
            self.layer.sgd_step(hidden[i : i + BATCH], target[i : i + BATCH], RATE)

    def whole(self, context: Ids, target: Ids) -> None:
        self.layer.pair_step(self.vectors, context, target, RATE, update="grouped")


def gensim_pass(words: Ids) -> Callable[[], object]:
    """Return gensim's pass over the same pairs, with its vocabulary built."""
    models: Any = pytest.importorskip("gensim.models")
    model = models.Word2Vec(
        vector_size=FEATURES,
        window=WINDOW,
        min_count=0,
        sample=0,
        workers=1,
        sg=1,
        hs=1,
        negative=0,
        shrink_windows=False,
        sorted_vocab=0,
    )
    model.build_vocab_from_freq({str(w): int(c) for w, c in enumerate(counts())})
    sentences = [[str(w) for w in sentence] for sentence in words]
    return partial(
        model.train, sentences, total_examples=len(words), epochs=1, total_words=words.size
    )


def fasttext_pass(words: Ids) -> tuple[Callable[[], object], float]:
    """Return fastText's pass over the same words, and how many pairs it forms.

    It draws a window for every word, from 1 to the given size.
    """
    fasttext: Any = pytest.importorskip("fasttext")
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name) / "corpus.txt"
    with path.open("w") as file:
        # Every word once more, in lines too short to form pairs, so that the trees agree in size.
        file.writelines(" ".join(map(str, sentence)) + "\n" for sentence in words)
        file.writelines(f"{w}\n" for w in range(VOCABULARY))

    def run() -> object:
        assert folder
        return fasttext.train_unsupervised(
            str(path),
            model="skipgram",
            loss="hs",
            dim=FEATURES,
            ws=WINDOW,
            minn=0,
            maxn=0,
            minCount=1,
            t=1.0,
            thread=1,
            epoch=1,
            lr=RATE,
            verbose=0,
        )

    return run, words.size * (WINDOW + 1.0)


def compare_training(sentences: int) -> None:
    """Print the training pairs per second of every implementation."""
    words = corpus(sentences)
    context, target = pairs(words)
    ours = SkipGram()
    hidden = ours.vectors[context[:200_000]]
    tasks = {
        "layer alone": Task(partial(ours.layer_only, hidden, target[: len(hidden)])),
        "with input vectors": Task(partial(ours.whole, context, target)),
    }
    count: dict[str, float] = {"layer alone": len(hidden), "with input vectors": len(target)}
    try:
        tasks["gensim"], count["gensim"] = Task(gensim_pass(words)), len(target)
    except pytest.skip.Exception:
        print("gensim is not installed")
    rate = {name: count[name] / seconds for name, seconds in least(tasks, rounds=3).items()}
    try:
        run, formed = fasttext_pass(words)
        fasttext = "fastText, with reading"
        rate[fasttext] = formed / least({fasttext: Task(run)}, rounds=1)[fasttext]
    except pytest.skip.Exception:
        print("fastText is not installed")
    except RuntimeError as error:  # it sometimes encounters NaN
        print(f"fastText failed: {error}")
    depth = ours.layer.tree.expected_depth(np.bincount(target, minlength=VOCABULARY))
    print(f"skip-gram, V={VOCABULARY} D={FEATURES}, {len(target)} pairs, {depth:.1f} nodes each")
    for name, value in rate.items():
        ratio = rate["with input vectors"] / value
        print(f"  {name:24}{value / 1e6:8.2f} million pairs/s   ours is {ratio:6.2f}x")


def peaked_layer(classes: int, features: int, rows: int = 16) -> tuple[HierarchicalSoftmax, Floats]:
    """Return a layer like a trained one, certain of most choices, and hidden rows for it."""
    rng = np.random.default_rng(0)
    layer = HierarchicalSoftmax(Tree.huffman(zipf(classes)), features, seed=0)
    hidden = rng.standard_normal((rows, features), np.float32)
    layer.weight *= np.float32(8.0)
    return layer, hidden


def compare_with_full(classes: int, features: int) -> None:
    """Print the time of a log-probability and of the top ten, compared with the full softmax."""
    layer, hidden = peaked_layer(classes, features)
    weight = np.random.default_rng(1).standard_normal((classes, features), np.float32)
    row, target = hidden[:1], np.array([classes // 2])
    many = np.random.default_rng(2).choice(classes, len(hidden) * 64, p=zipf(classes))
    repeated = np.repeat(hidden, 64, axis=0)

    def full() -> object:
        logits = row @ weight.T
        return logits[0, target[0]] - boltzmax.logsumexp(logits)

    def full_top() -> object:
        logits = (row @ weight.T)[0]
        best = np.argpartition(-logits, 10)[:10]
        return best[np.argsort(-logits[best])]

    seconds = least(
        {
            "full": Task(full),
            "one": Task(partial(layer.log_prob, row, target)),
            "batch": Task(partial(layer.log_prob, repeated, many)),
            "full top": Task(full_top),
            "top": Task(partial(layer.topk, hidden, 10)),
        },
        rounds=5,
    )
    flat, one, flat_top = seconds["full"], seconds["one"], seconds["full top"]
    batch, top = seconds["batch"] / len(many), seconds["top"] / len(hidden)
    visited = float(layer.topk_visited(hidden, 10).visited.mean())
    print(f"V={classes} D={features}, a row")
    print(f"  full softmax {1e3 * flat:9.3f} ms")
    print(
        f"  log_prob     {1e3 * one:9.3f} ms {flat / one:10.0f}x; in a batch {1e6 * batch:.2f} us"
    )
    print(f"  full top 10  {1e3 * flat_top:9.3f} ms")
    print(
        f"  topk         {1e3 * top:9.3f} ms {flat_top / top:10.0f}x; {visited:.0f} nodes visited"
    )


def growth(classes: list[int], features: int, plot: Path | None) -> None:
    """Print and plot the cost of a log-probability as the number of classes grows."""
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((1024, features), np.float32)
    tasks = {}
    for v in classes:
        layer = HierarchicalSoftmax(Tree.balanced(v), features)
        tasks[str(v)] = Task(partial(layer.log_prob, hidden, rng.integers(v, size=len(hidden))))
    times = [seconds / len(hidden) for seconds in least(tasks, rounds=10).values()]
    print(f"log_prob as V grows, D={features}")
    for v, t in zip(classes, times, strict=True):
        print(f"  V={v:<10} {1e6 * t:8.3f} us   {1e9 * t / np.log2(v):6.1f} ns per level")
    if plot:
        from matplotlib.figure import Figure

        figure = Figure(layout="constrained")
        axis = figure.subplots()
        axis.semilogx(classes, [1e6 * t for t in times], "o-")
        axis.set(xlabel="classes", ylabel="microseconds a row", title="log_prob, balanced tree")
        figure.savefig(plot)


def test_sgd_step(measure: Measure) -> None:
    model = SkipGram()
    context, target = pairs(corpus(1))
    hidden = model.vectors[context[:BATCH]]
    measure("tree", Task(partial(model.layer.sgd_step, hidden, target[:BATCH], RATE)))


def test_log_prob(measure: Measure) -> None:
    layer, hidden = peaked_layer(10_000, 64)
    measure("tree", Task(partial(layer.log_prob, hidden, np.arange(len(hidden)))))


def test_topk(measure: Measure) -> None:
    layer, hidden = peaked_layer(10_000, 64)
    measure("tree", Task(partial(layer.topk, hidden, 10)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small layers, few pairs")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the cost as V grows")
    args = parser.parse_args()
    if args.plot:
        require("matplotlib")  # an error now rather than after the measurements
    boltzmax.set_num_threads(1)
    compare_training(4 if args.quick else SENTENCES)
    compare_with_full(10**5 if args.quick else 10**6, 256)
    growth([10**e for e in range(3, 6 if args.quick else 8)], 32, args.plot)


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    main()
