#include "row_functions.hpp"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "../runtime/convert.hpp"
#include "../runtime/row_blocks.hpp"

namespace boltzmax {

namespace {

struct FunctionPlan {
  RowFunctionProblem p;
  DType compute;  // the type of the arithmetic, float for 16 bits
  RowKernel kernel;
  size_t n, rows, item, scratch;  // item: bytes of a number of that type
  bool far;
  bool contiguous = false;  // elements of a row are neighbours, of that type

  bool Reduces() const { return p.function->reduces; }
  bool HasOther() const { return p.other != nullptr; }
};

// Whether an operand, of this type, can be read or written in place.
bool IsReadable(const FunctionPlan& plan, Operand k, const char* base, DType dtype) {
  if (dtype != plan.compute || plan.p.inner.size() > 1) return false;
  auto bits = reinterpret_cast<uintptr_t>(base);
  for (const Axis& axis : plan.p.outer) bits |= static_cast<uintptr_t>(axis.stride[k]);
  const bool adjacent = plan.p.inner.empty() || plan.p.inner[0].stride[k] == static_cast<ptrdiff_t>(plan.item);
  return bits % plan.item == 0 && adjacent;
}

bool IsContiguous(const FunctionPlan& plan) {
  const RowFunctionProblem& p = plan.p;
  const bool mask_fits = p.mask == nullptr || p.inner.empty() || p.inner[0].stride[kMask] == 1;
  const bool y_fits = plan.Reduces() ? p.storage == plan.compute && reinterpret_cast<uintptr_t>(p.y) % plan.item == 0
                                     : IsReadable(plan, kY, p.y, p.storage);
  return mask_fits && y_fits && IsReadable(plan, kX, p.x, p.input) &&
         (!plan.HasOther() || IsReadable(plan, kOther, p.other, p.other_input));
}

// Memory for one call: kept for the thread's next call unless it is large.
struct Memory {
  Scratch& kept;
  Scratch large = {};

  char* Get(size_t bytes) {
    constexpr size_t kMostKept = size_t{1} << 20;
    return (bytes <= kMostKept ? kept : large).Get(bytes);
  }
};

// A call of the kernel for `rows` rows from `first` on.
RowCall CallOf(const FunctionPlan& plan, size_t first, size_t rows, char* scratch) {
  static constexpr double kOne = 1.0;
  RowCall call = {};
  call.batch.temperature = &kOne;
  call.batch.rows = rows;
  call.batch.n = plan.n;
  call.batch.scratch = scratch;
  call.batch.scaled = plan.p.temperature != nullptr;
  call.batch.far = plan.far;
  call.options = plan.p.options;
  call.options.first_row += first;
  return call;
}

void RunInPlace(const FunctionPlan& plan, size_t begin, size_t end, char* scratch) {
  const RowFunctionProblem& p = plan.p;
  ForEachRun(p.outer, begin, end, [&](const Offsets& at, size_t run, const Offsets& stride, size_t done) {
    RowCall call = CallOf(plan, begin + done, run, scratch);
    RowBatch& batch = call.batch;
    batch.x = p.x + at[kX];
    batch.x_stride = stride[kX];
    batch.y = p.y + at[kY];
    batch.y_stride = stride[kY];
    if (p.mask != nullptr) batch.mask = reinterpret_cast<const uint8_t*>(p.mask + at[kMask]);
    batch.mask_stride = stride[kMask];
    if (p.temperature != nullptr) {
      batch.temperature = reinterpret_cast<const double*>(p.temperature + at[kTemperature]);
      batch.temperature_stride = stride[kTemperature];
    }
    if (plan.HasOther()) call.other = p.other + at[kOther];
    call.other_stride = stride[kOther];
    plan.kernel(call);
  });
}

// Buffers for a batch of packed rows.
struct PackedRows {
  char* x;
  char* y;
  char* other;
  char* mask;
  std::vector<double> temperatures;
};

class Packer {
 public:
  explicit Packer(const FunctionPlan& plan) : plan_(plan), p_(plan.p) {}

  // `rows` rows from `first` on.
  void Pack(size_t first, size_t rows, PackedRows& packed) const {
    PackOperand(kX, p_.x, p_.input, plan_.item, first, rows, packed.x);
    if (plan_.HasOther()) PackOperand(kOther, p_.other, p_.other_input, plan_.item, first, rows, packed.other);
    if (p_.mask != nullptr) PackOperand(kMask, p_.mask, DType::kBool, 1, first, rows, packed.mask);
    if (p_.temperature == nullptr) return;
    for (size_t r = 0; r < rows; ++r) {
      const Offsets at = OffsetsAt(p_.outer, first + r);
      packed.temperatures[r] = *reinterpret_cast<const double*>(p_.temperature + at[kTemperature]);
    }
  }
  void Unpack(const PackedRows& packed, size_t first, size_t rows) const {
    const ScatterFn scatter = ScatterComputed(p_.storage);
    const size_t n = plan_.Reduces() ? 1 : plan_.n, size = ItemSize(p_.storage);
    if (IsDense(kY, n, size)) {
      return scatter(packed.y, rows * n, p_.y + OffsetsAt(p_.outer, first)[kY], static_cast<ptrdiff_t>(size));
    }
    for (size_t r = 0; r < rows; ++r) {
      const char* from = packed.y + r * n * plan_.item;
      char* to = p_.y + OffsetsAt(p_.outer, first + r)[kY];
      plan_.Reduces() ? scatter(from, 1, to, 0) : ScatterLine(scatter, p_.inner, kY, to, 0, n, plan_.item, from);
    }
  }

