// Complex rows, for boltzmax.arrays.complex_rows.
#pragma once

#include <pybind11/pybind11.h>

namespace boltzmax {

void BindComplex(pybind11::module_& module);

}  // namespace boltzmax
