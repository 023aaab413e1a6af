#include "softmax.hpp"

#include <cstdint>

#include "columns.hpp"
#include "long_rows.hpp"
#include "packed_rows.hpp"
#include "row_plan.hpp"

namespace boltzmax {

namespace {

bool IsContiguous(const RowPlan& plan) {
  if (plan.p.input != plan.p.storage || plan.p.inner.size() > 1) return false;
  if (plan.p.inner.empty()) return true;
  const auto& stride = plan.p.inner[0].stride;
  const bool y_fits = plan.Reduces() || stride[kY] == static_cast<ptrdiff_t>(plan.YSize());
  return stride[kX] == static_cast<ptrdiff_t>(plan.XSize()) && y_fits && (!plan.masked || stride[kMask] == 1);
}

bool IsAligned(const RowPlan& plan) {
  uintptr_t bits = reinterpret_cast<uintptr_t>(plan.p.x) | reinterpret_cast<uintptr_t>(plan.p.y);
  for (const Axes* axes : {&plan.p.outer, &plan.p.inner}) {
    for (const Axis& axis : *axes) {
      bits |= static_cast<uintptr_t>(axis.stride[kX]) | static_cast<uintptr_t>(axis.stride[kY]);
    }
  }
  return bits % plan.YSize() == 0;
}

void RunContiguousRows(const RowPlan& plan, size_t begin, size_t end) {
  void* scratch = ExponentialsFor(plan);
  ForEachRun(plan.p.outer, begin, end, [&](const Offsets& at, size_t run, const Offsets& stride, size_t) {
    plan.Kernels().rows({plan.p.x + at[kX], plan.p.y + at[kY], plan.MaskAt(at), plan.Temperatures(at[kTemperature]),
                         stride[kX], stride[kY], stride[kMask], stride[kTemperature], run, plan.n, scratch, plan.scaled,
                         plan.far, plan.stream});
  });
}

}  // namespace

void Run(const Problem& problem) {
  RowPlan plan = {problem,
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
  plan.stream = !plan.Reduces() && problem.x != problem.y && WritesPastCache(plan.rows, plan.n, plan.YSize());

  const bool contiguous = IsContiguous(plan) && IsAligned(plan);
  const double cost = EstimateNanoseconds(plan.rows, plan.n, plan.p.storage);
  if (plan.n > SegmentLength(plan.p.storage)) {
    // With many long rows, each is one task. With few, each is split.
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
  const bool reduces = Reduces(problem.op), scaled = problem.temperature != nullptr;
  if (rows * n > kSmall || rows == 0 || (n == 0 && !reduces)) {
    Problem strided = problem;
    strided.outer = {{rows, {row, reduces ? item : row, 0, 0}}};
    strided.inner = {{n, {item, reduces ? 0 : item, 0, 0}}};
    return Run(strided);
  }
  const RowPlan plan = {problem, &KernelsFor(problem.storage), n, rows, false, scaled, false, false};
  plan.Kernels().rows({problem.x, problem.y, nullptr, plan.Temperatures(0), row, reduces ? item : row, 0, 0, rows, n,
                       ExponentialsFor(plan), scaled, false, false});
}

}  // namespace boltzmax
