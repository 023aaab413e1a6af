"""boltzmax.jax: bits of the functions on NumPy arrays, derivatives against JAX's own, errors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import boltzmax

# Most of the time goes into XLA's compilations, which need not be good.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
jax: Any = pytest.importorskip("jax")
jnp: Any = pytest.importorskip("jax.numpy")
bridge: Any = pytest.importorskip("boltzmax.jax")

Array = np.ndarray[Any, Any]
MAPS = ("softmax", "log_softmax", "sparsemax", "entmax15")


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    """JAX's arrays may be of 64 bits."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def normal(seed: int, shape: Any, dtype: Any = np.float64, scale: float = 3.0) -> Array:
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(dtype)


def same(a: Any, b: Any) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    return a.dtype == b.dtype and np.array_equal(wide_a, wide_b, equal_nan=True)


def close(a: Any, b: Any, error: float = 1e-14) -> None:
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=error, atol=error)


# ---- values


@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 300), (2, 70_000)])
def test_values_have_the_bits_of_numpy_functions(
    isa: str, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> None:
    x = normal(0, shape, dtype)
    for name in MAPS:
        got, want = getattr(bridge, name)(jnp.asarray(x)), getattr(boltzmax, name)(x)
        assert same(got, want), name
    assert same(bridge.logsumexp(x), boltzmax.logsumexp(x, axis=-1))


@pytest.mark.parametrize("axis", [0, 1, -1, -3])
def test_axes_and_masks(axis: int) -> None:
    x = normal(1, (4, 5, 6))
    where = normal(2, (5, 6)) > 0
    where[0] = True
    for name in MAPS:
        want = getattr(boltzmax, name)(np.where(where, x, -np.inf), axis=axis)
        assert same(getattr(bridge, name)(x, axis, where=where), want), name
    for keepdims in (False, True):
        got = bridge.logsumexp(x, axis, where=where, keepdims=keepdims)
        close(got, boltzmax.logsumexp(x, axis=axis, where=where, keepdims=keepdims), 1e-15)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0), (1,), (2, 0, 3)])
def test_empty_arrays(shape: tuple[int, ...]) -> None:
    x = np.zeros(shape)
    for name in MAPS:
        assert getattr(bridge, name)(x).shape == shape
    assert same(bridge.logsumexp(x), boltzmax.logsumexp(x, axis=-1))


def test_special_values() -> None:
    x = np.array(
        [[np.nan, 1.0], [np.inf, 1.0], [-np.inf, -np.inf], [-np.inf, 0.0], [1e308, -1e308]]
    )
    for name in MAPS:
        assert same(getattr(bridge, name)(x), getattr(boltzmax, name)(x)), name
    assert same(bridge.logsumexp(x), boltzmax.logsumexp(x, axis=-1))


def test_subnormal_numbers_are_not_flushed(isa: str) -> None:
    """As they are elsewhere on XLA's threads."""
    x = np.array([0.0, -88.0, -95.0, -100.0], np.float32)
    y = boltzmax.softmax(x)
    assert 0 < y[2] < np.finfo(np.float32).tiny
    assert same(jax.jit(bridge.softmax)(x), y)


def test_integers_become_the_default_float() -> None:
    assert same(bridge.softmax(np.array([1, 2, 2])), boltzmax.softmax([1, 2, 2]))
    jax.config.update("jax_enable_x64", False)
    assert bridge.softmax(np.array([True, False])).dtype == np.float32


def test_without_64_bits() -> None:
    """Attributes of a call are of 64 bits all the same."""
    jax.config.update("jax_enable_x64", False)
    x, target = normal(3, (4, 5), np.float32), np.array([0, -1, 4, 2])
    got = bridge.cross_entropy(x, target, ignore_index=-1, label_smoothing=0.1)
    want = boltzmax.cross_entropy(x, target, ignore_index=-1, label_smoothing=0.1)
    close(got, want, 1e-6)


# ---- derivatives

REFERENCES: dict[str, Callable[..., Any]] = {
    "softmax": jax.nn.softmax,
    "log_softmax": jax.nn.log_softmax,
    "logsumexp": lambda x: jax.nn.logsumexp(x, axis=-1),
}
X, W = normal(4, (4, 6)), normal(5, (4, 6))


def weigh(f: Callable[..., Any]) -> Callable[..., Any]:
    """A number that depends on all elements of f(x), not linearly."""

    def number(x: Any, w: Any = W) -> Any:
        y = f(x)
        return (jnp.sin(y) * (w if y.shape == w.shape else w[..., 0])).sum()

    return number


