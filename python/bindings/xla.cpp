// The handlers run on XLA's threads, without the GIL, and touch neither Python nor NumPy.
#include "xla.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cfenv>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>

#include "../../cpp/core/api/api.hpp"
#include "../../cpp/core/losses/cross_entropy.hpp"
#include "../../cpp/core/rows/gradients.hpp"
#include "../../cpp/core/rows/softmax.hpp"
#include "../../cpp/core/runtime/row_blocks.hpp"
#include "../../cpp/core/variants/row_functions.hpp"
#include "xla_abi.hpp"

namespace py = pybind11;

namespace boltzmax {

namespace {

// ---- what a call brings ----

void Expect(bool condition, const char* what) {
  if (!condition) throw std::invalid_argument(what);
}

DType DTypeOf(xla::Type type) {
  switch (type) {
    case xla::Type::kFloat16: return DType::kFloat16;
    case xla::Type::kFloat32: return DType::kFloat32;
    case xla::Type::kFloat64: return DType::kFloat64;
    case xla::Type::kBFloat16: return DType::kBFloat16;
    default: throw std::invalid_argument("boltzmax has no kernels for this dtype");
  }
}

size_t CountOf(const xla::Buffer& buffer) {
  size_t count = 1;
  for (int64_t d = 0; d < buffer.rank; ++d) count *= static_cast<size_t>(buffer.shape[d]);
  return count;
}

const xla::Buffer& Item(const xla::Buffers& buffers, int64_t i) {
  Expect(i < buffers.count && buffers.kinds[i] == xla::kBuffer, "the call has too few buffers");
  return *buffers.items[i];
}

// An operand or a result whose rows are its last axis.
struct Matrix {
  DType type;
  char* data;
  size_t rows, n;

