// Philox4x32-10 with a counter in every lane: the bits of ../philox.hpp on every ISA.
#pragma once

#include "../philox.hpp"
#include "bits.hpp"

namespace boltzmax::kernels {
namespace {

// Counters in the lower halves of 64-bit lanes; the upper halves may hold anything. So a product is one instruction,
// and its halves are the new words.
struct PhiloxLanes {
  static constexpr size_t kLanes = F64::kLanes;
  Lanes64 word[4];
};

// Two vectors of counters go through the rounds together: each is a chain of dependent instructions.
inline void PhiloxPair(const PhiloxKey& key, PhiloxLanes (&c)[2]) {
  const Lanes64 m0 = SetLanes(PhiloxConstants::kMultiplier0), m1 = SetLanes(PhiloxConstants::kMultiplier1);
  BOLTZMAX_UNROLL
  for (int r = 0; r < PhiloxConstants::kRounds; ++r) {
    const Lanes64 k0 = SetLanes(key.round[r][0]), k1 = SetLanes(key.round[r][1]);
    BOLTZMAX_UNROLL
    for (int u = 0; u < 2; ++u) {
      const auto& w = c[u].word;
      const Lanes64 p0 = Product(w[0], m0), p1 = Product(w[2], m1);
      c[u] = {{Xor(UpperHalf(p1), w[1], k0), p1, Xor(UpperHalf(p0), w[3], k1), p0}};
    }
  }
}

// The words of neighbouring elements of a row from this one on, a multiple of four.
inline constexpr size_t kRowWords = 2 * 4 * PhiloxLanes::kLanes;
inline void WordsOfRow(const PhiloxKey& key, uint64_t row, size_t element, uint32_t* words) {
  constexpr size_t kLanes = PhiloxLanes::kLanes;
  // The even lanes of a vector have its first counters, the odd ones the others: so StoreEven and StoreOdd write four
  // words of neighbouring counters each.
  const uint64_t block = element / 4;
  uint64_t index[2 * kLanes];
  BOLTZMAX_UNROLL
  for (size_t i = 0; i < 2 * kLanes; ++i) {
    index[i] = block + i / kLanes * kLanes + (i % kLanes) / 2 + i % 2 * (kLanes / 2);
  }
  const Lanes64 purpose = SetLanes(static_cast<uint32_t>(Purpose::kNoise)), low = SetLanes(row),
                high = SetLanes(row >> 32);
  PhiloxLanes c[2] = {{{LoadLanes64(index), purpose, low, high}}, {{LoadLanes64(index + kLanes), purpose, low, high}}};
  PhiloxPair(key, c);
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < 2; ++u) {
    const Lanes64 first = Interleave(c[u].word[0], c[u].word[1]), second = Interleave(c[u].word[2], c[u].word[3]);
    StoreEven(words + u * 4 * kLanes, first, second);
    StoreOdd(words + u * 4 * kLanes + 2 * kLanes, first, second);
  }
}

// The four words at one counter of neighbouring rows, as many as Vec<float> has lanes: word w of row `first` + j goes to
// words[w * kLanes + j].
inline void WordsOfRows(const PhiloxKey& key, uint64_t first, Purpose purpose, size_t index, uint32_t* words) {
  constexpr size_t kLanes = PhiloxLanes::kLanes;
  uint64_t row[2][kLanes];
  for (size_t i = 0; i < 2 * kLanes; ++i) row[i % 2][i / 2] = first + i;
  PhiloxLanes c[2];
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < 2; ++u) {
    const Lanes64 low = LoadLanes64(row[u]);
    c[u] = {{SetLanes(index), SetLanes(static_cast<uint32_t>(purpose)), low, UpperHalf(low)}};
  }
  PhiloxPair(key, c);
  BOLTZMAX_UNROLL
  for (size_t w = 0; w < 4; ++w) StoreLanes64(words + w * 2 * kLanes, Interleave(c[0].word[w], c[1].word[w]));
}

}  // namespace
}  // namespace boltzmax::kernels
