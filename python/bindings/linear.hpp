// The compiled part of linear layers: tiles of logits, and whole calls whose logits fit into one tile.
#pragma once

#include <pybind11/pybind11.h>

namespace boltzmax {

void BindLinear(pybind11::module_& module);
void BindPickedRows(pybind11::module_& module);

// Null-terminated. Each returns None for a call that is not ordinary, for Python to answer.
PyMethodDef* SmallLinearMethods();

}  // namespace boltzmax
