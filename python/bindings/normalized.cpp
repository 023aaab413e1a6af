#include "normalized.hpp"

#include <stdexcept>
#include <string>

#include "../../cpp/core/rows/gradients.hpp"
#include "../../cpp/core/rows/softmax.hpp"
#include "../../cpp/core/runtime/row_blocks.hpp"
#include "arrays.hpp"
#include "checks.hpp"
#include "detached.hpp"

namespace py = pybind11;

namespace boltzmax {

namespace {

// out[outer] or out[outer, inner] = op(x[outer, inner] / temperature[outer]) where mask[outer, inner].
void RunNormalized(const std::string& function, const py::object& x_object, const py::object& out_object, int reduced,
                   const py::object& mask_object, const py::object& temperature_object) {
  PyArrayObject* x = AsArray(x_object, "x");
  PyArrayObject* out = AsArray(out_object, "out");
  PyArrayObject* mask = AsOptionalArray(mask_object, "mask");
  PyArrayObject* temperature = AsOptionalArray(temperature_object, "temperature");
  const int ndim = PyArray_NDIM(x), outer = ndim - reduced;
  const Op op = OpNamed(function, &OpTraits::name);
  Require(reduced >= 0 && outer >= 0, "reduced is out of range");
  const bool reduces = Reduces(op);
  Require(PyArray_NDIM(out) == (reduces ? outer : ndim), "out has the wrong number of axes");
  Require(mask == nullptr || (PyArray_NDIM(mask) == ndim && PyArray_TYPE(mask) == NPY_BOOL), "mask does not fit x");
  Require(temperature == nullptr || (PyArray_NDIM(temperature) == outer && PyArray_TYPE(temperature) == NPY_DOUBLE &&
                                     PyArray_ISALIGNED(temperature)),
          "temperature does not fit x");
  Problem problem = {op,
                     RequireDType(x),
                     RequireDType(out),
                     PyArray_BYTES(x),
                     PyArray_BYTES(out),
                     BytesOrNull(mask),
                     BytesOrNull(temperature),
                     {},
                     {}};
  Require(HasKernels(problem.storage) && PyArray_ISWRITEABLE(out), "out cannot be written to");
  for (int d = 0; d < ndim; ++d) {
    const npy_intp size = PyArray_DIM(x, d);
    const bool in_out = d < outer || !reduces;
    Require(!in_out || PyArray_DIM(out, d) == size, "out has the wrong shape");
    Require(mask == nullptr || PyArray_DIM(mask, d) == size, "mask has the wrong shape");
    Require(temperature == nullptr || d >= outer || PyArray_DIM(temperature, d) == size,
            "temperature has the wrong shape");
    const Axis axis = {static_cast<size_t>(size),
                       {PyArray_STRIDE(x, d), in_out ? PyArray_STRIDE(out, d) : 0, StrideOr0(mask, d),
                        d < outer ? StrideOr0(temperature, d) : 0}};
    (d < outer ? problem.outer : problem.inner).push_back(axis);
  }
  Detached(EstimateNanoseconds(static_cast<size_t>(PyArray_SIZE(x)), problem.storage), [&] { Run(problem); });
}

void RunNormalizedBackward(const std::string& function, const py::object& dy_object, const py::object& y_object,
                           const py::object& dx_object, int reduced) {
  PyArrayObject* dy = AsArray(dy_object, "dy");
  PyArrayObject* y = AsArray(y_object, "y");
  PyArrayObject* dx = AsArray(dx_object, "dx");
  const int ndim = PyArray_NDIM(dy);
  const Op op = OpNamed(function, &OpTraits::name_of_gradient);
  Require(reduced >= 0 && reduced <= ndim, "reduced is out of range");
  GradProblem problem = {op, RequireDType(dx), PyArray_BYTES(dy), PyArray_BYTES(y), PyArray_BYTES(dx), {}, {}};
  Require(HasKernels(problem.storage) && RequireDType(dy) == problem.storage && RequireDType(y) == problem.storage,
          "dy, y and dx must have one dtype");
  Require(PyArray_SAMESHAPE(dy, y) && PyArray_SAMESHAPE(dy, dx) && PyArray_ISWRITEABLE(dx),
          "dy, y and dx must have one shape");
  for (int d = 0; d < ndim; ++d) {
    const Axis axis = {static_cast<size_t>(PyArray_DIM(dy, d)),
                       {PyArray_STRIDE(dy, d), PyArray_STRIDE(dx, d), PyArray_STRIDE(y, d), 0}};
    (d < ndim - reduced ? problem.outer : problem.inner).push_back(axis);
  }
  Detached(2.0 * EstimateNanoseconds(static_cast<size_t>(PyArray_SIZE(dy)), problem.storage), [&] { Run(problem); });
}

// A new array with the axes and the order of `like`, without the last `reduced` axes.
py::object EmptyLike(const py::object& like_object, const py::object& dtype, int reduced) {
  PyArrayObject* like = AsArray(like_object, "like");
  if (!PyArray_DescrCheck(dtype.ptr())) throw py::type_error("dtype must be a NumPy dtype");
  auto* descr = reinterpret_cast<PyArray_Descr*>(dtype.ptr());
  const int kept = PyArray_NDIM(like) - reduced;
  Require(reduced >= 0 && kept >= 0, "reduced is out of range");
  const npy_intp* order = PyArray_IS_C_CONTIGUOUS(like) ? nullptr : PyArray_STRIDES(like);
  ArrayRef array = NewArray(kept, PyArray_DIMS(like), descr, order);
  if (!array) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(array.release());
}

void RegisterBFloat16(const py::object& dtype) {
  if (!PyArray_DescrCheck(dtype.ptr())) throw py::type_error("dtype must be a NumPy dtype");
  SetBFloat16(reinterpret_cast<PyArray_Descr*>(dtype.ptr())->type_num);
}

}  // namespace

void BindNormalized(py::module_& module) {
  py::list operations;
  for (const OpTraits& op : kOps) {
    operations.append(
        py::make_tuple(op.name, op.name_of_gradient, op.kind == OpKind::kReduction, op.needs == OpNeeds::kLogSum));
  }
  module.attr("operations") = py::tuple(operations);
  module.def("run", RunNormalized, py::arg("function"), py::arg("x"), py::arg("out"), py::arg("reduced"),
             py::arg("mask"), py::arg("temperature"));
  module.def("run_backward", RunNormalizedBackward, py::arg("function"), py::arg("dy"), py::arg("y"), py::arg("dx"),
             py::arg("reduced"));
  module.def("empty_like", EmptyLike, py::arg("like"), py::arg("dtype"), py::arg("reduced") = 0);
  module.def("register_bfloat16", RegisterBFloat16, py::arg("dtype"));
}

}  // namespace boltzmax
