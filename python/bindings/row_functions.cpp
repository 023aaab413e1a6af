#include "row_functions.hpp"

#include <string>

#include "../../cpp/core/runtime/row_blocks.hpp"
#include "../../cpp/core/variants/row_functions.hpp"
#include "arrays.hpp"
#include "checks.hpp"
#include "detached.hpp"
#include "softmax_call.hpp"

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

// ---- ordinary calls, without Python ----

// The arguments that follow those of softmax, as many as are given, in the order of `RowOptions`.
bool ReadOptions(std::span<PyObject* const> args, RowOptions* options) {
  *options = {};
  const size_t given = args.size();
  if (given > 5 || (given > 0 && !PyFloat_CheckExact(args[0]))) return false;
  for (size_t i = 1; i < std::min<size_t>(given, 4); ++i) {
    if (!PyLong_CheckExact(args[i])) return false;
  }
  if (given > 0) options->number = PyFloat_AS_DOUBLE(args[0]);
  if (given > 1) options->count = PyLong_AsLongLong(args[1]);
  if (given > 2) options->key = PyLong_AsUnsignedLongLong(args[2]);
  if (given > 3) options->first_row = PyLong_AsUnsignedLongLong(args[3]);
  const bool fit = PyErr_Occurred() == nullptr;  // into 64 bits
  PyErr_Clear();
  return fit && (given <= 4 || ReadFlag(args[4], &options->flag));
}

void Run(const RowFunction& function, const Call& call, const RowOptions& options, PyArrayObject* y) {
  PyArrayObject* x = call.x.array.get();
  RowFunctionProblem problem = {&function,
                                call.x.dtype,
                                DType::kFloat32,
                                call.storage,
                                PyArray_BYTES(x),
                                nullptr,
                                PyArray_BYTES(y),
                                call.mask.bytes(),
                                call.temperature.bytes(),
                                options,
                                {},
                                {}};
  for (int d = 0; d < PyArray_NDIM(x); ++d) {
    (Contains(call.reduced, d) ? problem.inner : problem.outer)
        .push_back({static_cast<size_t>(PyArray_DIM(x, d)),
                    {PyArray_STRIDE(x, d), PyArray_STRIDE(y, d), call.mask.StrideAt(d),
                     call.temperature.rows.StrideAt(d), 0}});
  }
  Run(problem);
}

// map_rows(function, x, axis, where, temperature, dtype, out[, number[, count[, key[, first_row[, flag]]]]]): the map, or
// None if the call is not ordinary. The caller has checked the range of the options.
PyObject* MapRows(PyObject*, PyObject* const* args, Py_ssize_t nargs) {
  constexpr Py_ssize_t kOptions = 7;
  if (nargs < kOptions) return PyErr_Format(PyExc_TypeError, "map_rows needs %zd arguments, got %zd", kOptions, nargs);
  const char* name = PyUnicode_AsUTF8(args[0]);
  if (name == nullptr) return nullptr;
  const Arguments given = {args[1], args[2], args[3], args[4], args[5], args[6], nullptr, nullptr, nullptr};
  Call call(Op::kSoftmax);
  RowOptions options;
  const bool is_ordinary = ReadOptions({args + kOptions, args + nargs}, &options) && ReadCall(given, &call) &&
                           (!call.out || !MayOverlap(call.out.get(), call.x.array.get()));
  if (!is_ordinary) return PyErr_Occurred() ? nullptr : Py_NewRef(Py_None);
  const bool is_new = !call.out;
  ArrayRef y = is_new ? NewResult(call) : std::move(call.out);
  if (!y) return nullptr;
  const double cost = EstimateNanoseconds(static_cast<size_t>(PyArray_SIZE(call.x.array.get())), call.storage);
  if (!RunDetached(cost, [&] { Run(RowFunctionNamed(name), call, options, y.get()); })) return nullptr;
  return is_new ? ScalarIfZeroD(std::move(y)) : y.release();
}

// The gradient of a map: inputs of the same shape and type.
struct RowsGradient {
  Input dy, other;
  AxisSet reduced = 0;
  ArrayRef out;  // or null

