#include "long_rows.hpp"

#include <algorithm>
#include <vector>

#include "packed_rows.hpp"
#include "segment_sums.hpp"

namespace boltzmax {

void RunLongRow(const RowPlan& plan, size_t r, bool contiguous) {
  const Offsets at = OffsetsAt(plan.p.outer, r);
  const double temperature = plan.TemperatureAt(at), cost = EstimateNanoseconds(plan.n, plan.p.storage);
  const size_t length = SegmentLength(plan.p.storage), item = plan.YSize();
  const size_t count = (plan.n + length - 1) / length;
  const Packer packer = {plan};

  // Segment s in the kernels' form. A packed one is mapped in its buffer.
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
    char* x = packer.Elements(length);
    uint8_t* mask = packer.Mask(length);
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
  const LongSum sum = Combine(sums, temperature, NeedsLogSum(plan.p.op), *plan.kernels,
                              [&](size_t s) { return plan.kernels->reduce_rest(segment(s), sums[s]); });
  if (plan.Reduces()) {
    double value;  // large enough for any storage type: y may be unaligned
    plan.Kernels().finish({nullptr, &value, nullptr, 0, temperature, false, false}, sum.total, sum.log_sum);
    packer.scatter(&value, 1, plan.p.y + at[kY], 0);
    return;
  }
  for_each_segment([&](size_t s) {
    const Row row = segment(s);
    plan.Kernels().finish(row, sum.total, sum.log_sum);
    if (!contiguous) packer.Unpack(static_cast<const char*>(row.y), s * length, row.n, at);
  });
}

}  // namespace boltzmax
