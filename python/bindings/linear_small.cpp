// Calls on linear layers with few logits. Arguments are read, multiplied and answered here, since Python code alone
// would take longer than all of that.

#include <algorithm>
#include <array>
#include <atomic>
#include <vector>

#include "../../cpp/core/linear/linear_tiles.hpp"
#include "../../cpp/core/runtime/row_blocks.hpp"
#include "arrays.hpp"
#include "detached.hpp"
#include "linear.hpp"
#include "loss_options.hpp"

namespace boltzmax {

namespace {

// A matrix in memory; strides in bytes.
struct Matrix {
  char* data;
  npy_intp rows, columns, row_stride, column_stride;

  Matrix Transposed() const { return {data, columns, rows, column_stride, row_stride}; }
};

// An array that views it without keeping it alive. Null with an exception set on failure.
PyObject* BorrowArray(const Matrix& m, int type) {
  const npy_intp shape[] = {m.rows, m.columns}, strides[] = {m.row_stride, m.column_stride};
  return PyArray_New(&PyArray_Type, 2, shape, type, strides, m.data, 0, NPY_ARRAY_WRITEABLE | NPY_ARRAY_ALIGNED,
                     nullptr);
}

// boltzmax.linear.scores.multiply; null with an exception set on failure.
PyObject* Multiplier() {
  // Kept forever. With free threading, several threads may come first; each finds the same function.
  static std::atomic<PyObject*> kept{nullptr};
  PyObject* function = kept.load(std::memory_order_acquire);
  if (function != nullptr) return function;
  PyObject* module = PyImport_ImportModule("boltzmax.linear.scores");
  if (module == nullptr) return nullptr;
  function = PyObject_GetAttrString(module, "multiply");
  Py_DECREF(module);
  kept.store(function, std::memory_order_release);
  return function;
}

// out = a b, by NumPy's BLAS; false with an exception set on failure.
bool Multiply(const Matrix& a, const Matrix& b, const Matrix& out, int type) {
  PyObject* operands[] = {BorrowArray(a, type), BorrowArray(b, type), BorrowArray(out, type)};
  PyObject* function = Multiplier();
  PyObject* result = nullptr;
  if (function != nullptr && operands[0] != nullptr && operands[1] != nullptr && operands[2] != nullptr) {
    result = PyObject_Vectorcall(function, operands, 3, nullptr);
  }
  for (PyObject* operand : operands) Py_XDECREF(operand);
  Py_XDECREF(result);
  return result != nullptr;
}

bool ReadFloat(PyObject* value, double low, double high, double* number) {
  if (!PyFloat_CheckExact(value)) return false;
  *number = PyFloat_AS_DOUBLE(value);
  return *number >= low && *number <= high;
}

bool IsPlain(PyArrayObject* array, int type) {
  return PyArray_TYPE(array) == type && PyArray_ISCARRAY_RO(array) && !PyArray_ISBYTESWAPPED(array);
}

PyArrayObject* ReadArray(PyObject* value) {
  return PyArray_CheckExact(value) ? reinterpret_cast<PyArrayObject*>(value) : nullptr;
}

// Stores numbers into an array of float or double.
void Store(const double* numbers, size_t count, PyObject* array) {
  auto* to = reinterpret_cast<PyArrayObject*>(array);
  if (PyArray_TYPE(to) == NPY_FLOAT) {
    std::transform(numbers, numbers + count, static_cast<float*>(PyArray_DATA(to)),
                   [](double x) { return static_cast<float>(x); });
  } else {
    std::copy_n(numbers, count, static_cast<double*>(PyArray_DATA(to)));
  }
}

// A layer, its input rows, and their scores and totals.
class SmallLayer {
 public:
  // False unless these are plain arrays of one type with at most `limit` logits.
  bool ReadArrays(PyObject* limit, PyObject* hidden, PyObject* weight, PyObject* bias) {
    int64_t most;
    hidden_ = ReadArray(hidden);
    weight_ = ReadArray(weight);
    if (hidden_ == nullptr || weight_ == nullptr || !ReadInteger(limit, &most)) return false;
    type_ = PyArray_TYPE(hidden_);
    if ((type_ != NPY_FLOAT && type_ != NPY_DOUBLE) || !IsPlain(hidden_, type_) || !IsPlain(weight_, type_))
      return false;
    const int ndim = PyArray_NDIM(hidden_);
    if (ndim == 0 || PyArray_NDIM(weight_) != 2) return false;
    classes_ = PyArray_DIM(weight_, 0);
    width_ = PyArray_DIM(weight_, 1);
    if (width_ == 0 || classes_ == 0 || PyArray_DIM(hidden_, ndim - 1) != width_) return false;
    rows_ = PyArray_SIZE(hidden_) / width_;
    if (rows_ == 0 || rows_ > most / classes_) return false;
    if (bias == Py_None) return true;
    bias_ = ReadArray(bias);
    return bias_ != nullptr && IsPlain(bias_, type_) && PyArray_NDIM(bias_) == 1 && PyArray_DIM(bias_, 0) == classes_;
  }

