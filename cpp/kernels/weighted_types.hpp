// Weighted sums: the structs that kernels and their callers share.
#pragma once

#include "types.hpp"

namespace boltzmax {

// sum_j b_j exp(x_j) = (hi + lo) * 2^exponent * exp(offset); `size` is the sum of the sizes of the terms in the same
// unit. It is NaN or infinite for what a kernel cannot sum: NaN and infinities, whatever their weight, and weights that
// overflow. `lost` bounds the terms that vanished because their exponential was too small.
struct WeightedSum {
  double offset;
  double exponent;
  double hi;
  double lo;
  double size;
  double lost;
};

// Bounds of the error of a sum, as multiples of its size. For terms in float and double, with u half an ULP: 2.4 u for
// exp (see exp.hpp), u for the product, and 2 u for a tree of additions. For pairs, see PairTermsOf.
inline constexpr double kErrorOfFloats = 5.5 * 0x1p-24, kErrorOfDoubles = 5.5 * 0x1p-53;
// For floats' terms in double that are computed coarsely: 2^-32.4.
inline constexpr double kErrorOfCoarse = 0x1p-32;
inline constexpr double kErrorOfPairs = 0x1p-62, kErrorOfCarefulPairs = 0x1p-90;

// Below this size, products of small weights may have lost digits.
inline constexpr double kLeastSizeOfFloats = 0x1p-100, kLeastSizeOfDoubles = 0x1p-1000;

// Complex numbers, with real and imaginary parts apart; no imaginary part exceeds kMostAngle. b_re is null without
// weights, b_im also with real ones.
struct ComplexPiece {
  const double* re;
  const double* im;
  const double* b_re;
  const double* b_im;
  size_t n;
};
inline constexpr double kMostAngle = 1e5;

// sum_j b_j exp(x_j) = (re + i im) * 2^exponent * exp(offset); `size` is at least the sum of the sizes of the terms. If
// the exponentials are kept, each is e * unit in that unit.
struct ComplexSum {
  double offset;
  double exponent;
  Sum re, im;
  double size;
  double lost;
  double unit;
};

// For complex terms: 2.4 u for exp, 2 u for its phase, 1 u and 3 u for two products. Terms that cancel exactly have no
// error.
inline constexpr double kErrorOfComplex = 0x1p-49;

// Rows, or pieces of them, of at most kSegment numbers; x and b are contiguous.
struct WeightedTable {
  WeightedSum (*sum_f32)(const float* x, const float* b, size_t n);
  // The same in double, whose terms are coarse.
  WeightedSum (*sum_f32_coarsely)(const float* x, const float* b, size_t n);
  WeightedSum (*sum_f64)(const double* x, const double* b, size_t n);
  // The largest x; NaN is ignored.
  double (*max_f64)(const double* x, size_t n);
  // Terms in pairs of doubles, and more careful ones. `max` is that of the whole row, of which this may be a piece, so
  // that all pieces have the same unit.
  WeightedSum (*sum_pairs)(const double* x, const double* b, size_t n, double max);
  WeightedSum (*sum_careful_pairs)(const double* x, const double* b, size_t n, double max);
  ComplexSum (*sum_complex)(const ComplexPiece&, double max, double* e_re, double* e_im);
};

}  // namespace boltzmax
