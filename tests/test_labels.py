"""Results for arrays with labels, and how to restore the labels."""

from __future__ import annotations

import importlib
import importlib.util

import numpy as np
import pytest

import boltzmax
import ulp


@pytest.mark.parametrize("op", ulp.OPS[:2])
def test_labels_are_put_back_in_one_line(op: str) -> None:
    """The result is an ndarray; the lines are those of the docstrings."""
    doc = getattr(boltzmax, op).__doc__
    x = np.random.default_rng(0).standard_normal((2, 2))
    found = 0
    for library, frame, line in (
        (
            "pandas",
            lambda m: m.DataFrame(x, index=["r", "s"], columns=["u", "v"]),
            "pandas.DataFrame(p, df.index, df.columns)",
        ),
        (
            "polars",
            lambda m: m.DataFrame(x, schema=["u", "v"], orient="row"),
            'polars.DataFrame(p, schema=df.columns, orient="row")',
        ),
        (
            "xarray",
            lambda m: m.DataArray(x, dims=["r", "c"], coords={"c": ["u", "v"]}),
            "array.copy(data=p)",
        ),
    ):
        assert line in " ".join(doc.split())
        if importlib.util.find_spec(library) is None:
            continue
        module = importlib.import_module(library)
        labelled = frame(module)
        p = getattr(boltzmax, op)(labelled)
        assert type(p) is np.ndarray
        assert p.tobytes() == getattr(boltzmax, op)(x).tobytes()
        back = eval(line, {library: module, "df": labelled, "array": labelled, "p": p})
        assert type(back) is type(labelled)
        np.testing.assert_array_equal(np.asarray(back), p)
        if library == "xarray":
            assert back.coords.equals(labelled.coords)
        else:
            assert list(back.columns) == ["u", "v"]
        found += 1
    if not found:
        pytest.skip("needs pandas, polars or xarray")
