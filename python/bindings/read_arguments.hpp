// The arguments of softmax, log_softmax, logsumexp and their gradients, read without Python.
//
// What is read here is ordinary: exact ndarrays of any strides, numbers, and lists and tuples of them. Each Read function
// returns false where its argument is something else, or wrong: the call goes to boltzmax._general, which finds the result,
// or the words for what is wrong. Only an exception that has nothing to do with the arguments (out of memory, an interrupt)
// is left set, and then raised.
#pragma once

#include <span>

#include "../../cpp/core/softmax.hpp"
#include "arrays.hpp"

namespace boltzmax {

inline bool IsDefault(PyObject* value) { return value == nullptr || value == Py_None; }

// A parameter, and where its argument goes: null stays there where none is given.
struct Parameter {
  const char* name;
  PyObject** argument;
};

// Hands out the arguments of a call: the first `positional` parameters may go without their names.
bool TakeArguments(std::span<const Parameter> parameters, Py_ssize_t positional, PyObject* const* args,
                   Py_ssize_t nargs, PyObject* kwnames);

// Axes, a bit for each: NumPy has no more than 64.
using AxisSet = uint64_t;
inline bool Contains(AxisSet axes, int d) { return (axes >> d & 1) != 0; }

// None or nothing given are what the parameter's default says: all axes, or the last.
bool ReadAxes(PyObject* value, int ndim, AxisSet* axes);

struct Input {
  ArrayRef array;
  DType dtype;
};

// An array of a type that the core reads, aligned or not.
bool ReadInput(PyObject* value, Input* operand);

// An operand that is broadcast to x: its strides along x's axes.
struct BroadcastInput {
  ArrayRef array;  // null where there is none
  npy_intp stride[NPY_MAXDIMS];

  const char* bytes() const { return array ? PyArray_BYTES(array.get()) : nullptr; }
  npy_intp StrideAt(int d) const { return array ? stride[d] : 0; }
};

bool ReadMask(PyObject* value, PyArrayObject* x, BroadcastInput* mask);

struct Temperature {
  double scalar = 1.0;
  BroadcastInput rows;  // doubles, one for each row, instead of the scalar
};

bool ReadTemperature(PyObject* value, PyArrayObject* x, AxisSet reduced, Temperature* temperature);

// The type to compute in and return: `given`, or that of x, or float64 for integers.
bool ReadDType(PyObject* given, const Input& x, DescrRef* descr, DType* storage);

// An `out` of such a shape and type that may be written to and has no element twice.
bool ReadOut(PyObject* value, int ndim, const npy_intp* shape, DType storage, ArrayRef* out);

// Whether an array keeps clear of an operand, or, where it may lie on it, is that element for element.
bool IsApart(PyArrayObject* out, PyArrayObject* operand);
bool IsSameOrApart(PyArrayObject* out, PyArrayObject* operand);

}  // namespace boltzmax
