"""Check that ten million logits of hostile weights are in their intervals; takes a minute or two.

``python benchmarks/fuzz_quantised.py [LOGITS] [SEED]``
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from quantised_samples import fuzz

MOST = 250_000  # between two lines of output


def main(wanted: int, seed: int) -> None:
    """Print how many logits were checked; an AssertionError names the case that failed."""
    checked, begin = 0, time.perf_counter()
    while checked < wanted:
        checked += fuzz(min(MOST, wanted - checked), seed)
        seed += 1
        print(f"{checked:,} logits, all inside; {time.perf_counter() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    main(*(numbers + [10_000_000, 1][len(numbers) :]))
