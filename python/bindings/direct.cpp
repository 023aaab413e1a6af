#include "direct.hpp"

#include <atomic>
#include <cmath>
#include <cstring>

#include "../../cpp/core/gradients.hpp"
#include "../../cpp/core/row_blocks.hpp"
#include "../../cpp/core/softmax.hpp"
#include "arrays.hpp"
#include "detached.hpp"
#include "weighted.hpp"

namespace boltzmax {

namespace {

// boltzmax._general.<name>(*args, **kwargs)
PyObject* CallGeneral(const char* name, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  // Kept for good. Where threads are free and several come first, each imports the same module.
  static std::atomic<PyObject*> kept{nullptr};
  PyObject* module = kept.load(std::memory_order_acquire);
  if (module == nullptr) {
    module = PyImport_ImportModule("boltzmax._general");
    if (module == nullptr) return nullptr;
    kept.store(module, std::memory_order_release);
  }
  PyObject* function = PyObject_GetAttrString(module, name);
  if (function == nullptr) return nullptr;
  PyObject* result = PyObject_Vectorcall(function, args, static_cast<size_t>(nargs), kwnames);
  Py_DECREF(function);
  return result;
}

// An ordinary argument, or not: false sends the call to the general path.

bool IsDefault(PyObject* value) { return value == nullptr || value == Py_None; }

}  // namespace

bool ReadAxis(PyObject* value, int ndim, int* axis) {
  long a = -1;
  if (value == Py_None) {
    *axis = kAllAxes;
    return true;
  }
  if (value != nullptr) {
    if (!PyLong_CheckExact(value)) return false;
    int overflow;
    a = PyLong_AsLongAndOverflow(value, &overflow);
    if (overflow != 0) return false;
  }
  if (a < -ndim || a >= ndim) return false;
  *axis = static_cast<int>(a < 0 ? a + ndim : a);
  return true;
}

namespace {

// A temperature in range: see _general.py.
bool ReadTemperature(PyObject* value, double* temperature) {
  *temperature = 1.0;
  if (value == nullptr) return true;
  if (!PyFloat_CheckExact(value)) return false;
  *temperature = PyFloat_AS_DOUBLE(value);
  return *temperature >= 1e-30 && *temperature <= 1e30;
}

}  // namespace

PyArrayObject* ReadArray(PyObject* value, DType* dtype) {
  if (value == nullptr || !PyArray_CheckExact(value)) return nullptr;
  auto* array = reinterpret_cast<PyArrayObject*>(value);
  const auto found = DTypeOf(array);
  if (!found || !HasKernels(*found) || !PyArray_ISALIGNED(array) || PyArray_NDIM(array) == 0) return nullptr;
  *dtype = *found;
  return array;
}

namespace {

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

// An out of x's shape and type that is x itself or apart from it.
PyArrayObject* ReadOut(PyObject* value, PyArrayObject* x, DType dtype) {
  DType out_dtype{};
  PyArrayObject* out = ReadArray(value, &out_dtype);
  if (out == nullptr || out_dtype != dtype || !PyArray_ISWRITEABLE(out) || !PyArray_SAMESHAPE(out, x)) return nullptr;
  return SameElements(out, x) || !MayOverlap(out, x) ? out : nullptr;
}

Axis MakeAxis(npy_intp size, npy_intp x, npy_intp y, npy_intp mask = 0) {
  return {static_cast<size_t>(size), {x, y, mask, 0}};
}

// ---- softmax, log_softmax, logsumexp ----

struct Arguments {
  PyObject *x = nullptr, *axis = nullptr, *where = nullptr, *temperature = nullptr, *dtype = nullptr, *out = nullptr;
  PyObject *b = nullptr, *keepdims = nullptr, *return_sign = nullptr;

  PyObject** Slot(PyObject* name) {
    struct Entry {
      const char* name;
      PyObject* Arguments::* slot;
    };
    static constexpr Entry kEntries[] = {{"axis", &Arguments::axis},
                                         {"temperature", &Arguments::temperature},
                                         {"out", &Arguments::out},
                                         {"keepdims", &Arguments::keepdims},
                                         {"where", &Arguments::where},
                                         {"dtype", &Arguments::dtype},
                                         {"x", &Arguments::x},
                                         {"b", &Arguments::b},
                                         {"return_sign", &Arguments::return_sign}};
    for (const Entry& entry : kEntries) {
      if (PyUnicode_CompareWithASCIIString(name, entry.name) == 0) return &(this->*entry.slot);
    }
    return nullptr;
  }

