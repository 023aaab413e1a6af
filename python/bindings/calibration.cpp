#include "calibration.hpp"

#include "../../cpp/core/runtime/row_blocks.hpp"
#include "../../cpp/core/stats/bins.hpp"
#include "../../cpp/core/stats/temperature.hpp"
#include "arrays.hpp"
#include "checks.hpp"
#include "detached.hpp"

namespace py = pybind11;

namespace boltzmax {

namespace {

// The derivatives by 1 / T of the loss of a matrix of logits in C order, as a tuple.
py::tuple Derivatives(const py::object& logits_object, const py::object& target_object, const py::object& weight_object,
                      double temperature) {
  PyArrayObject* logits = AsArray(logits_object, "logits");
  PyArrayObject* target = AsArray(target_object, "target");
  PyArrayObject* weight = AsOptionalArray(weight_object, "weight");
  const DType storage = RequireDType(logits);
  Require(storage == DType::kFloat32 || storage == DType::kFloat64, "logits must be float32 or float64");
  Require(PyArray_NDIM(logits) == 2 && PyArray_ISCARRAY_RO(logits), "logits must be a matrix in C order");
  const npy_intp rows = PyArray_DIM(logits, 0), n = PyArray_DIM(logits, 1);
  const auto fits = [rows](PyArrayObject* array, int type) {
    return PyArray_TYPE(array) == type && PyArray_NDIM(array) == 1 && PyArray_DIM(array, 0) == rows &&
           PyArray_ISCARRAY_RO(array);
  };
  Require(fits(target, NPY_INT64), "target does not fit logits");
  Require(weight == nullptr || fits(weight, NPY_DOUBLE), "weight does not fit logits");
  const auto* classes = static_cast<const int64_t*>(PyArray_DATA(target));
  for (npy_intp r = 0; r < rows; ++r) Require(classes[r] >= 0 && classes[r] < n, "a target is out of range");
  const TemperatureProblem problem = {storage,
                                      PyArray_BYTES(logits),
                                      PyArray_STRIDE(logits, 0),
                                      static_cast<size_t>(rows),
                                      static_cast<size_t>(n),
                                      classes,
                                      weight == nullptr ? nullptr : static_cast<const double*>(PyArray_DATA(weight)),
                                      temperature};
  TemperatureDerivatives found = {};
  Detached(2.0 * EstimateNanoseconds(problem.rows * problem.n, storage), [&] { found = Run(problem); });
  return py::make_tuple(found.first, found.second);
}

// Adds rows to the sums (3, bins) of count, of events that happened and of p; returns how many p are not from 0 to 1.
size_t AddRows(const py::object& p_object, const py::object& happened_object, const py::object& edges_object,
               const py::object& sums_object) {
  PyArrayObject* p = AsArray(p_object, "p");
  PyArrayObject* happened = AsArray(happened_object, "happened");
  PyArrayObject* edges = AsArray(edges_object, "edges");
  PyArrayObject* sums = AsArray(sums_object, "sums");
  const DType storage = RequireDType(p);
  Require(storage == DType::kFloat32 || storage == DType::kFloat64, "p must be float32 or float64");
  Require(PyArray_NDIM(p) == 1 && PyArray_ISCARRAY_RO(p), "p must be contiguous");
  Require(PyArray_TYPE(happened) == NPY_BOOL && PyArray_SAMESHAPE(happened, p) && PyArray_ISCARRAY_RO(happened),
          "happened does not fit p");
  Require(PyArray_TYPE(edges) == NPY_DOUBLE && PyArray_NDIM(edges) == 1 && PyArray_DIM(edges, 0) > 1 &&
              PyArray_ISCARRAY_RO(edges),
          "edges must be a vector of doubles");
  const npy_intp bins = PyArray_DIM(edges, 0) - 1;
  Require(PyArray_TYPE(sums) == NPY_DOUBLE && PyArray_NDIM(sums) == 2 && PyArray_DIM(sums, 0) == 3 &&
              PyArray_DIM(sums, 1) == bins && PyArray_ISCARRAY(sums),
          "sums does not fit edges");
  const auto rows = static_cast<size_t>(PyArray_DIM(p, 0)), n = static_cast<size_t>(bins);
  auto* count = static_cast<double*>(PyArray_DATA(sums));
  const BinSums to = {count, count + n, count + 2 * n};
  const auto* hits = static_cast<const uint8_t*>(PyArray_DATA(happened));
  const auto* at = static_cast<const double*>(PyArray_DATA(edges));
  size_t invalid = 0;
  Detached(2.0 * static_cast<double>(rows), [&] {
    invalid = storage == DType::kFloat32
                  ? AddToBins(static_cast<const float*>(PyArray_DATA(p)), hits, rows, at, n, to)
                  : AddToBins(static_cast<const double*>(PyArray_DATA(p)), hits, rows, at, n, to);
  });
  return invalid;
}

}  // namespace

void BindCalibration(py::module_& module) {
  module.def("add_to_bins", AddRows, py::arg("p"), py::arg("happened"), py::arg("edges"), py::arg("sums"));
  module.def("temperature_derivatives", Derivatives, py::arg("logits"), py::arg("target"), py::arg("weight"),
             py::arg("temperature"));
}

}  // namespace boltzmax
