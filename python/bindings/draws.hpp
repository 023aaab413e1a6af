// Draws of classes from rows of scores.
#pragma once

#include <pybind11/pybind11.h>

namespace boltzmax {

void BindDraws(pybind11::module_& module);

}  // namespace boltzmax