  // False where the call is not of the usual form.
  bool Read(PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
    if (nargs > 2) return false;
    if (nargs > 0) x = args[0];
    if (nargs > 1) axis = args[1];
    const Py_ssize_t named = kwnames == nullptr ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < named; ++i) {
      PyObject** slot = Slot(PyTuple_GET_ITEM(kwnames, i));
      if (slot == nullptr || *slot != nullptr) return false;
      *slot = args[nargs + i];
    }
    return x != nullptr && IsDefault(where) && IsDefault(dtype) && IsDefault(b) &&
           (return_sign == nullptr || return_sign == Py_False) &&
           (keepdims == nullptr || keepdims == Py_False || keepdims == Py_True);
  }
};

}  // namespace

PyObject* NewReduced(PyArrayObject* x, int axis, bool keepdims) {
  npy_intp shape[NPY_MAXDIMS];
  int kept = 0;
  for (int d = 0; d < PyArray_NDIM(x); ++d) {
    const bool reduced = d == axis || axis == kAllAxes;
    if (!reduced || keepdims) shape[kept++] = reduced ? 1 : PyArray_DIM(x, d);
  }
  return NewArray(kept, shape, PyArray_DESCR(x), nullptr);
}

namespace {

// The usual call, or null without an exception if this is not one.
PyObject* TryDirect(Op op, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  Arguments a;
  DType dtype{};
  int axis;
  double temperature;
  if (!a.Read(args, nargs, kwnames)) return nullptr;
  PyArrayObject* x = ReadArray(a.x, &dtype);
  if (x == nullptr || !ReadAxis(a.axis, PyArray_NDIM(x), &axis) || !ReadTemperature(a.temperature, &temperature)) {
    return nullptr;
  }
  const bool reduces = op == Op::kLogSumExp;
  if (reduces && (a.out != nullptr && a.out != Py_None)) return nullptr;
  if (!reduces && (a.keepdims != nullptr || a.b != nullptr || a.return_sign != nullptr)) return nullptr;

  const int ndim = PyArray_NDIM(x);
  const bool keepdims = a.keepdims == Py_True;
  PyObject* y;
  if (!IsDefault(a.out)) {
    y = reinterpret_cast<PyObject*>(ReadOut(a.out, x, dtype));
    if (y == nullptr) return nullptr;
    Py_INCREF(y);
  } else if (reduces) {
    y = NewReduced(x, axis, keepdims);
  } else {
    y = NewArray(ndim, PyArray_DIMS(x), PyArray_DESCR(x), x);
  }
  if (y == nullptr) return nullptr;

  auto* out = reinterpret_cast<PyArrayObject*>(y);
  const double cost = EstimateNanoseconds(static_cast<size_t>(PyArray_SIZE(x)), dtype);
  const bool done = RunDetached(cost, [&] {
    Problem problem = {op, dtype, dtype, PyArray_BYTES(x), PyArray_BYTES(out), nullptr, nullptr, {}, {}};
    if (temperature != 1.0) problem.temperature = reinterpret_cast<const char*>(&temperature);
    if (PyArray_IS_C_CONTIGUOUS(x) && PyArray_IS_C_CONTIGUOUS(out) && (axis == ndim - 1 || axis == kAllAxes)) {
      const npy_intp n = axis == kAllAxes ? PyArray_SIZE(x) : PyArray_DIM(x, axis);
      const npy_intp rows = axis == kAllAxes ? 1 : (n == 0 ? PyArray_SIZE(out) : PyArray_SIZE(x) / n);
      return RunContiguous(problem, static_cast<size_t>(rows), static_cast<size_t>(n));
    }
    problem.outer.reserve(static_cast<size_t>(ndim));
    for (int d = 0, k = 0; d < ndim; ++d) {
      const npy_intp size = PyArray_DIM(x, d), stride = PyArray_STRIDE(x, d);
      if (d == axis || axis == kAllAxes) {
        problem.inner.push_back(MakeAxis(size, stride, reduces ? 0 : PyArray_STRIDE(out, d)));
        k += keepdims ? 1 : 0;
      } else {
        problem.outer.push_back(MakeAxis(size, stride, PyArray_STRIDE(out, reduces ? k++ : d)));
      }
    }
    Run(problem);
  });
  if (!done) {
    Py_DECREF(y);
    return nullptr;
  }
  return reduces && !keepdims ? ScalarIfZeroD(y) : y;
}

template <Op kOp>
PyObject* Direct(PyObject*, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  static constexpr const char* kNames[] = {"softmax", "log_softmax", "logsumexp"};
  PyObject* result = TryDirect(kOp, args, nargs, kwnames);
  if (kOp == Op::kLogSumExp && result == nullptr && !PyErr_Occurred()) result = TryWeighted(args, nargs, kwnames);
  if (result != nullptr || PyErr_Occurred()) return result;
  return CallGeneral(kNames[static_cast<int>(kOp)], args, nargs, kwnames);
}

// ---- gradients ----

PyObject* TryDirectBackward(GradOp op, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  DType dtype{}, y_dtype{};
  int axis;
  if (nargs < 2 || nargs > 3 || kwnames != nullptr) return nullptr;
  PyArrayObject* dy = ReadArray(args[0], &dtype);
  PyArrayObject* y = ReadArray(args[1], &y_dtype);
  if (dy == nullptr || y == nullptr || dtype != y_dtype || !PyArray_SAMESHAPE(dy, y)) return nullptr;
  if (!ReadAxis(nargs > 2 ? args[2] : nullptr, PyArray_NDIM(dy), &axis)) return nullptr;
  PyObject* result = NewArray(PyArray_NDIM(dy), PyArray_DIMS(dy), PyArray_DESCR(dy), dy);
  if (result == nullptr) return nullptr;
  auto* dx = reinterpret_cast<PyArrayObject*>(result);
  const double cost = 2.0 * EstimateNanoseconds(static_cast<size_t>(PyArray_SIZE(dy)), dtype);
  const bool done = RunDetached(cost, [&] {
    GradProblem problem = {op, dtype, PyArray_BYTES(dy), PyArray_BYTES(y), PyArray_BYTES(dx), {}, {}};
    for (int d = 0; d < PyArray_NDIM(dy); ++d) {
      Axes& axes = d == axis || axis == kAllAxes ? problem.inner : problem.outer;
      axes.push_back(MakeAxis(PyArray_DIM(dy, d), PyArray_STRIDE(dy, d), PyArray_STRIDE(dx, d), PyArray_STRIDE(y, d)));
    }
    Run(problem);
  });
  if (done) return result;
  Py_DECREF(result);
  return nullptr;
}

template <GradOp kOp>
PyObject* DirectBackward(PyObject*, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  static constexpr const char* kNames[] = {"softmax_backward", "log_softmax_backward"};
  PyObject* result = TryDirectBackward(kOp, args, nargs, kwnames);
  if (result != nullptr || PyErr_Occurred()) return result;
  return CallGeneral(kNames[static_cast<int>(kOp)], args, nargs, kwnames);
}

PyCFunction AsCFunction(_PyCFunctionFastWithKeywords f) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(f));
}

}  // namespace

PyMethodDef* DirectMethods() {
  constexpr int kFlags = METH_FASTCALL | METH_KEYWORDS;
  static PyMethodDef methods[] = {
      {"softmax", AsCFunction(Direct<Op::kSoftmax>), kFlags, nullptr},
      {"log_softmax", AsCFunction(Direct<Op::kLogSoftmax>), kFlags, nullptr},
      {"logsumexp", AsCFunction(Direct<Op::kLogSumExp>), kFlags, nullptr},
      {"softmax_backward", AsCFunction(DirectBackward<GradOp::kSoftmaxBackward>), kFlags, nullptr},
      {"log_softmax_backward", AsCFunction(DirectBackward<GradOp::kLogSoftmaxBackward>), kFlags, nullptr},
      {nullptr, nullptr, 0, nullptr}};
  return methods;
}

}  // namespace boltzmax
