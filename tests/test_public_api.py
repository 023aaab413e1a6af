"""Public names, signatures and modules change only intentionally."""

from __future__ import annotations

import pytest

import bits_corpus
import every_function
import public_api
from layer_samples import MADE


@pytest.mark.parametrize("module", public_api.MODULES)
def test_public_api(module: str) -> None:
    if not public_api.is_here(module):
        pytest.skip(f"{public_api.NEEDS[module]} is not here")
    found = public_api.listing(module).splitlines()
    expected = public_api.recorded()[module].splitlines()
    gone, new = set(expected) - set(found), set(found) - set(expected)
    assert found == expected, (
        f"{module} has changed; if that is intended, run `python tests/public_api.py`\n"
        + "\n".join(
            [*(f"- {line}" for line in sorted(gone)), *(f"+ {line}" for line in sorted(new))]
        )
    )


def test_the_corpus_of_bits_calls_every_function() -> None:
    public = {n for n in every_function.names() if not n.startswith("special.")}
    assert {*bits_corpus.FUNCTIONS, *(layer.__name__ for layer in MADE)} >= public
