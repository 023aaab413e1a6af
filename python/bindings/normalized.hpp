// What boltzmax.arrays.general calls once it has made sense of its arguments: the reduced axes last, every operand
// broadcast.
#pragma once

#include <pybind11/pybind11.h>

namespace boltzmax {

void BindNormalized(pybind11::module_& module);

}  // namespace boltzmax
