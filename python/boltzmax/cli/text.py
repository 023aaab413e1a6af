"""``text``: a small model learns to guess the next word in the English text of Python's help."""

from __future__ import annotations

import argparse
import importlib
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boltzmax._lib.console import CommandError, print_table, progress
from boltzmax.adaptive.layer import AdaptiveSoftmax
from boltzmax.candidates.unigram import UnigramSampler
from boltzmax.cli.arguments import add_command, at_least, list_of, one_of, share
from boltzmax.linear.layer import LinearSoftmax
from boltzmax.linear.sampled import sampled_softmax_loss_with_grad
from boltzmax.sampling.chain import Chain
from boltzmax.sampling.steps import Bias, MinP, Step, Temperature, TopK, TopP
from boltzmax.trees.hierarchical import HierarchicalSoftmax
from boltzmax.trees.tree import Tree

Array = NDArray[np.float32]
Ids = NDArray[np.int64]

CONTEXT = 3  # number of words from which the next one is guessed
FEATURES = 64
BATCH = 256
LEARNING_RATE = 0.05
SAMPLED = 512  # words that are drawn for a batch
UNKNOWN = "<unknown>"
MARKS = ".,;:!?"


def add_parser(commands: Any) -> None:
    """Declare the arguments of ``text``."""
    parser = add_command(
        commands,
        "text",
        run,
        "train a next-word model on English text",
        '--output tree --prompt "the value of"',
        "--output full,tree,adaptive,sampled --vocabulary 20000",
        "--file book.txt --vocabulary 20000 --epochs 5",
        '--output full --generate "the value of" --top-p 0.9 --temperature 0.8 --seed 1',
        "--quantize 8",
    )
    parser.add_argument("--file", type=Path, help="UTF-8 text; Python's help topics by default")
    parser.add_argument(
        "--output",
        "--layer",
        type=list_of(one_of([*LAYERS, "both"])),
        default=["both"],
        metavar="NAME,...",
        help="what maps features to words: full, tree, adaptive or sampled, or several of them to "
        "compare; full,tree by default",
    )
    parser.add_argument("--epochs", type=at_least(1), default=3, help="3 by default")
    parser.add_argument("--vocabulary", type=int, default=5000, help="words at most, 5000")
    parser.add_argument("--prompt", default="the value of the", help="words to continue")
    parser.add_argument(
        "--seed", type=at_least(0), default=0, help="of the weights, the order and the draws, 0"
    )
    parser.add_argument(
        "--quantize", type=int, choices=(8, 4), help="also with weights of so many bits"
    )
    writing = parser.add_argument_group("writing")
    writing.add_argument("--generate", metavar="PROMPT", help="write on after these words")
    writing.add_argument("--words", type=at_least(1), default=50, help="how many, 50 by default")
    writing.add_argument("--temperature", type=float, default=1.0, help="0 is the likeliest word")
    writing.add_argument("--top-k", type=at_least(1), help="only the k likeliest words")
    writing.add_argument("--top-p", type=share, help="only the likeliest words of this share")
    writing.add_argument(
        "--min-p", type=share, help="only words this likely, against the likeliest"
    )


def split(text: str) -> list[str]:
    """Return the words and punctuation marks of a text, in lower case."""
    return re.findall(rf"\w+(?:'\w+)?|[{MARKS}]", text.lower())


def read_words(path: Path | None) -> list[str]:
    """Return the words of a file, or of the text that ships with Python."""
    if path is None:
        topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
        text = "\n".join(topics[name] for name in sorted(topics))
    else:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise CommandError(f"{path} is not UTF-8 text") from None
    return split(text)


@dataclass
class Vocabulary:
    """The known words; the first stands for all others."""

    words: list[str]
    ids: dict[str, int]

    @staticmethod
    def of(words: list[str], limit: int) -> Vocabulary:
        """Return the most frequent words."""
        known = [UNKNOWN, *(word for word, _ in Counter(words).most_common(limit - 1))]
        return Vocabulary(known, {word: i for i, word in enumerate(known)})

    def encode(self, words: list[str]) -> Ids:
        """Return the numbers of words."""
        return np.array([self.ids.get(word, 0) for word in words], np.int64)


