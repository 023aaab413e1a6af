#include "read_lists.hpp"

namespace boltzmax {

namespace {

// Whether a list cannot change while no Python code runs. In other builds NumPy guards against other threads.
#if defined(Py_GIL_DISABLED)
constexpr bool kListsStandStill = false;
#else
constexpr bool kListsStandStill = true;
#endif

bool IsList(PyObject* value) { return PyList_CheckExact(value) || PyTuple_CheckExact(value); }

bool ReadNumber(PyObject* value, double* number) {
  if (!PyFloat_CheckExact(value)) return false;
  *number = PyFloat_AS_DOUBLE(value);
  return true;
}

bool ReadNumber(PyObject* value, int64_t* number) {
  int overflow;
  if (!PyLong_CheckExact(value)) return false;
  *number = PyLong_AsLongLongAndOverflow(value, &overflow);
  return overflow == 0;
}

// Copies the numbers of a list to `to`, if it has this shape and holds only numbers of this type.
template <class T>
bool ReadNumbers(PyObject* list, int ndim, const npy_intp* shape, T** to) {
  if (!IsList(list) || PySequence_Fast_GET_SIZE(list) != *shape) return false;
  PyObject** items = PySequence_Fast_ITEMS(list);
  for (npy_intp i = 0; i < *shape; ++i) {
    if (ndim > 1 ? !ReadNumbers(items[i], ndim - 1, shape + 1, to) : !ReadNumber(items[i], (*to)++)) return false;
  }
  return true;
}

template <class T>
ArrayRef NewFromNumbers(PyObject* list, int ndim, const npy_intp* shape, int type) {
  ArrayRef array = ArrayRef::Steal(PyArray_SimpleNew(ndim, shape, type));
  if (!array) return {};
  auto* to = static_cast<T*>(PyArray_DATA(array.get()));
  return ReadNumbers(list, ndim, shape, &to) ? std::move(array) : ArrayRef();
}

// Lists mostly hold only floats or only integers. NumPy, which accepts anything, spends most of its time on finding
// that out. Null for other lists.
ArrayRef ArrayFromNumbers(PyObject* list) {
  npy_intp shape[NPY_MAXDIMS];
  int ndim = 0;
  PyObject* first = list;
  for (; IsList(first); first = PySequence_Fast_ITEMS(first)[0]) {
    if (ndim == NPY_MAXDIMS || PySequence_Fast_GET_SIZE(first) == 0) return {};
    shape[ndim++] = PySequence_Fast_GET_SIZE(first);
  }
  if (PyFloat_CheckExact(first)) return NewFromNumbers<double>(list, ndim, shape, NPY_DOUBLE);
  if (PyLong_CheckExact(first)) return NewFromNumbers<int64_t>(list, ndim, shape, NPY_INT64);
  return {};
}

}  // namespace

ArrayRef ArrayFromList(PyObject* list) {
  if (kListsStandStill) {
    ArrayRef numbers = ArrayFromNumbers(list);
    if (numbers || PyErr_Occurred() != nullptr) return numbers;
  }
  ArrayRef array = ArrayRef::Steal(PyArray_FromAny(list, nullptr, 0, 0, 0, nullptr));
  if (!array && PyErr_ExceptionMatches(PyExc_Exception)) PyErr_Clear();
  return array;
}

}  // namespace boltzmax
