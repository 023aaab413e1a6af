"""Maps that replace the exponential of softmax by another function."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from boltzmax._lib.arguments import as_input, as_integer, normalized_axes, quietly, row_temperature
from boltzmax._lib.same_kind import same_kind
from boltzmax._lib.shared_docs import complete
from boltzmax.arrays.argmax_limit import at_temperature_0
from boltzmax.arrays.calls import read_call
from boltzmax.variants.calls import compiled_if_ordinary, map_of_call, run_gradient, run_map

MOST_ORDER = 12  # of a Taylor polynomial whose roots the kernels have


def _read_order(order: Any) -> int:
    number = as_integer(order, "order")
    if number % 2 or not 2 <= number <= MOST_ORDER:
        raise ValueError(
            f"order must be an even number from 2 to {MOST_ORDER}, got {number}"
            + "; polynomials of odd order have negative values" * (number % 2)
        )
    return number


def _backward(
    function: str,
    dy: ArrayLike,
    x: ArrayLike,
    axis: Any,
    temperature: ArrayLike,
    where: ArrayLike | None,
    out: NDArray[Any] | None,
    count: int = 0,
) -> Any:
    """Return the gradient of a map by its input, with a temperature for each row."""
    scores = as_input(x)
    of_row = row_temperature(temperature, scores, normalized_axes(axis, scores.ndim))
    return run_gradient(
        function, dy, scores, axis, out, name="x", where=where, parameter=of_row, count=count
    )


# ---- Taylor polynomials ----


@same_kind
@quietly
def taylor_softmax(
    x: ArrayLike,
    axis: Any = -1,
    *,
    order: int = 2,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    r"""Softmax with a Taylor polynomial in place of the exponential.

    .. math:: p_i = \frac{T_n(x_i / \tau)}{\sum_j T_n(x_j / \tau)}, \qquad
              T_n(z) = \sum_{k=0}^n \frac{z^k}{k!}

    For an even order n, the polynomial is positive everywhere; it is near the exponential where
    :math:`|z|` is small, and grows as :math:`z^n` elsewhere, for negative z, too. Unlike softmax,
    the map is not invariant to a shift of the scores.

    Parameters
    ----------
    {rows}
    order : int, default 2
        The even order n, from 2 to 12.
    temperature : float or array_like, default 1.0
        Divides the scores; one number, or one per row. At 0, the limit, the weights are
        :math:`x^n`.
    {options}

    {probabilities}

    Raises
    ------
    ValueError
        If `order` is odd or out of range.

    See Also
    --------
    log_taylor_softmax : the logarithm.
    taylor_softmax_backward : the gradient.

    Notes
    -----
    Elements of -inf get 0, like masked ones. Rows are scaled by a power of two, so scores of any
    size give probabilities. Max error :math:`2n` units in the last place of the row's largest
    probability: the polynomial is computed as a product of quadratics, of which nothing cancels.

    The map is from de Brébisson & Vincent, "An Exploration of Softmax Alternatives Belonging to
    the Spherical Loss Family", ICLR 2016, section 3.2.

    Examples
    --------
    >>> import boltzmax
    >>> boltzmax.taylor_softmax([0.0, 1.0, 2.0])
    array([0.11764706, 0.29411765, 0.58823529])
    >>> boltzmax.taylor_softmax([-1e200, 0.0, 1e200])
    array([0.5, 0. , 0.5])
    """
    n = _read_order(order)
    return run_map("taylor_softmax", x, axis, where, temperature, dtype, out, count=n)


@same_kind
@quietly
def log_taylor_softmax(
    x: ArrayLike,
    axis: Any = -1,
    *,
    order: int = 2,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    """Return the logarithm of `taylor_softmax`, finite where the probability underflows.

    Parameters
    ----------
    x, axis, order, temperature, where, dtype, out : see `taylor_softmax`

    Returns
    -------
    ndarray
        Of the shape of `x`; -inf for masked elements and those of -inf.

    Notes
    -----
    Computed in double precision. Max error 4 units in the last place of the row's largest
    log-probability.

    Examples
    --------
    >>> import boltzmax
    >>> boltzmax.log_taylor_softmax([0.0, 1.0, 2.0])
    array([-2.14006616, -1.22377543, -0.53062825])
    """
    n = _read_order(order)
    return run_map("log_taylor_softmax", x, axis, where, temperature, dtype, out, count=n)


@same_kind
@quietly
def taylor_softmax_backward(
    dy: ArrayLike,
    x: ArrayLike,
    axis: Any = -1,
    *,
    order: int = 2,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    r"""Return the gradient of `taylor_softmax` with respect to `x`.

    .. math:: dx_j = p_j\, \frac{T_{n-1}(z_j)}{\tau\, T_n(z_j)}
              \Bigl(dy_j - \sum_i dy_i\, p_i\Bigr), \qquad z = x / \tau

    Parameters
    ----------
    {dy}
    x, axis, order, temperature, where, out : see `taylor_softmax`

    {dx}

    Examples
    --------
    >>> import boltzmax
    >>> boltzmax.taylor_softmax_backward([0.0, 0.0, 1.0], [0.0, 1.0, 2.0])
    array([-0.06920415, -0.1384083 ,  0.14532872])
    """
    n = _read_order(order)
    return _backward("taylor_softmax_backward", dy, x, axis, temperature, where, out, count=n)


@same_kind
@quietly
def log_taylor_softmax_backward(
    dy: ArrayLike,
    x: ArrayLike,
    axis: Any = -1,
    *,
    order: int = 2,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    r"""Return the gradient of `log_taylor_softmax` with respect to `x`.

    .. math:: dx_j = \frac{T_{n-1}(z_j)}{\tau\, T_n(z_j)} \Bigl(dy_j - p_j \sum_i dy_i\Bigr),
              \qquad z = x / \tau

    Parameters
    ----------
    {dy}
    x, axis, order, temperature, where, out : see `taylor_softmax`

    {dx}

    Examples
    --------
    >>> import boltzmax
    >>> boltzmax.log_taylor_softmax_backward([0.0, 0.0, 1.0], [0.0, 1.0, 2.0])
    array([-0.11764706, -0.23529412,  0.24705882])
    """
    n = _read_order(order)
    return _backward("log_taylor_softmax_backward", dy, x, axis, temperature, where, out, count=n)


# ---- squares ----


@same_kind
@quietly
def spherical_softmax(
    x: ArrayLike,
    axis: Any = -1,
    *,
    where: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    r"""Probabilities in proportion to squares.

    .. math:: p_i = \frac{x_i^2}{\sum_j x_j^2}

    The sign and the scale of a row do not matter, so there is no temperature. A row of zeros is
    uniform.

    Parameters
    ----------
    {rows}
    {options}

    {probabilities}

    See Also
    --------
    spherical_softmax_backward : the gradient.

    Notes
    -----
    Elements of -inf get 0, like masked ones. Squares neither overflow nor underflow: rows are
    scaled by a power of two. Max error 2 units in the last place of the row's largest
    probability.

    There is no logarithmic form, since the gradient of :math:`\log x^2` is infinite at 0; for
    log-probabilities, use `log_taylor_softmax`, whose weights :math:`(1 + (1 + x)^2) / 2` are
    squares with a floor.

    The map is from de Brébisson & Vincent, "An Exploration of Softmax Alternatives Belonging to
    the Spherical Loss Family", ICLR 2016, section 3.1.

    Examples
    --------
    >>> import boltzmax
    >>> boltzmax.spherical_softmax([1.0, -2.0, 0.0])
    array([0.2, 0.8, 0. ])
    """
    # The limit of taylor_softmax of order 2 at temperature 0.
    return run_map("spherical_softmax", x, axis, where, 0.0, dtype, out, count=2)


@same_kind
@quietly
def spherical_softmax_backward(
    dy: ArrayLike,
    x: ArrayLike,
    axis: Any = -1,
    *,
    where: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    r"""Return the gradient of `spherical_softmax` with respect to `x`.

    .. math:: dx_j = \frac{2 x_j}{\sum_i x_i^2} \Bigl(dy_j - \sum_i dy_i\, p_i\Bigr)

    Parameters
    ----------
    {dy}
    x, axis, where, out : see `spherical_softmax`

    Returns
    -------
    ndarray
        Of the common dtype of `dy` and `x`; 0 for masked elements, and wherever `x` is 0 or -inf.

    Examples
    --------
    >>> import boltzmax
    >>> boltzmax.spherical_softmax_backward([1.0, 0.0, 0.0], [1.0, -2.0, 0.0])
    array([0.32, 0.16, 0.  ])
    """
    return _backward("spherical_softmax_backward", dy, x, axis, 0.0, where, out, count=2)


# ---- exp times sigmoid ----


def _sigsoftmax(
    function: str,
    x: ArrayLike,
    axis: Any,
    temperature: ArrayLike,
    where: ArrayLike | None,
    dtype: DTypeLike | None,
    out: NDArray[Any] | None,
) -> Any:
    call = read_call(function, x, axis, where, temperature, dtype)
    if call.has_zero_temperature:
        call = at_temperature_0(function, call)
    return map_of_call(function, call, out)


def _read_warm(temperature: ArrayLike) -> ArrayLike:
    """Return a temperature at which sigsoftmax has a gradient."""
    numbers = np.asarray(temperature)
    if numbers.dtype.kind in "biuf" and (numbers == 0).any():
        raise ValueError("temperature must be > 0, got 0; sigsoftmax has no gradient there")
    return temperature


@compiled_if_ordinary
@same_kind
@quietly
def sigsoftmax(
    x: ArrayLike,
    axis: Any = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    r"""Softmax with weights of exp times sigmoid.

    .. math:: p_i = \frac{e^{z_i} \sigma(z_i)}{\sum_j e^{z_j} \sigma(z_j)}, \qquad z = x / T

    Its logarithm is not linear in the scores, so that the log-probabilities of a linear layer of
    width d have a rank above d + 1: a remedy for the "softmax bottleneck". Unlike softmax, the map
    is not invariant to a shift of the scores.

    Parameters
    ----------
    {rows}
    temperature : float or array_like, default 1.0
        Divides the scores; one number, or one per row. At 0 the limit: the largest share 1.
    {options}

    {probabilities}

    See Also
    --------
    log_sigsoftmax : the logarithm.
    sigsoftmax_backward : the gradient.

    Notes
    -----
    Scores of any size give probabilities; special values are treated as by `softmax`. Max error 4
    units in the last place of the row's largest probability.

    The map is from Kanai, Fujiwara, Yamanaka & Adachi, "Sigsoftmax: Reanalysis of the Softmax
    Bottleneck", NeurIPS 2018.

    Examples
    --------
    >>> import boltzmax
    >>> boltzmax.sigsoftmax([0.0, 1.0, 2.0])
    array([0.05558346, 0.22091348, 0.72350307])
    """
    return _sigsoftmax("sigsoftmax", x, axis, temperature, where, dtype, out)


@compiled_if_ordinary
@same_kind
@quietly
def log_sigsoftmax(
    x: ArrayLike,
    axis: Any = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    r"""Return the logarithm of `sigsoftmax`, finite where the probability underflows.

    Parameters
    ----------
    x, axis, temperature, where, dtype, out : see `sigsoftmax`

    Returns
    -------
    ndarray
        Of the shape of `x`; -inf for masked elements and those of -inf.

    Notes
    -----
    Computed in double precision, from :math:`\log(e^z \sigma(z)) = z + \min(z, 0) - \log(1 +
    e^{-|z|})`. Max error 4 units in the last place of the row's largest log-probability.

    Examples
    --------
    >>> import boltzmax
    >>> boltzmax.log_sigsoftmax([0.0, 1.0, -2000.0])
    array([-1.60431411e+00, -2.24428615e-01, -4.00091117e+03])
    """
    return _sigsoftmax("log_sigsoftmax", x, axis, temperature, where, dtype, out)


@same_kind
@quietly
def sigsoftmax_backward(
    dy: ArrayLike,
    x: ArrayLike,
    axis: Any = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    r"""Return the gradient of `sigsoftmax` with respect to `x`.

    .. math:: dx_j = \frac{p_j\, (2 - \sigma(z_j))}{T} \Bigl(dy_j - \sum_i dy_i\, p_i\Bigr)

    Parameters
    ----------
    {dy}
    x, axis, where, out : see `sigsoftmax`
    temperature : float or array_like, default 1.0
        Above 0.

    {dx}

    Examples
    --------
    >>> import boltzmax
    >>> boltzmax.sigsoftmax_backward([0.0, 0.0, 1.0], [0.0, 1.0, 2.0])
    array([-0.0603222 , -0.20281691,  0.22389249])
    """
    warm = _read_warm(temperature)
    return _backward("sigsoftmax_backward", dy, x, axis, warm, where, out)


@same_kind
@quietly
def log_sigsoftmax_backward(
    dy: ArrayLike,
    x: ArrayLike,
    axis: Any = -1,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    r"""Return the gradient of `log_sigsoftmax` with respect to `x`.

    .. math:: dx_j = \frac{2 - \sigma(z_j)}{T} \Bigl(dy_j - p_j \sum_i dy_i\Bigr)

    Parameters
    ----------
    {dy}
    x, axis, where, out : see `sigsoftmax`
    temperature : float or array_like, default 1.0
        Above 0.

    {dx}

    Examples
    --------
    >>> import boltzmax
    >>> boltzmax.log_sigsoftmax_backward([0.0, 0.0, 1.0], [0.0, 1.0, 2.0])
    array([-0.08337519, -0.28032626,  0.30945617])
    """
    warm = _read_warm(temperature)
    return _backward("log_sigsoftmax_backward", dy, x, axis, warm, where, out)


complete(
    {
        "rows": """
x : array_like
    Scores of any shape and real dtype.
axis : int, tuple of ints or None, default -1
    The axes of a row.
""",
        "options": """
where : array_like of bool, optional
    Elements that count; the others get 0.
dtype : dtype, optional
    The dtype to compute in and return.
out : ndarray, optional
    Where to write the result.
""",
        "dy": """
dy : array_like
    The gradient with respect to the result, of the shape of `x`.
""",
        "probabilities": """
Returns
-------
ndarray
    Of the shape of `x`; the probabilities of each row sum to 1.
""",
        "dx": """
Returns
-------
ndarray
    Of the common dtype of `dy` and `x`; 0 for masked elements and those of -inf.
""",
    },
    taylor_softmax,
    taylor_softmax_backward,
    log_taylor_softmax_backward,
    spherical_softmax,
    spherical_softmax_backward,
    sigsoftmax,
    sigsoftmax_backward,
    log_sigsoftmax_backward,
)
