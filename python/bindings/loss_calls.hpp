// The ordinary calls of losses and of row_stats, read and answered without Python.
#pragma once

#include <Python.h>

namespace boltzmax {

// Functions for PyModule_AddFunctions. Each takes all arguments of the public function by position, and returns None if
// the call is not ordinary.
PyMethodDef* LossCallMethods();

}  // namespace boltzmax