  explicit Matrix(const xla::Buffer& buffer) : type(DTypeOf(buffer.type)), data(static_cast<char*>(buffer.data)) {
    Expect(buffer.rank > 0, "an operand has no axis");
    n = static_cast<size_t>(buffer.shape[buffer.rank - 1]);
    rows = 1;
    for (int64_t d = 0; d + 1 < buffer.rank; ++d) rows *= static_cast<size_t>(buffer.shape[d]);
  }
  bool IsLike(const Matrix& other) const { return type == other.type && rows == other.rows && n == other.n; }
  ptrdiff_t RowBytes() const { return static_cast<ptrdiff_t>(n * ItemSize(type)); }
};

Matrix Argument(const xla::Frame& frame, int64_t i) { return Matrix(Item(frame.arguments, i)); }
Matrix Result(const xla::Frame& frame) { return Matrix(Item(frame.results, 0)); }

template <class T>
T Attribute(const xla::Frame& frame, const char* name, xla::Type type) {
  const xla::Attributes& all = frame.attributes;
  for (int64_t i = 0; i < all.count; ++i) {
    const xla::Name& given = *all.names[i];
    if (std::string_view(given.begin, given.size) != name || all.kinds[i] != xla::kScalar) continue;
    const auto& scalar = *static_cast<const xla::Scalar*>(all.items[i]);
    Expect(scalar.type == type, "an attribute has the wrong type");
    T value;
    std::memcpy(&value, scalar.value, sizeof value);
    return value;
  }
  throw std::invalid_argument(std::string("the attribute ") + name + " is missing");
}

// ---- operations and their gradients, functions of rows ----

template <Op kOp>
void RunOperation(const xla::Frame& frame) {
  const Matrix x = Argument(frame, 0);
  const xla::Buffer& y = Item(frame.results, 0);
  Expect(DTypeOf(y.type) == x.type && CountOf(y) == x.rows * (Reduces(kOp) ? 1 : x.n), "the result does not fit x");
  RunContiguous(Problem{kOp, x.type, x.type, x.data, static_cast<char*>(y.data), nullptr, nullptr, {}, {}}, x.rows,
                x.n);
}

template <Op kOp>
void RunGradient(const xla::Frame& frame) {
  const Matrix dy = Argument(frame, 0), y = Argument(frame, 1), dx = Result(frame);
  Expect(dy.IsLike(y) && dx.IsLike(y), "the operands of a gradient differ in shape or dtype");
  RunContiguous(GradProblem{kOp, y.type, dy.data, y.data, dx.data, {}, {}}, y.rows, y.n);
}

constexpr char kSparsemax[] = "sparsemax", kSparsemaxBackward[] = "sparsemax_backward";
constexpr char kEntmax15[] = "entmax15", kEntmax15Backward[] = "entmax15_backward";

template <const char* kName>
void RunFunction(const xla::Frame& frame) {
  const RowFunction& function = RowFunctionNamed(kName);
  const Matrix x = Argument(frame, 0), other = Argument(frame, function.has_other ? 1 : 0), y = Result(frame);
  Expect(x.IsLike(y) && other.IsLike(y), "the operands differ in shape or dtype");
  const ptrdiff_t row = y.RowBytes(), item = static_cast<ptrdiff_t>(ItemSize(y.type));
  const auto strides = [](ptrdiff_t bytes) { return std::array<ptrdiff_t, kOperands>{bytes, bytes, 0, 0, bytes}; };
  Run(RowFunctionProblem{&function,
                         x.type,
                         other.type,
                         y.type,
                         x.data,
                         function.has_other ? other.data : nullptr,
                         y.data,
                         nullptr,
                         nullptr,
                         {},
                         {{y.rows, strides(row)}},
                         {{y.n, strides(item)}}});
}

// ---- Gumbel noise ----

// softmax((x + g) / temperature), or its largest element as a one-hot vector. The operands after x are two 32-bit words
// of a key, and a temperature. A batch has a key and a temperature for each of its parts, whose rows are numbered from 0.
void RunGumbel(const xla::Frame& frame) {
  const RowFunction& function = RowFunctionNamed("gumbel_softmax");
  const Matrix x = Argument(frame, 0), y = Result(frame);
  const xla::Buffer &keys = Item(frame.arguments, 1), &temperatures = Item(frame.arguments, 2);
  Expect(x.IsLike(y), "the result does not fit the logits");
  Expect(keys.type == xla::Type::kUInt32 && CountOf(keys) % 2 == 0, "keys must be two words of uint32");
  const size_t parts = CountOf(keys) / 2;
  const bool wide = temperatures.type == xla::Type::kFloat64;
  Expect(wide || temperatures.type == xla::Type::kFloat32, "temperatures must be float32 or float64");
  Expect(CountOf(temperatures) == parts, "there must be one temperature for each key");
  if (parts == 0) return;
  Expect(x.rows % parts == 0, "the rows do not divide among the keys");
  const bool hard = Attribute<int64_t>(frame, "hard", xla::Type::kInt64) != 0;
  const size_t rows = x.rows / parts;
  const ptrdiff_t row = y.RowBytes(), item = static_cast<ptrdiff_t>(ItemSize(y.type));
  const auto strides = [](ptrdiff_t bytes) { return std::array<ptrdiff_t, kOperands>{bytes, bytes, 0, 0, 0}; };
  for (size_t i = 0; i < parts; ++i) {
    const auto* words = static_cast<const uint32_t*>(keys.data) + 2 * i;
    const double temperature = wide ? static_cast<const double*>(temperatures.data)[i]
                                    : static_cast<double>(static_cast<const float*>(temperatures.data)[i]);
    if (!IsTemperature(temperature)) {
      throw std::invalid_argument("temperature must be from 1e-30 to 1e30, got " + std::to_string(temperature));
    }
    const ptrdiff_t at = static_cast<ptrdiff_t>(i * rows) * row;
    Run(RowFunctionProblem{
        &function,
        x.type,
        x.type,
        y.type,
        x.data + at,
        nullptr,
        y.data + at,
        nullptr,
        hard || temperature == 1.0 ? nullptr : reinterpret_cast<const char*>(&temperature),
        {.number = 0.0, .count = 0, .key = uint64_t{words[0]} << 32 | words[1], .first_row = 0, .flag = hard},
        {{rows, strides(row)}},
        {{y.n, strides(item)}}});
  }
}

// ---- cross-entropy ----

// Rows whose numbers are on the stack together.
constexpr size_t kFewRows = 512;
using Few = std::array<double, kFewRows>;

// The arguments that the losses and their gradient share, checked. Losses are float, or double for double logits.
struct LossCall {
  const xla::Frame& frame;
  Matrix logits;
  const xla::Buffer& target;
  int64_t ignored;
  double smoothing;

  explicit LossCall(const xla::Frame& given)
      : frame(given),
        logits(Argument(given, 0)),
        target(Item(given.arguments, 1)),
        ignored(Attribute<int64_t>(given, "ignore_index", xla::Type::kInt64)),
        smoothing(Attribute<double>(given, "label_smoothing", xla::Type::kFloat64)) {
    Expect(target.type == xla::Type::kInt32 || target.type == xla::Type::kInt64, "targets must be int32 or int64");
    Expect(CountOf(target) == logits.rows, "there must be one target for each row");
    Expect(logits.n > 0, "the logits have no classes");
    for (size_t r = 0; r < logits.rows; ++r) {
      const int64_t t = TargetAt(r);
      if (t != ignored && (t < 0 || t >= static_cast<int64_t>(logits.n))) throw std::out_of_range(OutOfRange(t, r));
    }
  }

