#include "point_losses.hpp"

#include <algorithm>
#include <initializer_list>
#include <limits>
#include <optional>

#include "../../cpp/core/losses/nll_loss.hpp"
#include "../../cpp/core/losses/pointwise.hpp"
#include "arrays.hpp"
#include "detached.hpp"
#include "loss_options.hpp"

namespace boltzmax {

namespace {

// ---- arguments ----

bool ReadFlag(PyObject* value, bool* flag) {
  *flag = value == Py_True;
  return value == Py_True || value == Py_False;
}

// An exact ndarray of a type that the core reads.
PyArrayObject* ReadArray(PyObject* value, DType* dtype) {
  if (!PyArray_CheckExact(value)) return nullptr;
  auto* array = reinterpret_cast<PyArrayObject*>(value);
  const auto found = DTypeOf(array);
  if (!found) return nullptr;
  *dtype = *found;
  return array;
}

PyArrayObject* ReadScores(PyObject* value, DType* dtype) {
  PyArrayObject* array = ReadArray(value, dtype);
  return array != nullptr && HasKernels(*dtype) ? array : nullptr;
}

// An argument that may be None.
struct Optional {
  PyArrayObject* array = nullptr;
  DType dtype{};

  bool Read(PyObject* value) { return value == Py_None || (array = ReadArray(value, &dtype)) != nullptr; }
};

// Strides of `array`, broadcast to the first `ndim` axes of x; false if it cannot be broadcast.
bool BroadcastStrides(PyArrayObject* array, PyArrayObject* x, int ndim, npy_intp* strides) {
  const int missing = ndim - PyArray_NDIM(array);
  if (missing < 0) return false;
  for (int d = 0; d < ndim; ++d) {
    const npy_intp size = d < missing ? 1 : PyArray_DIM(array, d - missing);
    if (size != 1 && size != PyArray_DIM(x, d)) return false;
    strides[d] = size == 1 ? 0 : PyArray_STRIDE(array, d - missing);
  }
  return true;
}

Axes AxesOf(PyArrayObject* x, const npy_intp* strides) {
  Axes axes;
  for (int d = 0; d < PyArray_NDIM(x); ++d) {
    axes.push_back({static_cast<size_t>(PyArray_DIM(x, d)), {strides[d], 0, 0, 0}});
  }
  return axes;
}

// The elements of `array`, which may be null, in the order of x's.
bool ReadElements(PyArrayObject* array, DType dtype, PyArrayObject* x, Elements* elements) {
  if (array == nullptr) return true;
  elements->dtype = dtype;
  elements->at = PyArray_BYTES(array);
  if (PyArray_IS_C_CONTIGUOUS(array) && PyArray_SAMESHAPE(array, x)) return true;
  npy_intp strides[NPY_MAXDIMS];
  if (!BroadcastStrides(array, x, PyArray_NDIM(x), strides)) return false;
  elements->axes = AxesOf(x, strides);
  return true;
}

// ---- results ----

PyObject* MakeScalar(double value, DType x) {
  const bool wide = x == DType::kFloat64;
  auto narrow = static_cast<float>(value);
  PyArray_Descr* descr = PyArray_DescrFromType(wide ? NPY_DOUBLE : NPY_FLOAT);
  PyObject* scalar = PyArray_Scalar(wide ? static_cast<void*>(&value) : &narrow, descr, nullptr);
  Py_DECREF(descr);
  return scalar;
}

PyObject* NewLosses(int ndim, const npy_intp* shape, DType x) {
  PyArray_Descr* descr = PyArray_DescrFromType(x == DType::kFloat64 ? NPY_DOUBLE : NPY_FLOAT);
  PyObject* losses = NewArray(ndim, shape, descr, nullptr).release();
  Py_DECREF(descr);
  return losses;
}

// Whether writing `out` would overwrite elements of `read` before they are read.
bool OverwritesUnread(PyArrayObject* out, PyArrayObject* read) {
  if (read == nullptr || !MayOverlap(out, read)) return false;
  return !SameElements(out, read);
}

// The destination of the gradient by x: a new array or `out`; by way of a new array if `out` overlaps an operand.
class Gradient {
 public:
  Gradient() = default;
  Gradient(const Gradient&) = delete;
  Gradient& operator=(const Gradient&) = delete;
  ~Gradient() {
    Py_XDECREF(out_);
    Py_XDECREF(work_);
  }

