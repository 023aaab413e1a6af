// What draws share: the kernels of a type, blocks of rows for threads, and the noise of a class.
#pragma once

#include <cmath>

#include "../runtime/row_blocks.hpp"
#include "draws.hpp"

namespace boltzmax {

inline const DrawKernels<float>& KernelsOf(const DrawTable& table, float) { return table.f32; }
inline const DrawKernels<double>& KernelsOf(const DrawTable& table, double) { return table.f64; }

// The Gumbel noise of an element, in double.
inline double GumbelAt(const PhiloxKey& key, uint64_t row, size_t element) {
  const uint32_t word = Philox(key, row, Purpose::kNoise, element / 4).word[element % 4];
  double s = UniformOf(word);
  if (IsTail(word)) s = TailOf(key, row, element, word);
  const double exponential = s > 0.0 ? -std::log1p(-s) : -std::log(-s);
  return -std::log(exponential);
}

// Keys over ln 2 below this, by the bounds of `key_bounds`, are less than `key`.
inline double KeyBar(double key) {
  const double over_ln2 = key * 1.4426950408889634;
  return over_ln2 - (std::abs(over_ln2) + 66.0) * 0x1p-20 - 0x1p-13;
}

// Calls run(T(), begin, end), where T is the type of the scores, on blocks of rows. `cost` is the time for an element, in
// softmax's.
template <class Run>
void ForEachDrawBlock(const DrawProblem& p, double cost, Run run) {
  ForEachRowBlock(p.rows, p.n, cost * EstimateNanoseconds(p.rows, p.n, p.storage), [&](size_t begin, size_t end) {
    if (p.storage == DType::kFloat64) return run(double(), begin, end);
    run(float(), begin, end);
  });
}

}  // namespace boltzmax
