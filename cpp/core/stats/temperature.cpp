#include "temperature.hpp"

#include <algorithm>
#include <vector>

#include "../../kernels/moment_types.hpp"
#include "../runtime/row_blocks.hpp"

namespace boltzmax {

namespace {

// Rows that are added up together; the sums of such chunks are added in order, so that threads change no bit.
constexpr size_t kChunk = 64;

template <class T>
TemperatureDerivatives OfChunk(const TemperatureProblem& p, const MomentKernels<T>& kernels, size_t begin, size_t end) {
  RowMoments moments[kChunk];
  const char* first = p.logits + static_cast<ptrdiff_t>(begin) * p.stride;
  kernels.moments(reinterpret_cast<const T*>(first), p.stride, end - begin, p.n, p.temperature, moments);
  TemperatureDerivatives sum = {};
  for (size_t r = begin; r < end; ++r) {
    const double weight = p.weight == nullptr ? 1.0 : p.weight[r];
    if (weight == 0.0) continue;
    const RowMoments& row = moments[r - begin];
    const auto* z = reinterpret_cast<const T*>(p.logits + static_cast<ptrdiff_t>(r) * p.stride);
    // Both distances are from the maximum, so that large logits do not cancel.
    sum.first += weight * (row.mean - (static_cast<double>(z[p.target[r]]) - row.max));
    sum.second += weight * row.variance;
  }
  return sum;
}

template <class T>
TemperatureDerivatives RunWith(const TemperatureProblem& p, const MomentKernels<T>& kernels) {
  const size_t chunks = (p.rows + kChunk - 1) / kChunk;
  std::vector<TemperatureDerivatives> sums(chunks);
  const size_t grain = std::max<size_t>(1, kTaskElements / std::max<size_t>(1, kChunk * p.n));
  const double cost = 2.0 * EstimateNanoseconds(p.rows, p.n, p.storage);
  ParallelBlocks(chunks, grain, cost, [&](size_t begin, size_t end) {
    for (size_t c = begin; c < end; ++c) sums[c] = OfChunk(p, kernels, c * kChunk, std::min(p.rows, (c + 1) * kChunk));
  });
  TemperatureDerivatives total = {};
  for (const TemperatureDerivatives& sum : sums) {
    total.first += sum.first;
    total.second += sum.second;
  }
  return total;
}

}  // namespace

TemperatureDerivatives Run(const TemperatureProblem& problem) {
  const MomentTable& table = ActiveMoments();
  return problem.storage == DType::kFloat64 ? RunWith(problem, table.f64) : RunWith(problem, table.f32);
}

}  // namespace boltzmax
