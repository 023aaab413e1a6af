// Layers whose weights are stored in few bits.
#pragma once

#include <pybind11/pybind11.h>

namespace boltzmax {

void BindQuantised(pybind11::module_& module);

}  // namespace boltzmax
