// Sums of weighted exponentials whose terms cancel, to the last digit: the weights of equal x are added without
// rounding, and the rest is summed with as many digits as it takes.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

namespace boltzmax {

// (weight_re + i weight_im) exp(re + i im). Exponents are sums of parts, the largest first: one part for a double, more
// for wider types; equal exponents have equal parts. All parts are finite.
struct ExpTerm {
  using Parts = std::array<double, 3>;
  Parts re{}, im{};
  double weight_re = 0.0, weight_im = 0.0;
};

// Joins terms with the same exponent; those that cancel vanish. A joined weight that no double holds exactly becomes
// one term per part.
void JoinEqual(std::vector<ExpTerm>* terms);

// The logarithm of a sum S: log |S|, and S up to a positive factor. -inf and 0 if there are no terms.
struct LogOfExact {
  long double log_size, re, im;
};

// The logarithm of a sum of joined terms. By the theorem of Lindemann and Weierstrass such a sum is not 0. How many
// digits cancel is not known in advance, so it is computed with twice as many until the result has all of its own. It
// gives up after kMostWords words of 32 bits: what is then left of the sum is less than 2^-3900 times the largest term.
inline constexpr size_t kMostWords = 128;
LogOfExact LogOfSum(const std::vector<ExpTerm>& terms);

}  // namespace boltzmax