  // False if `out` does not fit.
  bool Read(PyObject* out, PyArrayObject* x) {
    x_ = x;
    if (out == Py_None) return true;
    if (!PyArray_CheckExact(out)) return false;
    auto* array = reinterpret_cast<PyArrayObject*>(out);
    if (!PyArray_ISWRITEABLE(array) || !PyArray_SAMESHAPE(array, x) ||
        !PyArray_EquivTypes(PyArray_DESCR(array), PyArray_DESCR(x))) {
      return false;
    }
    Py_INCREF(out);
    out_ = out;
    return true;
  }
  // False with an exception set if there is no memory.
  bool Place(std::initializer_list<PyArrayObject*> still_read) {
    auto* out = reinterpret_cast<PyArrayObject*>(out_);
    const auto overwrites = [&](PyArrayObject* read) { return OverwritesUnread(out, read); };
    const bool direct =
        out != nullptr && !RepeatsElements(out) && std::none_of(still_read.begin(), still_read.end(), overwrites);
    if (direct) {
      Py_INCREF(out_);
      work_ = out_;
    } else {
      work_ = NewArrayLike(x_, PyArray_DESCR(x_)).release();
    }
    return work_ != nullptr;
  }
  PyArrayObject* Array() const { return reinterpret_cast<PyArrayObject*>(work_); }

  // (loss, gradient); steals the loss. Null with an exception set on failure.
  PyObject* With(PyObject* loss) {
    if (loss == nullptr) return nullptr;
    if (out_ != nullptr && out_ != work_ && PyArray_CopyInto(reinterpret_cast<PyArrayObject*>(out_), Array()) < 0) {
      Py_DECREF(loss);
      return nullptr;
    }
    PyObject* result = PyTuple_Pack(2, loss, out_ != nullptr ? out_ : work_);
    Py_DECREF(loss);
    return result;
  }

 private:
  PyArrayObject* x_ = nullptr;
  PyObject *out_ = nullptr, *work_ = nullptr;
};

// None, or null with an exception set.
PyObject* Decline() {
  if (PyErr_Occurred()) return nullptr;
  Py_RETURN_NONE;
}

// ---- losses of single numbers ----

// The reduction of losses to one.
struct PointReduction {
  Reduction reduction = Reduction::kNone;
  bool zero_if_empty = false;

