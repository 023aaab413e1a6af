// A tree in Python: a capsule that owns the arrays; NumPy's arrays are views of them.
#pragma once

#include <Python.h>

#include "../../cpp/core/trees/tree.hpp"

namespace boltzmax {

inline constexpr const char* kTreeHandle = "boltzmax.tree";

// Null, with an exception set, for anything else.
inline const TreeArrays* TreeOf(PyObject* handle) {
  return static_cast<const TreeArrays*>(PyCapsule_GetPointer(handle, kTreeHandle));
}

}  // namespace boltzmax
