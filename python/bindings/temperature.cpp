#include "temperature.hpp"

#include "../../cpp/core/runtime/row_blocks.hpp"
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

}  // namespace

void BindTemperature(py::module_& module) {
  module.def("temperature_derivatives", Derivatives, py::arg("logits"), py::arg("target"), py::arg("weight"),
             py::arg("temperature"));
}

}  // namespace boltzmax
