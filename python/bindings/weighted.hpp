// logsumexp with weights: an ordinary call, and what boltzmax.arrays.general calls for any other.
#pragma once

#include <pybind11/pybind11.h>

#include "softmax_call.hpp"

namespace boltzmax {

// logsumexp with weights; null without an exception if the call is not an ordinary one.
PyObject* TryWeighted(const Arguments& given);

void BindWeighted(pybind11::module_& module);

}  // namespace boltzmax
