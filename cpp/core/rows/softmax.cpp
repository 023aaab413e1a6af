#include "softmax.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

#include "../../kernels/row_sum.hpp"
#include "../runtime/convert.hpp"
#include "../runtime/row_blocks.hpp"
#include "long_rows.hpp"

namespace boltzmax {

namespace {

size_t ComputeSize(DType storage) { return storage == DType::kFloat64 ? sizeof(double) : sizeof(float); }

thread_local Scratch exponentials, packed, packed_mask, strips;

constexpr double kOne = 1.0;

// A problem in the form in which it runs.
struct Plan {
  Problem p;
  const StorageKernels* kernels;
  size_t n, rows;
  bool masked, scaled, far, stream;

  double TemperatureAt(const Offsets& at) const {
    return scaled ? *reinterpret_cast<const double*>(p.temperature + at[kTemperature]) : 1.0;
  }
  const uint8_t* MaskAt(const Offsets& at) const {
    return masked ? reinterpret_cast<const uint8_t*>(p.mask) + at[kMask] : nullptr;
  }
  size_t XSize() const { return ItemSize(p.input); }
  size_t YSize() const { return ItemSize(p.storage); }
  bool Reduces() const { return p.op == Op::kLogSumExp; }
};

void RunRows(const Plan& plan, const RowBatch& batch) {
  switch (plan.p.op) {
    case Op::kSoftmax: return plan.kernels->softmax_rows(batch);
    case Op::kLogSoftmax: return plan.kernels->log_softmax_rows(batch);
    case Op::kLogSumExp: return plan.kernels->logsumexp_rows(batch);
  }
}

void* ExponentialsFor(const Plan& plan) {
  const bool is_kept = plan.p.op == Op::kSoftmax && (plan.stream || plan.YSize() != ComputeSize(plan.p.storage));
  const bool needed = is_kept || plan.n <= kMostPaneled;
  return needed ? exponentials.Get(2 * kKept * ComputeSize(plan.p.storage)) : nullptr;
}

// ---- rows that lie contiguous in memory ----

bool IsContiguous(const Plan& plan) {
  if (plan.p.input != plan.p.storage || plan.p.inner.size() > 1) return false;
  if (plan.p.inner.empty()) return true;
  const auto& stride = plan.p.inner[0].stride;
  const bool y_fits = plan.Reduces() || stride[kY] == static_cast<ptrdiff_t>(plan.YSize());
  return stride[kX] == static_cast<ptrdiff_t>(plan.XSize()) && y_fits && (!plan.masked || stride[kMask] == 1);
}

bool IsAligned(const Plan& plan) {
  uintptr_t bits = reinterpret_cast<uintptr_t>(plan.p.x) | reinterpret_cast<uintptr_t>(plan.p.y);
  for (const Axes* axes : {&plan.p.outer, &plan.p.inner}) {
    for (const Axis& axis : *axes) {
      bits |= static_cast<uintptr_t>(axis.stride[kX]) | static_cast<uintptr_t>(axis.stride[kY]);
    }
  }
  return bits % plan.YSize() == 0;
}

void RunContiguousRows(const Plan& plan, size_t begin, size_t end) {
  void* scratch = ExponentialsFor(plan);
  ForEachRun(plan.p.outer, begin, end, [&](const Offsets& at, size_t run, const Offsets& stride, size_t) {
    RunRows(plan, {plan.p.x + at[kX], plan.p.y + at[kY], plan.MaskAt(at),
                   plan.scaled ? reinterpret_cast<const double*>(plan.p.temperature + at[kTemperature]) : &kOne,
                   stride[kX], stride[kY], stride[kMask], stride[kTemperature], run, plan.n, scratch, plan.scaled,
                   plan.far, plan.stream});
  });
}

// ---- columns: neighbouring rows of the problem lie side by side in memory ----

// The outer axis along which x and y are both contiguous; -1 if there is none.
int ColumnAxis(const Plan& plan) {
  if (plan.p.input != plan.p.storage || plan.masked || plan.p.inner.size() != 1) return -1;
  if (plan.n == 0 || plan.n > SegmentLength(plan.p.storage)) return -1;
  for (size_t d = plan.p.outer.size(); d-- > 0;) {
    const auto& stride = plan.p.outer[d].stride;
    const auto item = static_cast<ptrdiff_t>(plan.YSize());
    if (stride[kX] == item && stride[kY] == item) return static_cast<int>(d);
  }
  return -1;
}

void RunColumnBatch(const Plan& plan, const ColumnBatch& batch) {
  switch (plan.p.op) {
    case Op::kSoftmax: return plan.kernels->softmax_columns(batch);
    case Op::kLogSoftmax: return plan.kernels->log_softmax_columns(batch);
    case Op::kLogSumExp: return plan.kernels->logsumexp_columns(batch);
  }
}

constexpr size_t kLine = 64;  // bytes; and columns: whole lines of every type

// Whether n lines at this stride crowd into a few of the 64 sets of the first-level cache, where they drive each other
// out before they are read again: the rows of an array whose width is a multiple of a power of two.
bool Crowds(ptrdiff_t stride, size_t n) {
  constexpr size_t kSets = 64, kLinesOfSet = 16;
  if (stride == 0) return false;
  const size_t sets = kSets * kLine / std::gcd(static_cast<size_t>(stride < 0 ? -stride : stride), kSets * kLine);
  return sets <= 4 && n > sets * sets * kLinesOfSet;  // the fewer lines, the less a copy pays
}

// Columns that would crowd go through a buffer, where they stand one line after the other. The wider the group of
// columns, the fewer visits to each row.
void RunStagedColumns(const Plan& plan, const ColumnBatch& batch) {
  constexpr size_t kStageBytes = 1 << 20;
  const size_t item = plan.YSize(), per_line = kLine / item;
  const size_t strip_bytes = (plan.n | 1) * kLine;  // odd, so that neighbours do not crowd
  const size_t group = std::clamp<size_t>(kStageBytes / strip_bytes, 1, (batch.columns + per_line - 1) / per_line);
  char* stage = strips.Get(group * strip_bytes);
  // copy(line of the stage, row, first byte of its columns, how many bytes) of every strip of a group, row by row. Rows
  // to come are asked for where they lie in the array: the processor does not guess them.
  const auto for_each_line = [&](const char* array, ptrdiff_t stride, size_t bytes, const auto& copy) {
    constexpr size_t kAhead = 8;
    for (size_t i = 0; i < plan.n; ++i) {
      const char* ahead = array + static_cast<ptrdiff_t>(std::min(i + kAhead, plan.n - 1)) * stride;
      for (size_t s = 0; s * kLine < bytes; ++s) {
        __builtin_prefetch(ahead + s * kLine, 0, 2);
        copy(stage + s * strip_bytes + i * kLine, i, s * kLine, std::min(kLine, bytes - s * kLine));
      }
    }
  };
  for (size_t first = 0; first < batch.columns; first += group * per_line) {
    const size_t columns = std::min(group * per_line, batch.columns - first), bytes = columns * item;
    const char* x = batch.x + first * item;
    char* y = batch.y + first * item;
    for_each_line(x, batch.x_stride, bytes, [&](char* line, size_t i, size_t at, size_t size) {
      const char* from = x + static_cast<ptrdiff_t>(i) * batch.x_stride + at;
      size == kLine ? memcpy(line, from, kLine) : memcpy(line, from, size);
    });
    for (size_t c = 0; c < columns; c += per_line) {
      ColumnBatch strip = batch;
      strip.x = stage + c / per_line * strip_bytes;
      strip.x_stride = kLine;
      strip.columns = std::min(per_line, columns - c);
      strip.temperature = reinterpret_cast<const double*>(reinterpret_cast<const char*>(batch.temperature) +
                                                          static_cast<ptrdiff_t>(first + c) * batch.temperature_stride);
      strip.y = stage + c / per_line * strip_bytes;
      strip.y_stride = kLine;
      RunColumnBatch(plan, strip);
    }
    for_each_line(y, batch.y_stride, bytes, [&](const char* line, size_t i, size_t at, size_t size) {
      char* to = y + static_cast<ptrdiff_t>(i) * batch.y_stride + at;
      size == kLine ? memcpy(to, line, kLine) : memcpy(to, line, size);
    });
  }
}

void RunColumns(const Plan& plan, int column_axis) {
  const Axis columns = plan.p.outer[static_cast<size_t>(column_axis)];
  Axes others = plan.p.outer;
  others.erase(others.begin() + column_axis);
  const size_t width = std::max<size_t>(1, kTaskElements / (plan.n * kLine)) * kLine;  // columns a task takes
  const size_t count = (columns.size + width - 1) / width;
  const Axis& inner = plan.p.inner[0];
  // A reduction reads each line once.
  const bool crowds = !plan.Reduces() && (Crowds(inner.stride[kX], plan.n) || Crowds(inner.stride[kY], plan.n));
  ParallelFor(CountElements(others) * count, EstimateNanoseconds(plan.rows, plan.n, plan.p.storage), [&](size_t i) {
    const Offsets at = OffsetsAt(others, i / count);
    const size_t first = i % count * width;
    const auto shift = [&](Operand k) { return at[k] + static_cast<ptrdiff_t>(first) * columns.stride[k]; };
    const ColumnBatch batch = {
        plan.p.x + shift(kX),
        plan.p.y + shift(kY),
        plan.scaled ? reinterpret_cast<const double*>(plan.p.temperature + shift(kTemperature)) : &kOne,
        inner.stride[kX],
        inner.stride[kY],
        plan.scaled ? columns.stride[kTemperature] : 0,
        std::min(width, columns.size - first),
        plan.n,
        plan.scaled};
    crowds ? RunStagedColumns(plan, batch) : RunColumnBatch(plan, batch);
  });
}

// ---- anything else: rows are packed into a buffer first ----

// Elements [begin, begin + n) of the row at `at`, and their mask, as contiguous storage; and back.
struct Packer {
  const Plan& plan;
  GatherFn gather = Gather(plan.p.input, plan.p.storage);
  ScatterFn scatter = Scatter(plan.p.storage);