TRANSFORMATIONS: dict[str, Callable[..., Any]] = {
    "grad": lambda f: jax.grad(weigh(f))(X),
    "grad of jit": lambda f: jax.grad(weigh(jax.jit(f)))(X),
    "jvp": lambda f: jax.jvp(f, (X,), (W,))[1],
    "jacrev": lambda f: jax.jacrev(f)(X[0]),
    "jacfwd": lambda f: jax.jacfwd(f)(X[0]),
    "reverse over reverse": lambda f: jax.jacrev(jax.jacrev(f))(X[0]),
    "reverse over forward": lambda f: jax.grad(lambda x: jax.jvp(f, (x,), (W,))[1].sum())(X),
    "vmap of columns": lambda f: jax.vmap(f, in_axes=1)(X),
    "vmap of vmap": lambda f: jax.vmap(jax.vmap(f))(jnp.stack([X, W])),
    "vmap of grad by weights": lambda f: jax.vmap(jax.grad(weigh(f)), (None, 0))(X[0], W),
    "vmap of hessian": lambda f: jax.vmap(jax.hessian(weigh(f)))(X, W),
    "checkpoint and scan": lambda f: jax.grad(
        lambda x: jax.lax.scan(
            lambda c, row: (c + jnp.sin(jax.checkpoint(f)(row)).sum(), None), 0.0, x
        )[0]
    )(X),
}


def all_transformations(f: Callable[..., Any]) -> dict[str, Any]:
    """The results of all transformations, compiled together."""
    found: dict[str, Any] = jax.jit(lambda: {k: run(f) for k, run in TRANSFORMATIONS.items()})()
    return found


def compare(ours: Callable[..., Any], theirs: Callable[..., Any]) -> None:
    got, want = all_transformations(ours), all_transformations(theirs)
    for transformation, result in got.items():
        np.testing.assert_allclose(
            result, want[transformation], rtol=1e-13, atol=1e-13, err_msg=transformation
        )


@pytest.mark.parametrize("name", REFERENCES)
def test_transformations_agree_with_jax(name: str) -> None:
    compare(getattr(bridge, name), REFERENCES[name])


@pytest.mark.parametrize("name", ["sparsemax", "entmax15"])
def test_derivatives_of_sparse_maps(name: str) -> None:
    """Against central differences, at a point where the support does not change."""
    f, x = getattr(bridge, name), np.array([0.3, 0.1, -0.2, -3.0, 0.25])
    step = 1e-6
    moves = step * np.eye(5)

    @jax.jit
    def derivatives(x: Any) -> tuple[Any, ...]:
        reverse = jax.jacrev(f)
        return f(x), reverse(x), jax.jacfwd(f)(x), jax.jacfwd(reverse)(x), jax.jacrev(reverse)(x)

    _, jacobian, forward, mixed, second = derivatives(x)
    ends = [[derivatives(x + sign * move) for move in moves] for sign in (-1, 1)]
    for order, got in ((0, jacobian), (0, forward), (1, mixed), (1, second)):
        low, high = (np.stack([d[order] for d in side], axis=-1) for side in ends)
        close(got, (high - low) / (2 * step), 1e-7)


@pytest.mark.parametrize("name", MAPS)
def test_gradients_have_the_bits_of_numpy_functions(
    isa: str, dtype: np.dtype[Any], name: str
) -> None:
    x, dy = normal(6, (5, 40), dtype), normal(7, (5, 40), dtype)
    y, pull = jax.vjp(getattr(bridge, name), jnp.asarray(x))
    want = getattr(boltzmax, f"{name}_backward")(dy, np.asarray(y))
    assert same(pull(jnp.asarray(dy))[0], want)


# ---- cross-entropy


def losses_by_jax(z: Any, target: Any, smoothing: float = 0.0, ignored: int = -100) -> Any:
    log_p = jax.nn.log_softmax(z)
    counted = target != ignored
    hard = jax.nn.one_hot(target, z.shape[-1], dtype=z.dtype)
    return -(log_p * ((1 - smoothing) * hard + smoothing / z.shape[-1])).sum(-1) * counted


TARGET = np.array([2, -100, 0, 5])


