// Draws of candidates, with and without replacement, from what is left of a distribution without some classes.
#pragma once

#include <algorithm>

#include "proposals.hpp"

namespace boltzmax {

// For each row, classes that are not drawn: those at offsets[row] to offsets[row + 1], in ascending order.
struct ExcludedClasses {
  const int64_t* ids;
  const int64_t* offsets;  // null: nothing is excluded

  const int64_t* Begin(size_t row) const { return offsets == nullptr ? nullptr : ids + offsets[row]; }
  const int64_t* End(size_t row) const { return offsets == nullptr ? nullptr : ids + offsets[row + 1]; }
  bool Has(size_t row, int64_t id) const { return std::binary_search(Begin(row), End(row), id); }
};

struct CandidateProblem {
  const Proposal* proposal;
  uint64_t key, first_row;
  size_t rows, n;
  ExcludedClasses excluded;
  bool unique;          // n different classes: as many draws as that takes, without those that repeat one
  const double* shift;  // for each row
  int64_t* ids;         // rows x n
  double* log_q;        // log P(id) + shift
};

// Draw d of a row is made from the random words at (d, first_row + row); if that is excluded, again from those of its next
// attempt. So it depends on nothing else. The caller makes sure that few attempts are enough.
void DrawCandidates(const CandidateProblem&);

// log P(id) of any number of classes.
void CandidateLogP(const Proposal&, const int64_t* ids, size_t count, double* log_p);

}  // namespace boltzmax
