"""Write the Cython module from the C header: a declaration and a function for every entry.

    python make_cython.py boltzmax.h folder

fills in the two templates next to this file, and writes the results into the folder.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from string import Template
from typing import NamedTuple

TYPES = {"ptrdiff_t": "Py_ssize_t"}  # types with another name in Cython


class Entry(NamedTuple):
    """A function of the struct `boltzmax_api`."""

    comment: str
    result: str
    name: str
    arguments: list[str]  # types and names

    @property
    def signature(self) -> str:
        """The declaration as a function, on one line or on three."""
        tail = ") noexcept nogil"
        line = f"cdef {self.result} {self.name}(" + ", ".join(self.arguments) + tail
        if len(line) <= 100:
            return line
        return f"cdef {self.result} {self.name}(\n    " + ", ".join(self.arguments) + f",\n{tail}"

    @property
    def member(self) -> str:
        """The declaration as a member of the struct."""
        return f"{self.result} (*{self.name})(" + ", ".join(self.arguments) + ") noexcept nogil"

    @property
    def function(self) -> str:
        """The function that passes its arguments on."""
        names = ", ".join(re.findall(r"\w+$", argument)[0] for argument in self.arguments)
        return f"{self.signature}:\n    return api.{self.name}({names})"


def read_entries(header: str) -> list[Entry]:
    """Read the functions of the table, except those that take a struct: they are only for C."""
    struct = re.search(r"typedef struct boltzmax_api \{(.*?)\} boltzmax_api;", header, re.S)
    assert struct is not None
    member = r"(?:/\*((?:(?!\*/).)*)\*/\s*)?(const char\*|int) \(\*(\w+)\)\(([^)]*)\);"
    entries = []
    for comment, result, name, listed in re.findall(member, struct[1], re.S):
        arguments = [] if listed == "void" else re.split(r",\s*", listed)
        typed = [re.sub(r"\w+", lambda m: TYPES.get(m[0], m[0]), a, count=1) for a in arguments]
        if not any("boltzmax_" in argument for argument in typed):
            entries.append(Entry(comment, result, name, typed))
    return entries


def as_comment(text: str) -> str:
    """Turn a comment of C into one of Python; empty for none."""
    lines = [line.strip(" *") for line in text.splitlines()]
    return "".join(f"# {line}\n" for line in lines if line)


def main(header_path: str, folder: str) -> None:
    """Write the .pxd and the .pyx."""
    header = Path(header_path).read_text(encoding="utf-8")
    entries = read_entries(header)
    enum = re.search(r"enum boltzmax_status \{(.*?)\};", header, re.S)
    assert enum is not None
    statuses = re.findall(r"BOLTZMAX_(\w+) = (\d+)", enum[1])
    declarations = [
        ("\n" if i and e.comment else "") + as_comment(e.comment) + e.signature
        for i, e in enumerate(entries)
    ]
    parts = {
        "statuses": "\n".join(f"    {name} = {value}" for name, value in statuses),
        "declarations": "\n".join(declarations),
        "members": "\n".join(f"        {e.member}" for e in entries),
        "functions": "\n\n\n".join(e.function for e in entries),
    }
    for suffix in ("pxd", "pyx"):
        name = f"cython_boltzmax.{suffix}"
        text = Path(__file__).with_name(f"{name}.in").read_text(encoding="utf-8")
        (Path(folder) / name).write_text(Template(text).substitute(parts), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
