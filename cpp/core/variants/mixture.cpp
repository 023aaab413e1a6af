#include "mixture.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "../../kernels/row_sum.hpp"
#include "../rows/segment_sums.hpp"
#include "../runtime/convert.hpp"
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

// The kernel's call for the elements [begin, begin + n) of a mixture whose components begin at x.
RowCall CallOf(const MixtureProblem& p, const char* x, ptrdiff_t stride, char* y, size_t n, const double* offsets,
               double* scratch) {
  RowCall call = {};
  call.batch.x = x;
  call.batch.y = y;
  call.batch.temperature = offsets;
  call.batch.x_stride = stride;
  call.batch.rows = p.components;
  call.batch.n = n;
  call.batch.scratch = scratch;
  return call;
}

// Numbers of 16 bits, of which pieces of all components are widened to float.
void RunWidened(const MixtureProblem& p, RowKernel kernel, const char* x, char* y, const double* offsets,
                double* scratch) {
  constexpr size_t kPiece = 2048;
  const GatherFn gather = Gather(p.storage, DType::kFloat32);
  const ScatterFn scatter = ScatterComputed(p.storage);
  const size_t size = ItemSize(p.storage);
  std::vector<float> wide((p.components + 1) * std::min(kPiece, p.n));
  for (size_t begin = 0; begin < p.n; begin += kPiece) {
    const size_t n = std::min(kPiece, p.n - begin);
    float* result = wide.data() + p.components * n;
    for (size_t m = 0; m < p.components; ++m) {
      gather(x + (m * p.n + begin) * size, static_cast<ptrdiff_t>(size), n, wide.data() + m * n);
    }
    kernel(CallOf(p, reinterpret_cast<const char*>(wide.data()), static_cast<ptrdiff_t>(n * sizeof(float)),
                  reinterpret_cast<char*>(result), n, offsets, scratch));
    scatter(result, n, y + begin * size, static_cast<ptrdiff_t>(size));
  }
}

}  // namespace

void Run(const MixtureProblem& p) {
  if (p.rows == 0 || p.n == 0) return;
  const DType compute = ComputeType(p.storage);
  const RowKernel kernel = KernelOf(RowFunctionNamed("mixture_of_rows"), compute);
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
      const char* x = p.x + r * block;
      char* y = p.y + r * row;
      if (p.storage != compute) RunWidened(p, kernel, x, y, offsets.data(), scratch.data());
      else kernel(CallOf(p, x, static_cast<ptrdiff_t>(row), y, p.n, offsets.data(), scratch.data()));
    }
  });
}

}  // namespace boltzmax