  bool Read(PyObject* const* args) {
    if (!ReadInput(args[0], &dy) || !ReadInput(args[1], &other)) return false;
    PyArrayObject* array = dy.array.get();
    if (!PyArray_SAMESHAPE(array, other.array.get()) || dy.dtype != other.dtype || !HasKernels(dy.dtype) ||
        !ReadAxes(args[2], PyArray_NDIM(array), &reduced)) {
      return false;
    }
    return IsDefault(args[3]) || (ReadOut(args[3], PyArray_NDIM(array), PyArray_DIMS(array), dy.dtype, &out) &&
                                  !MayOverlap(out.get(), array) && !MayOverlap(out.get(), other.array.get()));
  }
  void Run(const RowFunction& function, const double* parameter, int64_t count, PyArrayObject* dx) const {
    PyArrayObject* array = dy.array.get();
    RowFunctionProblem problem = {&function,
                                  dy.dtype,
                                  dy.dtype,
                                  dy.dtype,
                                  PyArray_BYTES(array),
                                  PyArray_BYTES(other.array.get()),
                                  PyArray_BYTES(dx),
                                  nullptr,
                                  reinterpret_cast<const char*>(parameter),
                                  {0.0, count, 0, 0, false},
                                  {},
                                  {}};
    for (int d = 0; d < PyArray_NDIM(array); ++d) {
      (Contains(reduced, d) ? problem.inner : problem.outer)
          .push_back({static_cast<size_t>(PyArray_DIM(array, d)),
                      {PyArray_STRIDE(array, d), PyArray_STRIDE(dx, d), 0, 0, PyArray_STRIDE(other.array.get(), d)}});
    }
    boltzmax::Run(problem);
  }
};

// gradient_of_rows(function, dy, other, axis, out, parameter, count): the gradient, or None if the call is not ordinary.
// `parameter` is a float for all rows, or None.
PyObject* GradientOfRows(PyObject*, PyObject* const* args, Py_ssize_t nargs) {
  constexpr Py_ssize_t kAll = 7;
  if (nargs != kAll) return PyErr_Format(PyExc_TypeError, "gradient_of_rows needs %zd arguments, got %zd", kAll, nargs);
  const char* name = PyUnicode_AsUTF8(args[0]);
  const int64_t count = PyLong_AsLongLong(args[6]);
  if (PyErr_Occurred()) return nullptr;
  RowsGradient call;
  const bool has_parameter = args[5] != Py_None;
  const bool is_ordinary = (!has_parameter || PyFloat_CheckExact(args[5])) && call.Read(args + 1);
  if (!is_ordinary) return PyErr_Occurred() ? nullptr : Py_NewRef(Py_None);
  const double parameter = has_parameter ? PyFloat_AS_DOUBLE(args[5]) : 0.0;
  const bool is_new = !call.out;
  PyArrayObject* dy = call.dy.array.get();
  ArrayRef dx = is_new ? NewArrayLike(dy, PyArray_DESCR(dy)) : std::move(call.out);
  if (!dx) return nullptr;
  const double cost = 2.0 * EstimateNanoseconds(static_cast<size_t>(PyArray_SIZE(dy)), call.dy.dtype);
  const auto run = [&] { call.Run(RowFunctionNamed(name), has_parameter ? &parameter : nullptr, count, dx.get()); };
  if (!RunDetached(cost, run)) return nullptr;
  return is_new ? ScalarIfZeroD(std::move(dx)) : dx.release();
}

}  // namespace

PyMethodDef* RowFunctionMethods() {
  static PyMethodDef methods[] = {{"map_rows", AsCFunction(MapRows), METH_FASTCALL, nullptr},
                                  {"gradient_of_rows", AsCFunction(GradientOfRows), METH_FASTCALL, nullptr},
                                  {nullptr, nullptr, 0, nullptr}};
  return methods;
}

void BindRowFunctions(py::module_& module) {
  module.def("run_function", RunFunction, py::arg("function"), py::arg("x"), py::arg("other"), py::arg("out"),
             py::arg("reduced"), py::arg("mask"), py::arg("temperature"), py::arg("number") = 0.0, py::arg("count") = 0,
             py::arg("key") = 0, py::arg("first_row") = 0, py::arg("flag") = false);
}

}  // namespace boltzmax
