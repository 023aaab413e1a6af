// The k largest exact logits of each row, among candidates with intervals.
#pragma once

#include "rescoring.hpp"

namespace boltzmax {

struct RescoredTopProblem {
  RescoreProblem logits;  // the candidates; without `score` and `error`
  const double* lower;    // bounds of each candidate's logit
  const double* upper;
  size_t k;     // every row has at least that many candidates
  size_t most;  // further candidates that a row may rescore besides the k with the largest lower bounds

  // rows x k, the largest logit first, of equal ones the lower id
  int64_t* id;
  double* score;
  double* error;
  // Whether the order of the k is proven, and that no other class belongs to them.
  uint8_t* proven;
  int64_t* rescored;  // how many candidates were
};

// The k candidates with the largest lower bounds are rescored first: then all whose upper bounds are below the least of
// these are known not to belong to the top k.
void RescoredTop(const RescoredTopProblem& p);

}  // namespace boltzmax
