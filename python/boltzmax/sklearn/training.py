"""Training of the classifiers in `boltzmax.sklearn`: L-BFGS on all rows, or Adam on mini-batches.

Both use the coordinates of `boltzmax.sklearn.samples`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from boltzmax.sklearn.samples import Affine, Coordinates, Samples

Array = NDArray[Any]
Doubles = NDArray[np.float64]
Gradients = tuple[float, Any, Array, Array | None]
Report = Callable[[float], None]

_DECAY = (0.9, 0.999)  # of Adam's two moments
_EPSILON = 1e-8
_LEAST_SLOPE = float(np.sqrt(np.finfo(np.float64).eps))  # see `_lbfgs_failure`
_WORSE = 0.1  # a loss that rises by more than this fraction is not batch noise
_CUTS, _CUT = 3, 0.2  # how often the learning rate falls before training ends, and the factor


class Parameters(Protocol):
    """What training changes in place."""

    @property
    def coef(self) -> Array:
        """Return the coefficients, (units, D)."""

    @property
    def intercept(self) -> Array | None:
        """Return the intercepts of the scores, (units,), if there are any."""


class Scored(Parameters, Protocol):
    """A trainable model that has a loss."""

    def loss(self, samples: Samples) -> float:
        """Return the mean loss."""


class Model(Scored, Protocol):
    """A trainable model: scores that are linear in the rows, and a loss of them."""

    def gradients(self, samples: Samples) -> Gradients:
        """Return the mean loss, the units that it depends on, and their gradients."""


@dataclass(frozen=True)
class Plan:
    """The parameters of training."""

    l2: float
    tol: float
    max_iter: int
    patience: int
    learning_rate: float
    batch_size: int


@dataclass(frozen=True)
class Pull:
    """How far a batch moves the coefficients."""

    share: float  # the weight of its rows, compared with a batch of ordinary rows
    l2: float
    rate: float


@dataclass
class Course:
    """The course of training: the objective after each iteration, and the loss of held-out rows."""

    losses: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)
    failure: str | None = None  # where it stopped, and what to do; None if it converged


# ---- stopping ----


class _Watch:
    """Detects that a loss has not fallen by `tol` for some iterations; keeps the best model."""

    def __init__(self, plan: Plan, keep: bool) -> None:
        self._plan, self._keep = plan, keep
        self._best, self._stale = np.inf, 0
        self._kept: tuple[Array, Array | None] | None = None

    def stops(self, loss: float, model: Parameters) -> bool:
        """Whether that is the case; then the count starts anew."""
        self._stale = 0 if loss < self._best - self._plan.tol else self._stale + 1
        if loss < self._best:
            self._best = loss
            if self._keep:
                bias = model.intercept
                self._kept = model.coef.copy(), None if bias is None else bias.copy()
        if self._stale < self._plan.patience:
            return False
        self._stale = 0
        return True

    def restore(self, model: Parameters) -> None:
        """Restore the best coefficients."""
        if self._kept is not None:
            _set(model, *self._kept)


def _set(model: Parameters, coef: Array, intercept: Array | None) -> None:
    model.coef[...] = coef
    if model.intercept is not None and intercept is not None:
        model.intercept[...] = intercept


def _penalty(model: Parameters, l2: float) -> float:
    return 0.5 * l2 * float(np.vdot(model.coef, model.coef)) if l2 else 0.0


def _not_converged(where: str, plan: Plan, advice: str) -> str:
    return f"{where}, before the loss settled to within tol={plan.tol}; {advice}"


def finite_loss(loss: float) -> float:
    """Return a loss if it is finite."""
    if not np.isfinite(loss):
        raise ValueError(f"the loss became {loss}: scale the features, or lower learning_rate")
    return loss


def _finite(gradients: Gradients) -> Gradients:
    finite_loss(gradients[0])
    return gradients


# ---- L-BFGS ----


def train_lbfgs(
    model: Model,
    samples: Samples,
    held_out: Samples | None,
    coordinates: Coordinates,
    plan: Plan,
    report: Report,
) -> Course:
    """Minimise the objective over all rows (Byrd, Lu, Nocedal & Zhu, 1995).

    The model has to be float64, since line searches need more digits than float32 has.
    """
    biased = model.intercept is not None
    shape, size = model.coef.shape, model.coef.size
    course, watch = Course(), _Watch(plan, keep=True)
    stopped: list[bool] = []  # by the held-out rows

    def place(point: Doubles) -> None:
        intercept = point[size:] if biased else None
        _set(model, *coordinates.plain(point[:size].reshape(shape), intercept))

    def objective(point: Doubles) -> tuple[float, Doubles]:
        place(point)
        loss, units, d_coef, d_intercept = _finite(model.gradients(samples))
        whole = plan.l2 * model.coef
        whole[units] += d_coef
        if d_intercept is not None:
            bias = np.zeros(shape[0])
            bias[units] = d_intercept
            d_intercept = bias
        v, c = coordinates.gradients(whole, d_intercept)
        gradient = v.ravel() if c is None else np.concatenate([v.ravel(), c])
        return loss + _penalty(model, plan.l2), gradient

    def after(intermediate_result: Any) -> None:
        course.losses.append(float(intermediate_result.fun))
        if held_out is not None:
            place(intermediate_result.x)
            course.held_out.append(model.loss(held_out))
            if watch.stops(course.held_out[-1], model):
                stopped.append(True)
                raise StopIteration
        report((course.held_out or course.losses)[-1])

    found = optimize.minimize(
        objective,
        np.zeros(size + (shape[0] if biased else 0)),
        jac=True,
        method="L-BFGS-B",
        callback=after,
        # Only the gradient decides when to stop: a small step does not imply a nearby optimum.
        options={
            "maxiter": plan.max_iter,
            "maxfun": 20 * plan.max_iter,
            "gtol": plan.tol,
            "ftol": 0.0,
        },
    )
    place(found.x)
    watch.restore(model)
    if not stopped:
        course.failure = _lbfgs_failure(found, plan)
    return course


def _lbfgs_failure(found: Any, plan: Plan) -> str | None:
    """Describe where L-BFGS stopped, unless it has converged.

    The gradient decides, whatever the status: 2 is a line search that found nothing lower, which
    can happen near the optimum where rounding hides the decrease of the loss; 0 is also a loss that
    has not decreased at all, which rounding can cause far from the optimum. A gradient g means that
    the loss is about g^2 above its minimum; where that is below its last digit, no `tol` can ask
    for more.
    """
    slope = float(np.abs(found.jac).max())
    if slope <= max(plan.tol, _LEAST_SLOPE):
        return None
    limit = f"max_iter={found.nit}" if found.nit >= plan.max_iter else f"{found.nit}"
    advice = (
        "allow more, or raise tol or l2"
        if found.status == 1
        else "no step lowers it, since rounding hides the decrease or the gradient is not that of "
        "the loss: centre features that are far from 0, or raise tol or l2"
    )
    said = str(found.message).rstrip(" :")
    return (
        f"{_not_converged(f'after {limit} iterations', plan, advice)} "
        f"(L-BFGS-B, status {found.status}, {said}; the gradient is {slope:.3g})"
    )


# ---- Adam ----


class _Moments:
    """The two running means of the gradients of an array."""

    def __init__(self, like: Array) -> None:
        self.first, self.second = np.zeros_like(like), np.zeros_like(like)

    def step(self, units: Any, gradient: Array, times: Array) -> Array:
        """Update the moments with the gradient of some units; return the descent direction."""
        fast, slow = _DECAY
        first = fast * self.first[units] + (1 - fast) * gradient
        second = slow * self.second[units] + (1 - slow) * np.square(gradient)
        self.first[units], self.second[units] = first, second
        times = times.reshape(-1, *(1,) * (first.ndim - 1))
        root = np.sqrt(second / (1 - slow**times)) + _EPSILON
        return np.asarray(first / (1 - fast**times) / root)


class Adam:
    """Adam (Kingma & Ba, ICLR 2015), with moments that change only if their unit has a gradient.

    So the cost of a step depends on the units of the batch, not on all units. Each unit counts its
    own steps; otherwise the first step of a rare unit would be too long.
    """

    def __init__(self, model: Parameters) -> None:
        self._times = np.zeros(len(model.coef), np.int64)
        self._coef = _Moments(model.coef)
        self._intercept = None if model.intercept is None else _Moments(model.intercept)

    def epoch(
        self,
        model: Model,
        samples: Samples,
        order: NDArray[np.intp],
        coordinates: Coordinates,
        plan: Plan,
        usual_weight: float,
        slower: float = 1.0,
    ) -> float:
        """Make one pass over all rows, batch by batch; return the mean of the batches' losses."""
        rate = slower * plan.learning_rate
        total = 0.0
        for start in range(0, len(order), plan.batch_size):
            batch = samples.part(order[start : start + plan.batch_size])
            loss, units, d_coef, d_intercept = _finite(model.gradients(batch))
            mass = float(batch.weight.sum())
            total += mass * loss
            pull = Pull(mass / (len(batch) * usual_weight), plan.l2, rate)
            self.step(model, units, d_coef, d_intercept, coordinates, pull)
        return total / float(samples.weight.sum())

    def step(
        self,
        model: Parameters,
        units: Any,
        d_coef: Array,
        d_intercept: Array | None,
        coordinates: Affine,
        pull: Pull,
    ) -> None:
        """Change some units along the gradients of a batch's loss."""
        d_coef = pull.share * d_coef + pull.l2 * model.coef[units]
        if d_intercept is not None:
            d_intercept = pull.share * d_intercept
        d_coef, d_intercept = coordinates.gradients(d_coef, d_intercept)
        self._times[units] += 1
        times = self._times[units]
        step = pull.rate * self._coef.step(units, d_coef, times)
        shift = None
        if self._intercept is not None and d_intercept is not None:
            shift = pull.rate * self._intercept.step(units, d_intercept, times)
        step, shift = coordinates.plain(step, shift)
        model.coef[units] -= step
        if model.intercept is not None and shift is not None:
            model.intercept[units] -= shift


