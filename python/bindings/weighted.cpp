#include "weighted.hpp"

#include <algorithm>
#include <cmath>
#include <tuple>
#include <utility>
#include <vector>

#include "../../cpp/core/convert.hpp"
#include "../../cpp/core/exact_sum.hpp"
#include "../../cpp/core/row_blocks.hpp"
#include "../../cpp/core/softmax.hpp"
#include "../../cpp/core/weighted.hpp"
#include "arrays.hpp"
#include "checks.hpp"
#include "detached.hpp"
#include "direct.hpp"

namespace py = pybind11;

namespace boltzmax {

namespace {

struct Arguments {
  PyObject *x = nullptr, *axis = nullptr, *b = nullptr, *keepdims = nullptr, *return_sign = nullptr;

  bool Read(PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
    if (nargs < 1 || nargs > 2 || kwnames == nullptr) return false;
    x = args[0];
    if (nargs > 1) axis = args[1];
    const Py_ssize_t named = PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < named; ++i) {
      PyObject** slot = Slot(PyTuple_GET_ITEM(kwnames, i));
      if (slot == nullptr || *slot != nullptr) return false;
      *slot = args[nargs + i];
    }
    return IsFlag(keepdims) && IsFlag(return_sign);
  }

 private:
  static bool IsFlag(PyObject* value) { return value == nullptr || value == Py_False || value == Py_True; }

  PyObject** Slot(PyObject* name) {
    if (PyUnicode_CompareWithASCIIString(name, "b") == 0) return &b;
    if (PyUnicode_CompareWithASCIIString(name, "return_sign") == 0) return &return_sign;
    if (PyUnicode_CompareWithASCIIString(name, "axis") == 0) return &axis;
    if (PyUnicode_CompareWithASCIIString(name, "keepdims") == 0) return &keepdims;
    return nullptr;
  }
};

// Weights that broadcast to x.
struct Weights {
  DType dtype;
  const char* data;
  PyArrayObject* array;  // null for a number

