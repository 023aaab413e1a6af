// The functions that boltzmax.arrays.general calls after reading its arguments: reduced axes last, all operands
// broadcast.
#pragma once

#include <pybind11/pybind11.h>

namespace boltzmax {

void BindNormalized(pybind11::module_& module);

}  // namespace boltzmax
