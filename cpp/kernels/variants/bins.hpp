// The bins of probabilities, (k / n, (k + 1) / n]: p n - 1/2, kept from 0 to n - 1, is rounded to a whole number, k.
// Rounding errors, at most 2^-30 for up to 2^20 bins, can only matter where p n - 1/2 is nearly halfway between two.
#pragma once

#include "../bin_types.hpp"
#include "../isa/block.hpp"

namespace boltzmax::kernels {
namespace {

inline F64 LoadWide(const float* p) { return LoadPromoted(p); }
inline F64 LoadWide(const double* p) { return Load(p); }

// The first n, then numbers in the middle.
template <class T>
inline F64 LoadWideN(const T* p, size_t n) {
  if (n >= F64::kLanes) return LoadWide(p);
  T lanes[F64::kLanes];
  for (size_t i = 0; i < F64::kLanes; ++i) lanes[i] = i < n ? p[i] : T{0.5};
  return LoadWide(lanes);
}

template <class T>
BOLTZMAX_KERNEL inline bool FindBins(const T* p, size_t rows, size_t bins, int64_t* bin) {
  constexpr double kMostRest = 0.5 - 1e-9;
  constexpr double kRound = 0x1.8p52;  // adding it rounds to a whole number
  const F64 zero = Set<F64>(0.0), half = Set<F64>(0.5), round = Set<F64>(kRound);
  const F64 scale = Set<F64>(static_cast<double>(bins)), last = Set<F64>(static_cast<double>(bins) - 1.0);
  F64 most = zero, least = zero, rest = zero, nan = zero;  // of p, of -p, of what is rounded away; NaN if one is
  for (size_t i = 0; i < rows; i += F64::kLanes) {
    const F64 v = LoadWideN(p + i, rows - i);
    most = Max(most, v);
    least = Max(least, zero - v);
    nan = MulAdd(zero, v, nan);
    const F64 below_last = Max(zero, last - Max(zero, MulAdd(v, scale, zero - half)));
    const F64 at = last - below_last, whole = (at + round) - round;
    rest = Max(rest, Abs(at - whole));
    StoreIntegers(bin + i, whole);
  }
  rest = IfThenElse(Eq(nan, nan), rest, Set<F64>(1.0));
  return ReduceMax(rest) < kMostRest && ReduceMax(most) <= 1.0 && ReduceMax(least) <= 0.0;
}

}  // namespace
}  // namespace boltzmax::kernels
