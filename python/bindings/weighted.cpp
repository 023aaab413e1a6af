#include "weighted.hpp"

#include <algorithm>
#include <cmath>
#include <tuple>
#include <utility>
#include <vector>

#include "../../cpp/core/rows/softmax.hpp"
#include "../../cpp/core/runtime/convert.hpp"
#include "../../cpp/core/runtime/row_blocks.hpp"
#include "../../cpp/core/weighted/exact_sum.hpp"
#include "../../cpp/core/weighted/weighted.hpp"
#include "arrays.hpp"
#include "checks.hpp"
#include "detached.hpp"
#include "softmax_call.hpp"

namespace py = pybind11;

namespace boltzmax {

namespace {

npy_intp StrideOr0(PyArrayObject* array, int d) { return array == nullptr ? 0 : PyArray_STRIDE(array, d); }

// Adds the axes of a call, in the order of x; the results have one element per row.
void AddAxes(const Call& call, const BroadcastInput& weights, PyArrayObject* log_size, PyArrayObject* sign,
             WeightedProblem* problem) {
  PyArrayObject* x = call.x.array.get();
  for (int d = 0, k = 0; d < PyArray_NDIM(x); ++d) {
    const auto size = static_cast<size_t>(PyArray_DIM(x, d));
    const bool reduced = Contains(call.reduced, d);
    (reduced ? problem->inner : problem->outer)
        .push_back(
            {size,
             {PyArray_STRIDE(x, d), weights.StrideAt(d), call.mask.StrideAt(d), call.temperature.rows.StrideAt(d)}});
    if (!reduced) problem->results.push_back({size, {PyArray_STRIDE(log_size, k), StrideOr0(sign, k), 0, 0}});
    k += call.Keeps(d) ? 1 : 0;
  }
}

void Run(const Call& call, const BroadcastInput& weights, PyArrayObject* log_size, PyArrayObject* sign) {
  WeightedProblem problem{};
  problem.input = call.x.dtype;
  problem.weights = *DTypeOf(weights.array.get());
  problem.storage = call.storage;
  problem.x = PyArray_BYTES(call.x.array.get());
  problem.b = weights.bytes();
  problem.mask = call.mask.bytes();
  problem.temperature = call.temperature.bytes();
  problem.log_size = PyArray_BYTES(log_size);
  problem.sign = sign == nullptr ? nullptr : PyArray_BYTES(sign);
  AddAxes(call, weights, log_size, sign, &problem);
  Run(problem);
}

double CostOf(PyArrayObject* x) {
  return 2.0 * EstimateNanoseconds(static_cast<size_t>(PyArray_SIZE(x)), DType::kFloat64);
}

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
    Require(DTypeOf(result) == storage && PyArray_ISWRITEABLE(result), "the results must be of one dtype");
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
                             sign == nullptr ? nullptr : PyArray_BYTES(sign),
                             {}};
  for (int d = 0; d < ndim; ++d) {
    const npy_intp size = PyArray_DIM(x, d);
    Require(d >= outer || PyArray_DIM(log_size, d) == size, "the results have the wrong shape");
    Require(temperature == nullptr || d >= outer || PyArray_DIM(temperature, d) == size,
            "temperature has the wrong shape");
    (d < outer ? problem.outer : problem.inner)
        .push_back({static_cast<size_t>(size),
                    {PyArray_STRIDE(x, d), PyArray_STRIDE(b, d), StrideOr0(mask, d),
                     d < outer ? StrideOr0(temperature, d) : 0}});
    if (d < outer) {
      problem.results.push_back({static_cast<size_t>(size), {PyArray_STRIDE(log_size, d), StrideOr0(sign, d), 0, 0}});
    }
  }
  Detached(CostOf(x), [&] { Run(problem); });
}

// log |S|, and the real and imaginary part of S up to a positive factor, each as a sum of two numbers, for S = sum
// (w_re + i w_im) exp(re + i im). Each row of re and im has the parts of one exponent.
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

PyObject* TryWeighted(const Arguments& given) {
  Call call(Op::kLogSumExp);
  BroadcastInput weights;
  if (!ReadCall(given, &call) || !ReadBroadcast(given.b, call.x.array.get(), &weights)) return nullptr;
  if (call.out && MayOverlap(call.out.get(), weights.array.get())) return nullptr;
  ArrayRef sign = call.return_sign ? NewResult(call) : ArrayRef();
  if (call.return_sign && !sign) return nullptr;
  const bool is_new = !call.out;
  ArrayRef log_size = is_new ? NewResult(call) : std::move(call.out);
  if (!log_size) return nullptr;
  if (!RunDetached(CostOf(call.x.array.get()), [&] { Run(call, weights, log_size.get(), sign.get()); })) return nullptr;
  PyObject* value = is_new ? ScalarIfZeroD(std::move(log_size)) : log_size.release();
  return call.return_sign ? Py_BuildValue("NN", value, ScalarIfZeroD(std::move(sign))) : value;
}

void BindWeighted(py::module_& module) {
  module.def("run_weighted", RunWeighted, py::arg("x"), py::arg("b"), py::arg("log_size"), py::arg("sign"),
             py::arg("reduced"), py::arg("mask"), py::arg("temperature"));
  module.def("exact_sum", ExactSum, py::arg("re"), py::arg("im"), py::arg("w_re"), py::arg("w_im"));
}

}  // namespace boltzmax
