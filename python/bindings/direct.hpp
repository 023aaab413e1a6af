// The public functions softmax, log_softmax, logsumexp and the two gradients, as METH_FASTCALL. An ordinary call, with
// any of the options, is answered here: read_arguments.hpp defines what is ordinary. Every other call goes to
// boltzmax.arrays.general, which also raises the errors.
#pragma once

#include "numpy_api.hpp"

namespace boltzmax {

// Null-terminated.
PyMethodDef* DirectMethods();

}  // namespace boltzmax
