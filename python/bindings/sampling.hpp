// Filters of logits, and draws from what they leave.
#pragma once

#include <pybind11/pybind11.h>

namespace boltzmax {

void BindSampling(pybind11::module_& module);

}  // namespace boltzmax
