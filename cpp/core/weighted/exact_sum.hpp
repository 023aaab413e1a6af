// Sums of weighted exponentials whose terms cancel, to the last digit: equal x have their weights added without rounding,
// and what is left is summed with as many digits as it takes.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

namespace boltzmax {

// (weight_re + i weight_im) exp(re + i im). The exponent is given in parts whose sum it is, the largest first: one for a
// double, more for wider types; equal exponents have equal parts. All of it is finite.
struct ExpTerm {
  using Parts = std::array<double, 3>;
  Parts re{}, im{};
  double weight_re = 0.0, weight_im = 0.0;
};

// Joins terms with the same exponent; those that cancel vanish. Of a joined weight that is no number of the format there is
// one term for each part.
void JoinEqual(std::vector<ExpTerm>* terms);

// Of a sum S: log |S|, and S up to a positive factor. -inf and 0 where there are no terms.
struct LogOfExact {
  long double log_size, re, im;
};

// Of joined terms. By the theorem of Lindemann and Weierstrass such a sum is not 0; how many digits cancel is not known
// beforehand, so it is computed with twice as many until the result has all of its own. It gives up after kMostWords words of
// 32 bits: what is then left of the sum is less than 2^-3900 times the largest term.
inline constexpr size_t kMostWords = 128;
LogOfExact LogOfSum(const std::vector<ExpTerm>& terms);

}  // namespace boltzmax
