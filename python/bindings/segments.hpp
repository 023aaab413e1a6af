// boltzmax._core.run_segments, require_ascending, sort_by_segment, run_mixture and run_scan_gradient.
#pragma once

#include <pybind11/pybind11.h>

namespace boltzmax {

void BindSegments(pybind11::module_& module);

}  // namespace boltzmax