  bool ReadScoring(PyObject* temperature, PyObject* softcap) {
    return ReadFloat(temperature, 1e-30, 1e30, &scoring_.temperature) &&
           (softcap == Py_None || ReadFloat(softcap, 1e-30, 1e30, &scoring_.softcap));
  }

  // One class per row, none of them ignored.
  bool ReadTarget(PyObject* value, PyObject* ignore_index) {
    int64_t ignored;
    PyArrayObject* target = ReadArray(value);
    if (target == nullptr || !ReadInteger(ignore_index, &ignored) || !PyArray_ISCARRAY_RO(target)) return false;
    const int ndim = PyArray_NDIM(hidden_) - 1;
    if (DTypeOf(target) != DType::kInt64 || PyArray_NDIM(target) != ndim ||
        !std::equal(PyArray_DIMS(target), PyArray_DIMS(target) + ndim, PyArray_DIMS(hidden_))) {
      return false;
    }
    label_ = static_cast<const int64_t*>(PyArray_DATA(target));
    return std::all_of(label_, label_ + rows_, [&](int64_t t) { return t >= 0 && t < classes_ && t != ignored; });
  }

  void Smooth(double label_smoothing) { shares_.even = label_smoothing / static_cast<double>(classes_); }

  npy_intp Rows() const { return rows_; }
  npy_intp Classes() const { return classes_; }
  int Type() const { return type_; }

  // Computes scores and totals of all rows; false with an exception set on failure.
  bool Score(const RowTop& top) {
    static thread_local Scratch scratch;
    const auto rows = static_cast<size_t>(rows_);
    const size_t logits = rows * static_cast<size_t>(classes_) * Item();
    const size_t columns = (logits + sizeof(double) - 1) / sizeof(double);
    auto* numbers = reinterpret_cast<double*>(scratch.Get((columns + kColumns * rows) * sizeof(double)));
    scores_ = reinterpret_cast<char*>(numbers);
    const auto column = [&](size_t i) { return numbers + columns + i * rows; };
    totals_ = {label_, column(0), column(1), column(2), column(3), column(4)};
    for (size_t i = 5; i < kColumns; ++i) spare_[i - 5] = column(i);
    std::fill_n(totals_.mass, rows, shares_.even * static_cast<double>(classes_));
    if (!FindLogits()) return false;
    scoring_.bias = bias_ == nullptr ? nullptr : PyArray_BYTES(bias_);
    const bool done = RunDetached(Cost(), [&] { AddTile(Tile(), scoring_, shares_, totals_, top); });
    scored_ = true;
    return done;
  }

  // Columns with one number per row.
  const RowTotals& Totals() const { return totals_; }
  double* Losses(double label_smoothing, double z_loss) {
    std::fill_n(spare_[0], rows_, 1.0 - label_smoothing);
    terms_ = {spare_[0], shares_.Any(), z_loss};
    boltzmax::Losses(static_cast<size_t>(rows_), totals_, terms_, spare_[1]);
    return spare_[1];
  }

