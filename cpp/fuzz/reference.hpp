// The right results, by the definitions, in long double, and the error that a result may have.
#pragma once

#include <vector>

#include "numbers.hpp"

namespace boltzmax::fuzz {

struct Row {
  std::vector<Real> x;
  std::vector<bool> kept;
  Real temperature = 1;
};

// A result, and the error that it may have. An error of 0 allows only the value, even if it is NaN or infinite.
struct Answer {
  Real value, allowed;

  bool Admits(Real got, const Format& format) const;
};

// One answer per element, or one for logsumexp. None if x / temperature leaves the range of the format.
std::vector<Answer> Forward(int operation, const Row& row, int dtype);

// dx of softmax or log_softmax.
std::vector<Answer> Backward(int operation, const std::vector<Real>& dy, const std::vector<Real>& y, int dtype);

// d_logits, followed by the loss.
std::vector<Answer> CrossEntropy(const std::vector<Real>& x, int64_t target, double scale, int dtype);

}  // namespace boltzmax::fuzz
