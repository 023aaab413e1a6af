// The public functions softmax, log_softmax, logsumexp and the two gradients, as METH_FASTCALL: an ordinary call (an
// ndarray of a type that has kernels, an integer axis, a scalar temperature, an out of the right kind) is answered here;
// whatever else is asked goes to boltzmax._general, which also finds the words for what is wrong.
#pragma once

#include "../../cpp/core/dispatch.hpp"
#include "numpy_api.hpp"

namespace boltzmax {

// Readers of ordinary arguments: false, or null, without an exception, for any other.

inline constexpr int kAllAxes = -1;
bool ReadAxis(PyObject* value, int ndim, int* axis);
// An exact, aligned ndarray of a type that has kernels.
PyArrayObject* ReadArray(PyObject* value, DType* dtype);

// An array for the result of a reduction along an axis or all of them.
PyObject* NewReduced(PyArrayObject* x, int axis, bool keepdims);

// Null-terminated.
PyMethodDef* DirectMethods();

}  // namespace boltzmax
