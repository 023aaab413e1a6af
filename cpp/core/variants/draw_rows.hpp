// What both kinds of draws share: the kernels of a type, and blocks of rows for threads.
#pragma once

#include "../runtime/row_blocks.hpp"
#include "draws.hpp"

namespace boltzmax {

inline const DrawKernels<float>& KernelsOf(const DrawTable& table, float) { return table.f32; }
inline const DrawKernels<double>& KernelsOf(const DrawTable& table, double) { return table.f64; }

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
