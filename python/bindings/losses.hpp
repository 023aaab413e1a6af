// The compiled part of the losses, for two-dimensional arrays that Python has checked.
#pragma once

#include <pybind11/pybind11.h>

namespace boltzmax {

void BindLosses(pybind11::module_& module);

}  // namespace boltzmax
