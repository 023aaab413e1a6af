#include "row_functions.hpp"

#include <string>

#include "../../cpp/core/runtime/row_blocks.hpp"
#include "../../cpp/core/variants/row_functions.hpp"
#include "arrays.hpp"
#include "checks.hpp"
#include "detached.hpp"

namespace py = pybind11;

namespace boltzmax {

namespace {

// out[outer, inner] or out[outer] = function(x[outer, inner], other[outer, inner]), with the last `reduced` axes inner.
void RunFunction(const std::string& function, const py::object& x_object, const py::object& other_object,
                 const py::object& out_object, int reduced, const py::object& mask_object,
                 const py::object& temperature_object, double number, int64_t count, uint64_t key, uint64_t first_row,
                 bool flag) {
  PyArrayObject* x = AsArray(x_object, "x");
  PyArrayObject* other = AsOptionalArray(other_object, "other");
  PyArrayObject* out = AsArray(out_object, "out");
  PyArrayObject* mask = AsOptionalArray(mask_object, "mask");
  PyArrayObject* temperature = AsOptionalArray(temperature_object, "temperature");
  const RowFunction& named = RowFunctionNamed(function);
  const int ndim = PyArray_NDIM(x), outer = ndim - reduced;
  Require(reduced >= 0 && outer >= 0, "reduced is out of range");
  Require(PyArray_NDIM(out) == (named.reduces ? outer : ndim), "out has the wrong number of axes");
  Require((other != nullptr) == named.has_other, "the function has another number of inputs");
  Require(other == nullptr || PyArray_SAMESHAPE(x, other), "other has the wrong shape");
  Require(mask == nullptr || (PyArray_SAMESHAPE(x, mask) && PyArray_TYPE(mask) == NPY_BOOL), "mask does not fit x");
  Require(temperature == nullptr || (PyArray_NDIM(temperature) == outer && PyArray_TYPE(temperature) == NPY_DOUBLE &&
                                     PyArray_ISALIGNED(temperature)),
          "temperature does not fit x");
  RowFunctionProblem problem = {&named,
                                RequireDType(x),
                                other == nullptr ? DType::kFloat32 : RequireDType(other),
                                RequireDType(out),
                                PyArray_BYTES(x),
                                BytesOrNull(other),
                                PyArray_BYTES(out),
                                BytesOrNull(mask),
                                BytesOrNull(temperature),
                                {number, count, key, first_row, flag},
                                {},
                                {}};
  Require(HasKernels(problem.storage) && PyArray_ISWRITEABLE(out), "out cannot be written to");
  for (int d = 0; d < ndim; ++d) {
    const npy_intp size = PyArray_DIM(x, d);
    const bool in_out = d < outer || !named.reduces;
    Require(!in_out || PyArray_DIM(out, d) == size, "out has the wrong shape");
    Require(temperature == nullptr || d >= outer || PyArray_DIM(temperature, d) == size,
            "temperature has the wrong shape");
    const Axis axis = {static_cast<size_t>(size),
                       {PyArray_STRIDE(x, d), in_out ? PyArray_STRIDE(out, d) : 0, StrideOr0(mask, d),
                        d < outer ? StrideOr0(temperature, d) : 0, StrideOr0(other, d)}};
    (d < outer ? problem.outer : problem.inner).push_back(axis);
  }
  const auto elements = static_cast<size_t>(PyArray_SIZE(x));
  Detached(named.cost * EstimateNanoseconds(elements, problem.storage), [&] { Run(problem); });
}

}  // namespace

void BindRowFunctions(py::module_& module) {
  module.def("run_function", RunFunction, py::arg("function"), py::arg("x"), py::arg("other"), py::arg("out"),
             py::arg("reduced"), py::arg("mask"), py::arg("temperature"), py::arg("number") = 0.0, py::arg("count") = 0,
             py::arg("key") = 0, py::arg("first_row") = 0, py::arg("flag") = false);
}

}  // namespace boltzmax