  int64_t TargetAt(size_t r) const {
    return target.type == xla::Type::kInt32 ? static_cast<const int32_t*>(target.data)[r]
                                            : static_cast<const int64_t*>(target.data)[r];
  }
  std::string OutOfRange(int64_t t, size_t r) const {
    return "target " + std::to_string(t) + " of row " + std::to_string(r) + " is out of range for " +
           std::to_string(logits.n) + " classes (and not ignore_index, " + std::to_string(ignored) + ")";
  }

  // Expects one loss, or gradient by it, for each row.
  void ExpectLosses(const xla::Buffer& losses) const {
    const auto wanted = logits.type == DType::kFloat64 ? xla::Type::kFloat64 : xla::Type::kFloat32;
    Expect(losses.type == wanted && CountOf(losses) == logits.rows, "there must be one float for each row");
  }

  // Calls f(begin, problem) for a few rows at a time, from `begin` on, on all threads. f completes the problem, which
  // has the logits and the targets, and runs it.
  template <class F>
  void ForFewRows(F f) const {
    const double cost = 2.0 * EstimateNanoseconds(logits.rows, logits.n, logits.type);
    ForEachRowBlock(logits.rows, logits.n, cost, [&](size_t first, size_t end) {
      std::array<int64_t, kFewRows> label;
      Few lse, log_prob;
      for (size_t begin = first; begin < end; begin += kFewRows) {
        const size_t count = std::min(kFewRows, end - begin);
        for (size_t i = 0; i < count; ++i) {
          const int64_t t = TargetAt(begin + i);
          label[i] = t == ignored ? -1 : t;
        }
        CrossEntropyProblem problem = {};
        problem.storage = logits.type;
        problem.logits = logits.data + static_cast<ptrdiff_t>(begin) * logits.RowBytes();
        problem.logits_stride = logits.RowBytes();
        problem.rows = count;
        problem.n = logits.n;
        problem.target = label.data();
        problem.temperature = 1.0;
        problem.lse = lse.data();
        problem.log_prob = log_prob.data();
        problem.batch = logits.rows;
        f(begin, problem);
      }
    });
  }
};

// The losses (1 - e) (lse - z_t) + e/K sum_c (lse - z_c) of rows of logits z, with e the label smoothing.
void RunLosses(const xla::Frame& frame) {
  const LossCall call(frame);
  const xla::Buffer& loss = Item(frame.results, 0);
  call.ExpectLosses(loss);
  call.ForFewRows([&](size_t begin, CrossEntropyProblem problem) {
    Few distance;
    if (call.smoothing != 0.0) problem.distance = distance.data();
    RunCrossEntropyRows(problem, 0, problem.rows);
    for (size_t i = 0; i < problem.rows; ++i) {
      double value = 0.0 - problem.log_prob[i];
      const bool counts = problem.target[i] >= 0 && value < HUGE_VAL;
      if (problem.distance != nullptr && counts) value += call.smoothing * distance[i];
      if (loss.type == xla::Type::kFloat64) {
        static_cast<double*>(loss.data)[begin + i] = value;
      } else {
        static_cast<float*>(loss.data)[begin + i] = static_cast<float>(value);
      }
    }
  });
}

// The gradient g (p - (1 - e) [c = t] - e/K) by the logits, from g, the gradient by the loss of each row.
void RunLossGradient(const xla::Frame& frame) {
  const LossCall call(frame);
  const Matrix d_logits = Result(frame);
  const xla::Buffer& d_loss = Item(frame.arguments, 2);
  call.ExpectLosses(d_loss);
  Expect(d_logits.IsLike(call.logits), "the result does not fit the logits");
  const double share = call.smoothing / static_cast<double>(std::max<size_t>(call.logits.n, 1));
  call.ForFewRows([&](size_t begin, CrossEntropyProblem problem) {
    Few gain, lse_gain, add, target_gain;
    for (size_t i = 0; i < problem.rows; ++i) {
      gain[i] = d_loss.type == xla::Type::kFloat64
                    ? static_cast<const double*>(d_loss.data)[begin + i]
                    : static_cast<double>(static_cast<const float*>(d_loss.data)[begin + i]);
      lse_gain[i] = 0.0;
      add[i] = -gain[i] * share;
      target_gain[i] = gain[i] * (1.0 - call.smoothing);
    }
    problem.gradient = d_logits.data + static_cast<ptrdiff_t>(begin) * d_logits.RowBytes();
    problem.gradient_stride = d_logits.RowBytes();
    problem.gain = gain.data();
    problem.lse_gain = lse_gain.data();
    problem.add = add.data();
    problem.target_gain = target_gain.data();
    problem.step = 1;
    RunCrossEntropyRows(problem, 0, problem.rows);
  });
}

// ---- handlers ----

xla::Error* Fail(const xla::Frame& frame, xla::ErrorCode code, const char* message) {
  xla::ErrorArguments arguments = {sizeof arguments, nullptr, message, code};
  return frame.api->create_error(&arguments);
}

// Nothing that a minor version added is used, so the handlers speak every minor version up to kMinor. An XLA takes those
// that it knows; older ones do not say in their question which these are.
std::atomic<int> minor_version{xla::kMinor};

// Fills in what XLA asks about a handler, if it does.
bool Describe(const xla::Frame& frame) {
  for (xla::Extension* e = frame.extensions; e != nullptr; e = e->next) {
    if (e->kind != xla::kMetadataExtension) continue;
    xla::Metadata& ours = *reinterpret_cast<xla::MetadataExtension*>(e)->metadata;
    ours.version = {sizeof ours.version, nullptr, xla::kMajor, minor_version};
    ours.traits = 0;
    if (ours.size > offsetof(xla::Metadata, state_type)) ours.state_type = 0;
    return true;
  }
  return false;
}

// XLA's threads flush subnormal numbers to 0. The kernels do not, and some of them compute with such numbers.
class DefaultFloats {
 public:
  DefaultFloats() {
    std::fegetenv(&before_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~DefaultFloats() { std::fesetenv(&before_); }
  DefaultFloats(const DefaultFloats&) = delete;
  DefaultFloats& operator=(const DefaultFloats&) = delete;

 private:
  std::fenv_t before_;
};

template <auto kRun>
xla::Error* Handle(xla::Frame* frame) noexcept {
  if (Describe(*frame)) return nullptr;
  try {
    const DefaultFloats floats;
    kRun(*frame);
    return nullptr;
  } catch (const std::bad_alloc&) {
    return Fail(*frame, xla::ErrorCode::kResourceExhausted, "out of memory");
  } catch (const std::out_of_range& error) {
    return Fail(*frame, xla::ErrorCode::kOutOfRange, error.what());
  } catch (const std::invalid_argument& error) {
    return Fail(*frame, xla::ErrorCode::kInvalidArgument, error.what());
  } catch (const std::exception& error) {
    return Fail(*frame, xla::ErrorCode::kInternal, error.what());
  } catch (...) {
    return Fail(*frame, xla::ErrorCode::kInternal, "an unknown error");
  }
}

constexpr struct {
  const char* name;
  xla::Handler* handler;
} kHandlers[] = {
    {"softmax", Handle<RunOperation<Op::kSoftmax>>},
    {"log_softmax", Handle<RunOperation<Op::kLogSoftmax>>},
    {"logsumexp", Handle<RunOperation<Op::kLogSumExp>>},
    {"softmax_backward", Handle<RunGradient<Op::kSoftmax>>},
    {"log_softmax_backward", Handle<RunGradient<Op::kLogSoftmax>>},
    {kSparsemax, Handle<RunFunction<kSparsemax>>},
    {kSparsemaxBackward, Handle<RunFunction<kSparsemaxBackward>>},
    {kEntmax15, Handle<RunFunction<kEntmax15>>},
    {kEntmax15Backward, Handle<RunFunction<kEntmax15Backward>>},
    {"gumbel_softmax", Handle<RunGumbel>},
    {"cross_entropy", Handle<RunLosses>},
    {"cross_entropy_backward", Handle<RunLossGradient>},
};

// Capsules of all handlers, by name, as jax.ffi.register_ffi_target takes them, for an XLA of this minor version.
py::dict XlaHandlers(int minor) {
  minor_version = std::min(xla::kMinor, minor);
  py::dict result;
  for (const auto& [name, handler] : kHandlers) {
    result[name] = py::capsule(reinterpret_cast<void*>(handler), "xla._CUSTOM_CALL_TARGET");
  }
  return result;
}

}  // namespace

void BindXla(py::module_& module) {
  module.def("xla_handlers", XlaHandlers, py::arg("minor"));
  module.attr("xla_version") = py::make_tuple(xla::kMajor, xla::kMinor);
}

}  // namespace boltzmax
