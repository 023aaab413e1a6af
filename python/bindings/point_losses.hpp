// The losses of single numbers, and nll_loss, as METH_FASTCALL with positional arguments; the public functions of
// boltzmax.losses try these first. An ordinary call (exact ndarrays of types that the core reads, shapes that fit,
// targets in range) is answered. For any other, None: then Python converts the arguments, or raises the error.
#pragma once

#include "numpy_api.hpp"

namespace boltzmax {

// Null-terminated.
PyMethodDef* PointLossMethods();

}  // namespace boltzmax
