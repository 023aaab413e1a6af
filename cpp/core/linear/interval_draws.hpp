// The classes that may win a draw by Gumbel noise, given intervals of their logits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace boltzmax {

// A tile of intervals, `rows` x n in C order: classes from `first` on, a multiple of four.
struct IntervalTile {
  const double* lower;
  const double* upper;
  size_t rows, n, first;
};

struct PossibleWinner {
  int64_t row, id;
  double noise;
  double upper;  // bound of the class's key, logit + noise
};

// Appends the classes of a tile whose key may exceed `best`, the largest lower bound of a row's keys so far, which the
// tile raises. The noise is that of gumbel_topk, for the row `first_row` + r: it depends on the key, the row and the
// class alone.
void FindWinners(const IntervalTile& tile, uint64_t key, uint64_t first_row, double* best,
                 std::vector<PossibleWinner>& found);

}  // namespace boltzmax
