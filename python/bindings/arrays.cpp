#include "arrays.hpp"

#include <atomic>
#include <cstring>

#include "recycling.hpp"

namespace boltzmax {

namespace {
std::atomic<int> bfloat16_type_number{-1};
}  // namespace

void SetBFloat16(int type_number) { bfloat16_type_number.store(type_number, std::memory_order_relaxed); }

std::optional<DType> DTypeOf(PyArrayObject* array) {
  if (PyArray_ISBYTESWAPPED(array)) return std::nullopt;
  const int type = PyArray_TYPE(array);
  switch (type) {
    case NPY_FLOAT: return DType::kFloat32;
    case NPY_DOUBLE: return DType::kFloat64;
    case NPY_HALF: return DType::kFloat16;
    case NPY_BOOL: return DType::kBool;
    default: break;
  }
  if (type == bfloat16_type_number.load(std::memory_order_relaxed)) return DType::kBFloat16;
  if (!PyTypeNum_ISINTEGER(type)) return std::nullopt;
  const bool is_unsigned = PyTypeNum_ISUNSIGNED(type);
  switch (PyArray_ITEMSIZE(array)) {
    case 1: return is_unsigned ? DType::kUInt8 : DType::kInt8;
    case 2: return is_unsigned ? DType::kUInt16 : DType::kInt16;
    case 4: return is_unsigned ? DType::kUInt32 : DType::kInt32;
    default: return is_unsigned ? DType::kUInt64 : DType::kInt64;
  }
}

PyObject* NewArray(int ndim, const npy_intp* shape, PyArray_Descr* descr, PyArrayObject* like) {
  Py_INCREF(descr);
  const RecyclingScope scope(PyArray_MultiplyList(shape, ndim) * PyDataType_ELSIZE(descr) >= kRecycledBytes);
  if (like == nullptr || PyArray_IS_C_CONTIGUOUS(like)) {
    return PyArray_NewFromDescr(&PyArray_Type, descr, ndim, shape, nullptr, nullptr, 0, nullptr);
  }
  return PyArray_NewLikeArray(like, NPY_KEEPORDER, descr, 0);
}

bool MayOverlap(PyArrayObject* a, PyArrayObject* b) {
  const auto bounds = [](PyArrayObject* array, const char** low, const char** high) {
    *low = *high = PyArray_BYTES(array);
    for (int d = 0; d < PyArray_NDIM(array); ++d) {
      const npy_intp reach = (PyArray_DIM(array, d) - 1) * PyArray_STRIDE(array, d);
      (reach < 0 ? *low : *high) += reach;
    }
    *high += PyArray_ITEMSIZE(array);
  };
  const char *a_low, *a_high, *b_low, *b_high;
  bounds(a, &a_low, &a_high);
  bounds(b, &b_low, &b_high);
  return PyArray_SIZE(a) > 0 && PyArray_SIZE(b) > 0 && a_low < b_high && b_low < a_high;
}

bool SameElements(PyArrayObject* a, PyArrayObject* b) {
  return PyArray_BYTES(a) == PyArray_BYTES(b) &&
         std::memcmp(PyArray_STRIDES(a), PyArray_STRIDES(b), sizeof(npy_intp) * static_cast<size_t>(PyArray_NDIM(a))) ==
             0;
}

PyObject* ScalarIfZeroD(PyObject* array) { return PyArray_Return(reinterpret_cast<PyArrayObject*>(array)); }

}  // namespace boltzmax