  // (d_hidden, d_weight, d_bias) of the losses, each times `scale`; false with an exception set on failure.
  bool Gradients(double scale, std::array<PyObject*, 3>* gradients) {
    std::fill_n(spare_[1], rows_, scale / scoring_.temperature);
    auto& [d_hidden, d_weight, d_bias] = *gradients;
    d_hidden = NewArray(PyArray_NDIM(hidden_), PyArray_DIMS(hidden_), PyArray_DESCR(hidden_), nullptr).release();
    d_weight = NewArray(2, PyArray_DIMS(weight_), PyArray_DESCR(weight_), nullptr).release();
    d_bias = bias_ == nullptr ? Py_NewRef(Py_None) : NewArray(1, &classes_, PyArray_DESCR(bias_), nullptr).release();
    if (d_hidden == nullptr || d_weight == nullptr || d_bias == nullptr) return false;
    std::vector<double> sums(bias_ == nullptr ? 0 : static_cast<size_t>(classes_));
    const bool done = RunDetached(Cost(), [&] {
      Slopes(Tile(), scoring_, shares_, totals_, terms_, spare_[1], bias_ == nullptr ? nullptr : sums.data());
    });
    if (!done) return false;
    if (bias_ != nullptr) Store(sums.data(), sums.size(), d_bias);
    return Multiply(Scores(), Weight(), Of(d_hidden, rows_, width_), type_) &&
           Multiply(Scores().Transposed(), Hidden(), Of(d_weight, classes_, width_), type_);
  }

  // An array of f(totals, r) over all rows r; null with an exception set on failure.
  template <class F>
  PyObject* EachRow(F f) {
    for (npy_intp r = 0; r < rows_; ++r) spare_[1][r] = f(totals_, static_cast<size_t>(r));
    PyObject* result = NewRows(type_);
    if (result != nullptr) Store(spare_[1], static_cast<size_t>(rows_), result);
    return result;
  }

  // An array of the shape of the rows, followed by the axes `more`; null with an exception set on failure.
  PyObject* NewRows(int type, std::initializer_list<npy_intp> more = {}) const {
    npy_intp shape[NPY_MAXDIMS];
    const int ndim = PyArray_NDIM(hidden_) - 1;
    std::copy_n(PyArray_DIMS(hidden_), ndim, shape);
    std::copy(more.begin(), more.end(), shape + ndim);
    return PyArray_SimpleNew(ndim + static_cast<int>(more.size()), shape, type);
  }

 private:
  static constexpr size_t kColumns = 7;  // five totals, and two for the caller

  // BLAS is slow for a few rows by a few classes; above kSmallWeight it may also use threads.
  static constexpr npy_intp kFewRows = 4, kSmallWeight = npy_intp{1} << 18;

  // False with an exception set on failure.
  bool FindLogits() {
    if (rows_ > kFewRows || classes_ * width_ > kSmallWeight) {
      return Multiply(Hidden(), Weight().Transposed(), Scores(), type_);
    }
    return RunDetached(static_cast<double>(rows_ * classes_ * width_) * 0.05, [&] {
      type_ == NPY_FLOAT ? Dot<float>(ActiveKernels().units_f32) : Dot<double>(ActiveKernels().units_f64);
    });
  }
  template <class T>
  void Dot(const UnitKernels<T>& kernels) const {
    const auto width = static_cast<size_t>(width_);
    const auto rows_of = [&](const Matrix& m) {
      std::vector<const T*> rows(static_cast<size_t>(m.rows));
      for (size_t r = 0; r < rows.size(); ++r) rows[r] = reinterpret_cast<const T*>(m.data) + r * width;
      return rows;
    };
    const auto x = rows_of(Hidden()), w = rows_of(Weight());
    kernels.dot_rows(x.data(), x.size(), w.data(), w.size(), width, reinterpret_cast<T*>(scores_));
  }

