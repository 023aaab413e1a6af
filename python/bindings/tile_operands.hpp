// Tiles of logits and what belongs to their rows and columns, as Python passes them.
#pragma once

#include "../../cpp/core/linear/linear_tiles.hpp"
#include "checks.hpp"

namespace boltzmax {

// Contiguous numbers of a given type and shape; null for None.
template <class T>
T* AsNumbers(const pybind11::handle& value, int type, std::initializer_list<npy_intp> shape) {
  if (value.is_none()) return nullptr;
  PyArrayObject* array = AsArray(value, "an operand");
  Require(PyArray_NDIM(array) == static_cast<int>(shape.size()) && PyArray_TYPE(array) == type &&
              PyArray_ISCARRAY_RO(array) && std::equal(shape.begin(), shape.end(), PyArray_DIMS(array)),
          "an operand of a tile does not fit it");
  return static_cast<T*>(PyArray_DATA(array));
}

inline LogitTile AsTile(const pybind11::handle& value, size_t first, bool scored) {
  PyArrayObject* array = AsArray(value, "a tile");
  Require(PyArray_NDIM(array) == 2 && PyArray_ISCARRAY(array), "a tile must be a contiguous matrix");
  Require(PyArray_TYPE(array) == NPY_FLOAT || PyArray_TYPE(array) == NPY_DOUBLE, "a tile must be float or double");
  return {*DTypeOf(array),
          PyArray_BYTES(array),
          static_cast<size_t>(PyArray_DIM(array, 0)),
          static_cast<size_t>(PyArray_DIM(array, 1)),
          first,
          scored};
}

inline int TypeOf(const LogitTile& tile) { return tile.storage == DType::kFloat32 ? NPY_FLOAT : NPY_DOUBLE; }

}  // namespace boltzmax
