#include "direct.hpp"

#include <atomic>
#include <cmath>
#include <optional>

#include "../../cpp/core/rows/gradients.hpp"
#include "../../cpp/core/rows/softmax.hpp"
#include "../../cpp/core/runtime/convert.hpp"
#include "../../cpp/core/runtime/row_blocks.hpp"
#include "detached.hpp"
#include "softmax_call.hpp"
#include "weighted.hpp"

namespace boltzmax {

namespace {

// boltzmax.arrays.general.FUNCTIONS[name](*args, **kwargs)
PyObject* CallGeneral(const char* name, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  // Kept forever. With free threading, several threads may come first; each finds the same dictionary.
  static std::atomic<PyObject*> kept{nullptr};
  PyObject* functions = kept.load(std::memory_order_acquire);
  if (functions == nullptr) {
    PyObject* module = PyImport_ImportModule("boltzmax.arrays.general");
    functions = module == nullptr ? nullptr : PyObject_GetAttrString(module, "FUNCTIONS");
    Py_XDECREF(module);
    if (functions == nullptr) return nullptr;
    kept.store(functions, std::memory_order_release);
  }
  PyObject* function = PyMapping_GetItemString(functions, name);
  if (function == nullptr) return nullptr;
  PyObject* result = PyObject_Vectorcall(function, args, static_cast<size_t>(nargs), kwnames);
  Py_DECREF(function);
  return result;
}

// Contiguous rows.
struct Matrix {
  size_t rows, n;
};

// The matrix that an aligned, C-contiguous array is if its last axes are the reduced ones.
std::optional<Matrix> MatrixOf(PyArrayObject* array, AxisSet reduced) {
  if (!PyArray_ISCARRAY_RO(array)) return std::nullopt;
  Matrix matrix = {1, 1};
  int d = PyArray_NDIM(array);
  for (; d > 0 && Contains(reduced, d - 1); --d) matrix.n *= static_cast<size_t>(PyArray_DIM(array, d - 1));
  for (; d > 0 && !Contains(reduced, d - 1); --d) matrix.rows *= static_cast<size_t>(PyArray_DIM(array, d - 1));
  return d == 0 ? std::optional(matrix) : std::nullopt;
}

// ---- operations ----

// Runs a call whose rows are contiguous in x and y, with nothing to convert or mask; false for any other call.
bool RunMatrix(const Problem& problem, const Call& call, PyArrayObject* y) {
  PyArrayObject* x = call.x.array.get();
  const auto rows = MatrixOf(x, call.reduced);
  if (!rows || !PyArray_ISCARRAY(y) || call.x.dtype != call.storage || call.mask.array || call.temperature.rows.array) {
    return false;
  }
  RunContiguous(problem, rows->rows, rows->n);
  return true;
}

void Run(const Call& call, PyArrayObject* y) {
  PyArrayObject* x = call.x.array.get();
  const BroadcastInput& temperatures = call.temperature.rows;
  Problem problem;
  problem.op = call.op;
  problem.input = call.x.dtype;
  problem.storage = call.storage;
  problem.x = PyArray_BYTES(x);
  problem.y = PyArray_BYTES(y);
  problem.mask = call.mask.bytes();
  problem.temperature = call.temperature.bytes();
  if (RunMatrix(problem, call, y)) return;
  problem.outer.reserve(static_cast<size_t>(PyArray_NDIM(x)));
  for (int d = 0, k = 0; d < PyArray_NDIM(x); ++d) {
    const bool reduced = Contains(call.reduced, d), kept = call.Keeps(d);
    const npy_intp y_stride = kept && !(reduced && call.Reduces()) ? PyArray_STRIDE(y, k) : 0;
    k += kept ? 1 : 0;
    (reduced ? problem.inner : problem.outer)
        .push_back({static_cast<size_t>(PyArray_DIM(x, d)),
                    {PyArray_STRIDE(x, d), y_stride, call.mask.StrideAt(d), temperatures.StrideAt(d)}});
  }
  Run(problem);
}

// The sign of a sum of exponentials, given its logarithm.
double SignOfSum(double log_sum) { return std::isnan(log_sum) ? log_sum : log_sum == -HUGE_VAL ? 0.0 : 1.0; }

ArrayRef SignsOf(PyArrayObject* log_sums, DType storage) {
  ArrayRef signs = ArrayRef::Steal(PyArray_NewCopy(log_sums, NPY_KEEPORDER));  // dense, even if log_sums is not
  if (!signs) return signs;
  char* at = PyArray_BYTES(signs.get());
  const GatherFn read = Gather(storage, DType::kFloat64), write = Gather(DType::kFloat64, storage);
  for (npy_intp i = 0; i < PyArray_SIZE(signs.get()); ++i, at += ItemSize(storage)) {
    double value;
    read(at, 0, 1, &value);
    value = SignOfSum(value);
    write(reinterpret_cast<const char*>(&value), 0, 1, at);
  }
  return signs;
}

// The result; null without an exception if the call is not ordinary.
PyObject* TryDirect(Op op, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  Arguments given{};
  if (!TakeArguments(ParametersOf(op), 2, args, nargs, kwnames, &given)) return nullptr;
  if (!IsDefault(given.b)) return TryWeighted(given);
  Call call(op);
  if (!ReadCall(given, &call)) return nullptr;
  const bool is_new = !call.out;
  ArrayRef y = is_new ? NewResult(call) : std::move(call.out);
  if (!y) return nullptr;
  const double cost = EstimateNanoseconds(static_cast<size_t>(PyArray_SIZE(call.x.array.get())), call.storage);
  if (!RunDetached(cost, [&] { Run(call, y.get()); })) return nullptr;
  if (!call.return_sign) return is_new ? ScalarIfZeroD(std::move(y)) : y.release();
  ArrayRef signs = SignsOf(y.get(), call.storage);
  if (!signs) return nullptr;
  return Py_BuildValue("NN", is_new ? ScalarIfZeroD(std::move(y)) : y.release(), ScalarIfZeroD(std::move(signs)));
}

template <Op kOp>
PyObject* Direct(PyObject*, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  PyObject* result = TryDirect(kOp, args, nargs, kwnames);
  if (result != nullptr || PyErr_Occurred()) return result;
  return CallGeneral(TraitsOf(kOp).name, args, nargs, kwnames);
}

// ---- gradients ----

struct GradCall {
  explicit GradCall(Op operation) : op(operation) {}

