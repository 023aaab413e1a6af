// The arguments of softmax, log_softmax, logsumexp and their gradients, read without Python.
//
// Ordinary arguments are read here: exact ndarrays of any strides, numbers, and lists and tuples of them. A Read
// function returns false if its argument is anything else, or wrong: the call then goes to boltzmax.arrays.general,
// which computes the result or raises the error. Only an exception that is not about the arguments (out of memory, an
// interrupt) stays set, and is then raised.
#pragma once

#include <algorithm>
#include <span>
#include <string_view>
#include <type_traits>

#include "../../cpp/core/rows/softmax.hpp"
#include "arrays.hpp"

namespace boltzmax {

inline bool IsDefault(PyObject* value) { return value == nullptr || value == Py_None; }

// A parameter of a function, and its position among the arguments; null if it is not given.
template <class Arguments>
struct Parameter {
  std::string_view name;
  PyObject* Arguments::* place;
};

// A keyword; empty if it is not ASCII, as all parameters are.
inline std::string_view NameOf(PyObject* keyword) {
  if (!PyUnicode_IS_COMPACT_ASCII(keyword)) return {};
  return {reinterpret_cast<const char*>(PyUnicode_1BYTE_DATA(keyword)),
          static_cast<size_t>(PyUnicode_GET_LENGTH(keyword))};
}

// Assigns the arguments of a call to its parameters; the first `positional` ones may be given without names.
template <class Arguments>
bool TakeArguments(std::type_identity_t<std::span<const Parameter<Arguments>>> parameters, Py_ssize_t positional,
                   PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames, Arguments* arguments) {
  if (nargs > positional) return false;
  for (Py_ssize_t i = 0; i < nargs; ++i) arguments->*parameters[static_cast<size_t>(i)].place = args[i];
  const Py_ssize_t named = kwnames == nullptr ? 0 : PyTuple_GET_SIZE(kwnames);
  for (Py_ssize_t i = 0; i < named; ++i) {
    const std::string_view name = NameOf(PyTuple_GET_ITEM(kwnames, i));
    const auto found = std::find_if(parameters.begin(), parameters.end(),
                                    [&](const Parameter<Arguments>& parameter) { return parameter.name == name; });
    if (found == parameters.end() || arguments->*found->place != nullptr) return false;
    arguments->*found->place = args[nargs + i];
  }
  return true;
}

// Axes, one bit each: NumPy has at most 64.
using AxisSet = uint64_t;
inline bool Contains(AxisSet axes, int d) { return (axes >> d & 1) != 0; }

// None means all axes, a missing argument the last axis.
bool ReadAxes(PyObject* value, int ndim, AxisSet* axes);

struct Input {
  ArrayRef array;
  DType dtype = DType::kFloat32;
};

// numpy.asarray of a number, a list or a tuple; null for anything else.
ArrayRef ArrayFrom(PyObject* value);

// An array of a type that the core reads, aligned or not.
inline bool ReadInput(PyObject* value, Input* input) {
  input->array = PyArray_CheckExact(value) ? ArrayRef::Borrow(value) : ArrayFrom(value);
  const auto dtype = input->array ? DTypeOf(input->array.get()) : std::nullopt;
  if (!dtype) return false;
  input->dtype = *dtype;
  return true;
}

// An operand broadcast to x: its strides along x's axes.
struct BroadcastInput {
  ArrayRef array;  // or null
  npy_intp stride[NPY_MAXDIMS];

  const char* bytes() const { return array ? PyArray_BYTES(array.get()) : nullptr; }
  npy_intp StrideAt(int d) const { return array ? stride[d] : 0; }
};

bool ReadBroadcast(PyObject* value, PyArrayObject* x, BroadcastInput* operand);
bool ReadMask(PyObject* value, PyArrayObject* x, BroadcastInput* mask);

struct Temperature {
  double scalar = 1.0;
  BroadcastInput rows;  // doubles, one per row, instead of the scalar

  // In the core's form: null for 1.
  const char* bytes() const { return scalar == 1.0 ? rows.bytes() : reinterpret_cast<const char*>(&scalar); }
};

bool ReadTemperature(PyObject* value, PyArrayObject* x, AxisSet reduced, Temperature* temperature);

// The type to compute in and return: that of x, float64 for integers.
inline void TakeDType(const Input& x, DescrRef* descr, DType* storage) {
  const bool kept = HasKernels(x.dtype);
  *storage = kept ? x.dtype : DType::kFloat64;
  *descr = kept ? DescrRef::Borrow(reinterpret_cast<PyObject*>(PyArray_DESCR(x.array.get())))
                : DescrRef::Steal(reinterpret_cast<PyObject*>(PyArray_DescrFromType(NPY_DOUBLE)));
}

// Or the dtype argument.
bool ReadDType(PyObject* value, DescrRef* descr, DType* storage);

// An `out` of this shape and type that is writeable and has no element twice.
bool ReadOut(PyObject* value, int ndim, const npy_intp* shape, DType storage, ArrayRef* out);

// Whether an array does not overlap an operand, or is that operand element for element.
bool IsSameOrDisjoint(PyArrayObject* out, PyArrayObject* operand);

}  // namespace boltzmax
