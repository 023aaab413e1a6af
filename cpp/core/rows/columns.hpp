// Columns: neighbouring rows of a problem lie side by side in memory.
#pragma once

#include "row_plan.hpp"

namespace boltzmax {

// The outer axis along which x and y are both contiguous; -1 if there is none, or the rows are not to run as columns.
int ColumnAxis(const RowPlan& plan);

void RunColumns(const RowPlan& plan, int column_axis);

}  // namespace boltzmax