  bool Read(PyObject* name, PyObject* empty) {
    return ReadReduction(name, &reduction) && ReadEmpty(empty, &zero_if_empty);
  }
  // The divisor of the sum.
  double Divisor(PyArrayObject* x) const {
    if (reduction == Reduction::kMean) return static_cast<double>(PyArray_SIZE(x));
    const bool by_batch = reduction == Reduction::kBatchMean && PyArray_NDIM(x) > 0;
    return by_batch ? static_cast<double>(PyArray_DIM(x, 0)) : 1.0;
  }
  double Quotient(double sum, double divisor) const { return divisor == 0.0 && zero_if_empty ? 0.0 : sum / divisor; }
};

// x, target, weight and pos_weight have been read into `problem`. Null, perhaps with an exception set, to decline.
PyObject* RunPointLoss(PointProblem* problem, const PointReduction& reducing, bool with_grad, Gradient* gradient,
                       PyArrayObject* x, std::initializer_list<PyArrayObject*> operands) {
  PyObject* losses = nullptr;
  problem->n = static_cast<size_t>(PyArray_SIZE(x));
  const double divisor = reducing.Divisor(x);
  problem->divisor = std::max(divisor, 1.0);
  if (with_grad) {
    if (!gradient->Place(operands)) return nullptr;
    problem->gradient = PyArray_BYTES(gradient->Array());
    if (!PyArray_IS_C_CONTIGUOUS(gradient->Array())) {
      problem->gradient_axes = AxesOf(x, PyArray_STRIDES(gradient->Array()));
    }
  }
  if (reducing.reduction == Reduction::kNone) {
    losses = NewLosses(PyArray_NDIM(x), PyArray_DIMS(x), problem->x.dtype);
    if (losses == nullptr) return nullptr;
    problem->losses = PyArray_BYTES(reinterpret_cast<PyArrayObject*>(losses));
  }
  double sum = 0.0;
  if (!RunDetached(EstimateNanoseconds(*problem), [&] { sum = Run(*problem); })) {
    Py_XDECREF(losses);
    return nullptr;
  }
  if (losses != nullptr) return ScalarIfZeroD(ArrayRef::Steal(losses));
  PyObject* loss = MakeScalar(reducing.Quotient(sum, divisor), problem->x.dtype);
  return with_grad ? gradient->With(loss) : loss;
}

// (logits, target, weight, pos_weight, reduction, empty, with_grad, out)
PyObject* TryBinaryCrossEntropy(PyObject* const* args) {
  PointProblem problem = {PointLoss::kBinaryCrossEntropy, 0, {}, {}, {}, {}, nullptr, nullptr, {}, 1.0};
  DType x_type{}, target_type{};
  Optional weight, pos_weight;
  PointReduction reducing;
  bool with_grad = false;
  Gradient gradient;
  PyArrayObject* x = ReadScores(args[0], &x_type);
  PyArrayObject* target = ReadArray(args[1], &target_type);
  if (x == nullptr || target == nullptr || !PyArray_SAMESHAPE(x, target)) return nullptr;
  if (!weight.Read(args[2]) || !pos_weight.Read(args[3]) || !reducing.Read(args[4], args[5])) return nullptr;
  if (!ReadFlag(args[6], &with_grad) || reducing.reduction == Reduction::kBatchMean) return nullptr;
  if (with_grad && (reducing.reduction == Reduction::kNone || !gradient.Read(args[7], x))) return nullptr;
  if (!ReadElements(x, x_type, x, &problem.x) || !ReadElements(target, target_type, x, &problem.target) ||
      !ReadElements(weight.array, weight.dtype, x, &problem.weight) ||
      !ReadElements(pos_weight.array, pos_weight.dtype, x, &problem.pos_weight)) {
    return nullptr;
  }
  return RunPointLoss(&problem, reducing, with_grad, &gradient, x, {x, target, weight.array, pos_weight.array});
}

// (log_q, p, log_target, reduction, empty, with_grad, out)
PyObject* TryDivergence(PyObject* const* args) {
  PointProblem problem = {PointLoss::kDivergence, 0, {}, {}, {}, {}, nullptr, nullptr, {}, 1.0};
  DType x_type{}, target_type{};
  PointReduction reducing;
  bool of_logs = false, with_grad = false;
  Gradient gradient;
  PyArrayObject* x = ReadScores(args[0], &x_type);
  PyArrayObject* target = ReadArray(args[1], &target_type);
  if (x == nullptr || target == nullptr || !ReadFlag(args[2], &of_logs)) return nullptr;
  if (!reducing.Read(args[3], args[4]) || !ReadFlag(args[5], &with_grad)) return nullptr;
  if (with_grad && (reducing.reduction == Reduction::kNone || !gradient.Read(args[6], x))) return nullptr;
  if (!ReadElements(x, x_type, x, &problem.x) || !ReadElements(target, target_type, x, &problem.target)) return nullptr;
  if (of_logs) problem.loss = PointLoss::kDivergenceOfLogs;
  return RunPointLoss(&problem, reducing, with_grad, &gradient, x, {x, target});
}

// ---- the negative log-likelihood ----

bool ReadIgnoreIndex(PyObject* value, int64_t* ignore_index) {
  if (!PyLong_CheckExact(value)) return false;
  int overflow;
  *ignore_index = PyLong_AsLongLongAndOverflow(value, &overflow);
  return overflow == 0 && *ignore_index != std::numeric_limits<int64_t>::max();
}

bool IsInteger(DType dtype) { return !HasKernels(dtype) && dtype != DType::kBool; }

// One element per row of x.
bool HasRowsOf(PyArrayObject* x, PyArrayObject* target) {
  const int rows = PyArray_NDIM(x) - 1;
  return PyArray_NDIM(target) == rows && std::equal(PyArray_DIMS(target), PyArray_DIMS(target) + rows, PyArray_DIMS(x));
}

// (log_prob, target, weight, sample_weight, ignore_index, reduction, axis, empty, with_grad, out)
PyObject* TryNll(PyObject* const* args) {
  NllProblem problem = {};
  Optional weight, sample_weight;
  Reduction reduction{};
  bool with_grad = false;
  Gradient gradient;
  PyArrayObject* x = ReadScores(args[0], &problem.log_prob.dtype);
  PyArrayObject* target = ReadArray(args[1], &problem.target.dtype);
  if (x == nullptr || target == nullptr || PyArray_NDIM(x) == 0) return nullptr;
  if (!IsInteger(problem.target.dtype) || !HasRowsOf(x, target)) return nullptr;
  if (!weight.Read(args[2]) || !sample_weight.Read(args[3]) || !ReadIgnoreIndex(args[4], &problem.ignore_index)) {
    return nullptr;
  }
  if (!ReadReduction(args[5], &reduction) || !IsLastAxis(args[6], PyArray_NDIM(x)) ||
      !ReadEmpty(args[7], &problem.zero_if_empty) || !ReadFlag(args[8], &with_grad)) {
    return nullptr;
  }
  if (reduction == Reduction::kBatchMean) return nullptr;
  if (with_grad && (reduction == Reduction::kNone || !gradient.Read(args[9], x))) return nullptr;

  const int rows = PyArray_NDIM(x) - 1;
  npy_intp sample_strides[NPY_MAXDIMS] = {};
  if (weight.array != nullptr) {
    if (PyArray_NDIM(weight.array) != 1 || PyArray_DIM(weight.array, 0) != PyArray_DIM(x, rows)) return nullptr;
    problem.weight = {weight.dtype, PyArray_BYTES(weight.array), PyArray_STRIDE(weight.array, 0)};
  }
  if (sample_weight.array != nullptr) {
    if (!BroadcastStrides(sample_weight.array, x, rows, sample_strides)) return nullptr;
    problem.sample_weight = {sample_weight.dtype, PyArray_BYTES(sample_weight.array), 0};
  }
  problem.classes = static_cast<size_t>(PyArray_DIM(x, rows));
  problem.log_prob = {problem.log_prob.dtype, PyArray_BYTES(x), PyArray_STRIDE(x, rows)};
  problem.target.at = PyArray_BYTES(target);
  problem.mean = reduction == Reduction::kMean;
  if (with_grad) {
    if (!gradient.Place({target, weight.array, sample_weight.array})) return nullptr;
    problem.gradient = PyArray_BYTES(gradient.Array());
    problem.gradient_stride = PyArray_STRIDE(gradient.Array(), rows);
  }
  for (int d = 0; d < rows; ++d) {
    const npy_intp gradient_stride = with_grad ? PyArray_STRIDE(gradient.Array(), d) : 0;
    problem.rows.push_back({static_cast<size_t>(PyArray_DIM(x, d)),
                            {PyArray_STRIDE(x, d), gradient_stride, PyArray_STRIDE(target, d), sample_strides[d]}});
  }
  PyObject* losses = nullptr;
  if (reduction == Reduction::kNone) {
    losses = NewLosses(rows, PyArray_DIMS(x), problem.log_prob.dtype);
    if (losses == nullptr) return nullptr;
    problem.losses = PyArray_BYTES(reinterpret_cast<PyArrayObject*>(losses));
  }
  double loss = 0.0;
  bool in_range = false;
  const bool done = RunDetached(EstimateNanoseconds(problem), [&] { in_range = Run(problem, &loss); });
  if (!done || !in_range) {
    Py_XDECREF(losses);
    return nullptr;
  }
  if (losses != nullptr) return ScalarIfZeroD(ArrayRef::Steal(losses));
  PyObject* scalar = MakeScalar(loss, problem.log_prob.dtype);
  return with_grad ? gradient.With(scalar) : scalar;
}

template <PyObject* (*kTry)(PyObject* const*), Py_ssize_t kCount>
PyObject* Call(PyObject*, PyObject* const* args, Py_ssize_t nargs) {
  if (nargs != kCount) return PyErr_Format(PyExc_TypeError, "%zd arguments are needed, got %zd", kCount, nargs);
  PyObject* result = kTry(args);
  return result != nullptr ? result : Decline();
}

}  // namespace

PyMethodDef* PointLossMethods() {
  static PyMethodDef methods[] = {
      {"binary_cross_entropy", AsCFunction(Call<TryBinaryCrossEntropy, 8>), METH_FASTCALL, nullptr},
      {"kl_divergence", AsCFunction(Call<TryDivergence, 7>), METH_FASTCALL, nullptr},
      {"nll_loss", AsCFunction(Call<TryNll, 10>), METH_FASTCALL, nullptr},
      {nullptr, nullptr, 0, nullptr}};
  return methods;
}

}  // namespace boltzmax
