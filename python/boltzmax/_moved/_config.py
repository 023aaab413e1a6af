"""Old place: see boltzmax._moved."""

from boltzmax._lib.config import (
    available_isas,
    config,
    get_cmake_dir,
    get_include,
    get_num_threads,
    isa,
    set_num_threads,
    show_config,
)

__all__ = [
    "available_isas",
    "config",
    "get_cmake_dir",
    "get_include",
    "get_num_threads",
    "isa",
    "set_num_threads",
    "show_config",
]
