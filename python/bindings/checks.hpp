// Requirements on arrays that Python has prepared.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "arrays.hpp"
#include "numpy_api.hpp"

namespace boltzmax {

inline PyArrayObject* AsArray(const pybind11::handle& value, const char* name) {
  if (!PyArray_Check(value.ptr())) throw pybind11::type_error(std::string(name) + " must be an ndarray");
  return reinterpret_cast<PyArrayObject*>(value.ptr());
}

inline PyArrayObject* AsOptionalArray(const pybind11::handle& value, const char* name) {
  return value.is_none() ? nullptr : AsArray(value, name);
}
inline char* BytesOrNull(PyArrayObject* array) { return array == nullptr ? nullptr : PyArray_BYTES(array); }
inline npy_intp StrideOr0(PyArrayObject* array, int d) { return array == nullptr ? 0 : PyArray_STRIDE(array, d); }

inline DType RequireDType(PyArrayObject* array) {
  const auto dtype = DTypeOf(array);
  if (!dtype) throw pybind11::type_error("no native support for this dtype");
  return *dtype;
}

inline void Require(bool condition, const char* what) {
  if (!condition) throw pybind11::value_error(what);
}

// The data of an array in C order.
template <class T>
T* DataOf(PyArrayObject* array, int type, int ndim, const char* what) {
  Require(PyArray_TYPE(array) == type && PyArray_NDIM(array) == ndim && PyArray_ISCARRAY_RO(array), what);
  return reinterpret_cast<T*>(PyArray_DATA(array));
}

// The operation whose function, or whose gradient's function, has that name.
inline Op OpNamed(const std::string& name, const char* OpTraits::* function) {
  for (size_t i = 0; i < kOpCount; ++i) {
    const char* known = kOps[i].*function;
    if (known != nullptr && name == known) return static_cast<Op>(i);
  }
  throw pybind11::value_error("no operation is called " + name);
}

}  // namespace boltzmax