class SampledSoftmax(LinearSoftmax):
    """A full softmax that learns from its targets and some words that are drawn by frequency."""

    def __init__(self, counts: Ids, seed: int) -> None:
        super().__init__(len(counts), FEATURES)
        self.sampler = UnigramSampler(counts + 1)  # words that are only held out are drawn, too
        self.rng = np.random.default_rng(seed)
        self.squares = np.full(len(counts), 1e-8, np.float32)

    def step(self, hidden: Array, target: Ids) -> tuple[None, Array]:
        """Learn from some words; the loss over the drawn words alone is not worth reporting."""
        _, d_hidden, ids, d_weight, d_bias = sampled_softmax_loss_with_grad(
            hidden, self.weight, target, self.sampler, n=SAMPLED, bias=self.bias,
            rng=self.rng, reduction="sum",
        )  # fmt: skip
        squares = self.squares[ids] + np.square(d_weight).mean(axis=1)
        self.squares[ids] = squares
        rates = LEARNING_RATE / np.sqrt(squares)
        self.weight[ids] -= rates[:, None] * d_weight
        if self.bias is not None and d_bias is not None:
            self.bias[ids] -= rates * d_bias
        return None, d_hidden


Layer = LinearSoftmax | HierarchicalSoftmax | AdaptiveSoftmax

# The full softmax has a score for every word; in the tree, frequent words are near the root; the
# adaptive softmax has shorter vectors for rare ones.
LAYERS: dict[str, Callable[[Ids, int], Layer]] = {
    "full": lambda counts, seed: LinearSoftmax(len(counts), FEATURES),
    "tree": lambda counts, seed: HierarchicalSoftmax(Tree.huffman(counts), FEATURES),
    "adaptive": lambda counts, seed: AdaptiveSoftmax(
        FEATURES, len(counts), counts=counts, bias=True
    ),
    "sampled": SampledSoftmax,
}


def named(layers: list[str]) -> list[str]:
    """Return the layers that an argument names, each once."""
    both = {"both": ["full", "tree"]}
    return list(dict.fromkeys(name for given in layers for name in both.get(given, [given])))


def bytes_of(layer: Layer) -> int:
    """Return the size of a layer's weights and biases."""
    arrays: list[Any] = [layer.weight, layer.bias]
    if isinstance(layer, AdaptiveSoftmax):
        arrays += [array for tail in layer.tails for array in tail.parameters.values()]
    return sum(array.nbytes for array in arrays if array is not None)


def normal(rng: np.random.Generator, *shape: int) -> Array:
    """Return small random numbers."""
    return (0.1 * rng.standard_normal(shape)).astype(np.float32)


def descend(parameters: Array, gradient: Array, sizes: Array) -> None:
    """Take a descent step, by Adagrad with one rate per word."""
    sizes += np.square(gradient).mean(axis=1)
    parameters -= LEARNING_RATE * gradient / np.sqrt(sizes)[:, None]


