// The bridge between NumPy arrays and the core's view of them.
#pragma once

#include <optional>
#include <utility>

#include "../../cpp/core/runtime/dispatch.hpp"
#include "../../cpp/core/runtime/strided.hpp"
#include "numpy_api.hpp"

namespace boltzmax {

// An owned reference, or none.
template <class T>
class Ref {
 public:
  Ref() = default;
  Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Ref& operator=(Ref&& other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Ref() { Py_XDECREF(reinterpret_cast<PyObject*>(object_)); }

  static Ref Steal(PyObject* object) { return Ref(reinterpret_cast<T*>(object)); }
  static Ref Borrow(PyObject* object) { return Ref(reinterpret_cast<T*>(Py_XNewRef(object))); }

  T* get() const { return object_; }
  explicit operator bool() const { return object_ != nullptr; }
  PyObject* release() { return reinterpret_cast<PyObject*>(std::exchange(object_, nullptr)); }

 private:
  explicit Ref(T* object) : object_(object) {}
  T* object_ = nullptr;
};
using ObjectRef = Ref<PyObject>;
using ArrayRef = Ref<PyArrayObject>;
using DescrRef = Ref<PyArray_Descr>;

// ml_dtypes.bfloat16 has a type number only once ml_dtypes is imported; Python calls this when it first meets the type.
void SetBFloat16(int type_number);

// The core's dtype for an element type, if there is one and the bytes are in native order.
std::optional<DType> DTypeOf(PyArray_Descr* descr);
inline std::optional<DType> DTypeOf(PyArrayObject* array) { return DTypeOf(PyArray_DESCR(array)); }

inline bool HasKernels(DType dtype) {
  return dtype == DType::kFloat32 || dtype == DType::kFloat64 || dtype == DType::kFloat16 || dtype == DType::kBFloat16;
}

// A new array for a result. A large one gets recycled memory instead of pages that have yet to be faulted in. Its axes
// are in the order of `like`, the strides of an array with the same axes; in C order if that is null. Null with an
// exception set on failure.
ArrayRef NewArray(int ndim, const npy_intp* shape, PyArray_Descr* descr, const npy_intp* like);

// The same in the order of `x`, for a result of x's shape.
ArrayRef NewArrayLike(PyArrayObject* x, PyArray_Descr* descr);

// The element of a 0-d array as a NumPy scalar, other arrays as they are.
inline PyObject* ScalarIfZeroD(ArrayRef array) {
  return PyArray_Return(reinterpret_cast<PyArrayObject*>(array.release()));
}
// Whether the address ranges of two arrays, from the first element to the last, overlap.
bool MayOverlap(PyArrayObject* a, PyArrayObject* b);

// Whether both have the same shape and type, and element i of one is at the address of element i of the other.
bool SameElements(PyArrayObject* a, PyArrayObject* b);

// Whether two elements share an address, as in a broadcast view.
bool RepeatsElements(PyArrayObject* array);

// The integer of an exact int that fits.
inline bool ReadInteger(PyObject* value, int64_t* number) {
  if (!PyLong_CheckExact(value)) return false;
  int overflow;
  *number = PyLong_AsLongLongAndOverflow(value, &overflow);
  return overflow == 0;
}

// A function of a fast calling convention, as a table of methods stores it.
template <class F>
PyCFunction AsCFunction(F* f) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(f));
}

}  // namespace boltzmax
