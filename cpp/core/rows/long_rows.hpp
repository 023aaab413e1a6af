// Rows longer than a segment: reduce the segments, add up their sums, map the segments. Both halves may be split over
// threads.
#pragma once

#include "row_plan.hpp"

namespace boltzmax {

// Row r. `contiguous` says whether its elements lie one after another, with nothing to convert.
void RunLongRow(const RowPlan& plan, size_t r, bool contiguous);

}  // namespace boltzmax
