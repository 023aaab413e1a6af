// Tiles of logits of which the columns have a softmax, too, as those of contrastive losses that match rows with columns
// and columns with rows.
#pragma once

#include "linear_tiles.hpp"

namespace boltzmax {

// Totals of each column: its largest score so far, -inf at first, and the sum of exp(s - largest).
struct ColumnTotals {
  double* largest;
  double* sum;
};

// Adds a tile of scores to the totals of its first n columns.
void AddToColumns(const LogitTile& tile, size_t n, const ColumnTotals& totals);

// The logsumexp of each column of a tile, and the factor of its loss: 0 for a column without a loss.
struct ColumnSlopes {
  const double* lse;
  double scale;
};

// Replaces a tile by the gradients by logits of lse_row - s_label, each times the scale of its row, and of lse_column -
// s_label for its first n columns, times theirs. The label of a row is also the row's partner: the column whose label
// is the row.
void PairSlopes(const LogitTile& tile, double temperature, const RowTotals& totals, const double* scale, size_t n,
                const ColumnSlopes& columns);

}  // namespace boltzmax
