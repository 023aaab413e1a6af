// Complex rows, for boltzmax._complex.
#pragma once

#include <pybind11/pybind11.h>

namespace boltzmax {

void BindComplex(pybind11::module_& module);

}  // namespace boltzmax