class Epochs(Protocol):
    """What `Adam` does; others do it for models of another form."""

    def epoch(
        self,
        model: Any,
        samples: Samples,
        order: NDArray[np.intp],
        coordinates: Coordinates,
        plan: Plan,
        usual_weight: float,
        slower: float = 1.0,
    ) -> float:
        """Make one pass over all rows, batch by batch; return the mean of the batches' losses."""


def train_adam(
    model: Scored,
    adam: Epochs,
    samples: Samples,
    held_out: Samples | None,
    coordinates: Coordinates,
    plan: Plan,
    report: Report,
    rng: np.random.RandomState,
) -> Course:
    """Follow the gradients of mini-batches until the loss falls no further."""
    advice = "allow more, or raise tol or l2"
    course = Course(
        failure=_not_converged(f"after max_iter={plan.max_iter} iterations", plan, advice)
    )
    watch = _Watch(plan, keep=held_out is not None)
    start = model.loss(_few(held_out or samples, plan.batch_size))
    usual, cuts = float(samples.weight.mean()), 0
    for _ in range(plan.max_iter):
        order = rng.permutation(len(samples))
        loss = adam.epoch(model, samples, order, coordinates, plan, usual, _CUT**cuts)
        course.losses.append(loss + _penalty(model, plan.l2))
        if held_out is not None:
            course.held_out.append(model.loss(held_out))
        watched = (course.held_out or course.losses)[-1]
        report(watched)
        if watch.stops(watched, model):
            cuts += 1
            if cuts > _CUTS:
                course.failure = None
                break
    watch.restore(model)
    reached = min(course.held_out, default=course.losses[-1])
    if reached > start + _WORSE * abs(start):
        course.failure = (
            f"at a loss of {reached:.4g}, while an untrained model has {start:.4g}; "
            "lower learning_rate"
        )
    return course


def _few(samples: Samples, n: int) -> Samples:
    """Return as many samples as a batch has, evenly spaced."""
    return samples.part(np.linspace(0, len(samples) - 1, min(n, len(samples)), dtype=np.intp))
