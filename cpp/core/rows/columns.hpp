// Columns: rows of a problem that are neighbours in memory.
#pragma once

#include "row_plan.hpp"

namespace boltzmax {

// The outer axis along which x and y are both contiguous; -1 if there is none, or if the rows should not run as
// columns.
int ColumnAxis(const RowPlan& plan);

void RunColumns(const RowPlan& plan, int column_axis);

}  // namespace boltzmax
