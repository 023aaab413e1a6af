#include "arrays.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>

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

// The strides of a dense array with its axes in the order of `like`, as NumPy's iterator determines it: the longer the
// stride, the further out. Signs are ignored; strides of 0 do not decide; where nothing decides, the order is C.
void DenseStrides(int ndim, const npy_intp* shape, npy_intp item, const npy_intp* like, npy_intp* strides) {
  int outwards[NPY_MAXDIMS];  // axes, the innermost first
  for (int count = 0; count < ndim; ++count) {
    const int axis = ndim - 1 - count;
    const npy_intp stride = std::abs(like[axis]);
    int place = count;
    for (int k = count; k-- > 0;) {
      const npy_intp inner = std::abs(like[outwards[k]]);
      if (inner == 0 || stride == 0) continue;
      if (inner <= stride) break;
      place = k;
    }
    std::copy_backward(outwards + place, outwards + count, outwards + count + 1);
    outwards[place] = axis;
  }
  for (int k = 0; k < ndim; ++k) {
    strides[outwards[k]] = item;
    item *= shape[outwards[k]];
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

bool RepeatsElements(PyArrayObject* array) {
  for (int d = 0; d < PyArray_NDIM(array); ++d) {
    if (PyArray_STRIDE(array, d) == 0 && PyArray_DIM(array, d) > 1) return true;
  }
  return false;
}

bool SameElements(PyArrayObject* a, PyArrayObject* b) {
  return PyArray_BYTES(a) == PyArray_BYTES(b) && PyArray_TYPE(a) == PyArray_TYPE(b) && PyArray_SAMESHAPE(a, b) &&
         std::memcmp(PyArray_STRIDES(a), PyArray_STRIDES(b), sizeof(npy_intp) * static_cast<size_t>(PyArray_NDIM(a))) ==
             0;
}

}  // namespace boltzmax
