// What boltzmax.calibration needs: derivatives by the temperature, and bins of probabilities.
#pragma once

#include <pybind11/pybind11.h>

namespace boltzmax {

void BindCalibration(pybind11::module_& module);

}  // namespace boltzmax
