// Requirements on arrays that Python has prepared.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "numpy_api.hpp"

namespace boltzmax {

inline PyArrayObject* AsArray(const pybind11::handle& value, const char* name) {
  if (!PyArray_Check(value.ptr())) throw pybind11::type_error(std::string(name) + " must be an ndarray");
  return reinterpret_cast<PyArrayObject*>(value.ptr());
}

inline void Require(bool condition, const char* what) {
  if (!condition) throw pybind11::value_error(what);
}

}  // namespace boltzmax
