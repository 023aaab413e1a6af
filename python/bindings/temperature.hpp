// temperature_derivatives: what temperature scaling needs in each of its steps.
#pragma once

#include <pybind11/pybind11.h>

namespace boltzmax {

void BindTemperature(pybind11::module_& module);

}  // namespace boltzmax
