#pragma once

#include <pybind11/pybind11.h>

namespace boltzmax {

void BindRescoring(pybind11::module_& module);

}  // namespace boltzmax
