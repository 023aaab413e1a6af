// boltzmax._core.run_segments, sort_by_segment and run_mixture.
#pragma once

#include <pybind11/pybind11.h>

namespace boltzmax {

void BindSegments(pybind11::module_& module);

}  // namespace boltzmax
