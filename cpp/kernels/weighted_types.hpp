// What the kernels of weighted sums and their caller say to each other.
#pragma once

#include "types.hpp"

namespace boltzmax {

// sum_j b_j exp(x_j) = (hi + lo) * 2^exponent * exp(offset), and in the same unit the sum of the terms' sizes. What is
// beyond the reach of a kernel (NaN and infinities, of whatever weight, and weights that overflow) leaves a size that is
// no number; `lost` bounds what has vanished because its exponential was too small.
struct WeightedSum {
  double offset;
  double exponent;
  double hi;
  double lo;
  double size;
  double lost;
};

// The error of a sum is at most so many times its size. Of terms in float and double, half an ULP being u: 2.4 u for exp
// (see exp.hpp), u for the product, and 2 u for a tree of additions; of pairs, see PairTermsOf.
inline constexpr double kErrorOfFloats = 5.5 * 0x1p-24, kErrorOfDoubles = 5.5 * 0x1p-53;
inline constexpr double kErrorOfPairs = 0x1p-62, kErrorOfCarefulPairs = 0x1p-90;

// With a smaller size, products of small weights may have lost digits.
inline constexpr double kLeastSizeOfFloats = 0x1p-100, kLeastSizeOfDoubles = 0x1p-1000;

// Of complex numbers, real and imaginary parts apart; no imaginary part exceeds kMostAngle. Without weights, b_re is null;
// with real ones, b_im.
struct ComplexPiece {
  const double* re;
  const double* im;
  const double* b_re;
  const double* b_im;
  size_t n;
};
inline constexpr double kMostAngle = 1e5;

// sum_j b_j exp(x_j) = (re + i im) * 2^exponent * exp(offset); `size` is at least the sum of the sizes of the terms. Each
// exponential is e * unit of the same, where they are kept.
struct ComplexSum {
  double offset;
  double exponent;
  Sum re, im;
  double size;
  double lost;
  double unit;
};

// Of complex terms: 2.4 u for exp, 2 u for its phase, 1 u and 3 u for two products. What cancels exactly has no part in it.
inline constexpr double kErrorOfComplex = 0x1p-49;

// Rows, or pieces of them, of at most kSegment numbers, x and b contiguous.
struct WeightedTable {
  WeightedSum (*sum_f32)(const float* x, const float* b, size_t n);
  WeightedSum (*sum_f64)(const double* x, const double* b, size_t n);
  // The largest x, NaN passed over.
  double (*max_f64)(const double* x, size_t n);
  // Terms in pairs of doubles, and more careful ones; `max` is that of the whole row, of which this may be a piece: all
  // pieces have one unit.
  WeightedSum (*sum_pairs)(const double* x, const double* b, size_t n, double max);
  WeightedSum (*sum_careful_pairs)(const double* x, const double* b, size_t n, double max);
  ComplexSum (*sum_complex)(const ComplexPiece&, double max, double* e_re, double* e_im);
};

}  // namespace boltzmax
