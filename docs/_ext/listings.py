"""Pages of the API with lists from the package's own: what is new is there at once.

``api/NAME.rst.in`` becomes ``api/NAME.rst``, where ``@operations@`` and the like are names.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import pkgutil
import re
from pathlib import Path

import boltzmax.variants
from boltzmax import _core
from boltzmax.losses.registry import LOSSES

# Public modules whose pages list all of their names.
MODULES = ("candidates", "conformal", "ood", "priors", "selective", "sparse")
VARIANTS = list(pkgutil.iter_modules(boltzmax.variants.__path__))


def of_module(module: str) -> list[str]:
    """Return the public names that a module of the package defines."""
    spec = importlib.util.find_spec(f"boltzmax.{module}")
    file = Path(str(spec.origin if spec else None))
    defined = {
        node.name
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }
    return [name for name in boltzmax.__all__ if name in defined]


def listings() -> dict[str, list[str]]:
    """Return the names behind each mark."""
    losses: dict[str, list[str]] = {"logits": [], "others": []}
    for name, loss in LOSSES.items():
        if not loss.is_linear:
            group = "logits" if loss.parameters[0] == "logits" else "others"
            losses[group] += [name, f"{name}_with_grad"]
    return {
        "operations": [name for name, *_ in _core.operations],
        "gradients": [gradient for _, gradient, *_ in _core.operations if gradient is not None],
        "losses of logits": losses["logits"],
        "losses of log-probabilities": losses["others"],
        **{m: importlib.import_module(f"boltzmax.{m}").__all__ for m in MODULES},
        **{f"variants.{m.name}": of_module(f"variants.{m.name}") for m in VARIANTS},
        "layers": [n for n in boltzmax.__all__ if hasattr(getattr(boltzmax, n), "adagrad_step")],
    }


def pages(folder: Path) -> dict[str, str]:
    """Return the texts of all pages of a folder, by their names."""
    names = listings()

    def filled(mark: re.Match[str]) -> str:
        return "\n".join(mark[1] + name for name in names[mark[2]])

    texts = {page.stem: page.read_text(encoding="utf-8") for page in folder.glob("*.rst")}
    for template in folder.glob("*.rst.in"):
        text = template.read_text(encoding="utf-8")
        texts[template.name.removesuffix(".rst.in")] = re.sub(r"(?m)^( *)@(.+)@$", filled, text)
    return texts


def write(folder: Path) -> None:
    """Write the pages that have templates."""
    texts = pages(folder)
    for template in folder.glob("*.rst.in"):
        page = template.with_suffix("")
        if not page.exists() or page.read_text(encoding="utf-8") != texts[page.stem]:
            page.write_text(texts[page.stem], encoding="utf-8")
