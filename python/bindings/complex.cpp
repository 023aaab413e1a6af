#include "complex.hpp"

#include "../../cpp/core/weighted/complex.hpp"
#include "arrays.hpp"
#include "checks.hpp"
#include "detached.hpp"

namespace py = pybind11;

namespace boltzmax {

namespace {

Numbers RequireNumbers(PyArrayObject* array) {
  const int type = PyArray_TYPE(array);
  if (!PyArray_ISBYTESWAPPED(array)) {
    if (type == NPY_CFLOAT) return {PyArray_BYTES(array), DType::kFloat32, true};
    if (type == NPY_CDOUBLE) return {PyArray_BYTES(array), DType::kFloat64, true};
  }
  return {PyArray_BYTES(array), RequireDType(array), false};
}

// A contiguous result with one element per row.
char* RequireResult(const py::object& object, const char* name, int type, PyArrayObject* x, int outer) {
  PyArrayObject* result = AsArray(object, name);
  Require(PyArray_TYPE(result) == type && PyArray_NDIM(result) == outer && PyArray_IS_C_CONTIGUOUS(result) &&
              PyArray_ISBEHAVED(result),
          "a result has the wrong type or layout");
  for (int d = 0; d < outer; ++d) Require(PyArray_DIM(result, d) == PyArray_DIM(x, d), "a result has the wrong shape");
  return PyArray_BYTES(result);
}

// log_size[outer], sum[outer] of sum of b * exp(x / temperature) where mask, over the inner axes; special[outer] marks
// the rows that are not computed.
void RunComplexSum(const py::object& x_object, const py::object& b_object, const py::object& log_size,
                   const py::object& sum, const py::object& special, int reduced, const py::object& mask_object,
                   const py::object& temperature_object) {
  PyArrayObject *x = AsArray(x_object, "x"), *b = AsOptionalArray(b_object, "b");
  PyArrayObject* mask = AsOptionalArray(mask_object, "mask");
  PyArrayObject* temperature = AsOptionalArray(temperature_object, "temperature");
  const int ndim = PyArray_NDIM(x), outer = ndim - reduced;
  Require(reduced >= 0 && outer >= 0, "reduced is out of range");
  Require(b == nullptr || PyArray_SAMESHAPE(b, x), "b does not fit x");
  Require(mask == nullptr || (PyArray_SAMESHAPE(mask, x) && PyArray_TYPE(mask) == NPY_BOOL), "mask does not fit x");
  Require(temperature == nullptr || (PyArray_NDIM(temperature) == outer && PyArray_TYPE(temperature) == NPY_DOUBLE &&
                                     PyArray_ISALIGNED(temperature)),
          "temperature does not fit x");
  ComplexSumProblem problem = {RequireNumbers(x),
                               b == nullptr ? Numbers{nullptr, DType::kFloat64, false} : RequireNumbers(b),
                               mask == nullptr ? nullptr : PyArray_BYTES(mask),
                               temperature == nullptr ? nullptr : PyArray_BYTES(temperature),
                               {},
                               {},
                               reinterpret_cast<double*>(RequireResult(log_size, "log_size", NPY_DOUBLE, x, outer)),
                               reinterpret_cast<double*>(RequireResult(sum, "sum", NPY_CDOUBLE, x, outer)),
                               reinterpret_cast<uint8_t*>(RequireResult(special, "special", NPY_BOOL, x, outer))};
  for (int d = 0; d < ndim; ++d) {
    Require(temperature == nullptr || d >= outer || PyArray_DIM(temperature, d) == PyArray_DIM(x, d),
            "temperature has the wrong shape");
    (d < outer ? problem.outer : problem.inner)
        .push_back(
            {static_cast<size_t>(PyArray_DIM(x, d)),
             {PyArray_STRIDE(x, d), StrideOr0(b, d), StrideOr0(mask, d), d < outer ? StrideOr0(temperature, d) : 0}});
  }
  Detached([&] { Run(problem); });
}

// y = softmax(x), or its logarithm, over the inner axes.
void RunComplexSoftmax(bool wants_log, const py::object& x_object, const py::object& y_object,
                       const py::object& special, int reduced) {
  PyArrayObject *x = AsArray(x_object, "x"), *y = AsArray(y_object, "y");
  const int ndim = PyArray_NDIM(x), outer = ndim - reduced;
  Require(reduced >= 0 && outer >= 0, "reduced is out of range");
  ComplexSoftmaxProblem problem = {RequireNumbers(x),
                                   PyArray_BYTES(y),
                                   wants_log,
                                   {},
                                   {},
                                   reinterpret_cast<uint8_t*>(RequireResult(special, "special", NPY_BOOL, x, outer))};
  Require(problem.x.is_complex && PyArray_TYPE(y) == PyArray_TYPE(x) && PyArray_SAMESHAPE(x, y) && PyArray_ISBEHAVED(y),
          "y does not fit x");
  for (int d = 0; d < ndim; ++d) {
    (d < outer ? problem.outer : problem.inner)
        .push_back({static_cast<size_t>(PyArray_DIM(x, d)), {PyArray_STRIDE(x, d), PyArray_STRIDE(y, d), 0, 0}});
  }
  Detached([&] { Run(problem); });
}

}  // namespace

void BindComplex(py::module_& module) {
  module.def("run_complex_sum", RunComplexSum, py::arg("x"), py::arg("b"), py::arg("log_size"), py::arg("sum"),
             py::arg("special"), py::arg("reduced"), py::arg("mask"), py::arg("temperature"));
  module.def("run_complex_softmax", RunComplexSoftmax, py::arg("wants_log"), py::arg("x"), py::arg("y"),
             py::arg("special"), py::arg("reduced"));
}

}  // namespace boltzmax
