"""The scores of conformal predictors."""

from __future__ import annotations

from typing import Any

from boltzmax._lib.arguments import as_number, check_count
from boltzmax.conformal.base import SetPredictor
from boltzmax.conformal.scorer import APS_SCORE, LAC_SCORE, SAPS_SCORE, Rule


def _check_penalty(value: Any, name: str) -> float:
    """Return a number that is finite and not negative."""
    number = as_number(value, name)
    if not 0.0 <= number <= 1e30:
        raise ValueError(f"{name} must be from 0 to 1e30, got {value!r}")
    return number


class LAC(SetPredictor):
    """Sets of all classes whose probability is large enough: the smallest sets on average.

    The score of a class is 1 - p, with its probability p. Sets may be empty.

    Parameters
    ----------
    alpha : float, default 0.1
        How often the right class may be missing, between 0 and 1. Its decimal digits count: 0.1 is
        1/10. A `fractions.Fraction` is taken as it is.
    randomized : bool, default True
        Whether a score depends on a random number of its row, where that is part of its formula:
        not here.
    random_state : int, numpy.random.Generator or None, default 0
        The key of the random numbers, 64 bits; None takes one from the system.
    from_probs : bool, default False
        Whether rows are probabilities instead of logits.

    Attributes
    ----------
    threshold_ : float
        The largest score of a class in the set: the ceil((n + 1)(1 - alpha))-th smallest of the n
        scores in `fit`, computed in integers; +inf if n is too small.
    scores_ : ndarray of float64
        The scores of the labels in `fit`, sorted.

    Notes
    -----
    Sadinle, Lei & Wasserman, "Least Ambiguous Set-Valued Classifiers With Bounded Error Levels",
    JASA 114(525), 2019.

    A label is in the set of `predict` if and only if its score, as in `fit`, is at most the
    threshold. Scores are the same whatever the batch and the number of threads; between
    instruction sets their last digits may differ.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax.conformal import LAC, coverage
    >>> rng = np.random.default_rng(0)
    >>> logits = rng.normal(size=(2000, 10))
    >>> y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    >>> predictor = LAC(alpha=0.1).fit(logits[:1000], y[:1000])
    >>> sets = predictor.predict(logits[1000:])
    >>> sets
    <PredictionSets of 1000 rows, 6.45 of 10 classes each>
    >>> bool(abs(coverage(sets, y[1000:]) - 0.9) < 0.03)
    True
    """

    def _rule(self) -> Rule:
        return LAC_SCORE, 0.0, 0.0


class APS(SetPredictor):
    """Adaptive sets: classes in order of their probability, until these add up to the threshold.

    The score of a class is A + u T: A is the probability of all classes that are more likely, T
    that of the class itself and of those that are exactly as likely, and u is uniform from 0 to 1,
    one number for each row; 1 without `randomized`. Hard rows get larger sets than easy ones.

    The parameters and attributes are those of `LAC`.

    Notes
    -----
    Romano, Sesia & Candes, "Classification with Valid and Adaptive Coverage", NeurIPS 2020. Classes
    of the same probability stand together, so that the order of classes does not matter.

    Examples
    --------
    >>> from boltzmax.conformal import APS
    >>> import numpy as np
    >>> logits = np.log([[0.5, 0.3, 0.2]] * 100)
    >>> y = [0] * 50 + [1] * 30 + [2] * 20
    >>> predictor = APS(alpha=0.25, randomized=False).fit(logits, y)
    >>> predictor.threshold_.__round__(6), predictor.predict(logits)[0]
    (0.8, array([0, 1], dtype=int32))
    """

    def _rule(self) -> Rule:
        return APS_SCORE, 0.0, 0.0


class RAPS(SetPredictor):
    """Adaptive sets with a penalty for ranks, which keeps unlikely classes out.

    The score of a class is A + u T + lam max(0, r - k_reg), with A, u and T as for `APS` and the
    rank r, which is 1 + the number of classes that are more likely. With ``lam=0`` it is `APS`.

    Parameters
    ----------
    alpha : float, default 0.1
        As for `LAC`.
    k_reg : int, default 5
        The largest rank that costs nothing.
    lam : float, default 0.01
        The penalty for each rank beyond.
    randomized, random_state, from_probs
        As for `LAC`.

    Notes
    -----
    Angelopoulos, Bates, Malik & Jordan, "Uncertainty Sets for Image Classifiers using Conformal
    Prediction", ICLR 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax.conformal import RAPS
    >>> logits = np.log([[0.4, 0.3, 0.2, 0.1]] * 10)
    >>> y = [0, 0, 0, 0, 1, 1, 1, 2, 2, 3]
    >>> RAPS(alpha=0.2, k_reg=2, lam=0.5, randomized=False).fit(logits, y).threshold_.__round__(6)
    1.4
    """

    def __init__(
        self,
        alpha: float = 0.1,
        *,
        k_reg: int = 5,
        lam: float = 0.01,
        randomized: bool = True,
        random_state: Any = 0,
        from_probs: bool = False,
    ) -> None:
        super().__init__(
            alpha, randomized=randomized, random_state=random_state, from_probs=from_probs
        )
        self.k_reg = k_reg
        self.lam = lam

    def _rule(self) -> Rule:
        k_reg = check_count(self.k_reg, "k_reg", 0, 2**31)
        return APS_SCORE, _check_penalty(self.lam, "lam"), float(k_reg)


class SAPS(SetPredictor):
    """Adaptive sets by rank: only the largest probability of a row counts.

    The score of the most likely class is u max p; that of a class of rank r is
    max p + (r - 2 + u) weight, with the rank r = 1 + the number of classes that are more likely.

    Parameters
    ----------
    alpha : float, default 0.1
        As for `LAC`.
    weight : float, default 0.1
        The score of a rank.
    randomized, random_state, from_probs
        As for `LAC`.

    Notes
    -----
    Huang, Xi, Zhang, Yao, Qiu & Wei, "Conformal Prediction for Deep Classifier via Label Ranking",
    ICML 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax.conformal import SAPS
    >>> logits = np.log([[0.4, 0.3, 0.2, 0.1]] * 10)
    >>> y = [0, 0, 0, 0, 1, 1, 1, 2, 2, 3]
    >>> SAPS(alpha=0.2, weight=0.1, randomized=False).fit(logits, y).threshold_.__round__(6)
    0.6
    """

    def __init__(
        self,
        alpha: float = 0.1,
        *,
        weight: float = 0.1,
        randomized: bool = True,
        random_state: Any = 0,
        from_probs: bool = False,
    ) -> None:
        super().__init__(
            alpha, randomized=randomized, random_state=random_state, from_probs=from_probs
        )
        self.weight = weight

    def _rule(self) -> Rule:
        return SAPS_SCORE, _check_penalty(self.weight, "weight"), 0.0
