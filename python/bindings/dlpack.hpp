// DLPack carries arrays between libraries (https://dmlc.github.io/dlpack/latest/c_api.html).
#pragma once

#include <pybind11/pybind11.h>

namespace boltzmax::cuda {

// module.read_dlpack and module.write_dlpack
void BindDLPack(pybind11::module_& module);

}  // namespace boltzmax::cuda
