// The compiled part of linear layers: tiles of their logits, and whole calls whose logits fit into one.
#pragma once

#include <pybind11/pybind11.h>

namespace boltzmax {

void BindLinear(pybind11::module_& module);

// Null-terminated; each returns None where a call is not plain, for Python to answer it.
PyMethodDef* SmallLinearMethods();

}  // namespace boltzmax
