// Small calls of a layer on a tree, as METH_FASTCALL: try_log_prob, try_topk and try_descend of boltzmax._core answer the
// ordinary call (exact, contiguous arrays of the layer's type, few rows, int32 or int64 targets in range, plain options).
// For whatever else they return None, having written nothing: then Python goes the general way, which also finds the words
// for what is wrong.
#pragma once

#include "numpy_api.hpp"

namespace boltzmax {

// Null-terminated.
PyMethodDef* DirectTreeMethods();

}  // namespace boltzmax
