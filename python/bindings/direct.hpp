// The public functions softmax, log_softmax, logsumexp and the two gradients, as METH_FASTCALL. An ordinary call, with any
// of the options, is answered here: see read_arguments.hpp for what is ordinary. Whatever else is asked goes to
// boltzmax.arrays.general, which also finds the words for what is wrong.
#pragma once

#include "numpy_api.hpp"

namespace boltzmax {

// Null-terminated.
PyMethodDef* DirectMethods();

}  // namespace boltzmax
