// Rows longer than a segment: reduce the segments, add up their sums, map the segments. Threads may share both halves.
#pragma once

#include "row_plan.hpp"

namespace boltzmax {

// Row r. `contiguous`: its elements are contiguous and need no conversion.
void RunLongRow(const RowPlan& plan, size_t r, bool contiguous);

}  // namespace boltzmax
