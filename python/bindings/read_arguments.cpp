#include "read_arguments.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "../../cpp/core/api/api.hpp"
#include "../../cpp/core/runtime/integers.hpp"
#include "read_lists.hpp"

namespace boltzmax {

// ---- axes ----

namespace {

bool AddAxis(PyObject* value, int ndim, AxisSet* axes) {
  if (!PyLong_CheckExact(value) && !PyArray_IsScalar(value, Integer)) return false;
  int overflow;
  const long axis = PyLong_AsLongAndOverflow(value, &overflow);
  if (overflow != 0 || axis < -ndim || axis >= ndim) return false;
  const AxisSet bit = AxisSet{1} << (axis < 0 ? axis + ndim : axis);
  if ((*axes & bit) != 0) return false;
  *axes |= bit;
  return true;
}

AxisSet AllAxes(int ndim) { return ndim == 0 ? 0 : ~AxisSet{0} >> (64 - ndim); }

}  // namespace

bool ReadAxes(PyObject* value, int ndim, AxisSet* axes) {
  static_assert(NPY_MAXDIMS <= 64);
  *axes = 0;
  if (value == Py_None) {
    *axes = AllAxes(ndim);
    return true;
  }
  const int known = std::max(ndim, 1);  // a 0-d array is a row of one element, as in NumPy's reductions
  if (value == nullptr) {
    *axes = AxisSet{1} << (known - 1);
  } else if (PyTuple_CheckExact(value)) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(value); ++i) {
      if (!AddAxis(PyTuple_GET_ITEM(value, i), known, axes)) return false;
    }
  } else if (!AddAxis(value, known, axes)) {
    return false;
  }
  *axes &= AllAxes(ndim);
  return true;
}

// ---- arrays ----

namespace {

// Aligns the last axes, as NumPy broadcasts, with those axes of x that are in `axes`.
bool BroadcastTo(PyArrayObject* x, AxisSet axes, BroadcastInput* operand) {
  PyArrayObject* array = operand->array.get();
  int k = PyArray_NDIM(array);
  for (int d = PyArray_NDIM(x); d-- > 0;) {
    operand->stride[d] = 0;
    if (!Contains(axes, d) || k == 0) continue;
    const npy_intp size = PyArray_DIM(array, --k);
    if (size == 1) continue;
    if (size != PyArray_DIM(x, d)) return false;
    operand->stride[d] = PyArray_STRIDE(array, k);
  }
  return k == 0;
}

}  // namespace

ArrayRef ArrayFrom(PyObject* value) {
  if (PyList_CheckExact(value) || PyTuple_CheckExact(value)) return ArrayFromList(value);
  const bool is_number = PyFloat_CheckExact(value) || PyLong_CheckExact(value) || PyBool_Check(value);
  if (!is_number && !PyArray_IsScalar(value, Generic)) return {};
  ArrayRef array = ArrayRef::Steal(PyArray_FromAny(value, nullptr, 0, 0, 0, nullptr));
  if (!array) PyErr_Clear();
  return array;
}

bool ReadBroadcast(PyObject* value, PyArrayObject* x, BroadcastInput* operand) {
  Input given;
  if (!ReadInput(value, &given)) return false;
  operand->array = std::move(given.array);
  return BroadcastTo(x, AllAxes(PyArray_NDIM(x)), operand);
}

bool ReadMask(PyObject* value, PyArrayObject* x, BroadcastInput* mask) {
  return ReadBroadcast(value, x, mask) && PyArray_TYPE(mask->array.get()) == NPY_BOOL;
}

// ---- temperatures ----

namespace {

// A Python number, or 0, which is not a temperature.
double NumberOr0(PyObject* value) {
  if (PyFloat_CheckExact(value)) return PyFloat_AS_DOUBLE(value);
  int overflow;
  return PyLong_CheckExact(value) ? static_cast<double>(PyLong_AsLongLongAndOverflow(value, &overflow)) : 0.0;
}

// Whether all of some numbers are temperatures, and whether all are 1. Positive doubles are in the order of their bits.
bool AreTemperatures(const double* t, size_t n, bool* are_one) {
  constexpr auto kLeast = std::bit_cast<uint64_t>(kLeastTemperature), kMost = std::bit_cast<uint64_t>(kMostTemperature);
  uint64_t outside = 0, differences = 0;
  for (size_t i = 0; i < n; ++i) {
    const auto bits = std::bit_cast<uint64_t>(t[i]);
    outside |= SignIfOutside(bits, kLeast, kMost);
    differences |= bits ^ std::bit_cast<uint64_t>(1.0);
  }
  *are_one = differences == 0;
  return !HasSign(outside);
}

}  // namespace

bool ReadTemperature(PyObject* value, PyArrayObject* x, AxisSet reduced, Temperature* temperature) {
  temperature->scalar = NumberOr0(value);
  if (IsTemperature(temperature->scalar)) return true;

  Input given;
  if (!ReadInput(value, &given)) return false;
  constexpr int kDense = NPY_ARRAY_CARRAY_RO | NPY_ARRAY_FORCECAST;
  BroadcastInput* rows = &temperature->rows;
  rows->array = ArrayRef::Steal(PyArray_FromArray(given.array.get(), PyArray_DescrFromType(NPY_DOUBLE), kDense));
  if (!rows->array) return false;
  PyArrayObject* array = rows->array.get();
  const auto* t = static_cast<const double*>(PyArray_DATA(array));
  bool are_one;
  if (!AreTemperatures(t, static_cast<size_t>(PyArray_SIZE(array)), &are_one)) return false;
  // One per row: in the shape of x's other axes or, as with keepdims, with 1 in place of the reduced axes.
  const int ndim = PyArray_NDIM(x);
  bool kept = PyArray_NDIM(array) == ndim;
  for (int d = 0; d < ndim && kept; ++d) kept = !Contains(reduced, d) || PyArray_DIM(array, d) == 1;
  if (!BroadcastTo(x, kept ? AllAxes(ndim) : AllAxes(ndim) & ~reduced, rows)) return false;
  const bool is_scalar = PyArray_NDIM(array) == 0;
  temperature->scalar = is_scalar ? *t : 1.0;
  if (is_scalar || are_one) rows->array = {};
  return true;
}

// ---- types and results ----

bool ReadDType(PyObject* value, DescrRef* descr, DType* storage) {
  PyArray_Descr* wanted = nullptr;
  if (PyArray_DescrConverter2(value, &wanted) != NPY_SUCCEED) {
    PyErr_Clear();
    return false;
  }
  *descr = DescrRef::Steal(reinterpret_cast<PyObject*>(wanted));
  const auto dtype = DTypeOf(wanted);
  if (!dtype || !HasKernels(*dtype)) return false;
  *storage = *dtype;
  return true;
}

bool ReadOut(PyObject* value, int ndim, const npy_intp* shape, DType storage, ArrayRef* out) {
  if (!PyArray_CheckExact(value)) return false;
  *out = ArrayRef::Borrow(value);
  PyArrayObject* array = out->get();
  return DTypeOf(array) == storage && PyArray_ISWRITEABLE(array) && PyArray_NDIM(array) == ndim &&
         std::equal(shape, shape + ndim, PyArray_DIMS(array)) && !RepeatsElements(array);
}

bool IsSameOrDisjoint(PyArrayObject* out, PyArrayObject* operand) {
  return SameElements(out, operand) || !MayOverlap(out, operand);
}

}  // namespace boltzmax
