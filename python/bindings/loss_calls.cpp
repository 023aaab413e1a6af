#include "loss_calls.hpp"

#include <cmath>
#include <optional>
#include <vector>

#include "../../cpp/core/losses/batch_loss.hpp"
#include "../../cpp/core/runtime/convert.hpp"
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
std::optional<IntegerColumn> ReadTarget(PyObject* value, const Logits& logits) {
  if (!PyArray_CheckExact(value)) return std::nullopt;
  auto* array = reinterpret_cast<PyArrayObject*>(value);
  const auto dtype = DTypeOf(array);
  if (!dtype || !PyTypeNum_ISINTEGER(PyArray_TYPE(array)) || !PyArray_ISALIGNED(array)) return std::nullopt;
  if (PyArray_NDIM(array) != logits.RowAxes() ||
      !PyArray_CompareLists(PyArray_DIMS(array), PyArray_DIMS(logits.array), PyArray_NDIM(array))) {
    return std::nullopt;
  }
  if (PyArray_IS_C_CONTIGUOUS(array)) return IntegerColumn{PyArray_BYTES(array), PyArray_ITEMSIZE(array), *dtype};
  if (PyArray_NDIM(array) == 1) return IntegerColumn{PyArray_BYTES(array), PyArray_STRIDE(array, 0), *dtype};
  return std::nullopt;
}

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

// An array of `type` in the rows' shape, or with `each` elements per row.
ArrayRef NewRowArray(const Logits& logits, int type, npy_intp each = 0) {
  npy_intp shape[NPY_MAXDIMS];
  const int ndim = logits.RowAxes();
  std::copy_n(PyArray_DIMS(logits.array), ndim, shape);
  shape[ndim] = each;
  const auto descr = DescrRef::Steal(reinterpret_cast<PyObject*>(PyArray_DescrFromType(type)));
  return NewArray(each == 0 ? ndim : ndim + 1, shape, descr.get(), nullptr);
}

// One number per row as an array of the loss's dtype.
ArrayRef LossArray(const Logits& logits, const double* numbers) {
  ArrayRef result = NewRowArray(logits, LossType(logits.dtype));
  if (!result) return result;
  Gather(DType::kFloat64, logits.dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32)(
      reinterpret_cast<const char*>(numbers), sizeof(double), static_cast<size_t>(logits.rows),
      PyArray_BYTES(result.get()));
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
  const auto target = ReadTarget(given.target, *logits);
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
  problem.target = *target;
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
  IntegerColumn target = {};
  if (args[1] != Py_None) {
    const auto given = ReadTarget(args[1], *logits);
    if (!given) Py_RETURN_NONE;
    target = *given;
  }
  const int type = LossType(logits->dtype);
  const auto new_array = [&](bool is_wanted, int of_type, int64_t each) {
    return is_wanted && !PyErr_Occurred() ? NewRowArray(*logits, of_type, static_cast<npy_intp>(each)) : ArrayRef();
  };
  const bool with_top = k != 0, with_target = target.at != nullptr;
  ArrayRef lse = new_array(true, type, 0), energy = new_array(true, type, 0), ids = new_array(with_top, NPY_INT64, k),
           top = new_array(with_top, type, k), entropy = new_array(args[4] == Py_True, type, 0),
           log_prob = new_array(with_target, type, 0), ranks = new_array(with_target, NPY_INT64, 0);
  if (PyErr_Occurred()) return nullptr;
  const auto bytes = [](const ArrayRef& array) { return array ? PyArray_BYTES(array.get()) : nullptr; };
  const auto ints = [&](const ArrayRef& array) { return reinterpret_cast<int64_t*>(bytes(array)); };
  const RowStatsProblem problem = {logits->dtype,
                                   PyArray_BYTES(logits->array),
                                   logits->Stride(),
                                   static_cast<size_t>(logits->rows),
                                   static_cast<size_t>(logits->n),
                                   target,
                                   temperature,
                                   static_cast<size_t>(k),
                                   type == NPY_DOUBLE ? DType::kFloat64 : DType::kFloat32,
                                   bytes(lse),
                                   bytes(energy),
                                   bytes(entropy),
                                   ints(ids),
                                   bytes(top),
                                   bytes(log_prob),
                                   ints(ranks)};
  bool in_range = false;
  if (!RunDetached(EstimateNanoseconds(problem), [&] { in_range = Run(problem); })) return nullptr;
  if (!in_range) Py_RETURN_NONE;
  const auto or_none = [](ArrayRef& array) { return array ? array.release() : Py_NewRef(Py_None); };
  return Py_BuildValue("(NNNNNNN)", or_none(lse), or_none(energy), or_none(ids), or_none(top), or_none(entropy),
                       or_none(log_prob), or_none(ranks));
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
