#include "gradients.hpp"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "../runtime/convert.hpp"
#include "../runtime/row_blocks.hpp"
#include "running_sum.hpp"

namespace boltzmax {

namespace {

constexpr Operand kDy = kX, kDx = kY, kOutput = kMask;

thread_local Scratch packed_dy, packed_y;

struct GradientPlan {
  GradProblem p;
  const GradientKernels* kernels;
  size_t n, rows, item;
};

bool IsContiguous(const GradientPlan& plan) {
  uintptr_t bits = reinterpret_cast<uintptr_t>(plan.p.dy) | reinterpret_cast<uintptr_t>(plan.p.y) |
                   reinterpret_cast<uintptr_t>(plan.p.dx);
  for (const Axis& axis : plan.p.outer) {
    for (const Operand k : {kDy, kOutput, kDx}) bits |= static_cast<uintptr_t>(axis.stride[k]);
  }
  if (bits % plan.item != 0 || plan.p.inner.size() > 1) return false;
  for (const Axis& axis : plan.p.inner) {
    for (const Operand k : {kDy, kOutput, kDx}) {
      if (axis.stride[k] != static_cast<ptrdiff_t>(plan.item)) return false;
    }
  }
  return true;
}

// Elements [begin, begin + n) of the row at `at`, in two buffers.
GradRow Pack(const GradientPlan& plan, const Offsets& at, size_t begin, size_t n, char* dy, char* y) {
  const GatherFn gather = Gather(plan.p.storage, plan.p.storage);
  GatherLine(gather, plan.p.inner, kDy, plan.p.dy + at[kDy], begin, n, plan.item, dy);
  GatherLine(gather, plan.p.inner, kOutput, plan.p.y + at[kOutput], begin, n, plan.item, y);
  return {dy, y, dy, n};
}

void Unpack(const GradientPlan& plan, const GradRow& row, const Offsets& at, size_t begin) {
  ScatterLine(Scatter(plan.p.storage), plan.p.inner, kDx, plan.p.dx + at[kDx], begin, row.n, plan.item, row.dx);
}

// Packs rows of any layout, some at a time, and runs them.
void RunPackedRows(const GradientPlan& plan, size_t begin, size_t end) {
  const size_t n = plan.n, bytes = n * plan.item, batch = std::clamp<size_t>(kPackElements / n, 1, end - begin);
  char* dy = packed_dy.Get(batch * bytes);
  char* y = packed_y.Get(batch * bytes);
  const auto stride = static_cast<ptrdiff_t>(bytes);
  for (size_t first = begin; first < end; first += batch) {
    const size_t rows = std::min(batch, end - first);
    for (size_t r = 0; r < rows; ++r) {
      Pack(plan, OffsetsAt(plan.p.outer, first + r), 0, n, dy + r * bytes, y + r * bytes);
    }
    plan.kernels->rows({dy, y, dy, stride, stride, stride, rows, n});
    for (size_t r = 0; r < rows; ++r) {
      const GradRow row = {nullptr, nullptr, dy + r * bytes, n};
      Unpack(plan, row, OffsetsAt(plan.p.outer, first + r), 0);
    }
  }
}

// A row of any length, segment by segment; the sums are added in order for any number of threads.
void RunLongRow(const GradientPlan& plan, size_t r, bool contiguous) {
  const Offsets at = OffsetsAt(plan.p.outer, r);
  const double cost = 2.0 * EstimateNanoseconds(plan.n, plan.p.storage);
  const size_t length = SegmentLength(plan.p.storage), count = (plan.n + length - 1) / length;
  const auto segment = [&](size_t s) -> GradRow {
    const size_t begin = s * length, n = std::min(length, plan.n - begin);
    if (!contiguous) return Pack(plan, at, begin, n, packed_dy.Get(n * plan.item), packed_y.Get(n * plan.item));
    const auto offset = static_cast<ptrdiff_t>(begin * plan.item);
    return {plan.p.dy + at[kDy] + offset, plan.p.y + at[kOutput] + offset, plan.p.dx + at[kDx] + offset, n};
  };
  std::vector<Sum> sums(count);
  ParallelFor(count, cost, [&](size_t s) { sums[s] = plan.kernels->reduce(segment(s)); });
  RunningSum running;
  for (const Sum& sum : sums) running.Add(sum);
  const Sum total = {running.Total(), 0.0};
  ParallelFor(count, cost, [&](size_t s) {
    const GradRow row = segment(s);
    plan.kernels->map(row, total);
    if (!contiguous) Unpack(plan, row, at, s * length);
  });
}

}  // namespace

void Run(const GradProblem& problem) {
  GradientPlan plan = {problem, &KernelsFor(problem.storage).GradientOf(problem.op), CountElements(problem.inner),
                       CountElements(problem.outer), ItemSize(problem.storage)};
  if (plan.rows == 0 || plan.n == 0) return;
  plan.p.outer = Coalesce(problem.outer);
  plan.p.inner = Coalesce(problem.inner);
  const bool contiguous = IsContiguous(plan);
  if (plan.n > SegmentLength(problem.storage)) {
    for (size_t r = 0; r < plan.rows; ++r) RunLongRow(plan, r, contiguous);
    return;
  }
  const double cost = 2.0 * EstimateNanoseconds(plan.rows, plan.n, problem.storage);
  ForEachRowBlock(plan.rows, plan.n, cost, [&](size_t begin, size_t end) {
    if (!contiguous) return RunPackedRows(plan, begin, end);
    ForEachRun(plan.p.outer, begin, end, [&](const Offsets& at, size_t run, const Offsets& stride, size_t) {
      plan.kernels->rows({plan.p.dy + at[kDy], plan.p.y + at[kOutput], plan.p.dx + at[kDx], stride[kDy],
                          stride[kOutput], stride[kDx], run, plan.n});
    });
  });
}

void RunContiguous(const GradProblem& problem, size_t rows, size_t n) {
  constexpr size_t kSmall = 4096;  // too small for threads
  const size_t item = ItemSize(problem.storage);
  const auto step = static_cast<ptrdiff_t>(item), row = static_cast<ptrdiff_t>(n * item);
  if (rows == 0 || n == 0) return;
  if (rows * n > kSmall) {
    GradProblem strided = problem;
    strided.outer = {{rows, {row, row, row, 0}}};
    strided.inner = {{n, {step, step, step, 0}}};
    return Run(strided);
  }
  const GradientPlan plan = {problem, &KernelsFor(problem.storage).GradientOf(problem.op), n, rows, item};
  plan.kernels->rows({problem.dy, problem.y, problem.dx, row, row, row, rows, n});
}

}  // namespace boltzmax
