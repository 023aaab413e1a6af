// Turning rows into lanes: squares of kPart numbers are transposed, and vectors are folded side by side.
#pragma once

#include "../math/wide_sum.hpp"

namespace boltzmax::kernels {
namespace {

// Transposes each square of parts: lane i of part b in v[j] becomes lane j of part b in v[i].
inline void TransposeParts(F32 (&v)[4]) {
  const F32 low01 = UnpackLow(v[0], v[1]), high01 = UnpackHigh(v[0], v[1]);
  const F32 low23 = UnpackLow(v[2], v[3]), high23 = UnpackHigh(v[2], v[3]);
  v[0] = UnpackLowPairs(low01, low23);
  v[1] = UnpackHighPairs(low01, low23);
  v[2] = UnpackLowPairs(high01, high23);
  v[3] = UnpackHighPairs(high01, high23);
}
inline void TransposeParts(F64 (&v)[2]) {
  const F64 low = UnpackLow(v[0], v[1]);
  v[1] = UnpackHigh(v[0], v[1]);
  v[0] = low;
}

// The same for sums in twice the precision.
#define BOLTZMAX_OF_PAIRS(Shuffle)                             \
  template <class V>                                           \
  inline Pair<V> Shuffle(const Pair<V>& a, const Pair<V>& b) { \
    return {Shuffle(a.hi, b.hi), Shuffle(a.lo, b.lo)};         \
  }
BOLTZMAX_OF_PAIRS(UnpackLow)
BOLTZMAX_OF_PAIRS(UnpackHigh)
BOLTZMAX_OF_PAIRS(JoinLowHalves)
BOLTZMAX_OF_PAIRS(JoinHighHalves)
BOLTZMAX_OF_PAIRS(JoinEvenQuarters)
BOLTZMAX_OF_PAIRS(JoinOddQuarters)
#undef BOLTZMAX_OF_PAIRS

// Lane r of the result is op over the lanes of v[r], for kLanes vectors, or pairs of them. Folds halves onto halves, as
// FoldLanes does, so that the sum of a row has the same bits. Each step makes one vector out of two with three
// instructions.
template <class V, class E, class Op>
inline E FoldRows(const E* v, Op op) {
  constexpr size_t kPart = V::kPart, kParts = V::kLanes / kPart;
  E parts[kPart];
  BOLTZMAX_UNROLL
  for (size_t j = 0; j < kPart; ++j) {
    if constexpr (kParts == 4) {
      const E &a = v[j], &b = v[j + kPart], &c = v[j + 2 * kPart], &d = v[j + 3 * kPart];
      const E ab = op(JoinLowHalves(a, b), JoinHighHalves(a, b)), cd = op(JoinLowHalves(c, d), JoinHighHalves(c, d));
      parts[j] = op(JoinEvenQuarters(ab, cd), JoinOddQuarters(ab, cd));
    } else if constexpr (kParts == 2) {
      parts[j] = op(JoinLowHalves(v[j], v[j + kPart]), JoinHighHalves(v[j], v[j + kPart]));
    } else {
      parts[j] = v[j];
    }
  }
  if constexpr (kPart == 2) {
    return op(UnpackLow(parts[0], parts[1]), UnpackHigh(parts[0], parts[1]));
  } else {
    const E ab = op(UnpackLow(parts[0], parts[1]), UnpackHigh(parts[0], parts[1]));
    const E cd = op(UnpackLow(parts[2], parts[3]), UnpackHigh(parts[2], parts[3]));
    return op(UnpackLowPairs(ab, cd), UnpackHighPairs(ab, cd));
  }
}

}  // namespace
}  // namespace boltzmax::kernels
