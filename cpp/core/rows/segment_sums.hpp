// The sums of a row's segments, added up in order whoever took which: so every bit stays.
#pragma once

#include <functional>
#include <vector>

#include "../../kernels/types.hpp"

namespace boltzmax {

// What the sum of one segment counts in the unit of another.
double UnitRatio(const RowSum& from, const RowSum& to, double temperature);

// The sum of a whole row from those of its segments, and its logarithm. `rest(s)` is asked for the sum of segment s
// without its largest element where that is a large share of everything.
struct LongSum {
  RowSum total;
  Sum log_sum;  // of total; only if wanted
};
LongSum Combine(const std::vector<RowSum>& segments, double temperature, bool want_log, const StorageKernels& kernels,
                const std::function<Sum(size_t)>& rest);

}  // namespace boltzmax
