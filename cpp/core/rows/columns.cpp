#include "columns.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace boltzmax {

namespace {

constexpr size_t kLine = 64;  // in bytes; and in columns: whole lines for every type

// Whether n lines at this stride fall into so few of the 64 sets of the first-level cache that they evict each other
// before they are read again: the rows of an array whose width is a multiple of a power of two.
bool Crowds(ptrdiff_t stride, size_t n) {
  constexpr size_t kSets = 64, kLinesOfSet = 16;
  if (stride == 0) return false;
  const size_t sets = kSets * kLine / std::gcd(static_cast<size_t>(stride < 0 ? -stride : stride), kSets * kLine);
  return sets <= 4 && n > sets * sets * kLinesOfSet;  // the fewer lines, the less a copy saves
}

// Runs columns that would crowd the cache through a buffer, whose rows are an odd number of lines apart. The wider the
// group of columns, the fewer visits to each row.
void RunStagedColumns(const RowPlan& plan, const ColumnBatch& batch) {
  thread_local Scratch strips;
  constexpr size_t kStageBytes = 1 << 20;
  const size_t item = plan.YSize(), per_line = kLine / item;
  const size_t lines = std::clamp<size_t>(kStageBytes / (plan.n * kLine), 1, (batch.columns + per_line - 1) / per_line);
  const size_t stride = (lines | 1) * kLine;
  char* stage = strips.Get(plan.n * stride);
  for (size_t first = 0; first < batch.columns; first += lines * per_line) {
    const size_t columns = std::min(lines * per_line, batch.columns - first), bytes = columns * item;
    for (size_t i = 0; i < plan.n; ++i) {
      memcpy(stage + i * stride, batch.x + static_cast<ptrdiff_t>(i) * batch.x_stride + first * item, bytes);
    }
    ColumnBatch group = batch;
    group.x = group.y = stage;
    group.x_stride = group.y_stride = static_cast<ptrdiff_t>(stride);
    group.columns = columns;
    group.temperature = reinterpret_cast<const double*>(reinterpret_cast<const char*>(batch.temperature) +
                                                        static_cast<ptrdiff_t>(first) * batch.temperature_stride);
    plan.Kernels().columns(group);
    for (size_t i = 0; i < plan.n; ++i) {
      memcpy(batch.y + static_cast<ptrdiff_t>(i) * batch.y_stride + first * item, stage + i * stride, bytes);
    }
  }
}

}  // namespace

int ColumnAxis(const RowPlan& plan) {
  if (plan.p.input != plan.p.storage || plan.masked || plan.p.inner.size() != 1) return -1;
  if (plan.n == 0 || plan.n > SegmentLength(plan.p.storage)) return -1;
  for (size_t d = plan.p.outer.size(); d-- > 0;) {
    const auto& stride = plan.p.outer[d].stride;
    const auto item = static_cast<ptrdiff_t>(plan.YSize());
    if (stride[kX] == item && stride[kY] == item) return static_cast<int>(d);
  }
  return -1;
}

void RunColumns(const RowPlan& plan, int column_axis) {
  const Axis columns = plan.p.outer[static_cast<size_t>(column_axis)];
  Axes others = plan.p.outer;
  others.erase(others.begin() + column_axis);
  const size_t width = std::max<size_t>(1, kTaskElements / (plan.n * kLine)) * kLine;  // columns per task
  const size_t count = (columns.size + width - 1) / width;
  const Axis& inner = plan.p.inner[0];
  // A reduction reads each line once.
  const bool crowds = !plan.Reduces() && (Crowds(inner.stride[kX], plan.n) || Crowds(inner.stride[kY], plan.n));
  ParallelFor(CountElements(others) * count, EstimateNanoseconds(plan.rows, plan.n, plan.p.storage), [&](size_t i) {
    const Offsets at = OffsetsAt(others, i / count);
    const size_t first = i % count * width;
    const auto shift = [&](Operand k) { return at[k] + static_cast<ptrdiff_t>(first) * columns.stride[k]; };
    const ColumnBatch batch = {plan.p.x + shift(kX),
                               plan.p.y + shift(kY),
                               plan.Temperatures(shift(kTemperature)),
                               inner.stride[kX],
                               inner.stride[kY],
                               plan.scaled ? columns.stride[kTemperature] : 0,
                               std::min(width, columns.size - first),
                               plan.n,
                               plan.scaled};
    crowds ? RunStagedColumns(plan, batch) : plan.Kernels().columns(batch);
  });
}

}  // namespace boltzmax
