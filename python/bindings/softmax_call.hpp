// A call of softmax, log_softmax or logsumexp: its arguments, and their meaning. Inline, since a call on ten numbers
// takes no longer than some ten function calls.
#pragma once

#include "read_arguments.hpp"

namespace boltzmax {

struct Arguments {
  PyObject *x, *axis, *where, *temperature, *dtype, *out;
  PyObject *keepdims, *return_sign, *b;  // of reductions only
};

inline constexpr Parameter<Arguments> kParameters[] = {
    {"x", &Arguments::x},
    {"axis", &Arguments::axis},
    {"where", &Arguments::where},
    {"temperature", &Arguments::temperature},
    {"dtype", &Arguments::dtype},
    {"out", &Arguments::out},
    {"keepdims", &Arguments::keepdims},
    {"return_sign", &Arguments::return_sign},
    {"b", &Arguments::b},
};
constexpr size_t kElementwiseParameters = 6;

inline std::span<const Parameter<Arguments>> ParametersOf(Op op) {
  return {kParameters, Reduces(op) ? std::size(kParameters) : kElementwiseParameters};
}

// A call with valid arguments.
struct Call {
  explicit Call(Op operation) : op(operation) {}

  Op op;
  Input x;
  AxisSet reduced = 0;
  BroadcastInput mask;
  Temperature temperature;
  DescrRef descr;
  DType storage = DType::kFloat32;
  bool keepdims = false, return_sign = false;
  ArrayRef out;  // or null

  bool Reduces() const { return boltzmax::Reduces(op); }
  // Whether the result has this axis, perhaps with length 1.
  bool Keeps(int d) const { return !Reduces() || keepdims || !Contains(reduced, d); }
  npy_intp SizeInResult(int d) const { return Reduces() && Contains(reduced, d) ? 1 : PyArray_DIM(x.array.get(), d); }
};

// The shape of the result.
struct ResultShape {
  int ndim = 0;
  npy_intp size[NPY_MAXDIMS];
  npy_intp like[NPY_MAXDIMS];  // the strides of x on these axes

  explicit ResultShape(const Call& call) {
    PyArrayObject* x = call.x.array.get();
    for (int d = 0; d < PyArray_NDIM(x); ++d) {
      if (!call.Keeps(d)) continue;
      size[ndim] = call.SizeInResult(d);
      like[ndim++] = PyArray_STRIDE(x, d);
    }
  }
};

inline bool ReadFlag(PyObject* value, bool* flag) {
  *flag = value == Py_True;
  return value == nullptr || value == Py_False || value == Py_True;
}

// Whether the result may be written while the operands are read.
inline bool MayWrite(PyArrayObject* out, const Call& call) {
  PyArrayObject* x = call.x.array.get();
  const bool clear_of_x = call.Reduces() ? !MayOverlap(out, x) : IsSameOrDisjoint(out, x);
  const ArrayRef& mask = call.mask.array;
  const ArrayRef& temperature = call.temperature.rows.array;
  return clear_of_x && (!mask || !MayOverlap(out, mask.get())) && (!temperature || !MayOverlap(out, temperature.get()));
}

// Reads all arguments but b.
inline bool ReadCall(const Arguments& given, Call* call) {
  if (given.x == nullptr || !ReadInput(given.x, &call->x)) return false;
  PyArrayObject* x = call->x.array.get();
  if (!ReadAxes(given.axis, PyArray_NDIM(x), &call->reduced) || !ReadFlag(given.keepdims, &call->keepdims) ||
      !ReadFlag(given.return_sign, &call->return_sign)) {
    return false;
  }
  if (IsDefault(given.dtype)) {
    TakeDType(call->x, &call->descr, &call->storage);
  } else if (!ReadDType(given.dtype, &call->descr, &call->storage)) {
    return false;
  }
  if (!IsDefault(given.where) && !ReadMask(given.where, x, &call->mask)) return false;
  if (given.temperature != nullptr && !ReadTemperature(given.temperature, x, call->reduced, &call->temperature)) {
    return false;
  }
  if (IsDefault(given.out)) return true;
  const ResultShape shape(*call);
  return ReadOut(given.out, shape.ndim, shape.size, call->storage, &call->out) && MayWrite(call->out.get(), *call);
}

// A new array for the result; null with an exception set on failure.
inline ArrayRef NewResult(const Call& call) {
  PyArrayObject* x = call.x.array.get();
  if (!call.Reduces()) return NewArrayLike(x, call.descr.get());
  const ResultShape shape(call);
  return NewArray(shape.ndim, shape.size, call.descr.get(), PyArray_IS_C_CONTIGUOUS(x) ? nullptr : shape.like);
}

}  // namespace boltzmax
