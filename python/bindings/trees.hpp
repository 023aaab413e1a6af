// The compiled part of trees of classes and of the layer on them, for contiguous arrays that Python has checked.
#pragma once

#include <pybind11/pybind11.h>

namespace boltzmax {

void BindTrees(pybind11::module_& module);

}  // namespace boltzmax
