// Prediction sets: the scores of labels, and the classes of each row whose scores are at most a threshold.
#pragma once

#include <cstdint>

#include "../runtime/dispatch.hpp"
#include "rule.hpp"

namespace boltzmax {

// Rows of n contiguous elements, `stride` bytes apart. Elements of 16 bits are widened to float.
struct ScoreRows {
  DType storage;
  const char* x;
  ptrdiff_t stride;
  size_t rows, n;
};

// score[r] = the score of class label[r], from a read of the row; NaN for rows with NaN or without a finite maximum.
void LabelScores(const ScoreRows&, const ScoreRule&, const int64_t* label, const double* u, double* score);

struct SetsProblem {
  ScoreRows rows;
  ScoreRule rule;
  double threshold;
  const double* thresholds;  // one for each class, in place of `threshold`; or null
  const double* u;           // one for each row
  int64_t* size;             // of each row's set
  // The sets, one after the other, each by increasing class; both have room for all classes of all rows. Probabilities
  // are doubles for rows of doubles, else floats.
  int32_t* classes;
  void* probabilities;
};

// The sets of all rows, in order; returns the sum of their sizes. A row with NaN or without a finite maximum has all
// classes, and NaN for probabilities.
size_t PredictSets(const SetsProblem&);

}  // namespace boltzmax
