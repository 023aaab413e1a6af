// Prediction sets.
#pragma once

#include <pybind11/pybind11.h>

namespace boltzmax {

void BindSets(pybind11::module_& module);

}  // namespace boltzmax
