// boltzmax._core.run_function: functions of rows, found by their names.
#pragma once

#include <pybind11/pybind11.h>

namespace boltzmax {

void BindRowFunctions(pybind11::module_& module);

}  // namespace boltzmax