  Op op;
  Input dy, y;
  AxisSet reduced = 0;
  DescrRef descr;
  DType storage = DType::kFloat32;
  ArrayRef out;
};

// The type that dy and y are converted to.
bool ReadCommonDType(const Input& dy, const Input& y, DescrRef* descr, DType* storage) {
  if (dy.dtype == y.dtype) {
    TakeDType(dy, descr, storage);
    return true;
  }
  PyArray_Descr* common = PyArray_PromoteTypes(PyArray_DESCR(dy.array.get()), PyArray_DESCR(y.array.get()));
  if (common == nullptr) {
    PyErr_Clear();
    return false;
  }
  *descr = DescrRef::Steal(reinterpret_cast<PyObject*>(common));
  const auto dtype = DTypeOf(common);
  if (!dtype) return false;
  *storage = *dtype;
  if (HasKernels(*dtype)) return true;
  *descr = DescrRef::Steal(reinterpret_cast<PyObject*>(PyArray_DescrFromType(NPY_DOUBLE)));
  *storage = DType::kFloat64;
  return true;
}

// Converts an operand that gradients do not read in its own type.
bool Convert(Input* operand, const GradCall& call) {
  if (operand->dtype == call.storage) return true;
  auto* descr = reinterpret_cast<PyArray_Descr*>(Py_NewRef(reinterpret_cast<PyObject*>(call.descr.get())));
  operand->array = ArrayRef::Steal(PyArray_FromArray(operand->array.get(), descr, NPY_ARRAY_FORCECAST));
  operand->dtype = call.storage;
  return static_cast<bool>(operand->array);
}

struct GradArguments {
  PyObject *dy, *y, *axis, *out;
};

constexpr Parameter<GradArguments> kGradParameters[] = {
    {"dy", &GradArguments::dy}, {"y", &GradArguments::y}, {"axis", &GradArguments::axis}, {"out", &GradArguments::out}};

bool ReadGradCall(const GradArguments& given, GradCall* call) {
  if (given.dy == nullptr || given.y == nullptr) return false;
  if (!ReadInput(given.dy, &call->dy) || !ReadInput(given.y, &call->y)) return false;
  PyArrayObject* array = call->dy.array.get();
  if (!PyArray_SAMESHAPE(array, call->y.array.get()) || !ReadAxes(given.axis, PyArray_NDIM(array), &call->reduced) ||
      !ReadCommonDType(call->dy, call->y, &call->descr, &call->storage) || !Convert(&call->dy, *call) ||
      !Convert(&call->y, *call)) {
    return false;
  }
  array = call->dy.array.get();
  return IsDefault(given.out) ||
         (ReadOut(given.out, PyArray_NDIM(array), PyArray_DIMS(array), call->storage, &call->out) &&
          IsSameOrDisjoint(call->out.get(), array) && IsSameOrDisjoint(call->out.get(), call->y.array.get()));
}

void Run(const GradCall& call, PyArrayObject* dx) {
  PyArrayObject *dy = call.dy.array.get(), *y = call.y.array.get();
  GradProblem problem = {call.op, call.storage, PyArray_BYTES(dy), PyArray_BYTES(y), PyArray_BYTES(dx), {}, {}};
  const auto rows = MatrixOf(dy, call.reduced);
  if (rows && PyArray_ISCARRAY_RO(y) && PyArray_ISCARRAY(dx)) return RunContiguous(problem, rows->rows, rows->n);
  for (int d = 0; d < PyArray_NDIM(dy); ++d) {
    (Contains(call.reduced, d) ? problem.inner : problem.outer)
        .push_back({static_cast<size_t>(PyArray_DIM(dy, d)),
                    {PyArray_STRIDE(dy, d), PyArray_STRIDE(dx, d), PyArray_STRIDE(y, d), 0}});
  }
  Run(problem);
}

PyObject* TryDirectBackward(Op op, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  GradArguments given{};
  GradCall call(op);
  if (!TakeArguments(kGradParameters, 3, args, nargs, kwnames, &given) || !ReadGradCall(given, &call)) {
    return nullptr;
  }
  PyArrayObject* dy = call.dy.array.get();
  const bool is_new = !call.out;
  ArrayRef dx = is_new ? NewArrayLike(dy, call.descr.get()) : std::move(call.out);
  if (!dx) return nullptr;
  const double cost = 2.0 * EstimateNanoseconds(static_cast<size_t>(PyArray_SIZE(dy)), call.storage);
  if (!RunDetached(cost, [&] { Run(call, dx.get()); })) return nullptr;
  return is_new ? ScalarIfZeroD(std::move(dx)) : dx.release();
}

template <Op kOp>
PyObject* DirectBackward(PyObject*, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  PyObject* result = TryDirectBackward(kOp, args, nargs, kwnames);
  if (result != nullptr || PyErr_Occurred()) return result;
  return CallGeneral(TraitsOf(kOp).name_of_gradient, args, nargs, kwnames);
}

}  // namespace

#define BOLTZMAX_METHOD(name, Name, ...) {#name, AsCFunction(Direct<Op::k##Name>), kFlags, nullptr},
#define BOLTZMAX_BACKWARD_METHOD(name, Name) \
  {#name "_backward", AsCFunction(DirectBackward<Op::k##Name>), kFlags, nullptr},
PyMethodDef* DirectMethods() {
  constexpr int kFlags = METH_FASTCALL | METH_KEYWORDS;
  static PyMethodDef methods[] = {BOLTZMAX_FOR_EACH_OPERATION(BOLTZMAX_METHOD) BOLTZMAX_FOR_EACH_GRADIENT(
      BOLTZMAX_BACKWARD_METHOD){nullptr, nullptr, 0, nullptr}};
  return methods;
}
#undef BOLTZMAX_METHOD
#undef BOLTZMAX_BACKWARD_METHOD

}  // namespace boltzmax