  ptrdiff_t Stride(int d, int ndim) const {
    const int own = array == nullptr ? -1 : d - (ndim - PyArray_NDIM(array));
    return own < 0 || PyArray_DIM(array, own) == 1 ? 0 : PyArray_STRIDE(array, own);
  }
};

bool ReadWeights(PyObject* value, PyArrayObject* x, double* number, Weights* weights) {
  *weights = {DType::kFloat64, reinterpret_cast<const char*>(number), nullptr};
  if (PyFloat_CheckExact(value)) {
    *number = PyFloat_AS_DOUBLE(value);
    return true;
  }
  if (!PyArray_CheckExact(value)) return false;
  auto* array = reinterpret_cast<PyArrayObject*>(value);
  const auto dtype = DTypeOf(array);
  const int missing = PyArray_NDIM(x) - PyArray_NDIM(array);
  if (!dtype || missing < 0) return false;
  for (int d = 0; d < PyArray_NDIM(array); ++d) {
    if (PyArray_DIM(array, d) != PyArray_DIM(x, d + missing) && PyArray_DIM(array, d) != 1) return false;
  }
  *weights = {*dtype, PyArray_BYTES(array), array};
  return true;
}

// The sign of a sum of exponentials, given its logarithm.
double SignOfLog(double log_sum) {
  if (std::isnan(log_sum)) return log_sum;
  return std::isinf(log_sum) && log_sum < 0.0 ? 0.0 : 1.0;
}

// log |sum| and, if wanted, its sign: arrays with one element for each row of x.
void RunRows(PyArrayObject* x, DType dtype, int axis, const Weights* weights, PyArrayObject* log_size,
             PyArrayObject* sign) {
  const int ndim = PyArray_NDIM(x);
  Axes outer, inner;
  const auto item = static_cast<ptrdiff_t>(ItemSize(dtype));
  ptrdiff_t reach = PyArray_SIZE(log_size) * item;
  for (int d = 0; d < ndim; ++d) {
    const bool reduced = d == axis || axis == kAllAxes;
    const auto size = static_cast<size_t>(PyArray_DIM(x, d));
    if (!reduced && size != 0) reach /= static_cast<ptrdiff_t>(size);
    const ptrdiff_t second = weights != nullptr ? weights->Stride(d, ndim) : (reduced ? 0 : reach);
    (reduced ? inner : outer).push_back({size, {PyArray_STRIDE(x, d), second, 0, 0}});
  }
  char* signs = sign == nullptr ? nullptr : PyArray_BYTES(sign);
  if (weights != nullptr) {
    return Run(WeightedProblem{dtype, weights->dtype, dtype, PyArray_BYTES(x), weights->data, nullptr, nullptr,
                               std::move(outer), std::move(inner), PyArray_BYTES(log_size), signs});
  }
  Run(Problem{Op::kLogSumExp, dtype, dtype, PyArray_BYTES(x), PyArray_BYTES(log_size), nullptr, nullptr,
              std::move(outer), std::move(inner)});
  const GatherFn load = Gather(dtype, DType::kFloat64);
  const auto store = KernelsFor(dtype).store_scalar;
  for (npy_intp r = 0; r < PyArray_SIZE(log_size); ++r) {
    double value;
    load(PyArray_BYTES(log_size) + r * item, 0, 1, &value);
    store(signs + r * item, SignOfLog(value));
  }
}

npy_intp StrideOr0(PyArrayObject* array, int d) { return array == nullptr ? 0 : PyArray_STRIDE(array, d); }

// log_size[outer], sign[outer] = log |sum| and sign of sum of b * exp(x / temperature) where mask, over the inner axes.
void RunWeighted(const py::object& x_object, const py::object& b_object, const py::object& log_size_object,
                 const py::object& sign_object, int reduced, const py::object& mask_object,
                 const py::object& temperature_object) {
  const auto optional = [](const py::object& object, const char* name) {
    return object.is_none() ? nullptr : AsArray(object, name);
  };
  PyArrayObject *x = AsArray(x_object, "x"), *b = AsArray(b_object, "b");
  PyArrayObject *log_size = AsArray(log_size_object, "log_size"), *sign = optional(sign_object, "sign");
  PyArrayObject *mask = optional(mask_object, "mask"), *temperature = optional(temperature_object, "temperature");
  const int ndim = PyArray_NDIM(x), outer = ndim - reduced;
  Require(reduced >= 0 && outer >= 0, "reduced is out of range");
  const auto x_dtype = DTypeOf(x), b_dtype = DTypeOf(b), storage = DTypeOf(log_size);
  Require(x_dtype && b_dtype && storage && HasKernels(*storage), "no native support for these dtypes");
  Require(PyArray_NDIM(b) == ndim && PyArray_SAMESHAPE(x, b), "b does not fit x");
  Require(mask == nullptr || (PyArray_SAMESHAPE(mask, x) && PyArray_TYPE(mask) == NPY_BOOL), "mask does not fit x");
  Require(temperature == nullptr || (PyArray_NDIM(temperature) == outer && PyArray_TYPE(temperature) == NPY_DOUBLE &&
                                     PyArray_ISALIGNED(temperature)),
          "temperature does not fit x");
  Require(PyArray_NDIM(log_size) == outer && (sign == nullptr || PyArray_SAMESHAPE(sign, log_size)),
          "the results have the wrong shape");
  for (PyArrayObject* result : {log_size, sign}) {
    if (result == nullptr) continue;
    Require(DTypeOf(result) == storage && PyArray_IS_C_CONTIGUOUS(result) && PyArray_ISBEHAVED(result),
            "the results must be contiguous and of one dtype");
  }
  WeightedProblem problem = {*x_dtype,
                             *b_dtype,
                             *storage,
                             PyArray_BYTES(x),
                             PyArray_BYTES(b),
                             mask == nullptr ? nullptr : PyArray_BYTES(mask),
                             temperature == nullptr ? nullptr : PyArray_BYTES(temperature),
                             {},
                             {},
                             PyArray_BYTES(log_size),
                             sign == nullptr ? nullptr : PyArray_BYTES(sign)};
  for (int d = 0; d < ndim; ++d) {
    const npy_intp size = PyArray_DIM(x, d);
    Require(d >= outer || PyArray_DIM(log_size, d) == size, "the results have the wrong shape");
    Require(temperature == nullptr || d >= outer || PyArray_DIM(temperature, d) == size,
            "temperature has the wrong shape");
    (d < outer ? problem.outer : problem.inner)
        .push_back({static_cast<size_t>(size),
                    {PyArray_STRIDE(x, d), PyArray_STRIDE(b, d), StrideOr0(mask, d),
                     d < outer ? StrideOr0(temperature, d) : 0}});
  }
  Detached(2.0 * EstimateNanoseconds(static_cast<size_t>(PyArray_SIZE(x)), DType::kFloat64), [&] { Run(problem); });
}

// log |S|, and real and imaginary part of S up to a positive factor, each as a sum of two numbers, of S = sum (w_re + i w_im) exp(re + i im). Every row of re
// and im has the parts of an exponent.
py::tuple ExactSum(const py::object& re_object, const py::object& im_object, const py::object& w_re_object,
                   const py::object& w_im_object) {
  PyArrayObject *re = AsArray(re_object, "re"), *im = AsArray(im_object, "im");
  PyArrayObject *w_re = AsArray(w_re_object, "w_re"), *w_im = AsArray(w_im_object, "w_im");
  constexpr npy_intp kParts = std::tuple_size_v<ExpTerm::Parts>;
  for (PyArrayObject* array : {re, im, w_re, w_im}) {
    Require(PyArray_TYPE(array) == NPY_DOUBLE && PyArray_ISCARRAY_RO(array), "the parts must be contiguous doubles");
  }
  Require(PyArray_NDIM(re) == 2 && PyArray_DIM(re, 1) == kParts && PyArray_SAMESHAPE(re, im) &&
              PyArray_NDIM(w_re) == 1 && PyArray_DIM(w_re, 0) == PyArray_DIM(re, 0) && PyArray_SAMESHAPE(w_re, w_im),
          "the parts have the wrong shape");
  const auto data = [](PyArrayObject* array) { return reinterpret_cast<const double*>(PyArray_BYTES(array)); };
  LogOfExact result{};
  Detached([&] {
    std::vector<ExpTerm> terms(static_cast<size_t>(PyArray_DIM(re, 0)));
    for (size_t i = 0; i < terms.size(); ++i) {
      std::copy_n(data(re) + i * kParts, kParts, terms[i].re.begin());
      std::copy_n(data(im) + i * kParts, kParts, terms[i].im.begin());
      terms[i].weight_re = data(w_re)[i];
      terms[i].weight_im = data(w_im)[i];
    }
    JoinEqual(&terms);
    result = LogOfSum(terms);
  });
  const auto in_parts = [](long double value) {
    const auto high = static_cast<double>(value);
    return py::make_tuple(high, std::isinf(high) ? 0.0 : static_cast<double>(value - static_cast<long double>(high)));
  };
  return py::make_tuple(in_parts(result.log_size), in_parts(result.re), in_parts(result.im));
}

}  // namespace

