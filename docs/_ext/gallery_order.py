"""The order of the gallery: from first steps to internals."""

from __future__ import annotations

from sphinx_gallery.sorting import FunctionSortKey

ORDER = (
    "digits",
    "modules",
    "imbalance",
    "calibration",
    "gaussian_mixture",
    "attention",
    "characters",
    "softmax_family",
    "forms_of_softmax",
    "margins",
    "linear_memory",
    "million_classes",
    "sampled_softmax",
    "abstention",
    "out_of_core",
    "digits_that_stay",
    "row_lengths",
)


def place(name: str) -> int:
    """Return the place of an example; a new one must be listed."""
    return ORDER.index(name.removesuffix(".py"))


class GalleryOrder(FunctionSortKey):
    """The key that the gallery sorts by."""

    def __init__(self, folder: str) -> None:
        super().__init__(place, "GalleryOrder")
