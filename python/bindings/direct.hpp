// The public functions softmax, log_softmax, logsumexp and the two gradients, as METH_FASTCALL: an ordinary call (an
// ndarray of a type that has kernels, an integer axis, a scalar temperature, an out of the right kind) is answered here;
// whatever else is asked goes to boltzmax._general, which also finds the words for what is wrong.
#pragma once

#include "numpy_api.hpp"

namespace boltzmax {

// Null-terminated.
PyMethodDef* DirectMethods();

}  // namespace boltzmax
