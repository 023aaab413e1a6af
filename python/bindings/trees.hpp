// The compiled part of trees of classes and of the layer on them: contiguous arrays, checked by Python.
#pragma once

#include <pybind11/pybind11.h>

namespace boltzmax {

void BindTrees(pybind11::module_& module);

}  // namespace boltzmax
