"""``demo``: a softmax classifier learns handwritten digits through these kernels."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boltzmax._core import softmax
from boltzmax._lib.console import print_table, progress, require
from boltzmax.cli.arguments import add_command, at_least
from boltzmax.losses.cross_entropy import cross_entropy, cross_entropy_with_grad

Array = NDArray[np.float64]
Labels = NDArray[np.intp]

LEARNING_RATE = 0.5
BATCH = 32
SIDE = 8  # the digits are images of 8 x 8 pixels
INK = " ░▒▓█"
ASCII_INK = " .:*#"


@dataclass
class Classifier:
    """Multinomial logistic regression: p = softmax(x @ weights + bias)."""

    weights: Array
    bias: Array

    def scores(self, x: Array) -> Array:
        """Return the logits, one row per image."""
        return x @ self.weights + self.bias

    def step(self, x: Array, labels: Labels, rate: float) -> None:
        """Take a descent step along the gradient of the cross-entropy."""
        _, gradient = cross_entropy_with_grad(self.scores(x), labels)
        gradient *= rate
        self.weights -= x.T @ gradient
        self.bias -= gradient.sum(axis=0)

    def loss(self, x: Array, labels: Labels) -> float:
        """Return the mean cross-entropy."""
        return float(cross_entropy(self.scores(x), labels))

    def accuracy(self, x: Array, labels: Labels) -> float:
        """Return the share of images whose largest score is that of the true class."""
        return float(np.mean(self.scores(x).argmax(axis=-1) == labels))


def add_parser(commands: Any) -> None:
    """Declare the arguments of ``demo``."""
    parser = add_command(
        commands, "demo", run, "train a classifier of handwritten digits", "--epochs 20 --seed 1"
    )
    parser.add_argument("--epochs", type=at_least(1), default=60, help="60 by default")
    parser.add_argument("--seed", type=at_least(0), default=0, help="of the split and the order, 0")


def run(args: argparse.Namespace) -> None:
    """Train, report and show some digits."""
    datasets = require("sklearn.datasets")
    selection = require("sklearn.model_selection")
    images, digits = datasets.load_digits(return_X_y=True)
    x, x_test, t, t_test = selection.train_test_split(
        images / 16, digits, test_size=0.25, stratify=digits, random_state=args.seed
    )
    model = train(x, t, args.epochs, np.random.default_rng(args.seed))
    rows = [
        (name, str(len(t)), f"{model.loss(x, t):.4f}", f"{model.accuracy(x, t):.2%}")
        for name, x, t in (("train", x, t), ("test", x_test, t_test))
    ]
    print_table("softmax classifier", ("digits", ">images", ">loss", ">accuracy"), [rows])
    show(model, x_test, t_test)


def train(x: Array, labels: Labels, epochs: int, rng: np.random.Generator) -> Classifier:
    """Return a classifier trained by mini-batch gradient descent."""
    classes = int(labels.max()) + 1
    model = Classifier(np.zeros((x.shape[1], classes)), np.zeros(classes))
    with progress("train", epochs) as advance:
        for _ in range(epochs):
            order = rng.permutation(len(x))
            for start in range(0, len(x), BATCH):
                batch = order[start : start + BATCH]
                model.step(x[batch], labels[batch], LEARNING_RATE)
            advance(1, f"loss {model.loss(x, labels):.4f}")
    return model


def show(model: Classifier, x: Array, labels: Labels) -> None:
    """Print some test digits, from the least to the most certain, and their likeliest classes."""
    p = softmax(model.scores(x))
    by_certainty = p.max(axis=-1).argsort()
    chosen = by_certainty[[0, len(x) // 50, len(x) // 10, len(x) // 2, -1]]
    print()
    for row in range(SIDE):
        print("  ".join(draw(x[i].reshape(SIDE, SIDE)[row]) for i in chosen))
    columns = [[f"label {labels[i]}", *likeliest(p[i])] for i in chosen]
    for line in zip(*columns, strict=True):
        print("  ".join(text.ljust(2 * SIDE) for text in line).rstrip())
    print()


def draw(pixels: Array) -> str:
    """Return a row of pixels between 0 and 1, two characters each."""
    ink = INK if can_print(INK) else ASCII_INK
    return "".join(2 * ink[round(pixel * (len(ink) - 1))] for pixel in pixels)


def can_print(text: str) -> bool:
    """Return whether standard output has these characters."""
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return False
    return True


def likeliest(p: Array, count: int = 3) -> list[str]:
    """Return the most probable classes and their probabilities."""
    return [f"{k}: {p[k]:.1%}" for k in p.argsort()[::-1][:count]]
