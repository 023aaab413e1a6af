"""What this build is, what it runs on, and how many threads it uses."""

from __future__ import annotations

import importlib.util
import operator
import os
from typing import SupportsIndex

import numpy as np

from boltzmax import _core


def get_num_threads() -> int:
    """Return how many threads a large call may use.

    Returns
    -------
    int
        The default is ``BOLTZMAX_NUM_THREADS``, else ``OMP_NUM_THREADS``, else the number of CPUs
        that the process's affinity mask and its container's quota allow.

    Examples
    --------
    >>> import boltzmax
    >>> boltzmax.get_num_threads() >= 1
    True
    """
    return _core.num_threads()


def set_num_threads(n: SupportsIndex) -> None:
    """Set how many threads a large call may use, for the whole process.

    Results do not depend on it, bit for bit. Calls too small to gain from threads use one.

    Parameters
    ----------
    n : int
        At least 1.

    Raises
    ------
    TypeError
        If `n` is not an integer.
    ValueError
        If `n` is less than 1.

    Examples
    --------
    >>> import boltzmax
    >>> before = boltzmax.get_num_threads()
    >>> boltzmax.set_num_threads(1)
    >>> boltzmax.get_num_threads()
    1
    >>> boltzmax.set_num_threads(before)
    """
    count = operator.index(n)
    if isinstance(n, bool) or not 1 <= count <= 65536:
        raise ValueError(f"n must be an integer from 1 to 65536, got {n!r}")
    _core.set_num_threads(count)


def isa() -> str:
    """Return the name of the instruction set whose kernels run.

    Returns
    -------
    str
        One of `available_isas`: the best, unless the environment variable ``BOLTZMAX_ISA`` named
        another when the package was imported.

    Examples
    --------
    >>> import boltzmax
    >>> boltzmax.isa() in boltzmax.available_isas()
    True
    """
    return _core.isa()


def available_isas() -> list[str]:
    """List the instruction sets that this build contains and this processor supports.

    Returns
    -------
    list of str
        Best first, out of ``"avx512"``, ``"avx2"``, ``"neon"`` and ``"scalar"``.

    Examples
    --------
    >>> import boltzmax
    >>> boltzmax.available_isas()[-1]
    'scalar'
    """
    return _core.available_isas()


def get_include() -> str:
    """Return the directory of the package's C headers, for a compiler's ``-I``.

    Returns
    -------
    str
        ``#include <boltzmax/boltzmax.h>`` is found there.

    See Also
    --------
    get_cmake_dir : The same for CMake.

    Examples
    --------
    >>> import boltzmax, pathlib
    >>> (pathlib.Path(boltzmax.get_include()) / "boltzmax" / "boltzmax.h").is_file()
    True
    """
    return os.path.join(_compiled_folder(), "include")


def get_cmake_dir() -> str:
    """Return the directory of the package's CMake files.

    With ``-Dboltzmax_DIR=`` that directory, ``find_package(boltzmax)`` defines
    ``boltzmax::headers``. scikit-build-core finds it on its own; the directory ``pkgconfig``
    next to it serves pkg-config.

    Returns
    -------
    str
        ``boltzmaxConfig.cmake`` is found there.

    See Also
    --------
    get_include : The headers themselves.

    Examples
    --------
    >>> import boltzmax, pathlib
    >>> (pathlib.Path(boltzmax.get_cmake_dir()) / "boltzmaxConfig.cmake").is_file()
    True
    """
    return os.path.join(_compiled_folder(), "cmake")


def _compiled_folder() -> str:
    """Return the folder of the compiled modules; editable installs keep it apart from sources."""
    spec = importlib.util.find_spec("boltzmax._core")
    assert spec is not None
    assert spec.origin is not None
    return os.path.dirname(spec.origin)


def config() -> dict[str, object]:
    """Return what `show_config` prints.

    Returns
    -------
    dict
        ``version``, ``isa``, ``available_isas``, ``num_threads``, ``cpu``, ``compiler``, ``cuda``
        (whether `boltzmax.cuda` was built) and ``numpy``.

    Examples
    --------
    >>> import boltzmax
    >>> boltzmax.config()["version"] == boltzmax.__version__
    True
    """
    return {
        "version": _core.version,
        "isa": isa(),
        "available_isas": available_isas(),
        "num_threads": get_num_threads(),
        "cpu": _core.cpu(),
        "compiler": _core.compiler,
        "cuda": importlib.util.find_spec("boltzmax._cuda") is not None,
        "numpy": np.__version__,
    }


def show_config() -> None:
    """Print the version, the instruction set, the threads, the processor and the compiler.

    Examples
    --------
    >>> import boltzmax
    >>> boltzmax.show_config()  # doctest: +ELLIPSIS
    version         ...
    """
    for name, value in config().items():
        text = ", ".join(value) if isinstance(value, list) else str(value)
        print(f"{name:<15} {text}")
