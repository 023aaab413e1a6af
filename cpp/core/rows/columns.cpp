#include "columns.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace boltzmax {

namespace {

constexpr size_t kLine = 64;  // in bytes; and in columns: whole lines for every type

// Whether n lines at this stride fall into so few of the 64 sets of the first-level cache that they evict each other:
// the rows of an array whose width is a multiple of a power of two.
bool Crowds(ptrdiff_t stride, size_t n) {
  constexpr size_t kSets = 64, kLinesOfSet = 16;
  if (stride == 0) return false;
  const size_t sets = kSets * kLine / std::gcd(static_cast<size_t>(stride < 0 ? -stride : stride), kSets * kLine);
  return sets <= 4 && n > sets * sets * kLinesOfSet;  // the fewer lines, the less a copy saves
}

// Runs columns that would crowd the cache through a buffer, in which their lines follow each other. The wider the group
// of columns, the fewer visits to each row.
void RunStagedColumns(const RowPlan& plan, const ColumnBatch& batch) {
  thread_local Scratch strips;
  constexpr size_t kStageBytes = 1 << 20;
  const size_t item = plan.YSize(), per_line = kLine / item;
  const size_t strip_bytes = (plan.n | 1) * kLine;  // odd, so that neighbouring strips do not crowd
  const size_t group = std::clamp<size_t>(kStageBytes / strip_bytes, 1, (batch.columns + per_line - 1) / per_line);
  char* stage = strips.Get(group * strip_bytes);
  // Calls copy(line of the stage, row, first byte of its columns, number of bytes) for every strip of a group, row by
  // row. Later rows of the array are prefetched: the processor does not predict them.
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
      plan.Kernels().columns(strip);
    }
    for_each_line(y, batch.y_stride, bytes, [&](const char* line, size_t i, size_t at, size_t size) {
      char* to = y + static_cast<ptrdiff_t>(i) * batch.y_stride + at;
      size == kLine ? memcpy(to, line, kLine) : memcpy(to, line, size);
    });
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
  // A line that is read only once may be evicted.
  const bool reads_again = !plan.Reduces() && plan.n > plan.kernels->read_once;
  const bool crowds = reads_again && (Crowds(inner.stride[kX], plan.n) || Crowds(inner.stride[kY], plan.n));
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
