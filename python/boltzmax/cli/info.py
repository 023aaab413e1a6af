"""``info``: what this installation is made of and what it runs on."""

from __future__ import annotations

import argparse
import platform
from typing import Any

import boltzmax


def add_parser(commands: Any) -> None:
    """Declare the arguments of ``info``."""
    parser = commands.add_parser("info", help="version, ISA, threads, CPU, compiler, CUDA")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print one fact per line."""
    config: dict[str, Any] = boltzmax.config()
    facts = {
        "boltzmax": config["version"],
        "ISA in use": config["isa"],
        "ISAs available": ", ".join(config["available_isas"]),
        "threads": config["num_threads"],
        "CPU": config["cpu"],
        "compiler": config["compiler"],
        "CUDA": "yes" if config["cuda"] else "no",
        "NumPy": config["numpy"],
        "Python": f"{platform.python_version()}, {platform.platform()}",
    }
    for name, value in facts.items():
        print(f"{name:<16}{value}")
