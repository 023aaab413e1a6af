// Upper bounds that hold for numbers as they are, whatever is rounded on the way.
#pragma once

#include <cmath>
#include <cstddef>

namespace boltzmax {

// The least float that is at least x.
inline float FloatAbove(double x) {
  const auto near = static_cast<float>(x);
  return static_cast<double>(near) < x ? std::nextafter(near, HUGE_VALF) : near;
}
inline float FloatBelow(double x) { return -FloatAbove(-x); }

// x to the nearest whole number; |x| is at most 2^51.
inline double Rounded(double x) {
  constexpr double kMagic = 0x1.8p52;
  return (x + kMagic) - kMagic;
}

inline double LargestOf(const double* x, size_t n) {
  double largest = 0.0;
  for (size_t i = 0; i < n; ++i) largest = std::abs(x[i]) > largest ? std::abs(x[i]) : largest;
  return largest;
}

// An upper bound of the norm of n numbers with a relative error of 2^-53 each; 0 only if all are 0, and NaN or infinite
// if one is. The sum of squares has a relative error of at most (n + 2) 2^-53. Numbers are scaled so that the only
// squares that vanish are those of numbers below 1e-150 times the largest.
double NormAbove(const double* x, size_t n);

}  // namespace boltzmax
