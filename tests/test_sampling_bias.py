"""Estimates of the sum over all classes, and the report on what sampling costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import boltzmax
from boltzmax import linear_logsumexp, log_partition_estimate, sampling_bias_report
from boltzmax.candidates import LogUniformSampler, UniformSampler, UnigramSampler
from linear_samples import use_tiles

Array = npt.NDArray[Any]
V, D = 400, 6


def layer(n: int = 20, dtype: Any = np.float64) -> tuple[Array, Array, Array, Array]:
    """Hidden vectors, weights, targets and biases, which fall as Zipf's law."""
    rng = np.random.default_rng(0)
    h, w = 0.7 * rng.normal(size=(n, D)), rng.normal(size=(V, D))
    b = -np.log(np.arange(1.0, V + 1))
    return h.astype(dtype), w.astype(dtype), rng.integers(V, size=n), b.astype(dtype)


class EveryClass:
    """No sampling at all."""

    def sample(self, n: int, *, rng: Any = None, hidden: Any = None) -> tuple[Array, Array]:
        return np.arange(V), np.zeros(V)


# ---- log_partition_estimate


@pytest.mark.parametrize("sizes", [None, (8, 16)], ids=str)
@pytest.mark.parametrize("shape", [(50,), (20, 50)], ids=["shared", "own"])
def test_estimate_and_error(
    shape: Any, sizes: Any, isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by NumPy in float64."""
    use_tiles(sizes, monkeypatch)
    for dtype in (np.float32, np.float64):
        h, w, _, b = layer(dtype=dtype)
        rng = np.random.default_rng(1)
        ids, log_q = rng.integers(V, size=shape), rng.normal(size=shape)
        found, error = log_partition_estimate(h, w, (ids, log_q), bias=b)
        assert found.dtype == error.dtype == dtype
        each = np.broadcast_to(ids, (20, 50))
        x = np.einsum("nd,nkd->nk", h.astype(float), w.astype(float)[each]) + b.astype(float)[each]
        u = np.exp(x - log_q)
        eps = 50 * np.finfo(dtype).eps
        np.testing.assert_allclose(found, np.log(u.sum(axis=1)), atol=eps)
        expected = np.sqrt(50 * u.var(axis=1, ddof=1)) / u.sum(axis=1)
        np.testing.assert_allclose(error, expected, rtol=10 * eps)


def test_errors_are_as_large_as_stated() -> None:
    """Deviations over standard errors have a variance of 1, and the mean is within its error."""
    h, w, _, b = layer(1)
    sampler = UnigramSampler(1.0 / np.arange(1.0, V + 1), power=1.0)
    repeats, n = 2000, 500
    ids, log_q = sampler.sample(repeats * n, rng=1)
    draws = ids.reshape(repeats, n), log_q.reshape(repeats, n) - np.log(repeats)
    found, error = log_partition_estimate(np.repeat(h, repeats, axis=0), w, draws, bias=b)
    z = (found - linear_logsumexp(h, w, b)) / error
    assert 0.9 < z.var() < 1.1
    assert abs(z.mean() + error.mean() / 2) < 4 / np.sqrt(repeats)  # the logarithm is too small


def test_all_classes_have_no_error() -> None:
    """Each drawn once, with equal terms."""
    h, w = np.zeros((3, 2, D)), np.ones((V, D))
    estimate, error = log_partition_estimate(h, w, EveryClass(), V)
    assert estimate.shape == error.shape == (3, 2)
    np.testing.assert_allclose(estimate, np.log(V))
    np.testing.assert_allclose(error, 0.0, atol=1e-7)
    one, _ = log_partition_estimate(h[0, 0], w, EveryClass(), V)
    assert np.ndim(one) == 0


def test_refusals_of_estimates() -> None:
    h, w, _, _ = layer()
    with pytest.raises(ValueError, match="a standard error needs at least 2 candidates, got 1"):
        log_partition_estimate(h, w, ([1], [0.0]))
    with pytest.raises(TypeError, match="n, the number of candidates to draw, is missing"):
        log_partition_estimate(h, w, UniformSampler(V))
    with pytest.raises(IndexError, match=r"ids\[1\] is 400, out of range for 400 classes"):
        log_partition_estimate(h, w, ([1, V], [0.0, 0.0]))
    with pytest.raises(ValueError, match="rng must be a seed"):
        log_partition_estimate(h, w, UniformSampler(V), 5, rng=-1)


# ---- sampling_bias_report


def test_report() -> None:
    """Biases fall with n, and are as large as theory says."""
    h, w, t, b = layer(dtype=np.float32)
    samplers = [UniformSampler(V), LogUniformSampler(V), LogUniformSampler(V)]
    report = sampling_bias_report(h, w, t, samplers, [30, 300], bias=b, repeats=40, rng=0)
    names = ["UniformSampler", "LogUniformSampler", "LogUniformSampler 2"]
    assert [row["sampler"] for row in report[::2]] == names
    assert [row["n"] for row in report[:2]] == [30, 300]
    assert len(report) == 6
    assert report[0] is report.rows[0]
    np.testing.assert_allclose(report.loss, boltzmax.linear_cross_entropy(h, w, t, b), rtol=1e-6)
    np.testing.assert_allclose(report.log_z, linear_logsumexp(h, w, b).mean(), rtol=1e-6)
    for few, many in zip(report[::2], report[1::2], strict=True):
        for measure in ("loss", "gradient", "log_z"):
            assert few[f"{measure}_sd"] > 1.5 * many[f"{measure}_sd"] > 0
            error = few[f"{measure}_sd"] / np.sqrt(40)
            np.testing.assert_allclose(few[f"{measure}_bias_error"], error)
        assert few["log_z_bias"] < -3 * few["log_z_bias_error"]
        assert few["log_z_bias"] < many["log_z_bias"] - many["log_z_bias_error"]
        assert few["loss_bias"] < 0
    uniform, unigram = report[0], report[2]
    assert uniform["gradient_sd"] > unigram["gradient_sd"]
    again = sampling_bias_report(h, w, t, samplers, [30, 300], bias=b, repeats=40, rng=0)
    assert again.rows == report.rows


def test_report_without_sampling() -> None:
    h, w, t, b = layer()
    (row,) = sampling_bias_report(h, w, t, {"all": EveryClass()}, V, bias=b, repeats=2)
    assert (row["sampler"], row["n"]) == ("all", V)
    for name, value in row.items():
        if name not in ("sampler", "n"):
            np.testing.assert_allclose(value, 0.0, atol=1e-7, err_msg=name)


def test_report_of_nan() -> None:
    """Spreads are NaN, too: 0 would mean that the bias is exact."""
    h, w, t, _ = layer()
    (row,) = sampling_bias_report(np.full_like(h, np.nan), w, t, UniformSampler(V), 5, repeats=2)
    assert all(np.isnan(value) for name, value in row.items() if name not in ("sampler", "n"))


def test_report_prints_and_draws() -> None:
    h, w, t, b = layer()
    report = sampling_bias_report(h, w, t, UniformSampler(V), [8, 32], bias=b, repeats=3, rng=1)
    title, head, rule, *rows = str(report).splitlines()
    assert title.startswith("3 samples each; with all classes: loss ")
    words = "sampler n loss bias sd gradient bias sd log_z bias sd"
    assert " ".join(head.split()) == words
    assert set(rule) == {"-"}
    assert [row.split()[:2] for row in rows] == [["UniformSampler", "8"], ["UniformSampler", "32"]]
    assert {len(row) for row in (head, rule, *rows)} == {len(head)}
    matplotlib = pytest.importorskip("matplotlib")
    with matplotlib.rc_context({"backend": "agg"}):
        axes = report.plot()
        assert [ax.get_title() for ax in axes] == ["loss", "gradient", "log Z"]
        assert report.plot(axes) is axes


def test_refusals_of_the_report() -> None:
    h, w, t, _ = layer()
    uniform = UniformSampler(V)
    for arguments, options, error, words in (
        ((h, w, t, []), {}, ValueError, "samplers is empty"),
        ((h, w, t, [3]), {}, TypeError, "a sampler must be an object .+, got int"),
        ((h, w, t, {"a": 3}), {}, TypeError, "a sampler must be an object .+, got int"),
        ((h, w, t, None), {}, TypeError, "a sampler must be an object .+, got NoneType"),
        ((h, w, t, [UniformSampler]), {}, TypeError, "got the class UniformSampler"),
        ((h, w, t, uniform, []), {}, ValueError, "n is empty"),
        ((h, w, t, uniform, 1), {}, ValueError, "n must be at least 2, got 1"),
        ((h, w, t, uniform, 2.5), {}, TypeError, "n must be an integer"),
        ((h, w, t, uniform), {"repeats": 1}, ValueError, "repeats must be at least 2, got 1"),
        ((h[0], w, t[0], uniform), {}, ValueError, r"hidden must be \(N, D\) with N > 0"),
        ((h[:0], w, t[:0], uniform), {}, ValueError, r"hidden must be \(N, D\) with N > 0"),
        ((h, w, t + V, uniform), {}, IndexError, "target .+ is out of range for 400 classes"),
    ):
        with pytest.raises(error, match=words):
            sampling_bias_report(*arguments, **options)  # type: ignore[misc]
