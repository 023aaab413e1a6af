// The losses of single numbers, and of the rows' targets, as METH_FASTCALL with positional arguments: what the public
// functions of boltzmax.losses ask first. An ordinary call (exact ndarrays of types that are read natively, shapes
// that fit, targets in range) is answered; to any other the answer is None, and Python brings it into that form or
// finds the words for what is wrong.
#pragma once

#include "numpy_api.hpp"

namespace boltzmax {

// Null-terminated.
PyMethodDef* PointLossMethods();

}  // namespace boltzmax
