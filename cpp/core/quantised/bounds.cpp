#include "bounds.hpp"

namespace boltzmax {

namespace {

// In four sums, since each addition waits for the one before it.
template <class Number>
double SumOfSquares(size_t n, Number number) {
  double sums[4] = {};
  size_t i = 0;
  for (; i + 4 <= n; i += 4) {
    for (size_t j = 0; j < 4; ++j) sums[j] += number(i + j) * number(i + j);
  }
  for (; i < n; ++i) sums[0] += number(i) * number(i);
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

}  // namespace

double NormAbove(const double* x, size_t n) {
  const double largest = LargestOf(x, n);
  const double outward = 1.0 + static_cast<double>(n + 8) * 0x1p-52;
  if (largest > 0x1p-300 && largest < 0x1p400) {
    return std::sqrt(SumOfSquares(n, [x](size_t i) { return x[i]; })) * outward + largest * 1e-40;
  }
  const double plain = SumOfSquares(n, [x](size_t i) { return x[i]; });
  if (!(plain < HUGE_VAL) && !(largest < HUGE_VAL && plain == plain)) return plain;
  if (largest == 0.0) return 0.0;
  const int exponent = std::ilogb(largest);
  const double sum = SumOfSquares(n, [=](size_t i) { return std::ldexp(x[i], -exponent); });
  return std::ldexp(std::sqrt(sum) * outward, exponent) + largest * 1e-40 + 5e-324;
}

}  // namespace boltzmax
