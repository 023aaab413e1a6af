// boltzmax._core.run_function and map_rows: functions of rows, found by their names.
#pragma once

#include <pybind11/pybind11.h>

namespace boltzmax {

PyMethodDef* RowFunctionMethods();
void BindRowFunctions(pybind11::module_& module);

}  // namespace boltzmax
