"""The docstrings of the compiled functions, attached to them at import."""

from __future__ import annotations

from boltzmax import _core

_COMMON = """
axis : int, tuple of int or None, default -1
    The axis or axes that form a row; None takes the whole array as one row.
"""

_OPTIONS = """
where : array_like of bool, optional
    Broadcasts to `x`. False leaves an element out of its row.
temperature : float or array_like, default 1.0
    Divides the scores. A scalar, or one per row: an array that broadcasts to the shape of `x`
    without the reduced axes (or with length 1 there). From 1e-30 to 1e30; or 0, which gives the
    limit as T falls to 0: {limit}.{empty}
dtype : dtype, optional
    The dtype of the computation and of the result: float16, float32, float64, bfloat16 or
    longdouble."""

_EMPTY = """
empty : {{"nan", "zero"}}, default "nan"
    The result for a row of -inf alone, masked elements aside: NaN, or {nothing}."""

_SHARED = "the largest elements of a row share the probability"

_OF_SOFTMAX = _OPTIONS.format(limit=_SHARED, empty=_EMPTY.format(nothing="0"))
_OF_LOG_SOFTMAX = _OPTIONS.format(limit=_SHARED, empty=_EMPTY.format(nothing="-inf"))
_OF_LOGSUMEXP = _OPTIONS.format(
    limit="""an infinity with the sign of the largest element, or, if
    that is 0, the logarithm of the number of zeros (for real `x` without `b`)""",
    empty="",
)

_OUT = """
out : ndarray, optional
    Receives the result: of the result's shape and dtype; may be `x` itself.
"""

_ERRORS = """
TypeError
    For a dtype that is not supported (the message names it), an `out` of another dtype, or a
    `where` that is not bool.
ValueError
    For an option out of range, an `out` of another shape or read-only, or a `where` or
    temperature that does not broadcast.
numpy.exceptions.AxisError
    For an axis out of range.
"""

_X = """
x : array_like
    Scores (logits). float16, float32, float64, longdouble and bfloat16 (``ml_dtypes``) are kept,
    integers and bool become float64, ``ml_dtypes`` floats of 8 bits or less become float32. Half
    types are computed in float32. Any strides.
"""

_NOTES = """
The shift by the maximum m is by a whole power of two, so that x - m is never rounded: see
``cpp/kernels/math/exp.hpp``, and Blanchard, Higham & Higham, "Accurately computing the log-sum-exp
and softmax functions", IMA J. Numer. Anal. 41(4), 2021, for the errors of the usual method. Sums
are accumulated in twice the precision. The bits of a row's result do not depend on the number of
threads, the batch it is in, its strides or its alignment.

The result is an ndarray or a scalar, or of the library of `x`: a tensor of PyTorch, an array of
JAX, a data frame of pandas or polars or an array of xarray with its labels.
"""

SOFTMAX = f"""softmax(x, axis=-1, *, where=None, temperature=1.0, empty='nan', dtype=None, out=None)
--

Probabilities from scores: exp(x_i / T) / sum_j exp(x_j / T) along an axis.

Parameters
----------{_X}{_COMMON.rstrip()}{_OF_SOFTMAX}{_OUT}
Returns
-------
ndarray
    Of the shape of `x`, from 0 to 1; each row sums to 1. Masked elements are 0. A row with NaN
    or +inf is NaN, and so is one of -inf alone unless `empty` is "zero". A 0-d input gives a
    scalar.

Raises
------{_ERRORS}
Notes
-----{_NOTES}
Examples
--------
>>> import numpy as np
>>> import boltzmax
>>> boltzmax.softmax(np.log([1.0, 2.0, 5.0])).round(3)
array([0.125, 0.25 , 0.625])
>>> boltzmax.softmax([[1.0, 1.0], [1.0, 1.0]], where=[[True, False], [True, True]])
array([[1. , 0. ],
       [0.5, 0.5]])
>>> boltzmax.softmax([0.0, 1.0], temperature=0.01).round(6)
array([0., 1.])
>>> boltzmax.softmax([1.0, 3.0, 3.0], temperature=0)
array([0. , 0.5, 0.5])
>>> boltzmax.softmax([-np.inf, -np.inf], empty="zero")
array([0., 0.])
"""

