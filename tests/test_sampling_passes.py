"""The passes behind `top_p` and draws: guesses of maxima, draws made again, plain calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import boltzmax
import sampling_oracle as oracle
from boltzmax.sampling import sample
from boltzmax.sampling.program import run_sample
from boltzmax.sampling.steps import MinP, Step, Temperature, TopK, TopP

pytestmark = pytest.mark.usefixtures("strict")

Array = npt.NDArray[Any]

GROUP = 256  # elements whose maximum stands for that of the row


def guessed(kind: str, n: int) -> Array:
    """A row whose first elements say little of its maximum."""
    x = np.random.default_rng(3).normal(size=n) * 2.5
    match kind:
        case "low":
            x[:GROUP] -= 1000.0
        case "a little low":
            x[:GROUP] -= 30.0
        case "high":
            x[:GROUP] += 300.0
        case "masked":
            x[:GROUP] = -np.inf
        case "last":
            x[-1] = 75.0
        case "overflow":
            x[:GROUP] = -3e38
            x[-1] = 3e38
    return x.astype(np.float32)


@pytest.mark.parametrize("kind", ["low", "a little low", "high", "masked", "last", "overflow"])
@pytest.mark.parametrize("temperature", [0.05, 1.0, 20.0])
def test_any_guess_of_the_maximum(kind: str, temperature: float, isa: str) -> None:
    x = guessed(kind, 5000)
    for p in (None, 0.3, 0.9, 0.999):
        names: list[tuple[Any, ...]] = [("temperature", temperature)]
        names += [] if p is None else [("top_p", p)]
        (outcome,) = oracle.apply(x.astype(np.float64), names)
        drawn = sample(x, temperature=temperature, top_p=p, n=50, rng=1)
        kept = np.isfinite(outcome.logits)
        assert kept[drawn.ids].all()
        if outcome.margin < 1e-11:
            continue
        assert drawn.kept == kept.sum()
        log_p = oracle.log_softmax(outcome.logits).astype(np.float64)
        np.testing.assert_allclose(drawn.log_probs, log_p[drawn.ids], rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, GROUP - 1, GROUP, 4095, 4096, 4999])
def test_bad_numbers_anywhere(value: float, place: int, isa: str) -> None:
    """Sums show them, where maxima and sums are taken together."""
    x = np.zeros((3, 5000), np.float32)
    x[1, place] = value
    for p in (None, 0.9):
        with pytest.raises(ValueError, match="row 1"):
            sample(x, top_p=p, rng=1)
        marked = sample(x, top_p=p, rng=1, errors="mark")
        assert marked.ids[1] == -1
        assert (marked.ids[[0, 2]] >= 0).all()


@pytest.mark.parametrize("p", [0.1, 0.2, 0.3, 0.9])
def test_draws_of_a_part_of_each_group(p: float) -> None:
    """Draws of what was left out are made again, or, for a small p, masses are taken anew."""
    rng = np.random.default_rng(1)
    x = (0.5 * rng.normal(size=40_000)).astype(np.float32)
    (outcome,) = oracle.apply(x.astype(np.float64), [("top_p", p)])
    drawn = sample(x, top_p=p, n=200_000, rng=5)
    kept = np.flatnonzero(np.isfinite(outcome.logits))
    assert drawn.kept == len(kept) > 512
    assert np.isin(drawn.ids, kept).all()
    order = kept[np.argsort(x[kept], kind="stable")]
    probs = np.exp(oracle.log_softmax(outcome.logits)).astype(np.float64)
    for sequence in (kept, order):  # by ids, and by likelihood
        part = np.zeros(len(x), int)
        part[sequence] = np.minimum((probs[sequence].cumsum() * 50).astype(int), 49)
        wanted = np.bincount(part[kept], probs[kept], 50) * drawn.ids.size
        seen = np.bincount(part[drawn.ids], minlength=50)
        assert ((seen - wanted) ** 2 / wanted).sum() < 49 + 5 * np.sqrt(2 * 49)


@pytest.mark.parametrize("n", [2000, 3500])
def test_log_probs_of_a_few_of_many_ties(n: int) -> None:
    """The errors of what was left out do not count."""
    x = np.full(n, 3.7, np.float32)
    drawn = sample(x, top_p=600.5 / n, n=5, rng=1)
    assert drawn.kept == 601
    np.testing.assert_allclose(drawn.log_probs, -np.log(601), rtol=1e-13)


PLAIN: list[tuple[dict[str, Any], list[Step]]] = [
    ({}, []),
    ({"temperature": 0.7}, [Temperature(0.7)]),
    ({"temperature": 0}, [Temperature(0.0)]),
    ({"top_k": 50, "top_p": 0.9}, [TopK(50), TopP(0.9)]),
    ({"top_p": 0.9, "temperature": 2.0}, [Temperature(2.0), TopP(0.9)]),
    ({"top_p": 0.9, "min_p": 0.1}, [TopP(0.9), MinP(0.1)]),
]


@pytest.mark.parametrize("n", [None, 1, 5])
@pytest.mark.parametrize("shape", [(40,), (3, 40), (70_000,), (2, 140_000)], ids=str)
@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
def test_calls_without_python(n: int | None, shape: tuple[int, ...], name: str) -> None:
    """They give what the steps give."""
    with np.errstate(under="ignore"):  # by float16
        x = np.random.default_rng(2).normal(size=shape).astype(name)
    for options, steps in PLAIN:
        got = sample(x, n=n, rng=9, **options)
        want = run_sample(x, steps, n=n, rng=9)
        for mine, theirs in zip(got, want, strict=True):
            np.testing.assert_array_equal(mine, theirs)
            assert np.shape(mine) == np.shape(theirs)
            assert mine.dtype == theirs.dtype


@pytest.mark.parametrize("n", [0, -1, 2.0, 2**40, "3"])
def test_numbers_of_draws_that_are_refused(n: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="n must be"):
        sample(np.zeros(10, np.float32), n=n, rng=1)


@pytest.mark.parametrize("rows", [1, 3])
def test_threads_and_rows_beside_each_other(rows: int) -> None:
    """A row's draws are the same in a batch of any size, and for any number of threads."""
    x = (np.random.default_rng(4).normal(size=(rows, 280_000)) * 1.5).astype(np.float32)
    threads = boltzmax.get_num_threads()
    try:
        results = []
        for count in (1, 2):
            boltzmax.set_num_threads(count)
            results.append(sample(x, top_p=0.95, n=20, rng=3))
            results.append(sample(x[:1], top_p=0.95, n=20, rng=3))
    finally:
        boltzmax.set_num_threads(threads)
    for result in results:
        np.testing.assert_array_equal(result.ids[0], results[0].ids[0])
        np.testing.assert_array_equal(result.log_probs[0], results[0].log_probs[0])
