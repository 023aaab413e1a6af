"""The flat softmax classifier of `boltzmax.sklearn`: one score per class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boltzmax._core import log_softmax, softmax
from boltzmax._lib.arguments import one_of, quietly
from boltzmax.adaptive.layer import AdaptiveSoftmax
from boltzmax.arrays.row_stats import row_stats
from boltzmax.candidates.unigram import UnigramSampler
from boltzmax.linear.sampled import sampled_softmax_loss_with_grad
from boltzmax.losses.imbalance import logit_adjustment
from boltzmax.losses.registry import LOSSES
from boltzmax.sklearn.adaptive import AdaptiveAdam, AdaptiveModel
from boltzmax.sklearn.base import SoftmaxBase
from boltzmax.sklearn.layers import dense, likeliest, log_probabilities, top
from boltzmax.sklearn.samples import Samples, row_blocks, scores_of, weighted_sums
from boltzmax.sklearn.training import Epochs, Gradients

Array = NDArray[Any]
Loss = Callable[..., tuple[Any, Array]]

# The losses of rows of logits, by name; balanced softmax is the cross-entropy of shifted logits.
_LOSSES: dict[str, Loss] = {
    name: loss.with_grad
    for name, loss in LOSSES.items()
    if loss.parameters[0] == "logits" and not loss.per_element
}
_OUTPUTS = ("full", "adaptive", "sampled")
_SAMPLED = 512  # classes that are drawn for a batch
_LOSSES["balanced_softmax"] = LOSSES["cross_entropy"].with_grad


@dataclass(frozen=True)
class _Flat:
    """Scores x . coef + intercept, and their loss."""

    coef: Array
    intercept: Array | None
    function: Loss
    shift: Array | None  # added to the scores in the loss

    def scores(self, x: Any) -> Array:
        scores = scores_of(x, self.coef)
        if self.intercept is not None:
            scores += self.intercept
        return scores

    def _evaluate(self, samples: Samples) -> tuple[float, Array]:
        logits = self.scores(samples.x)
        if self.shift is not None:
            logits += self.shift
        shape = logits.shape
        found = self.function(logits, samples.target, sample_weight=samples.weight)
        try:
            loss, gradient = float(found[0]), np.asarray(found[1])
        except (TypeError, IndexError, KeyError):
            raise TypeError(
                f"loss must return a number and the gradient for the logits, got {type(found)}"
            ) from None
        if gradient.shape != shape:
            raise ValueError(
                f"loss must return a gradient of the shape of the logits, {shape}; "
                f"got {gradient.shape}"
            )
        return loss, gradient

    def gradients(self, samples: Samples) -> Gradients:
        """See `Model`."""
        loss, gradient = self._evaluate(samples)
        d_coef = weighted_sums(samples.x, gradient)
        bias = None if self.intercept is None else gradient.sum(axis=0)
        return loss, slice(None), d_coef, bias

    def loss(self, samples: Samples) -> float:
        """See `Model`."""
        return self._evaluate(samples)[0]


@dataclass(frozen=True)
class _Sampled(_Flat):
    """The same scores; gradients are those of a loss over the targets and drawn classes."""

    sampler: UnigramSampler
    rng: np.random.Generator

    def gradients(self, samples: Samples) -> Gradients:
        """See `Model`."""
        found = sampled_softmax_loss_with_grad(
            dense(samples.x), self.coef, samples.target, self.sampler, n=_SAMPLED,
            bias=self.intercept, rng=self.rng, sample_weight=samples.weight,
        )  # fmt: skip
        return float(found.loss), found.unit_ids, found.d_weight, found.d_bias

    def loss(self, samples: Samples) -> float:
        """See `Model`; never all scores of all samples together."""
        parts = map(samples.part, row_blocks(len(samples), len(self.coef)))
        total = sum(float(part.weight.sum()) * super(_Sampled, self).loss(part) for part in parts)
        return total / float(samples.weight.sum())


class SoftmaxClassifier(SoftmaxBase):
    r"""Multinomial logistic regression, or another loss of one linear score per class.

    It minimises, with the scores :math:`z_i = W x_i + b` and :math:`w_i` the sample weight times
    the weight of the class,

    .. math:: \frac{\sum_i w_i \ell(z_i, y_i)}{\sum_i w_i} + \frac{\lambda}{2} \lVert W \rVert^2.

    Parameters
    ----------
    loss : {"cross_entropy", "focal_loss", "balanced_softmax"} or callable
        ``"balanced_softmax"`` is the cross-entropy of scores to which the logarithms of the class
        sizes are added; prediction leaves these out, so that rare classes are as likely as others.
        A callable gets ``(logits, target, sample_weight=...)`` and returns the mean loss and its
        gradient with respect to the logits: `boltzmax.cross_entropy_with_grad` is one, and so is
        ``functools.partial(boltzmax.focal_loss_with_grad, gamma=1.0)``.
    output : {"full", "adaptive", "sampled"}, default "full"
        What maps features to very many classes; other than ``"full"`` it takes the cross-entropy
        and Adam. ``"adaptive"``: `boltzmax.AdaptiveSoftmax`, scores from shorter vectors for rare
        classes; the penalty is that of all its weights. ``"sampled"``: the full softmax, trained on
        the classes of a batch and 512 drawn by frequency, whose loss is that of `loss_curve_`.
        See `HierarchicalSoftmaxClassifier` for a tree.
    solver : {"auto", "lbfgs", "adam"}, default "auto"
        ``"lbfgs"``: all samples in each iteration. It has no step size to choose, reaches the
        optimum to the precision that `tol` sets, and does not depend on the order of the samples.
        ``"adam"``: mini-batches, much faster on large data. ``"auto"``: L-BFGS while a pass takes
        at most 1e8 multiplications and there are at most 1e6 coefficients. Both standardise the
        features internally (the coefficients are still those of the raw data), so raw data need no
        scaling; sparse data stay sparse.
    l2 : float, default 1e-4
        :math:`\lambda`; the intercept is not penalised. ``LogisticRegression(C=c)`` has
        ``l2 = 1 / (c * n_samples)``.
    fit_intercept : bool, default True
        Whether to fit :math:`b`.
    class_weight : None, "balanced" or dict, default None
        Weights of classes by label (1 for others); ``"balanced"`` are those of
        `boltzmax.class_weights`.
    learning_rate : float, default 0.05
        Of Adam, in standardised features; `fit` divides it by 5 three times before it ends.
    batch_size : int, default 256
        Samples in a mini-batch of Adam.
    max_iter : int, default 1000
        The maximum number of L-BFGS iterations or Adam epochs.
    tol : float, default 1e-4
        L-BFGS stops when no element of the gradient exceeds `tol` (or 1.5e-8, beyond which the loss
        has no digits), and warns if it stops for another reason. Adam and early stopping check
        whether the loss has fallen by `tol` in the last `n_iter_no_change` iterations.
    early_stopping : bool, default False
        Whether to monitor the loss of held-out samples, and keep the model that does best on them.
    validation_fraction : float, default 0.1
        The fraction of the samples to hold out, about the same for each class.
    n_iter_no_change : int, default 5
        See `tol`.
    random_state : int, RandomState or None, default None
        Shuffles the samples for Adam and chooses those to hold out.
    verbose : bool, default False
        Whether to show a progress bar on standard error.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    coef_ : ndarray of shape (n_classes, n_features)
        :math:`W`, also for two classes; of the dtype of the samples passed to `fit`. Predictions
        have the wider of this dtype and that of their samples.
    intercept_ : ndarray of shape (n_classes,)
        :math:`b`, or zeros.
    layer_ : boltzmax.AdaptiveSoftmax
        In place of `coef_` and `intercept_`, with ``output="adaptive"``.
    solver_ : str
        The solver used.
    n_iter_ : int
        Iterations or epochs.
    loss_curve_ : list of float
        The objective after each; with Adam, the mean loss over each epoch.
    validation_curve_ : list of float or None
        The loss of the held-out samples.
    n_features_in_ : int
        The number of features.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, if `X` has names that are all strings.

    See Also
    --------
    HierarchicalSoftmaxClassifier : for very many classes.

    Examples
    --------
    >>> from boltzmax.sklearn import SoftmaxClassifier
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = SoftmaxClassifier(class_weight="balanced").fit(X, y)
    >>> model.score(X, y) > 0.95
    True
    >>> classes, probabilities = model.predict_topk(X[:1], k=2)
    >>> classes
    array([[0, 1]])
    """

    coef_: Array
    intercept_: Array
    layer_: AdaptiveSoftmax
    output: str = "full"  # older pickles do not have it

    def __init__(
        self,
        loss: Any = "cross_entropy",
        *,
        output: str = "full",
        solver: str = "auto",
        l2: float = 1e-4,
        fit_intercept: bool = True,
        class_weight: Any = None,
        learning_rate: float = 0.05,
        batch_size: int = 256,
        max_iter: int = 1000,
        tol: float = 1e-4,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.loss = loss
        self.output = output
        self.solver = solver
        self.l2 = l2
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.random_state = random_state
        self.verbose = verbose

    @quietly
    def decision_function(self, X: Any) -> Array:  # noqa: N803
        """Return the scores, whose softmax is the probabilities.

        Those of an adaptive softmax are the logarithms of the probabilities.

        Parameters
        ----------
        X : {array_like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), or (n_samples,) for two classes
            For two classes, the score of the second minus that of the first.
        """
        scores = self._scores(self._validated(X))
        return scores if scores.shape[1] > 2 else np.asarray(scores[:, 1] - scores[:, 0])

    @quietly
    def predict_proba(self, X: Any) -> Array:  # noqa: N803
        """Return the probability of each class.

        Parameters
        ----------
        X : {array_like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of `classes_`.
        """
        scores = self._scores(self._validated(X))
        return np.asarray(softmax(scores, out=scores))

    # ---- what the base class requires ----

    def _structure(self, samples: Samples, rng: np.random.RandomState) -> None:
        del samples
        if not callable(self.loss) and self.loss not in _LOSSES:
            raise ValueError(f"loss must be callable or one of {tuple(_LOSSES)}, got {self.loss!r}")
        one_of(self.output, "output", _OUTPUTS)
        for name, wanted in (("loss", ("cross_entropy",)), ("solver", ("auto", "adam"))):
            value = getattr(self, name)
            if self.output != "full" and value not in wanted:
                raise ValueError(
                    f"output={self.output!r} needs {name}={wanted[-1]!r}, got {value!r}"
                )
        self.__dict__.pop("_rng", None)  # of an earlier fit
        if self.output == "sampled":
            self._rng = np.random.default_rng(rng.randint(2**31))

    def _chosen_solver(self, samples: Samples) -> str:
        return super()._chosen_solver(samples) if self.output == "full" else "adam"

    def _size(self, samples: Samples) -> tuple[int, int]:
        entries = samples.x.nnz if hasattr(samples.x, "nnz") else samples.x.size
        return entries * len(self.classes_), samples.x.shape[1] * len(self.classes_)

    def _start(self, dtype: Any) -> None:
        n, width = len(self.classes_), self.n_features_in_
        for name in ("coef_", "intercept_", "layer_"):  # of an earlier fit
            self.__dict__.pop(name, None)
        if self.output == "adaptive":
            biased = self.fit_intercept
            self.layer_ = AdaptiveSoftmax(width, n, counts=self._counts, bias=biased, dtype=dtype)
            return
        self.coef_, self.intercept_ = np.zeros((n, width), dtype), np.zeros(n, dtype)

    def _round(self, dtype: Any) -> None:
        if self._is_layer:
            return
        self.coef_ = self.coef_.astype(dtype, copy=False)
        self.intercept_ = self.intercept_.astype(dtype, copy=False)

    @property
    def _is_layer(self) -> bool:
        """Whether this is trained as an adaptive softmax, whatever `output` is now."""
        return hasattr(self, "layer_")

    @property
    def _is_sampled(self) -> bool:
        """Whether this is trained on drawn classes, whatever `output` is now."""
        return hasattr(self, "_rng")

    def _model(self) -> Any:
        if self._is_layer:
            return AdaptiveModel(self.layer_)
        intercept = self.intercept_ if self.fit_intercept else None
        if callable(self.loss):
            return _Flat(self.coef_, intercept, self.loss, None)
        shift = None
        if self.loss == "balanced_softmax":
            # A class without samples would be at -inf; it counts as one sample.
            sizes = np.where(self._counts > 0, self._counts, 1.0)
            shift = logit_adjustment(sizes).astype(self.coef_.dtype)
        flat = self.coef_, intercept, _LOSSES[self.loss], shift
        if self._is_sampled:
            # A class without samples is drawn at times.
            return _Sampled(*flat, UnigramSampler(self._counts + 1.0), self._rng)
        return _Flat(*flat)

    def _new_adam(self, model: Any) -> Epochs:
        return AdaptiveAdam(model) if self._is_layer else super()._new_adam(model)

    def _scores(self, x: Any) -> Array:
        if self._is_layer:
            return log_probabilities(self.layer_, x)
        return scores_of(x, self.coef_) + self.intercept_

    def _likeliest(self, x: Any) -> NDArray[np.intp]:
        if self._is_layer:
            return likeliest(self.layer_, x)
        blocks = row_blocks(x.shape[0], len(self.classes_))
        return np.concatenate([self._scores(x[at]).argmax(axis=1) for at in blocks])

    def _log_probabilities(self, x: Any) -> Array:
        scores = self._scores(x)
        return np.asarray(log_softmax(scores, out=scores))

    def _top(self, x: Any, k: int) -> tuple[Array, Array]:
        if self._is_layer:
            return top(self.layer_, x, k)
        blocks = row_blocks(x.shape[0], len(self.classes_))
        found = [row_stats(self._scores(x[at]), k=k, entropy=False) for at in blocks]
        ids, log_probs = zip(*((each.top_ids, each.top_log_probs) for each in found), strict=True)
        return np.concatenate(ids), np.concatenate(log_probs)
