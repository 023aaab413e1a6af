// Between NumPy arrays and the core's view of them.
#pragma once

#include <optional>

#include "../../cpp/core/dispatch.hpp"
#include "../../cpp/core/strided.hpp"
#include "numpy_api.hpp"

namespace boltzmax {

// ml_dtypes.bfloat16 has a type number only once ml_dtypes is imported; Python tells us when it first meets it.
void SetBFloat16(int type_number);

// The core's name for an array's element type, if it has one and the bytes are in native order.
std::optional<DType> DTypeOf(PyArrayObject* array);

inline bool HasKernels(DType dtype) {
  return dtype == DType::kFloat32 || dtype == DType::kFloat64 || dtype == DType::kFloat16 || dtype == DType::kBFloat16;
}

// A new array for a result: where it is large, in memory that was used before rather than in pages still to be faulted in.
// `order` is that of `like`. Null with an exception set on failure.
PyObject* NewArray(int ndim, const npy_intp* shape, PyArray_Descr* descr, PyArrayObject* like);

// Whether the bytes from the first element to the last have some in common.
bool MayOverlap(PyArrayObject* a, PyArrayObject* b);

// Whether element i of one lies where element i of the other does, for arrays of one shape.
bool SameElements(PyArrayObject* a, PyArrayObject* b);

// The element of a 0-d array as a NumPy scalar, other arrays as they are. Steals the reference.
PyObject* ScalarIfZeroD(PyObject* array);

}  // namespace boltzmax
