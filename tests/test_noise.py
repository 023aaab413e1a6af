"""Random numbers from counters, and Gumbel and normal noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import boltzmax
import boltzmax.testing
from boltzmax import _core
from gumbel_oracle import (
    Array,
    gumbel,
    gumbel_of,
    philox,
    signed_uniforms,
)

pytestmark = pytest.mark.usefixtures("strict")

KEY = 0x299F31D0A4093822
EPS = {"float32": 2.0**-23, "float64": 2.0**-52, "float16": 2.0**-10, "bfloat16": 2.0**-7}
LENGTHS = (*range(1, 42), 63, 64, 65, 127, 128, 129, 257, 1000, 4097)


def noise(
    rows: int, n: int, dtype: Any, first_row: int = 0, kind: int = 0, key: int = KEY
) -> Array:
    out = boltzmax.softmax(np.zeros((rows, n), dtype))  # which registers bfloat16
    _core.run_function("noise", out.copy(), None, out, 1, None, None, key=key, count=kind,
                       first_row=first_row)  # fmt: skip
    return out


def test_philox_has_the_published_words() -> None:
    """The vectors of Random123, kat_vectors."""
    published = [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ]
    for counter, (k0, k1), words in published:
        assert tuple(map(int, philox(k0 | k1 << 32, list(counter)))) == words


@pytest.mark.parametrize("first_row", [0, 7, 2**32 - 2, 2**63 + 5])
@pytest.mark.parametrize("key", [0, KEY, 2**64 - 1])
def test_noise_is_that_of_the_counters(isa: str, key: int, first_row: int) -> None:
    """A double has enough digits to identify the word that it came from."""
    for n in LENGTHS:
        got = noise(5, n, np.float64, first_row, key=key)
        want = np.stack([gumbel(key, first_row + r, n) for r in range(5)])
        error = np.abs(got - want) / np.maximum(1, np.abs(want))
        assert error.max() <= 2.0**-51, n


def test_noise_in_the_tails(isa: str) -> None:
    n = 300_000
    s = signed_uniforms(KEY, 3, n)
    tails = np.abs(s) < 2.0**-12
    assert 80 < tails.sum() < 220
    assert (s[tails] * 2.0**32 % 1 != 0.5).all()
    want = gumbel(KEY, 3, n)
    for dtype, limit in ((np.float64, 2.0**-51), (np.float32, 2.0**-21)):
        got = noise(1, n, dtype, 3)[0]
        error = np.abs(got - want) / np.maximum(1, np.abs(want))
        assert error.max() <= limit


def test_smallest_and_largest_variates() -> None:
    least = np.longdouble(2) ** -65
    assert float(gumbel_of(np.array([least]))[0]) == pytest.approx(45.06, abs=0.01)
    assert float(gumbel_of(np.array([-least]))[0]) == pytest.approx(-3.81, abs=0.01)


def test_noise_in_every_dtype(isa: str, dtype: np.dtype[Any]) -> None:
    got = noise(3, 5000, dtype).astype(np.longdouble)
    want = np.stack([gumbel(KEY, r, 5000) for r in range(3)])
    limit = {"float64": 2.0**-51, "float32": 2.0**-21}.get(dtype.name, 0.51 * EPS[dtype.name])
    assert (np.abs(got - want) / np.maximum(1, np.abs(want))).max() <= limit


def test_noise_of_an_element_depends_on_neither_width_nor_batch(isa: str) -> None:
    wide = noise(40, 500, np.float32)
    for n in (1, 4, 5, 31, 64, 100):
        assert (noise(40, n, np.float32) == wide[:, :n]).all()
    assert (noise(9, 500, np.float32, 13) == wide[13:22]).all()


def test_normal_noise_is_the_quantile_of_the_same_numbers(isa: str) -> None:
    special = pytest.importorskip("scipy.special")
    s = signed_uniforms(KEY, 0, 300_000)
    want = -np.sign(s).astype(float) * special.ndtri(np.abs(s).astype(float))
    for dtype, limit in ((np.float64, 2.0**-48), (np.float32, 2.0**-20)):
        got = noise(1, len(s), dtype, kind=1)[0]
        assert (np.abs(got - want) / np.maximum(1, np.abs(want))).max() <= limit


def test_tails_of_1e_7_have_their_probability() -> None:
    """Among 2^26 variates; those in a tail of 1e-5 have probabilities spread evenly over it."""
    rows, n, blocks = 256, 2**14, 16
    tails: dict[str, list[Array]] = {"upper": [], "lower": []}
    for block in range(blocks):
        g = noise(rows, n, np.float32, first_row=block * rows)
        tails["upper"].append(g[g > -np.log(1e-5)])
        tails["lower"].append(g[g < -np.log(-np.log(1e-5))])
    draws = rows * n * blocks
    for side, parts in tails.items():
        exponential = np.exp(-np.concatenate(parts).astype(np.float64))
        p = np.sort(-np.expm1(-exponential) if side == "upper" else np.exp(-exponential))
        for tail in (1e-5, 1e-6, 1e-7):
            expected = draws * tail
            assert abs((p < tail).sum() - expected) < 4 * np.sqrt(expected), (side, tail)
        assert len(np.unique(p)) > 0.98 * len(p)  # 24 bits would leave 168 values
        even = np.arange(len(p)) / len(p) * 1e-5
        assert np.abs(p - even).max() / 1e-5 < 1.95 / np.sqrt(len(p)), side  # 0.1% of all keys


@pytest.mark.parametrize("kind", [0, 1])
def test_distribution_of_the_noise(kind: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    distribution = (stats.gumbel_r, stats.norm)[kind]
    x = noise(10, 10_000, np.float32, kind=kind).astype(float)
    assert stats.kstest(x.ravel(), distribution.cdf).pvalue > 0.01
    pairs = x.reshape(-1, 2)
    for left, right in ((pairs[:, 0], pairs[:, 1]), (x[0], x[1]), (x[0, :-4], x[0, 4:])):
        assert abs(np.corrcoef(left, right)[0, 1]) < 4 / np.sqrt(len(left))