def test_transformations_of_cross_entropy_agree_with_jax() -> None:
    def of(function: Callable[..., Any]) -> Callable[..., Any]:
        def losses(z: Any) -> Any:
            target = TARGET[: z.shape[0]] if z.ndim > 1 else np.int64(z.shape[0] - 1)
            return function(z, target)

        return losses

    ours = of(lambda z, t: bridge.cross_entropy(z, t, reduction="none", label_smoothing=0.2))
    compare(ours, of(lambda z, t: losses_by_jax(z, jnp.asarray(t), 0.2)))


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((5,), {}),
        ((600, 7), {"label_smoothing": 0.1, "ignore_index": 3}),
        ((3, 4, 200), {"ignore_index": 3}),
        ((2, 70_000), {"label_smoothing": 0.1}),
    ],
    ids=str,
)
def test_cross_entropy_is_that_of_numpy(
    isa: str, dtype: np.dtype[Any], shape: tuple[int, ...], options: dict[str, Any]
) -> None:
    z = normal(8, shape, dtype)
    target = np.random.default_rng(9).integers(0, 5, shape[:-1])
    error = 1e-13 if dtype == np.float64 else 3e-6
    for reduction in ("mean", "sum", "none"):
        got = bridge.cross_entropy(z, target, reduction=reduction, **options)
        want = boltzmax.cross_entropy(z, target, reduction=reduction, **options)
        assert got.dtype == want.dtype
        close(got, want, error)
    gradient = jax.grad(bridge.cross_entropy)(z, target, reduction="sum", **options)
    _, want = boltzmax.cross_entropy_with_grad(z, target, reduction="sum", **options)
    close(gradient.astype(float), want.astype(float), 1e-2 if dtype.itemsize == 2 else error)
    assert gradient.dtype == dtype


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "int32", "uint32", "int64"])
def test_targets_of_any_integer_dtype(kind: str) -> None:
    z, target = normal(10, (3, 100)), np.array([99, 0, 7]).astype(kind)
    close(bridge.cross_entropy(z, target), boltzmax.cross_entropy(z, target))


@pytest.mark.parametrize("x64", [False, True])
def test_large_targets_do_not_wrap_around(x64: bool) -> None:
    """2^32 - 100 is not ignore_index, nor 2^32 + 1 class 1."""
    jax.config.update("jax_enable_x64", x64)
    z = np.zeros((2, 3), np.float32)
    for kind, bad in (("uint32", 2**32 - 100), ("uint64", 2**64 - 100), ("int64", 2**32 + 1)):
        with pytest.raises(Exception, match=r"target \d+ of row 1 is out of range"):
            jax.block_until_ready(bridge.cross_entropy(z, np.array([0, bad], kind)))
    loss, slope = jax.value_and_grad(bridge.cross_entropy)(z, np.zeros(2, int), ignore_index=2**40)
    close(loss, np.log(3), 1e-6)
    close(slope[0], np.array([-2, 1, 1]) / 6, 1e-6)


def test_class_axis_and_no_rows() -> None:
    z, target = normal(11, (3, 4, 2)), np.array([[0, 3], [1, 2], [3, 3]])
    close(bridge.cross_entropy(z, target, axis=1), boltzmax.cross_entropy(z, target, axis=1))
    assert np.isnan(bridge.cross_entropy(np.zeros((0, 3)), np.zeros(0, int)))
    assert np.isnan(bridge.cross_entropy(z[0], np.full(4, -100)))


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, lambda f: jax.jit(jax.grad(f))])
def test_targets_out_of_range_are_errors(wrap: Callable[..., Any]) -> None:
    for bad in (5, -1, -(2**31)):
        target = np.array([0, 4, bad])
        with pytest.raises(Exception, match=rf"target {bad} of row 2 is out of range for 5 cl"):
            jax.block_until_ready(wrap(bridge.cross_entropy)(np.zeros((3, 5)), target))


def test_refusals() -> None:
    x = np.zeros((2, 3))
    for name in (*MAPS, "logsumexp"):
        f = getattr(bridge, name)
        with pytest.raises(TypeError, match=r"x must be float16, .* got dtype complex128"):
            f(x.astype(complex))
        with pytest.raises(ValueError, match="axis"):
            f(x, 2)
        with pytest.raises(ValueError, match="must have an axis"):
            f(1.0)
        with pytest.raises(TypeError, match="where must be an array of bool, got dtype int64"):
            f(x, where=np.ones(3, int))
        with pytest.raises(ValueError, match="does not broadcast"):
            f(x, where=np.ones(4, bool))
    with pytest.raises(TypeError, match="target must be integers"):
        bridge.cross_entropy(x, np.zeros(2))
    with pytest.raises(ValueError, match="one class for each row"):
        bridge.cross_entropy(x, np.zeros(3, int))
    with pytest.raises(ValueError, match="classes on the last axis"):
        bridge.cross_entropy(np.zeros((2, 0)), np.zeros(2, int))
    with pytest.raises(ValueError, match="label_smoothing"):
        bridge.cross_entropy(x, np.zeros(2, int), label_smoothing=1.5)
    with pytest.raises(ValueError, match="reduction"):
        bridge.cross_entropy(x, np.zeros(2, int), reduction="max")


