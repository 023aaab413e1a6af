#include "arrays.hpp"

#include <atomic>
#include <cstdlib>

#include "recycling.hpp"

namespace boltzmax {

namespace {
std::atomic<int> bfloat16_type_number{-1};
}  // namespace

void SetBFloat16(int type_number) { bfloat16_type_number.store(type_number, std::memory_order_relaxed); }

std::optional<DType> DTypeOf(PyArray_Descr* descr) {
  if (PyDataType_ISBYTESWAPPED(descr)) return std::nullopt;
  const int type = descr->type_num;
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
  switch (PyDataType_ELSIZE(descr)) {
    case 1: return is_unsigned ? DType::kUInt8 : DType::kInt8;
    case 2: return is_unsigned ? DType::kUInt16 : DType::kInt16;
    case 4: return is_unsigned ? DType::kUInt32 : DType::kInt32;
    default: return is_unsigned ? DType::kUInt64 : DType::kInt64;
  }
}

namespace {

// Strides of a dense array whose axes lie in the order of `like`: the longer the stride, the further out. As in
// numpy.empty_like, the sign does not count, and among equal strides the order is C.
void DenseStrides(int ndim, const npy_intp* shape, npy_intp item, const npy_intp* like, npy_intp* strides) {
  int inwards[NPY_MAXDIMS];
  for (int d = 0; d < ndim; ++d) {
    int k = d;
    for (; k > 0 && std::abs(like[inwards[k - 1]]) < std::abs(like[d]); --k) inwards[k] = inwards[k - 1];
    inwards[k] = d;
  }
  for (int k = ndim; k-- > 0;) {
    strides[inwards[k]] = item;
    item *= shape[inwards[k]];
  }
}

}  // namespace

ArrayRef NewArray(int ndim, const npy_intp* shape, PyArray_Descr* descr, const npy_intp* like) {
  const npy_intp item = PyDataType_ELSIZE(descr);
  npy_intp strides[NPY_MAXDIMS];
  if (like != nullptr) DenseStrides(ndim, shape, item, like, strides);
  Py_INCREF(descr);
  const RecyclingScope scope(PyArray_MultiplyList(shape, ndim) * item >= kRecycledBytes);
  return ArrayRef::Steal(PyArray_NewFromDescr(&PyArray_Type, descr, ndim, shape, like == nullptr ? nullptr : strides,
                                              nullptr, 0, nullptr));
}

ArrayRef NewArrayLike(PyArrayObject* x, PyArray_Descr* descr) {
  return NewArray(PyArray_NDIM(x), PyArray_DIMS(x), descr, PyArray_IS_C_CONTIGUOUS(x) ? nullptr : PyArray_STRIDES(x));
}

}  // namespace boltzmax