LOG_SOFTMAX = f"""log_softmax(x, axis=-1, *, where=None, temperature=1.0, empty='nan', dtype=None, \
out=None)
--

Logarithms of probabilities: x_i / T - log(sum_j exp(x_j / T)) along an axis.

Parameters
----------{_X}{_COMMON.rstrip()}{_OF_LOG_SOFTMAX}{_OUT}
Returns
-------
ndarray
    Of the shape of `x`, at most 0. Masked elements are -inf. A row with NaN is NaN, and so is one
    of -inf alone unless `empty` is "zero"; +inf gives NaN in its place and -inf in the others.

Raises
------{_ERRORS}
Notes
-----{_NOTES}
Examples
--------
>>> import numpy as np
>>> import boltzmax
>>> boltzmax.log_softmax([0.0, 0.0])
array([-0.69314718, -0.69314718])
>>> boltzmax.log_softmax([0.0, 40.0])[1] == -np.log1p(np.exp(-40.0))
np.True_
"""

LOGSUMEXP = f"""logsumexp(x, axis=-1, *, b=None, keepdims=False, return_sign=False, where=None, \
temperature=1.0, dtype=None, out=None)
--

log(sum_j b_j exp(x_j / T)) along an axis, without overflow.

Parameters
----------{_X.rstrip()} Complex numbers are allowed here.
{_COMMON.strip()}
b : array_like, optional
    Weights; broadcasts to `x`. May be negative, or complex.
keepdims : bool, default False
    Keep the reduced axes with length 1.
return_sign : bool, default False
    Return the logarithm of the absolute value of the sum, and the sign of the sum.{_OF_LOGSUMEXP}
out : ndarray, optional
    Receives the result: of the result's shape and dtype.

Returns
-------
ndarray or scalar
    -inf for a row without elements or of -inf alone, +inf for one with +inf, NaN for one with
    NaN, or for a negative sum without `return_sign`.
sign : ndarray or scalar
    Only with `return_sign`: +1, 0 or -1, or a complex phase.

Raises
------{_ERRORS}
Notes
-----{_NOTES}
Compiled code handles weights and complex numbers, too; longdouble goes through NumPy.

Examples
--------
>>> import numpy as np
>>> import boltzmax
>>> float(boltzmax.logsumexp([1000.0, 1000.0]).round(6))
1000.693147
>>> float(boltzmax.logsumexp([0.0, -40.0]))
4.248354255291589e-18
"""

_BACKWARD = """
dy : array_like
    Gradient of a loss with respect to `y`.
y : array_like
    The result of `{forward}`, of the shape of `dy`.
axis : int, tuple of int or None, default -1
    The axis that `{forward}` was called with.
out : ndarray, optional
    Receives the gradient; may be `dy` or `y` itself.
"""

_BACKWARD_ERRORS = """
TypeError
    For a dtype that is not supported, or an `out` of another dtype.
ValueError
    For shapes that differ, or a read-only `out`.
numpy.exceptions.AxisError
    For an axis out of range.
"""

SOFTMAX_BACKWARD = f"""softmax_backward(dy, y, axis=-1, *, out=None)
--

Gradient through softmax: dx = y * (dy - sum(dy * y)).

Parameters
----------{_BACKWARD.format(forward="softmax")}
Returns
-------
ndarray
    The gradient with respect to the scores, of the shape of `dy`. With a temperature T, divide it
    by T; at T = 0 the gradient is 0, since `y` is locally constant unless scores are equal.

Raises
------{_BACKWARD_ERRORS}
Examples
--------
>>> import numpy as np
>>> import boltzmax
>>> y = boltzmax.softmax(np.array([1.0, 2.0, 3.0]))
>>> boltzmax.softmax_backward(np.ones(3), y).round(12) + 0.0
array([0., 0., 0.])
"""

LOG_SOFTMAX_BACKWARD = f"""log_softmax_backward(dy, y, axis=-1, *, out=None)
--

Gradient through log_softmax: dx = dy - exp(y) * sum(dy).

Parameters
----------{_BACKWARD.format(forward="log_softmax")}
Returns
-------
ndarray
    The gradient with respect to the scores, of the shape of `dy`. With a temperature T, divide it
    by T; at T = 0 the gradient is 0, since `y` is locally constant unless scores are equal. NaN
    where `y` exceeds 40, which no logarithm of a probability does.

Raises
------{_BACKWARD_ERRORS}
Examples
--------
>>> import numpy as np
>>> import boltzmax
>>> y = boltzmax.log_softmax(np.array([0.0, 0.0]))
>>> boltzmax.log_softmax_backward(np.array([1.0, 0.0]), y)
array([ 0.5, -0.5])
"""


def install() -> None:
    """Attach the docstrings to the compiled functions."""
    for doc in (SOFTMAX, LOG_SOFTMAX, LOGSUMEXP, SOFTMAX_BACKWARD, LOG_SOFTMAX_BACKWARD):
        _core.set_doc(doc.partition("(")[0], doc)
