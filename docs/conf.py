"""Settings of the documentation: ``python -m sphinx -W docs build/docs``.

Everything that a page shows comes from this machine: no fonts, scripts, pictures or inventories of
other sites.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

from sphinx.application import Sphinx

import boltzmax

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
importlib.import_module("listings").write(HERE / "api")  # before Sphinx looks for pages

project = "boltzmax"
author = "The boltzmax developers"
project_copyright = f"2026, {author}"
version = release = boltzmax.__version__

extensions = [
    "mathml",
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["gallery", "api/generated/README*"]
templates_path = ["_templates"]
default_role = "py:obj"
add_function_parentheses = False
toc_object_entries_show_parents = "hide"

# ---- docstrings
autosummary_generate = True
autodoc_typehints = "none"  # the sections on parameters have the types
# What the bridges import: pages need their docstrings alone. SciPy would take the mock for PyTorch,
# so modules that use it come first.
for room in ("calibration", "conformal", "selective", "sklearn", "sparse", "report.page"):
    importlib.import_module(f"boltzmax.{room}")
autodoc_mock_imports = ["jax", "keras", "mpi4py", "tensorflow", "torch"]
numpydoc_show_class_members = False  # the page of a class documents them in full
numpydoc_class_members_toctree = False

# ---- Markdown
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# ---- the gallery
sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "examples",
    "filename_pattern": "/",
    "within_subsection_order": "gallery_order.GalleryOrder",
    "backreferences_dir": "examples/backreferences",
    "doc_module": ("boltzmax",),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 1,
    "write_computation_times": False,
    "nested_sections": False,
    "copyfile_regex": "",
}

# ---- the pages
html_theme = "pydata_sphinx_theme"
html_title = "boltzmax"
html_favicon = html_logo = "_static/favicon.svg"
html_static_path = ["_static"]
html_css_files = ["boltzmax.css"]
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {"index": [], "performance": [], "tour": []}
html_math_renderer = "mathml"
html_context = {"default_mode": "auto"}  # light or dark, as in the system
html_theme_options = {
    "logo": {"text": "boltzmax"},
    "header_links_before_dropdown": 8,
    "navigation_with_keys": False,
    "pygments_light_style": "tango",
    "pygments_dark_style": "github-dark",
    "show_prev_next": False,
    "footer_start": ["copyright"],
    "footer_end": [],
}

# Links of included pages from outside this folder.
PLACES = {
    "(cpp/README.md)": "(how_it_works.md)",
    "(CHANGELOG.md)": "(changelog.md)",
    "(CONTRIBUTING.md)": "(contributing.md)",
    "(docs/about/glossary.md)": "(glossary.md)",
}


def redirect_links(app: Sphinx, path: Path, page: str, content: list[str]) -> None:
    """Redirect links of an included page to the pages of the site."""
    for link, place in PLACES.items():
        content[0] = content[0].replace(link, place)


def trim_examples(app: Sphinx, page: str, content: list[str]) -> None:
    """Remove the empty line that ends an example for doctest."""
    content[0] = content[0].replace("\n\n```\n", "\n```\n")


def skip_what_is_inherited(
    app: Sphinx, kind: str, name: str, member: object, skip: bool, options: object
) -> bool | None:
    """Leave the methods of scikit-learn and PyTorch to their documentation."""
    theirs = str(getattr(member, "__module__", "")).startswith(("sklearn", "torch"))
    return True if theirs or name.endswith("_request") else None


def setup(app: Sphinx) -> None:
    """Register these functions."""
    app.connect("include-read", redirect_links)
    app.connect("source-read", trim_examples)
    app.connect("autodoc-skip-member", skip_what_is_inherited)
