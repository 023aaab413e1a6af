// Samplers of candidates.
#pragma once

#include <pybind11/pybind11.h>

namespace boltzmax {

void BindCandidates(pybind11::module_& module);

}  // namespace boltzmax
