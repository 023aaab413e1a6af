// Facts for benchmarks: what the device has, what kernels take, and the copy that all are compared with.
#pragma once

#include <pybind11/pybind11.h>

namespace boltzmax::cuda {

void BindDeviceFacts(pybind11::module_& module);

}  // namespace boltzmax::cuda
