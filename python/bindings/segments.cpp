#include "segments.hpp"

#include <limits>
#include <string>

#include "../../cpp/core/runtime/row_blocks.hpp"
#include "../../cpp/core/variants/mixture.hpp"
#include "../../cpp/core/variants/scan_gradients.hpp"
#include "../../cpp/core/variants/segments.hpp"
#include "arrays.hpp"
#include "checks.hpp"
#include "detached.hpp"

namespace py = pybind11;

namespace boltzmax {

namespace {

PyArrayObject* AsContiguous(const py::object& object, const char* name, int ndim) {
  PyArrayObject* array = AsArray(object, name);
  Require(PyArray_ISCARRAY_RO(array) && PyArray_NDIM(array) == ndim, "an array has the wrong form");
  return array;
}
PyArrayObject* AsIntegers(const py::object& object, const char* name) {
  PyArrayObject* array = AsContiguous(object, name, 1);
  Require(PyArray_TYPE(array) == NPY_INT64, "an array has the wrong type");
  return array;
}
int64_t* Integers(PyArrayObject* array) { return static_cast<int64_t*>(PyArray_DATA(array)); }

void RequireAscending(const int64_t* indptr, npy_intp count) {
  // The sign bits of all numbers, and of their differences, which do not overflow where no number is negative.
  uint64_t signs = 0;
  for (npy_intp s = 1; s < count; ++s) {
    const auto before = static_cast<uint64_t>(indptr[s - 1]), at = static_cast<uint64_t>(indptr[s]);
    signs |= at | (at - before);
  }
  const auto number = [&](npy_intp s) { return "indptr[" + std::to_string(s) + "] = " + std::to_string(indptr[s]); };
  for (npy_intp s = 1; s < count && signs >> 63 != 0; ++s) {
    if (indptr[s] >= indptr[s - 1]) continue;
    throw py::value_error("indptr must not decrease, but " + number(s) + " is below " + number(s - 1));
  }
}

// The segments of `indptr`, which ascends and ends within `elements`.
size_t CountSegments(PyArrayObject* indptr, npy_intp elements) {
  const npy_intp count = PyArray_SIZE(indptr);
  const int64_t* at = Integers(indptr);
  Require(count > 0 && at[0] >= 0 && at[count - 1] <= elements, "indptr does not fit");
  RequireAscending(at, count);
  return static_cast<size_t>(count) - 1;
}

// out = function(x) or, with the result of a function as `other`, its gradient, in every segment.
void RunSegments(const std::string& function, const py::object& x_object, const py::object& other_object,
                 const py::object& out_object, const py::object& indptr_object) {
  PyArrayObject* x = AsContiguous(x_object, "x", 1);
  PyArrayObject* other = other_object.is_none() ? nullptr : AsContiguous(other_object, "other", 1);
  PyArrayObject* out = AsContiguous(out_object, "out", 1);
  PyArrayObject* indptr = AsIntegers(indptr_object, "indptr");
  const Op op = OpNamed(function, other == nullptr ? &OpTraits::name : &OpTraits::name_of_gradient);
  const size_t segments = CountSegments(indptr, PyArray_SIZE(x));
  const SegmentProblem problem = {
      op, RequireDType(out), PyArray_BYTES(x), BytesOrNull(other), PyArray_BYTES(out), Integers(indptr), segments};
  Require(RequireDType(x) == problem.storage && (other == nullptr || RequireDType(other) == problem.storage),
          "the dtypes differ");
  Require(other == nullptr || PyArray_SIZE(other) == PyArray_SIZE(x), "other has the wrong size");
  Require(PyArray_SIZE(out) == (Reduces(op) ? static_cast<npy_intp>(segments) : PyArray_SIZE(x)),
          "out has the wrong size");
  Require(HasKernels(problem.storage) && PyArray_ISWRITEABLE(out), "out cannot be written to");
  Detached(EstimateNanoseconds(segments, static_cast<size_t>(PyArray_SIZE(x)) / (segments + 1), problem.storage),
           [&] { Run(problem); });
}

// order and indptr of the ids; returns the first element with an id out of range, or their number.
size_t SortIds(const py::object& ids_object, const py::object& order_object, const py::object& indptr_object) {
  PyArrayObject* ids = AsIntegers(ids_object, "ids");
  PyArrayObject* order = AsIntegers(order_object, "order");
  PyArrayObject* indptr = AsIntegers(indptr_object, "indptr");
  const auto count = static_cast<size_t>(PyArray_SIZE(ids));
  Require(PyArray_SIZE(order) == PyArray_SIZE(ids) && PyArray_SIZE(indptr) > 0, "an array has the wrong size");
  Require(PyArray_ISWRITEABLE(order) && PyArray_ISWRITEABLE(indptr), "a result cannot be written to");
  size_t first_bad = 0;
  Detached(2.0 * static_cast<double>(count), [&] {
    first_bad = SortBySegment(Integers(ids), count, static_cast<size_t>(PyArray_SIZE(indptr)) - 1, Integers(order),
                              Integers(indptr));
  });
  return first_bad;
}

// out[r, k] = log sum_m exp(log_weights[r, m] + log_softmax(x[r, m])[k])
void RunMixture(const py::object& x_object, const py::object& log_weights_object, const py::object& out_object) {
  PyArrayObject* x = AsContiguous(x_object, "x", 3);
  PyArrayObject* log_weights = AsContiguous(log_weights_object, "log_weights", 2);
  PyArrayObject* out = AsContiguous(out_object, "out", 2);
  const auto size = [&](int d) { return static_cast<size_t>(PyArray_DIM(x, d)); };
  const MixtureProblem problem = {RequireDType(x),
                                  PyArray_BYTES(x),
                                  static_cast<const double*>(PyArray_DATA(log_weights)),
                                  PyArray_BYTES(out),
                                  size(0),
                                  size(1),
                                  size(2)};
  Require(PyArray_TYPE(log_weights) == NPY_DOUBLE && PyArray_DIM(log_weights, 0) == PyArray_DIM(x, 0) &&
              PyArray_DIM(log_weights, 1) == PyArray_DIM(x, 1),
          "log_weights do not fit x");
  Require(RequireDType(out) == problem.storage && PyArray_DIM(out, 0) == PyArray_DIM(x, 0) &&
              PyArray_DIM(out, 1) == PyArray_DIM(x, 2),
          "out does not fit x");
  Require(HasKernels(problem.storage) && PyArray_ISWRITEABLE(out), "out cannot be written to");
  Detached(EstimateNanoseconds(static_cast<size_t>(PyArray_SIZE(x)), problem.storage), [&] { Run(problem); });
}

Scan ScanNamed(const std::string& name) {
  if (name == "logcumsumexp") return Scan::kRunningLogSumExp;
  if (name == "windowed_logsumexp") return Scan::kWindowedLogSumExp;
  Require(name == "windowed_softmax", "no scan has this name");
  return Scan::kWindowedSoftmax;
}

// out[r], the gradient of a scan of the row x[r], given dy[r] by its result.
void RunScanGradient(const std::string& scan, const py::object& dy_object, const py::object& x_object,
                     const py::object& out_object, size_t half) {
  PyArrayObject* dy = AsContiguous(dy_object, "dy", 2);
  PyArrayObject* x = AsContiguous(x_object, "x", 2);
  PyArrayObject* out = AsContiguous(out_object, "out", 2);
  for (PyArrayObject* array : {dy, x, out}) {
    Require(PyArray_TYPE(array) == NPY_DOUBLE && PyArray_SAMESHAPE(array, x), "the arrays do not fit");
  }
  Require(PyArray_ISWRITEABLE(out), "out cannot be written to");
  const ScanGradientProblem problem = {ScanNamed(scan),
                                       static_cast<const double*>(PyArray_DATA(dy)),
                                       static_cast<const double*>(PyArray_DATA(x)),
                                       static_cast<double*>(PyArray_DATA(out)),
                                       static_cast<size_t>(PyArray_DIM(x, 0)),
                                       static_cast<size_t>(PyArray_DIM(x, 1)),
                                       half};
  Detached(EstimateNanoseconds(static_cast<size_t>(PyArray_SIZE(x)), DType::kFloat64), [&] { Run(problem); });
}

}  // namespace

void BindSegments(py::module_& module) {
  module.def("run_mixture", RunMixture, py::arg("x"), py::arg("log_weights"), py::arg("out"));
  module.def("run_scan_gradient", RunScanGradient, py::arg("scan"), py::arg("dy"), py::arg("x"), py::arg("out"),
             py::arg("half") = 0);
  module.def("run_segments", RunSegments, py::arg("function"), py::arg("x"), py::arg("other"), py::arg("out"),
             py::arg("indptr"));
  module.def(
      "require_ascending",
      [](const py::object& indptr_object) {
        PyArrayObject* indptr = AsIntegers(indptr_object, "indptr");
        RequireAscending(Integers(indptr), PyArray_SIZE(indptr));
      },
      py::arg("indptr"));
  module.def("sort_by_segment", SortIds, py::arg("ids"), py::arg("order"), py::arg("indptr"));
}

}  // namespace boltzmax