 private:
  // Whether rows of n elements of `size` bytes follow each other without gaps.
  bool IsDense(Operand k, size_t n, size_t size) const {
    const auto step = [&](const Axes& axes) { return axes.empty() ? 0 : axes[0].stride[k]; };
    const bool rows = p_.outer.empty() || step(p_.outer) == static_cast<ptrdiff_t>(n * size);
    const bool elements = n == 1 || step(p_.inner) == static_cast<ptrdiff_t>(size);
    return p_.outer.size() <= 1 && p_.inner.size() <= 1 && rows && elements;
  }
  // Elements of `dtype` become such of `item` bytes.
  void PackOperand(Operand k, const char* base, DType dtype, size_t item, size_t first, size_t rows, char* to) const {
    const GatherFn gather = Gather(dtype, k == kMask ? DType::kBool : plan_.compute);
    const size_t n = plan_.n, size = ItemSize(dtype);
    if (IsDense(k, n, size)) {
      return gather(base + OffsetsAt(p_.outer, first)[k], static_cast<ptrdiff_t>(size), rows * n, to);
    }
    for (size_t r = 0; r < rows; ++r) {
      GatherLine(gather, p_.inner, k, base + OffsetsAt(p_.outer, first + r)[k], 0, n, item, to + r * n * item);
    }
  }

  const FunctionPlan& plan_;
  const RowFunctionProblem& p_;
};

void RunPacked(const FunctionPlan& plan, size_t begin, size_t end, char* scratch) {
  thread_local Scratch kept;
  Memory memory{kept};
  const size_t n = plan.n, item = plan.item, row = n * item;
  const size_t batch = std::clamp<size_t>(kPackElements / std::max<size_t>(n, 1), 1, end - begin);
  char* buffer = memory.Get(batch * (3 * row + n) + batch * item);
  PackedRows packed = {buffer, buffer + 2 * batch * row, buffer + batch * row, nullptr, {}};
  packed.mask = packed.y + batch * std::max(row, item);
  packed.temperatures.assign(batch, 1.0);
  const Packer packer(plan);
  for (size_t first = begin; first < end; first += batch) {
    const size_t rows = std::min(batch, end - first);
    packer.Pack(first, rows, packed);
    RowCall call = CallOf(plan, first, rows, scratch);
    call.batch.x = packed.x;
    call.batch.y = packed.y;
    call.batch.x_stride = static_cast<ptrdiff_t>(row);
    call.batch.y_stride = static_cast<ptrdiff_t>(plan.Reduces() ? item : row);
    if (plan.p.mask != nullptr) call.batch.mask = reinterpret_cast<const uint8_t*>(packed.mask);
    call.batch.mask_stride = static_cast<ptrdiff_t>(n);
    call.batch.temperature = packed.temperatures.data();
    call.batch.temperature_stride = sizeof(double);
    call.batch.far = false;
    if (plan.HasOther()) call.other = packed.other;
    call.other_stride = static_cast<ptrdiff_t>(row);
    plan.kernel(call);
    packer.Unpack(packed, first, rows);
  }
}

}  // namespace

void Run(const RowFunctionProblem& problem) {
  const DType compute = ComputeType(problem.storage);
  FunctionPlan plan = {problem,
                       compute,
                       KernelOf(*problem.function, compute),
                       CountElements(problem.inner),
                       CountElements(problem.outer),
                       ItemSize(compute),
                       0,
                       false};
  if (plan.rows == 0 || (plan.n == 0 && !plan.Reduces())) return;
  plan.p.outer = Coalesce(problem.outer);
  plan.p.inner = Coalesce(problem.inner);
  plan.far = plan.rows * plan.n * plan.item > kFarBytes;
  plan.contiguous = IsContiguous(plan);
  plan.scratch = problem.function->scratch(plan.n) * plan.item;
  const double cost = problem.function->cost * EstimateNanoseconds(plan.rows, plan.n, problem.storage);
  ForEachRowBlock(plan.rows, plan.n, cost, [&](size_t begin, size_t end) {
    thread_local Scratch kept;
    Memory memory{kept};
    char* scratch = memory.Get(plan.scratch);
    plan.contiguous ? RunInPlace(plan, begin, end, scratch) : RunPacked(plan, begin, end, scratch);
  });
}

}  // namespace boltzmax
