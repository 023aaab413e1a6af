// What must come out, by the definitions, in long double; and how far a result may lie from it.
#pragma once

#include <vector>

#include "numbers.hpp"

namespace boltzmax::fuzz {

struct Row {
  std::vector<Real> x;
  std::vector<bool> kept;
  Real temperature = 1;
};

// A result, and the error that it may have. An error of 0 allows the value alone, be it NaN or infinite.
struct Answer {
  Real value, allowed;

  bool Admits(Real got, const Format& format) const;
};

// One answer for each element, or one for logsumexp. None where x / temperature leaves the range of the format.
std::vector<Answer> Forward(int operation, const Row& row, int dtype);

// dx of softmax or log_softmax.
std::vector<Answer> Backward(int operation, const std::vector<Real>& dy, const std::vector<Real>& y, int dtype);

// d_logits, and the loss at the end.
std::vector<Answer> CrossEntropy(const std::vector<Real>& x, int64_t target, double scale, int dtype);

}  // namespace boltzmax::fuzz
