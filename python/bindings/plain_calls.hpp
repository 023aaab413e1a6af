// Plain calls on tensors of PyTorch's.
#pragma once

#include <pybind11/pybind11.h>

namespace boltzmax::cuda {

void BindPlainCalls(pybind11::module_& module);

}  // namespace boltzmax::cuda