  size_t Item() const { return type_ == NPY_FLOAT ? sizeof(float) : sizeof(double); }
  double Cost() const { return 2.0 * EstimateNanoseconds(static_cast<size_t>(rows_ * classes_), Tile().storage); }
  LogitTile Tile() const {
    return {type_ == NPY_FLOAT ? DType::kFloat32 : DType::kFloat64,
            scores_,
            static_cast<size_t>(rows_),
            static_cast<size_t>(classes_),
            0,
            scored_};
  }
  Matrix Contiguous(char* data, npy_intp rows, npy_intp columns) const {
    const auto item = static_cast<npy_intp>(Item());
    return {data, rows, columns, columns * item, item};
  }
  Matrix Of(PyObject* array, npy_intp rows, npy_intp columns) const {
    return Contiguous(PyArray_BYTES(reinterpret_cast<PyArrayObject*>(array)), rows, columns);
  }
  Matrix Hidden() const { return Contiguous(PyArray_BYTES(hidden_), rows_, width_); }
  Matrix Weight() const { return Contiguous(PyArray_BYTES(weight_), classes_, width_); }
  Matrix Scores() const { return Contiguous(scores_, rows_, classes_); }

  PyArrayObject *hidden_ = nullptr, *weight_ = nullptr, *bias_ = nullptr;
  int type_ = NPY_NOTYPE;
  npy_intp rows_ = 0, classes_ = 0, width_ = 0;
  const int64_t* label_ = nullptr;
  Scoring scoring_ = {nullptr, 1.0, 0.0};
  TileShares shares_ = {nullptr, 0, nullptr, 0.0, 0.0};
  char* scores_ = nullptr;
  bool scored_ = false;
  RowTotals totals_ = {};
  LossTerms terms_ = {};
  double* spare_[kColumns - 5] = {};
};

// ---- losses ----

PyObject* AsScalar(double value, int type) {
  float single = static_cast<float>(value);
  PyArray_Descr* descr = PyArray_DescrFromType(type);
  PyObject* scalar = PyArray_Scalar(type == NPY_FLOAT ? static_cast<void*>(&single) : &value, descr, nullptr);
  Py_DECREF(descr);
  return scalar;
}

// (limit, hidden, weight, target, bias, ignore_index, label_smoothing, z_loss, softcap, temperature, class_weight,
// reduction, sample_weight, empty)
struct LossCall {
  SmallLayer layer;
  double label_smoothing, z_loss, divisor;

