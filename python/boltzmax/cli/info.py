"""``info``: how this installation was built and what it runs on."""

from __future__ import annotations

import argparse
import platform
from typing import Any

from boltzmax._lib.config import config
from boltzmax.cli.arguments import add_command


def add_parser(commands: Any) -> None:
    """Declare the arguments of ``info``."""
    add_command(commands, "info", run, "print version, ISA, threads, CPU, compiler, CUDA", "")


def run(args: argparse.Namespace) -> None:
    """Print one fact per line."""
    found: dict[str, Any] = config()
    facts = {
        "boltzmax": found["version"],
        "ISA in use": found["isa"],
        "ISAs available": ", ".join(found["available_isas"]),
        "threads": found["num_threads"],
        "CPU": found["cpu"],
        "compiler": found["compiler"],
        "CUDA": "yes" if found["cuda"] else "no",
        "NumPy": found["numpy"],
        "Python": f"{platform.python_version()}, {platform.platform()}",
    }
    for name, value in facts.items():
        print(f"{name:<16}{value}")
