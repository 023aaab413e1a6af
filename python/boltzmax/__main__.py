# PYTHON_ARGCOMPLETE_OK
"""Run the command line: ``python -m boltzmax``."""

from __future__ import annotations

from boltzmax.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
