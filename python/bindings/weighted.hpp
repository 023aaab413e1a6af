// logsumexp with weights: ordinary calls, and the function that boltzmax.arrays.general calls for all others.
#pragma once

#include <pybind11/pybind11.h>

#include "softmax_call.hpp"

namespace boltzmax {

// logsumexp with weights; null without an exception if the call is not ordinary.
PyObject* TryWeighted(const Arguments& given);

void BindWeighted(pybind11::module_& module);

}  // namespace boltzmax