PyObject* TryWeighted(PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  Arguments a;
  DType dtype{};
  int axis;
  if (!a.Read(args, nargs, kwnames)) return nullptr;
  PyArrayObject* x = ReadArray(a.x, &dtype);
  if (x == nullptr || !ReadAxis(a.axis, PyArray_NDIM(x), &axis)) return nullptr;
  const bool weighted = a.b != nullptr && a.b != Py_None, wants_sign = a.return_sign == Py_True;
  if (!weighted && !wants_sign) return nullptr;
  double number;
  Weights weights{};
  if (weighted && !ReadWeights(a.b, x, &number, &weights)) return nullptr;

  const bool keepdims = a.keepdims == Py_True;
  PyObject* log_size = NewReduced(x, axis, keepdims);
  if (log_size == nullptr) return nullptr;
  PyObject* sign = wants_sign ? NewReduced(x, axis, keepdims) : nullptr;
  const double cost = 2.0 * EstimateNanoseconds(static_cast<size_t>(PyArray_SIZE(x)), dtype);
  const bool done = (sign != nullptr || !wants_sign) && RunDetached(cost, [&] {
                      RunRows(x, dtype, axis, weighted ? &weights : nullptr, reinterpret_cast<PyArrayObject*>(log_size),
                              reinterpret_cast<PyArrayObject*>(sign));
                    });
  if (!done) {
    Py_DECREF(log_size);
    Py_XDECREF(sign);
    return nullptr;
  }
  const auto result = [&](PyObject* array) { return keepdims ? array : ScalarIfZeroD(array); };
  if (!wants_sign) return result(log_size);
  PyObject* both = PyTuple_New(2);
  if (both == nullptr) {
    Py_DECREF(log_size);
    Py_DECREF(sign);
    return nullptr;
  }
  PyTuple_SET_ITEM(both, 0, result(log_size));
  PyTuple_SET_ITEM(both, 1, result(sign));
  return both;
}

void BindWeighted(py::module_& module) {
  module.def("run_weighted", RunWeighted, py::arg("x"), py::arg("b"), py::arg("log_size"), py::arg("sign"),
             py::arg("reduced"), py::arg("mask"), py::arg("temperature"));
  module.def("exact_sum", ExactSum, py::arg("re"), py::arg("im"), py::arg("w_re"), py::arg("w_im"));
}

}  // namespace boltzmax