  bool Read(PyObject* const* args, Py_ssize_t nargs) {
    Reduction reduction;
    bool zero_if_empty;  // there are rows, and all count
    if (nargs != 14 || args[10] != Py_None || args[12] != Py_None || !ReadReduction(args[11], &reduction) ||
        !ReadEmpty(args[13], &zero_if_empty)) {
      return false;
    }
    const bool is_mean = reduction == Reduction::kMean;
    if (!is_mean && reduction != Reduction::kSum) return false;
    if (!layer.ReadArrays(args[0], args[1], args[2], args[4]) || !layer.ReadTarget(args[3], args[5]) ||
        !ReadFloat(args[6], 0.0, 1.0, &label_smoothing) || !ReadFloat(args[7], 0.0, 1e300, &z_loss) ||
        !layer.ReadScoring(args[9], args[8])) {
      return false;
    }
    layer.Smooth(label_smoothing);
    divisor = is_mean ? static_cast<double>(layer.Rows()) : 1.0;
    return true;
  }
  // Null with an exception set on failure.
  PyObject* Loss() {
    if (!layer.Score({0, nullptr, nullptr})) return nullptr;
    const double* losses = layer.Losses(label_smoothing, z_loss);
    double sum = 0.0;
    for (npy_intp r = 0; r < layer.Rows(); ++r) sum += losses[r];
    return AsScalar(sum / divisor, layer.Type());
  }
};

PyObject* SmallLoss(PyObject*, PyObject* const* args, Py_ssize_t nargs) {
  LossCall call;
  return call.Read(args, nargs) ? call.Loss() : Py_NewRef(Py_None);
}

PyObject* SmallLossWithGrad(PyObject*, PyObject* const* args, Py_ssize_t nargs) {
  LossCall call;
  if (!call.Read(args, nargs)) return Py_NewRef(Py_None);
  PyObject* loss = call.Loss();
  std::array<PyObject*, 3> gradients = {};
  PyObject* result = nullptr;
  if (loss != nullptr && call.layer.Gradients(1.0 / call.divisor, &gradients)) {
    result = PyTuple_Pack(4, loss, gradients[0], gradients[1], gradients[2]);
  }
  Py_XDECREF(loss);
  for (PyObject* gradient : gradients) Py_XDECREF(gradient);
  return result;
}

// ---- queries ----

// (limit, hidden, weight, bias, temperature, softcap)
PyObject* SmallLogSumExp(PyObject*, PyObject* const* args, Py_ssize_t nargs) {
  SmallLayer layer;
  if (nargs != 6 || !layer.ReadArrays(args[0], args[1], args[2], args[3]) || !layer.ReadScoring(args[4], args[5])) {
    return Py_NewRef(Py_None);
  }
  if (!layer.Score({0, nullptr, nullptr})) return nullptr;
  return layer.EachRow([](const RowTotals& totals, size_t r) { return totals.reference[r] + totals.lse[r]; });
}

// (limit, hidden, weight, target, bias, temperature, softcap, ignore_index)
PyObject* SmallLogProb(PyObject*, PyObject* const* args, Py_ssize_t nargs) {
  SmallLayer layer;
  if (nargs != 8 || !layer.ReadArrays(args[0], args[1], args[2], args[4]) || !layer.ReadTarget(args[3], args[7]) ||
      !layer.ReadScoring(args[5], args[6])) {
    return Py_NewRef(Py_None);
  }
  if (!layer.Score({0, nullptr, nullptr})) return nullptr;
  return layer.EachRow([](const RowTotals& totals, size_t r) { return totals.own[r] - totals.lse[r]; });
}

// (limit, hidden, weight, k, bias)
PyObject* SmallTop(PyObject*, PyObject* const* args, Py_ssize_t nargs) {
  SmallLayer layer;
  int64_t k;
  if (nargs != 5 || !layer.ReadArrays(args[0], args[1], args[2], args[4]) || !ReadInteger(args[3], &k) || k < 1 ||
      k > layer.Classes()) {
    return Py_NewRef(Py_None);
  }
  PyObject* ids = layer.NewRows(NPY_INT64, {static_cast<npy_intp>(k)});
  PyObject* log_probs = layer.NewRows(layer.Type(), {static_cast<npy_intp>(k)});
  PyObject* result = nullptr;
  std::vector<double> scores(static_cast<size_t>(layer.Rows() * k));
  if (ids != nullptr && log_probs != nullptr) {
    auto* id = static_cast<int64_t*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(ids)));
    const RowTop top = {static_cast<size_t>(k), id, scores.data()};
    if (layer.Score(top)) {
      FinishTop(static_cast<size_t>(layer.Rows()), layer.Totals(), top);
      Store(scores.data(), scores.size(), log_probs);
      result = PyTuple_Pack(2, ids, log_probs);
    }
  }
  Py_XDECREF(ids);
  Py_XDECREF(log_probs);
  return result;
}

}  // namespace

PyMethodDef* SmallLinearMethods() {
  static PyMethodDef methods[] = {
      {"linear_small_loss", AsCFunction(SmallLoss), METH_FASTCALL, nullptr},
      {"linear_small_loss_with_grad", AsCFunction(SmallLossWithGrad), METH_FASTCALL, nullptr},
      {"linear_small_logsumexp", AsCFunction(SmallLogSumExp), METH_FASTCALL, nullptr},
      {"linear_small_log_prob", AsCFunction(SmallLogProb), METH_FASTCALL, nullptr},
      {"linear_small_topk", AsCFunction(SmallTop), METH_FASTCALL, nullptr},
      {nullptr, nullptr, 0, nullptr}};
  return methods;
}

}  // namespace boltzmax
