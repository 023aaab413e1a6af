#include "loss_calls.hpp"

#include <cmath>
#include <memory>
#include <optional>
#include <vector>

#include "../../cpp/core/losses/batch_loss.hpp"
#include "../../cpp/core/runtime/row_blocks.hpp"
#include "../../cpp/core/stats/row_stats.hpp"
#include "arrays.hpp"
#include "detached.hpp"
#include "loss_options.hpp"

namespace boltzmax {

namespace {

// ---- arguments: each function is false if the general path has to read the argument ----

// A float, or an int in its place.
bool ReadNumber(PyObject* value, double low, double high, double* number) {
  if (PyFloat_CheckExact(value)) {
    *number = PyFloat_AS_DOUBLE(value);
  } else if (PyLong_CheckExact(value)) {
    *number = PyLong_AsDouble(value);
    if (PyErr_Occurred()) {
      PyErr_Clear();
      return false;
    }
  } else {
    return false;
  }
  return *number >= low && *number <= high;
}

// An exact, aligned, C-contiguous array with classes on the last axis.
struct Logits {
  PyArrayObject* array;
  DType dtype;
  npy_intp rows, n;

  static std::optional<Logits> Read(PyObject* value, PyObject* axis) {
    if (!PyArray_CheckExact(value)) return std::nullopt;
    auto* array = reinterpret_cast<PyArrayObject*>(value);
    const auto dtype = DTypeOf(array);
    if (!dtype || !HasKernels(*dtype) || !PyArray_ISCARRAY_RO(array) || PyArray_NDIM(array) == 0 ||
        !IsLastAxis(axis, PyArray_NDIM(array))) {
      return std::nullopt;
    }
    const npy_intp n = PyArray_DIM(array, PyArray_NDIM(array) - 1);
    if (n == 0 || PyArray_SIZE(array) == 0) return std::nullopt;
    return Logits{array, *dtype, PyArray_SIZE(array) / n, n};
  }
  ptrdiff_t Stride() const { return n * PyArray_ITEMSIZE(array); }
  int RowAxes() const { return PyArray_NDIM(array) - 1; }
};

// Integers, one per row, in the shape of the rows, evenly spaced.
struct Target {
  PyArrayObject* array;
  DType dtype;
  ptrdiff_t stride;

