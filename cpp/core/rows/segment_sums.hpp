// The sums of a row's segments, added in order, so that the bits do not depend on threads.
#pragma once

#include <functional>
#include <vector>

#include "../../kernels/types.hpp"

namespace boltzmax {

// The factor that converts the sum of one segment to the unit of another.
double UnitRatio(const RowSum& from, const RowSum& to, double temperature);

// The sum of a whole row from those of its segments, and its logarithm. If the largest element makes up much of the
// sum, `rest(s)` is called for the sum of segment s without that element.
struct LongSum {
  RowSum total;
  Sum log_sum;  // of total; only if wanted
};
LongSum Combine(const std::vector<RowSum>& segments, double temperature, bool want_log, const StorageKernels& kernels,
                const std::function<Sum(size_t)>& rest);

}  // namespace boltzmax
