// The compiled part of the losses: two-dimensional arrays, checked by Python.
#pragma once

#include <pybind11/pybind11.h>

namespace boltzmax {

void BindLosses(pybind11::module_& module);

}  // namespace boltzmax