  static std::optional<Target> Read(PyObject* value, const Logits& logits) {
    if (!PyArray_CheckExact(value)) return std::nullopt;
    auto* array = reinterpret_cast<PyArrayObject*>(value);
    const auto dtype = DTypeOf(array);
    if (!dtype || !PyTypeNum_ISINTEGER(PyArray_TYPE(array)) || !PyArray_ISALIGNED(array)) return std::nullopt;
    if (PyArray_NDIM(array) != logits.RowAxes() ||
        !PyArray_CompareLists(PyArray_DIMS(array), PyArray_DIMS(logits.array), PyArray_NDIM(array))) {
      return std::nullopt;
    }
    if (PyArray_IS_C_CONTIGUOUS(array)) return Target{array, *dtype, PyArray_ITEMSIZE(array)};
    if (PyArray_NDIM(array) == 1) return Target{array, *dtype, PyArray_STRIDE(array, 0)};
    return std::nullopt;
  }
};

// The dtype of a loss: at least float32.
int LossType(DType storage) { return storage == DType::kFloat64 ? NPY_DOUBLE : NPY_FLOAT; }

PyObject* LossScalar(DType storage, double value) {
  PyArray_Descr* descr = PyArray_DescrFromType(LossType(storage));
  if (descr == nullptr) return nullptr;
  auto narrow = static_cast<float>(value);
  void* data = storage == DType::kFloat64 ? static_cast<void*>(&value) : static_cast<void*>(&narrow);
  PyObject* scalar = PyArray_Scalar(data, descr, nullptr);
  Py_DECREF(descr);
  return scalar;
}

// One number per row (or several) as an array of the loss's dtype.
ArrayRef LossArray(const Logits& logits, const double* numbers, npy_intp each = 0) {
  npy_intp shape[NPY_MAXDIMS];
  const int ndim = logits.RowAxes();
  std::copy_n(PyArray_DIMS(logits.array), ndim, shape);
  shape[ndim] = each;
  const auto descr = DescrRef::Steal(reinterpret_cast<PyObject*>(PyArray_DescrFromType(LossType(logits.dtype))));
  ArrayRef result = NewArray(each == 0 ? ndim : ndim + 1, shape, descr.get(), nullptr);
  if (!result) return result;
  void* data = PyArray_DATA(result.get());
  const npy_intp count = logits.rows * (each == 0 ? 1 : each);
  if (logits.dtype == DType::kFloat64) {
    std::copy_n(numbers, count, static_cast<double*>(data));
  } else {
    for (npy_intp i = 0; i < count; ++i) static_cast<float*>(data)[i] = static_cast<float>(numbers[i]);
  }
  return result;
}

// ---- losses on logits ----

// One double per class.
bool ReadClassWeight(PyObject* value, const Logits& logits, const double** weight) {
  *weight = nullptr;
  if (value == Py_None) return true;
  if (!PyArray_CheckExact(value)) return false;
  auto* array = reinterpret_cast<PyArrayObject*>(value);
  if (DTypeOf(array) != DType::kFloat64 || !PyArray_ISCARRAY_RO(array) || PyArray_NDIM(array) != 1 ||
      PyArray_DIM(array, 0) != logits.n) {
    return false;
  }
  *weight = static_cast<const double*>(PyArray_DATA(array));
  return true;
}

// A new array, or an `out` of the logits' shape and dtype that is the logits or does not overlap them.
ArrayRef ReadGradient(PyObject* out, const Logits& logits) {
  if (out == Py_None) return NewArrayLike(logits.array, PyArray_DESCR(logits.array));
  if (!PyArray_CheckExact(out)) return {};
  auto* array = reinterpret_cast<PyArrayObject*>(out);
  if (DTypeOf(array) != logits.dtype || !PyArray_ISCARRAY(array) || !PyArray_SAMESHAPE(array, logits.array)) {
    return {};
  }
  const char *a = PyArray_BYTES(array), *b = PyArray_BYTES(logits.array);
  const npy_intp bytes = PyArray_NBYTES(array);
  if (a != b && a < b + bytes && b < a + bytes) return {};
  return ArrayRef::Borrow(out);
}

// The arguments, in the order in which the functions below list them.
struct LossCall {
  Logits logits;
  BatchLoss problem;
  Reduction reduction;
};

struct BatchArguments {
  PyObject *logits, *target, *weight, *ignore_index, *reduction, *sample_weight, *axis, *empty;
};

bool ReadBatch(const BatchArguments& given, std::optional<LossCall>* call) {
  const auto logits = Logits::Read(given.logits, given.axis);
  if (!logits) return false;
  const auto target = Target::Read(given.target, *logits);
  BatchLoss problem = {};
  Reduction wanted;
  if (!target || given.sample_weight != Py_None || !ReadReduction(given.reduction, &wanted) ||
      wanted == Reduction::kBatchMean || !ReadInteger(given.ignore_index, &problem.ignored) ||
      !ReadClassWeight(given.weight, *logits, &problem.class_weight) ||
      !ReadEmpty(given.empty, &problem.zero_if_empty)) {
    return false;
  }
  problem.storage = logits->dtype;
  problem.logits = PyArray_BYTES(logits->array);
  problem.logits_stride = problem.gradient_stride = logits->Stride();
  problem.rows = static_cast<size_t>(logits->rows);
  problem.n = static_cast<size_t>(logits->n);
  problem.target = PyArray_BYTES(target->array);
  problem.target_stride = target->stride;
  problem.target_type = target->dtype;
  problem.temperature = 1.0;
  problem.mean = wanted == Reduction::kMean;
  *call = LossCall{*logits, problem, wanted};
  return true;
}

// The loss, or a tuple of it and its gradient. None if a target is out of range: the general path then raises the
// error.
PyObject* Answer(LossCall& call, bool with_grad, PyObject* out) {
  if (with_grad && call.reduction == Reduction::kNone) Py_RETURN_NONE;
  ArrayRef gradient;
  if (with_grad) {
    gradient = ReadGradient(out, call.logits);
    if (!gradient) {
      if (PyErr_Occurred()) return nullptr;
      Py_RETURN_NONE;
    }
    call.problem.gradient = PyArray_BYTES(gradient.get());
  }
  std::vector<double> losses;
  std::optional<double> loss;
  const bool done = RunDetached(EstimateNanoseconds(call.problem), [&] {
    if (call.reduction == Reduction::kNone) losses.resize(call.problem.rows);
    call.problem.losses = losses.empty() ? nullptr : losses.data();
    loss = Run(call.problem);
  });
  if (!done) return nullptr;
  if (!loss) Py_RETURN_NONE;
  if (call.reduction == Reduction::kNone) {
    ArrayRef each = LossArray(call.logits, losses.data());
    return each ? ScalarIfZeroD(std::move(each)) : nullptr;
  }
  const auto reduced = ObjectRef::Steal(LossScalar(call.logits.dtype, *loss));
  if (!with_grad || !reduced) return Py_XNewRef(reduced.get());
  return PyTuple_Pack(2, reduced.get(), reinterpret_cast<PyObject*>(gradient.get()));
}

// logits, target, weight, ignore_index, label_smoothing, z_loss, softcap, temperature, reduction, sample_weight, axis,
// empty[, out]
template <bool kWithGrad>
PyObject* CrossEntropyCall(PyObject*, PyObject* const* args, Py_ssize_t nargs) {
  std::optional<LossCall> call;
  if (nargs != (kWithGrad ? 13 : 12) ||
      !ReadBatch({args[0], args[1], args[2], args[3], args[8], args[9], args[10], args[11]}, &call)) {
    Py_RETURN_NONE;
  }
  BatchLoss& problem = call->problem;
  if (!ReadNumber(args[4], 0.0, 1.0, &problem.smoothing) || !ReadNumber(args[5], 0.0, 1e300, &problem.z_loss) ||
      args[6] != Py_None || !ReadNumber(args[7], 1e-30, 1e30, &problem.temperature) ||
      (problem.smoothing != 0.0 && problem.class_weight != nullptr)) {
    Py_RETURN_NONE;
  }
  return Answer(*call, kWithGrad, kWithGrad ? args[12] : Py_None);
}

// logits, target, gamma, alpha, ignore_index, reduction, sample_weight, axis, empty[, out]
template <bool kWithGrad>
PyObject* FocalLossCall(PyObject*, PyObject* const* args, Py_ssize_t nargs) {
  std::optional<LossCall> call;
  if (nargs != (kWithGrad ? 10 : 9) ||
      !ReadBatch({args[0], args[1], args[3], args[4], args[5], args[6], args[7], args[8]}, &call)) {
    Py_RETURN_NONE;
  }
  call->problem.focal = true;
  if (!ReadNumber(args[2], 0.0, 1e6, &call->problem.gamma)) Py_RETURN_NONE;
  return Answer(*call, kWithGrad, kWithGrad ? args[9] : Py_None);
}

// ---- row_stats ----

// A call's working memory, kept by the thread if it is small.
struct Numbers {
  explicit Numbers(size_t count) {
    constexpr size_t kFew = 1024;
    thread_local Scratch few;
    if (count > kFew) many = std::make_unique_for_overwrite<double[]>(count);
    at = count > kFew ? many.get() : reinterpret_cast<double*>(few.Get(kFew * sizeof(double)));
  }
  double* at;
  std::unique_ptr<double[]> many;
};

// An int64 array of the rows' shape, or with k elements per row.
ArrayRef NewIds(const Logits& logits, npy_intp each) {
  npy_intp shape[NPY_MAXDIMS];
  const int ndim = logits.RowAxes();
  std::copy_n(PyArray_DIMS(logits.array), ndim, shape);
  shape[ndim] = each;
  return ArrayRef::Steal(PyArray_SimpleNew(each == 0 ? ndim : ndim + 1, shape, NPY_INT64));
}

// logits, target, k, temperature, entropy, axis:
// (lse, energy, top_ids, top_log_probs, entropy, target_log_prob, target_rank)
PyObject* RowStatsCall(PyObject*, PyObject* const* args, Py_ssize_t nargs) {
  if (nargs != 6) Py_RETURN_NONE;
  const auto logits = Logits::Read(args[0], args[5]);
  int64_t k;
  double temperature;
  if (!logits || !ReadInteger(args[2], &k) || k < 0 || !ReadNumber(args[3], 1e-30, 1e30, &temperature) ||
      (args[4] != Py_True && args[4] != Py_False)) {
    Py_RETURN_NONE;
  }
  k = std::min<int64_t>(k, logits->n);
  const auto rows = static_cast<size_t>(logits->rows), wanted = static_cast<size_t>(k);
  std::optional<Target> target;
  std::vector<int64_t> classes;
  if (args[1] != Py_None) {
    target = Target::Read(args[1], *logits);
    if (!target || (target->dtype != DType::kInt32 && target->dtype != DType::kInt64)) Py_RETURN_NONE;
    classes.resize(rows);
    for (size_t r = 0; r < rows; ++r) {
      const char* at = PyArray_BYTES(target->array) + static_cast<ptrdiff_t>(r) * target->stride;
      classes[r] = target->dtype == DType::kInt32 ? *reinterpret_cast<const int32_t*>(at)
                                                  : *reinterpret_cast<const int64_t*>(at);
      if (classes[r] < 0 || classes[r] >= logits->n) Py_RETURN_NONE;
    }
  }
  const bool with_entropy = args[4] == Py_True;
  Numbers numbers(rows * (4 + wanted));
  double *lse = numbers.at, *energy = lse + rows, *entropy = energy + rows, *log_prob = entropy + rows,
         *top = log_prob + rows;
  ArrayRef ids, ranks;
  if (wanted != 0) ids = NewIds(*logits, static_cast<npy_intp>(wanted));
  if (target) ranks = NewIds(*logits, 0);
  const auto ints = [](const ArrayRef& array) {
    return array ? static_cast<int64_t*>(PyArray_DATA(array.get())) : nullptr;
  };
  const RowStatsProblem problem = {logits->dtype,
                                   PyArray_BYTES(logits->array),
                                   logits->Stride(),
                                   rows,
                                   static_cast<size_t>(logits->n),
                                   target ? classes.data() : nullptr,
                                   temperature,
                                   wanted,
                                   lse,
                                   with_entropy ? entropy : nullptr,
                                   ints(ids),
                                   wanted == 0 ? nullptr : top,
                                   target ? log_prob : nullptr,
                                   ints(ranks)};
  const bool good = !PyErr_Occurred() && RunDetached(EstimateNanoseconds(rows * problem.n, problem.storage) +
                                                         50.0 * static_cast<double>(rows),
                                                     [&] { Run(problem); });
  if (!good) return nullptr;
  for (size_t r = 0; r < rows; ++r) energy[r] = -temperature * lse[r];
  const auto or_none = [](bool is_wanted, ArrayRef array) { return is_wanted ? array.release() : Py_NewRef(Py_None); };
  const auto array = [&](bool is_wanted, const double* from, npy_intp each) {
    return or_none(is_wanted, is_wanted ? LossArray(*logits, from, each) : ArrayRef());
  };
  return Py_BuildValue("(NNNNNNN)", array(true, lse, 0), array(true, energy, 0), or_none(wanted != 0, std::move(ids)),
                       array(wanted != 0, top, static_cast<npy_intp>(wanted)), array(with_entropy, entropy, 0),
                       array(target.has_value(), log_prob, 0), or_none(target.has_value(), std::move(ranks)));
}

}  // namespace

PyMethodDef* LossCallMethods() {
  static PyMethodDef methods[] = {
      {"cross_entropy_call", AsCFunction(CrossEntropyCall<false>), METH_FASTCALL, nullptr},
      {"cross_entropy_with_grad_call", AsCFunction(CrossEntropyCall<true>), METH_FASTCALL, nullptr},
      {"focal_loss_call", AsCFunction(FocalLossCall<false>), METH_FASTCALL, nullptr},
      {"focal_loss_with_grad_call", AsCFunction(FocalLossCall<true>), METH_FASTCALL, nullptr},
      {"row_stats_call", AsCFunction(RowStatsCall), METH_FASTCALL, nullptr},
      {nullptr, nullptr, 0, nullptr}};
  return methods;
}

}  // namespace boltzmax
