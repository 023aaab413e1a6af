// What turns rows into lanes: squares of kTile numbers that are transposed, and vectors that are folded side by side.
#pragma once

#include "wide_sum.hpp"

namespace boltzmax::kernels {
namespace {

// Transposes each square of tiles: lane i of tile b in v[j] becomes lane j of tile b in v[i].
inline void TransposeTiles(F32 (&v)[4]) {
  const F32 low01 = UnpackLow(v[0], v[1]), high01 = UnpackHigh(v[0], v[1]);
  const F32 low23 = UnpackLow(v[2], v[3]), high23 = UnpackHigh(v[2], v[3]);
  v[0] = UnpackLowPairs(low01, low23);
  v[1] = UnpackHighPairs(low01, low23);
  v[2] = UnpackLowPairs(high01, high23);
  v[3] = UnpackHighPairs(high01, high23);
}
inline void TransposeTiles(F64 (&v)[2]) {
  const F64 low = UnpackLow(v[0], v[1]);
  v[1] = UnpackHigh(v[0], v[1]);
  v[0] = low;
}

// The same of sums in twice the precision.
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

// Lane r of the result is op over the lanes of v[r], for kLanes vectors, or pairs of them: halves onto halves, as
// FoldLanes does, so that the sum of a row has the same bits. Each step makes one vector of two, in three instructions.
template <class V, class E, class Op>
inline E FoldRows(const E* v, Op op) {
  constexpr size_t kTile = V::kTile, kTiles = V::kLanes / kTile;
  E tiles[kTile];
  BOLTZMAX_UNROLL
  for (size_t j = 0; j < kTile; ++j) {
    if constexpr (kTiles == 4) {
      const E &a = v[j], &b = v[j + kTile], &c = v[j + 2 * kTile], &d = v[j + 3 * kTile];
      const E ab = op(JoinLowHalves(a, b), JoinHighHalves(a, b)), cd = op(JoinLowHalves(c, d), JoinHighHalves(c, d));
      tiles[j] = op(JoinEvenQuarters(ab, cd), JoinOddQuarters(ab, cd));
    } else if constexpr (kTiles == 2) {
      tiles[j] = op(JoinLowHalves(v[j], v[j + kTile]), JoinHighHalves(v[j], v[j + kTile]));
    } else {
      tiles[j] = v[j];
    }
  }
  if constexpr (kTile == 2) {
    return op(UnpackLow(tiles[0], tiles[1]), UnpackHigh(tiles[0], tiles[1]));
  } else {
    const E ab = op(UnpackLow(tiles[0], tiles[1]), UnpackHigh(tiles[0], tiles[1]));
    const E cd = op(UnpackLow(tiles[2], tiles[3]), UnpackHigh(tiles[2], tiles[3]));
    return op(UnpackLowPairs(ab, cd), UnpackHighPairs(ab, cd));
  }
}

}  // namespace
}  // namespace boltzmax::kernels