# ---- Gumbel noise


@pytest.mark.parametrize("hard", [False, True])
def test_gumbel_softmax_has_the_bits_of_numpy(dtype: np.dtype[Any], hard: bool) -> None:
    x = normal(20, (40, 6), dtype)
    for seed in (0, 5):
        key = jax.random.key(seed)
        words = [int(w) for w in jax.random.bits(key, (2,), jnp.uint32)]
        rng = (words[0] << 32) + words[1]
        for temperature in (1.0, 0.5):
            got = bridge.gumbel_softmax(key, x, temperature=temperature, hard=hard)
            want = boltzmax.gumbel_softmax(x, temperature=temperature, hard=hard, rng=rng)
            assert same(got, want)


def test_gumbel_softmax_passes_the_gradient_of_the_soft_result() -> None:
    x, dy, key = normal(21, (5, 7)), normal(22, (5, 7)), jax.random.key(3)
    soft = np.asarray(bridge.gumbel_softmax(key, x, temperature=0.7))
    want = boltzmax.gumbel_softmax_backward(dy, soft, temperature=0.7)
    for hard in (False, True):

        def weighed(x: Any, temperature: Any, hard: bool = hard) -> Any:
            return (bridge.gumbel_softmax(key, x, temperature=temperature, hard=hard) * dy).sum()

        close(jax.jit(jax.grad(weighed))(x, 0.7), want, 1e-15)
        assert float(jax.grad(weighed, argnums=1)(x, jnp.asarray(0.7))) == 0.0
    soft_sum = lambda x: (bridge.gumbel_softmax(key, x) * dy).sum()  # noqa: E731
    step = 1e-6 * normal(23, (5, 7))
    difference = float(soft_sum(x + step) - soft_sum(x - step)) / 2
    close(difference, (jax.grad(soft_sum)(x) * step).sum(), 1e-12)


def test_batches_of_keys() -> None:
    x, keys = normal(24, (3, 5, 6)), jax.random.split(jax.random.key(1), 3)
    batched = jax.vmap(bridge.gumbel_softmax)(keys, x)
    for key, part, got in zip(keys, x, batched, strict=True):
        assert same(got, bridge.gumbel_softmax(key, part))
    one = jax.vmap(bridge.gumbel_softmax, (None, 0))(keys[0], x[:1].repeat(2, 0))
    assert same(one[0], one[1])


def test_the_largest_element_is_a_draw_from_softmax() -> None:
    logits = jnp.broadcast_to(jnp.array([0.0, 1.0, -1.0, 2.0]), (40_000, 4))
    share = bridge.gumbel_softmax(jax.random.key(9), logits, hard=True).mean(0)
    p = boltzmax.softmax([0.0, 1.0, -1.0, 2.0])
    assert (np.abs(share - p) < 4 * np.sqrt(p * (1 - p) / 40_000)).all()


def test_temperatures_of_gumbel_softmax() -> None:
    key, x = jax.random.key(0), np.zeros((2, 3))
    with pytest.raises(ValueError, match="temperature must be > 0"):
        bridge.gumbel_softmax(key, x, temperature=0.0)
    with pytest.raises(ValueError, match="must be one number"):
        bridge.gumbel_softmax(key, x, temperature=jnp.ones(2))
    with pytest.raises(Exception, match="temperature must be from 1e-30 to 1e30, got -1"):
        jax.block_until_ready(bridge.gumbel_softmax(key, x, temperature=jnp.asarray(-1.0)))


# ---- threads


def test_threads_do_not_change_the_bits(threads: Callable[[int], None]) -> None:
    x, target = normal(12, (3000, 100), np.float32), np.arange(3000) % 100
    both = jax.jit(jax.value_and_grad(bridge.cross_entropy))
    results = []
    for count in (1, 3):
        threads(count)
        results.append([bridge.softmax(x), *both(x, target)])
    assert all(same(a, b) for a, b in zip(*results, strict=True))


def test_calls_from_many_threads() -> None:
    inputs = [normal(seed, (200, 300), np.float32) for seed in range(12)]
    f = jax.jit(lambda x: bridge.softmax(x) + bridge.sparsemax(x))
    want = [np.asarray(f(x)) for x in inputs]
    with ThreadPoolExecutor(6) as pool:
        got = list(pool.map(f, inputs * 3))
    assert all(same(a, b) for a, b in zip(got, want * 3, strict=True))