class Model:
    """Predict the next word from tanh of the sum of the context's vectors."""

    def __init__(self, layer: str, counts: Ids, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.vectors = [normal(rng, len(counts), FEATURES) for _ in range(CONTEXT)]
        self.sizes = [np.full(len(counts), 1e-8, np.float32) for _ in range(CONTEXT)]
        self.layer = LAYERS[layer](counts, seed)

    def hidden(self, context: Ids) -> Array:
        """Return the features of contexts, one row each."""
        total = sum(vectors[context[:, i]] for i, vectors in enumerate(self.vectors))
        return np.asarray(np.tanh(total), np.float32)

    def loss(self, context: Ids, target: Ids) -> float:
        """Return the mean cross-entropy."""
        return self.layer.loss(self.hidden(context), target)

    def step(self, context: Ids, target: Ids) -> float | None:
        """Learn from some words; return the loss, unless it is one over drawn words alone."""
        hidden = self.hidden(context)
        loss: float | None
        if isinstance(self.layer, SampledSoftmax):
            loss, d_hidden = self.layer.step(hidden, target)
        else:
            loss, d_hidden = self.layer.adagrad_step(hidden, target, LEARNING_RATE)
        d_hidden = d_hidden / len(hidden) * (1 - hidden * hidden)  # of the mean loss
        for i, vectors in enumerate(self.vectors):
            d_vectors = np.zeros_like(vectors)
            np.add.at(d_vectors, context[:, i], d_hidden)
            descend(vectors, d_vectors, self.sizes[i])
        return loss

    def guess(self, context: Ids, k: int) -> tuple[Ids, Array]:
        """Return the likeliest next words and their probabilities."""
        ids, log_p = self.layer.topk(self.hidden(context[None]), k)
        return ids[0], np.exp(log_p[0])


def run(args: argparse.Namespace) -> None:
    """Train, report the perplexity of every epoch, and continue a prompt."""
    words = read_words(args.file)
    if len(words) < 10 * CONTEXT:
        raise CommandError(f"a text of {len(words)} words is too short")
    if args.vocabulary < 2:
        raise CommandError(f"--vocabulary must be at least 2, got {args.vocabulary}")
    chain = chain_of(args)
    vocabulary = Vocabulary.of(words, args.vocabulary)
    ids = vocabulary.encode(words)
    contexts = np.lib.stride_tricks.sliding_window_view(ids, CONTEXT)[:-1]
    targets = ids[CONTEXT:]
    held = len(targets) // 10  # the last tenth is held out
    counts = np.bincount(targets[:-held], minlength=len(vocabulary.words))
    models = {name: Model(name, counts, args.seed) for name in named(args.output)}
    tables = []
    for name, model in models.items():
        rows = []
        rng = np.random.default_rng(args.seed)
        for epoch in range(1, args.epochs + 1):
            start = time.perf_counter()
            train = run_epoch(model, contexts[:-held], targets[:-held], rng, f"{name}, {epoch}")
            speed = (len(targets) - held) / (time.perf_counter() - start)
            test = model.loss(contexts[-held:], targets[-held:])
            losses = ("-" if train is None else f"{np.exp(train):.1f}"), f"{np.exp(test):.1f}"
            size = f"{bytes_of(model.layer) / 1e6:.2f}"
            rows.append((name, str(epoch), f"{speed:,.0f}", *losses, size))
        tables.append(rows)
    title = f"next-word model: {len(words):,} words, {len(vocabulary.words):,} of them different"
    header = ("softmax", "epoch", ">words/s", ">perplexity", ">held out", ">MB")
    print_table(title, header, tables)
    if args.quantize is not None:
        compare(models, args.quantize, contexts[-held:], targets[-held:])
    for name, model in models.items():
        if args.generate is None:
            show(model, vocabulary, args.prompt, name)
        else:
            print(f"{name} softmax:")
            write(model, vocabulary, args.generate, chain, args.words)


def compare(models: dict[str, Model], bits: int, contexts: Ids, targets: Ids) -> None:
    """Print the size, the speed and the perplexity of each layer, before and after."""
    tables = []
    for name, model in models.items():
        rows = []
        layer, hidden = model.layer, model.hidden(contexts)
        small = layer.quantize(bits)
        for kind, answers, size in (
            (str(layer.dtype), layer, bytes_of(layer)),
            (f"{bits} bits", small, small.nbytes),
        ):
            start = time.perf_counter()
            loss = answers.loss(hidden, targets)
            speed = len(targets) / (time.perf_counter() - start)
            perplexity = f"{np.exp(loss):.2f}"
            rows.append((name, kind, f"{size / 1e6:.2f}", f"{speed:,.0f}", perplexity))
        tables.append(rows)
    header = ("softmax", "weights", ">megabytes", ">words/s", ">held out")
    print_table(f"layers with weights of {bits} bits", header, tables)


def run_epoch(
    model: Model, contexts: Ids, targets: Ids, rng: np.random.Generator, title: str
) -> float | None:
    """Train on everything once, in random order; return the mean loss, if the model has one."""
    order = rng.permutation(len(targets))
    total, note = 0.0, ""
    with progress(title, len(targets)) as advance:
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            loss = model.step(contexts[batch], targets[batch])
            if loss is not None:
                total += len(batch) * loss
                note = f"perplexity {np.exp(total / (start + len(batch))):.0f}"
            advance(len(batch), note)
    return total / len(order) if note else None


def show(model: Model, vocabulary: Vocabulary, prompt: str, name: str) -> None:
    """Print the likeliest words after a prompt."""
    words = [UNKNOWN] * CONTEXT + split(prompt)
    ids, p = model.guess(vocabulary.encode(words[-CONTEXT:]), min(5, len(vocabulary.words)))
    print(f"after {prompt!r}, {name} softmax:")
    for i, p_i in zip(ids, p, strict=True):
        print(f"  {vocabulary.words[i]:16} {p_i:6.1%}")


def chain_of(args: argparse.Namespace) -> Chain:
    """Return the steps from scores to the next word."""
    try:
        steps: list[Step] = [Bias({0: -np.inf}), Temperature(args.temperature)]
        steps += [step(number) for step, number in (
            (TopK, args.top_k), (TopP, args.top_p), (MinP, args.min_p)
        ) if number is not None]  # fmt: skip
        return Chain(steps, rng=args.seed)
    except ValueError as error:
        raise CommandError(str(error)) from None


def write(model: Model, vocabulary: Vocabulary, prompt: str, chain: Chain, length: int) -> None:
    """Print a prompt and the words that the model draws after it, as it draws them."""
    chain.reset()
    written = split(prompt)
    print(" ".join(written), end="", flush=True)
    for _ in range(length):
        context = vocabulary.encode(([UNKNOWN] * CONTEXT + written)[-CONTEXT:])
        scores = model.layer.log_prob_all(model.hidden(context[None]))[0]
        word = vocabulary.words[chain(scores).ids]
        written.append(word)
        print(("" if word in MARKS else " ") + word, end="", flush=True)
    print()
