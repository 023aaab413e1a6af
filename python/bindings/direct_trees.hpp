// Small calls of a layer on a tree, as METH_FASTCALL: try_log_prob, try_topk and try_descend of boltzmax._core answer
// the ordinary call (exact, contiguous arrays of the layer's type, few rows, int32 or int64 targets in range, plain
// options). For any other call they return None and write nothing: then Python takes the general path, which also
// raises the errors.
#pragma once

#include "numpy_api.hpp"

namespace boltzmax {

// Null-terminated.
PyMethodDef* DirectTreeMethods();

}  // namespace boltzmax