  void Pack(const Offsets& at, size_t begin, size_t n, char* x, uint8_t* mask) const {
    GatherLine(gather, plan.p.inner, kX, plan.p.x + at[kX], begin, n, plan.YSize(), x);
    if (mask == nullptr) return;
    static const GatherFn copy = Gather(DType::kBool, DType::kBool);
    GatherLine(copy, plan.p.inner, kMask, plan.p.mask + at[kMask], begin, n, 1, mask);
  }
  void Unpack(const char* from, size_t begin, size_t n, const Offsets& at) const {
    ScatterLine(scatter, plan.p.inner, kY, plan.p.y + at[kY], begin, n, plan.YSize(), from);
  }
};

void RunPackedRows(const Plan& plan, size_t begin, size_t end) {
  const size_t n = plan.n, item = plan.YSize();
  const size_t batch = std::clamp<size_t>(kPackElements / std::max<size_t>(n, 1), 1, end - begin);
  char* x = packed.Get(batch * n * item + batch * item);
  char* results = plan.Reduces() ? x + batch * n * item : x;
  uint8_t* mask = plan.masked ? reinterpret_cast<uint8_t*>(packed_mask.Get(batch * n)) : nullptr;
  void* scratch = ExponentialsFor(plan);
  const Packer packer = {plan};
  std::vector<double> temperatures(batch, 1.0);
  const auto row_bytes = static_cast<ptrdiff_t>(n * item), item_bytes = static_cast<ptrdiff_t>(item);
  for (size_t first = begin; first < end; first += batch) {
    const size_t rows = std::min(batch, end - first);
    for (size_t r = 0; r < rows; ++r) {
      const Offsets at = OffsetsAt(plan.p.outer, first + r);
      packer.Pack(at, 0, n, x + r * n * item, mask == nullptr ? nullptr : mask + r * n);
      temperatures[r] = plan.TemperatureAt(at);
    }
    RunRows(plan, {x, results, mask, temperatures.data(), row_bytes, plan.Reduces() ? item_bytes : row_bytes,
                   static_cast<ptrdiff_t>(n), sizeof(double), rows, n, scratch, plan.scaled, false, false});
    for (size_t r = 0; r < rows; ++r) {
      const Offsets at = OffsetsAt(plan.p.outer, first + r);
      if (plan.Reduces()) {
        packer.scatter(results + r * item, 1, plan.p.y + at[kY], 0);
      } else {
        packer.Unpack(x + r * n * item, 0, n, at);
      }
    }
  }
}

// ---- rows longer than a segment ----

void RunLongRow(const Plan& plan, size_t r, bool contiguous) {
  const Offsets at = OffsetsAt(plan.p.outer, r);
  const double temperature = plan.TemperatureAt(at), cost = EstimateNanoseconds(plan.n, plan.p.storage);
  const size_t length = SegmentLength(plan.p.storage), item = plan.YSize();
  const size_t count = (plan.n + length - 1) / length;
  const Packer packer = {plan};

  // Segment s as a kernel sees it. A packed one is mapped in its buffer.
  const auto segment = [&](size_t s) -> Row {
    const size_t begin = s * length, n = std::min(length, plan.n - begin);
    const auto offset = static_cast<ptrdiff_t>(begin * item);
    if (contiguous) {
      const uint8_t* mask = plan.MaskAt(at);
      return {plan.p.x + at[kX] + offset,
              plan.p.y + at[kY] + (plan.Reduces() ? 0 : offset),
              mask == nullptr ? nullptr : mask + begin,
              n,
              temperature,
              plan.far,
              plan.stream};
    }
    char* x = packed.Get(length * item);
    uint8_t* mask = plan.masked ? reinterpret_cast<uint8_t*>(packed_mask.Get(length)) : nullptr;
    packer.Pack(at, begin, n, x, mask);
    return {x, x, mask, n, temperature, false, false};
  };

  std::vector<RowSum> sums(count);
  const auto for_each_segment = [&](const auto& task) {
    ParallelBlocks(count, 1, cost, [&](size_t begin, size_t end) {
      for (size_t s = begin; s < end; ++s) task(s);
    });
  };
  for_each_segment([&](size_t s) { sums[s] = plan.kernels->reduce(segment(s)); });
  const LongSum sum = Combine(sums, temperature, plan.p.op != Op::kSoftmax, *plan.kernels,
                              [&](size_t s) { return plan.kernels->reduce_rest(segment(s), sums[s]); });
  if (plan.Reduces()) {
    double value;  // room for any storage type: y may not be aligned
    plan.kernels->store_scalar(&value, LogSumExpOf(sum.total, sum.log_sum, temperature));
    packer.scatter(&value, 1, plan.p.y + at[kY], 0);
    return;
  }
  for_each_segment([&](size_t s) {
    const Row row = segment(s);
    if (plan.p.op == Op::kSoftmax) {
      plan.kernels->softmax_map(row, sum.total);
    } else {
      plan.kernels->log_softmax_map(row, sum.total, sum.log_sum);
    }
    if (!contiguous) packer.Unpack(static_cast<const char*>(row.y), s * length, row.n, at);
  });
}

}  // namespace

void Run(const Problem& problem) {
  Plan plan = {problem,
               &KernelsFor(problem.storage),
               CountElements(problem.inner),
               CountElements(problem.outer),
               problem.mask != nullptr,
               problem.temperature != nullptr,
               false,
               false};
  if (plan.rows == 0 || (plan.n == 0 && !plan.Reduces())) return;
  plan.p.outer = Coalesce(problem.outer);
  plan.p.inner = Coalesce(problem.inner);
  plan.far = plan.rows * plan.n * plan.XSize() > kFarBytes;
  plan.stream = !plan.Reduces() && problem.x != problem.y && plan.rows * plan.n * plan.YSize() > kStreamBytes;

  const bool contiguous = IsContiguous(plan) && IsAligned(plan);
  const double cost = EstimateNanoseconds(plan.rows, plan.n, plan.p.storage);
  if (plan.n > SegmentLength(plan.p.storage)) {
    // Many long rows: one each. Few: every one is split.
    const bool many = plan.rows >= 4 * static_cast<size_t>(UsableThreads(cost));
    const auto row = [&](size_t r) { RunLongRow(plan, r, contiguous); };
    if (many) return ParallelFor(plan.rows, cost, row);
    for (size_t r = 0; r < plan.rows; ++r) row(r);
    return;
  }
  const int column_axis = contiguous || !IsAligned(plan) ? -1 : ColumnAxis(plan);
  if (column_axis >= 0) return RunColumns(plan, column_axis);
  ForEachRowBlock(plan.rows, plan.n, cost, [&](size_t begin, size_t end) {
    contiguous ? RunContiguousRows(plan, begin, end) : RunPackedRows(plan, begin, end);
  });
}

void RunContiguous(const Problem& problem, size_t rows, size_t n) {
  constexpr size_t kSmall = 4096;  // too few elements for threads or streaming
  const auto item = static_cast<ptrdiff_t>(ItemSize(problem.storage)), row = static_cast<ptrdiff_t>(n) * item;
  const bool reduces = problem.op == Op::kLogSumExp, scaled = problem.temperature != nullptr;
  if (rows * n > kSmall || rows == 0 || (n == 0 && !reduces)) {
    Problem strided = problem;
    strided.outer = {{rows, {row, reduces ? item : row, 0, 0}}};
    strided.inner = {{n, {item, reduces ? 0 : item, 0, 0}}};
    return Run(strided);
  }
  const Plan plan = {problem, &KernelsFor(problem.storage), n, rows, false, scaled, false, false};
  RunRows(plan, {problem.x, problem.y, nullptr, scaled ? reinterpret_cast<const double*>(problem.temperature) : &kOne,
                 row, reduces ? item : row, 0, 0, rows, n, ExponentialsFor(plan), scaled, false, false});
}

}  // namespace boltzmax
