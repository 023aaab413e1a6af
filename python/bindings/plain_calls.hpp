// Plain calls on PyTorch tensors.
#pragma once

#include <pybind11/pybind11.h>

namespace boltzmax::cuda {

void BindPlainCalls(pybind11::module_& module);

}  // namespace boltzmax::cuda
