// logsumexp with weights or with the sign of the sum: an ordinary call, and what boltzmax._general calls for any other.
#pragma once

#include <pybind11/pybind11.h>

namespace boltzmax {

// logsumexp(*args, **kwargs) for arrays of types that have kernels, where there are weights or a sign is wanted; null
// without an exception where the call is not of that kind.
PyObject* TryWeighted(PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);

void BindWeighted(pybind11::module_& module);

}  // namespace boltzmax
