// Totals of rows that come in parts.
#pragma once

#include <pybind11/pybind11.h>

namespace boltzmax {

void BindExactTotals(pybind11::module_& module);

}  // namespace boltzmax
