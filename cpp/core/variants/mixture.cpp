#include "mixture.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "../../kernels/row_sum.hpp"
#include "../rows/segment_sums.hpp"
#include "../runtime/row_blocks.hpp"

namespace boltzmax {

namespace {

// The kernel keeps this many doubles for each component.
constexpr size_t kScratchOfComponent = 5;

double LogSumExpOfRow(const MixtureProblem& p, const char* x, std::vector<RowSum>* sums) {
  const StorageKernels& kernels = KernelsFor(p.storage);
  const size_t length = SegmentLength(p.storage), item = ItemSize(p.storage);
  const bool far = p.rows * p.components * p.n * item > kFarBytes;
  const auto segment = [&](size_t s) -> Row {
    return {x + s * length * item, nullptr, nullptr, std::min(length, p.n - s * length), 1.0, far, false};
  };
  sums->clear();
  for (size_t s = 0; s * length < p.n; ++s) sums->push_back(kernels.reduce(segment(s)));
  LongSum sum =
      Combine(*sums, 1.0, true, kernels, [&](size_t s) { return kernels.reduce_rest(segment(s), (*sums)[s]); });
  return LogSumExpOf(sum.total, sum.log_sum, 1.0);
}

}  // namespace

void Run(const MixtureProblem& p) {
  if (p.rows == 0 || p.n == 0) return;
  const RowKernel kernel = KernelOf(RowFunctionNamed("mixture_of_rows"), p.storage);
  const size_t row = p.n * ItemSize(p.storage), block = p.components * row;
  const double cost = 1.2 * EstimateNanoseconds(p.rows * p.components, p.n, p.storage);
  ForEachRowBlock(p.rows, p.components * p.n, cost, [&](size_t begin, size_t end) {
    std::vector<double> offsets(p.components), scratch(kScratchOfComponent * p.components);
    std::vector<RowSum> sums;
    for (size_t r = begin; r < end; ++r) {
      for (size_t m = 0; m < p.components; ++m) {
        const double log_weight = p.log_weights[r * p.components + m];
        offsets[m] = log_weight;
        if (std::isinf(log_weight)) continue;  // it counts for nothing, whatever its logits
        const double lse = LogSumExpOfRow(p, p.x + r * block + m * row, &sums);
        offsets[m] = std::isfinite(lse) ? log_weight - lse : std::numeric_limits<double>::quiet_NaN();
      }
      RowCall call = {};
      call.batch.x = p.x + r * block;
      call.batch.y = p.y + r * row;
      call.batch.temperature = offsets.data();
      call.batch.x_stride = static_cast<ptrdiff_t>(row);
      call.batch.rows = p.components;
      call.batch.n = p.n;
      call.batch.scratch = scratch.data();
      kernel(call);
    }
  });
}

}  // namespace boltzmax
