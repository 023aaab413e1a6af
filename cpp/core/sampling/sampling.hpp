// Filters of logits, and draws from what they leave.
#pragma once

#include <cstdint>

#include "../runtime/dispatch.hpp"

namespace boltzmax {

enum class Filter : uint8_t { kTemperature, kTopK, kTopP, kMinP, kTypicalP, kEpsilon, kEta, kTopNSigma, kTopH, kXtc };

// Numbers of rows: one for all, or one for each.
struct RowNumbers {
  const double* data;
  bool is_per_row;

  double operator[](size_t row) const { return data[is_per_row ? row : 0]; }
};

// One step of a program. `rule` is not 0 for the variant of the filter: all ties of top_k, the logarithm of min_p, and
// the strict comparison of typical_p; for XTC, it is the number of its random numbers.
struct FilterLine {
  Filter filter;
  RowNumbers number, other;
  int rule;
};

// A bias: of some ids, in ascending order, for all rows; or strided, of every element, if there are no ids.
struct BiasTerms {
  const double* value;
  const int64_t* id;  // or null
  size_t count;       // of ids
  ptrdiff_t row_stride, stride;
};

// What a row gave.
enum class RowState : uint8_t { kDrawn, kBad, kTooFew };

struct SampleProblem {
  DType storage;
  const char* x;  // rows of contiguous elements, row_stride bytes apart
  ptrdiff_t row_stride;
  size_t rows, n;
  const uint8_t* mask;  // NumPy bools, or null
  ptrdiff_t mask_row_stride, mask_stride;
  const BiasTerms* biases;
  size_t bias_count;
  const FilterLine* lines;
  size_t line_count;
  uint64_t key;
  const uint64_t* counters;  // one for each row, or null for their numbers
  RowState* state;           // of each row; kBad: NaN, +inf, or no finite logit

  // SampleRows
  size_t draws;
  bool replace;
  int64_t* id;       // rows x draws; -1 for a bad row
  double* log_prob;  // NaN for a bad row
  int64_t* kept;     // 0 for a bad row

  // FilterRows: logits, -inf where left out, or probabilities, of the logits' type; NaN for a bad row
  char* y;
  bool probabilities;
};

void SampleRows(const SampleProblem&);
void FilterRows(const SampleProblem&);

}  // namespace boltzmax
