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
inline void PhiloxPair(const PhiloxKey& key, PhiloxLanes (&counters)[2]) {
  const Lanes64 m0 = SetHalves(PhiloxConstants::kMultiplier0), m1 = SetHalves(PhiloxConstants::kMultiplier1);
  PhiloxLanes a = counters[0], b = counters[1];
  const auto round = [&](PhiloxLanes& c, Lanes64 k0, Lanes64 k1) {
    const Lanes64 p0 = Product(c.word[0], m0), p1 = Product(c.word[2], m1);
    c.word[0] = Xor(UpperHalf(p1), c.word[1], k0);
    c.word[1] = p1;
    c.word[2] = Xor(UpperHalf(p0), c.word[3], k1);
    c.word[3] = p0;
  };
  BOLTZMAX_UNROLL
  for (const auto& keys : key.round) {
    const Lanes64 k0 = SetHalves(keys[0]), k1 = SetHalves(keys[1]);
    round(a, k0, k1);
    round(b, k0, k1);
  }
  counters[0] = a;
  counters[1] = b;
}

// The counters whose words a vector of counters gives, from the first: the even lanes have the first ones, the odd lanes
// the others, so that StoreEven and StoreOdd write four words each of neighbouring counters.
struct CounterOrder {
  uint64_t at[2 * PhiloxLanes::kLanes];

  constexpr CounterOrder() : at() {
    constexpr size_t kLanes = PhiloxLanes::kLanes;
    for (size_t i = 0; i < 2 * kLanes; ++i) at[i] = i / kLanes * kLanes + (i % kLanes) / 2 + i % 2 * (kLanes / 2);
  }
};

// The words of neighbouring elements of a row from this one on, a multiple of four.
inline constexpr size_t kRowWords = 8 * PhiloxLanes::kLanes;
inline void WordsOfRow(const PhiloxKey& key, uint64_t row, size_t element, uint32_t* words) {
  constexpr size_t kLanes = PhiloxLanes::kLanes;
  static constexpr CounterOrder kOrder;
  const Lanes64 purpose = SetHalves(static_cast<uint32_t>(Purpose::kNoise)), first = SetLanes(element / 4);
  const Lanes64 low = SetLanes(row), high = SetLanes(row >> 32);
  PhiloxLanes c[2] = {{{first + LoadLanes64(kOrder.at), purpose, low, high}},
                      {{first + LoadLanes64(kOrder.at + kLanes), purpose, low, high}}};
  PhiloxPair(key, c);
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < 2; ++u) {
    const Lanes64 even = Interleave(c[u].word[0], c[u].word[1]), odd = Interleave(c[u].word[2], c[u].word[3]);
    StoreEven(words + u * 4 * kLanes, even, odd);
    StoreOdd(words + u * 4 * kLanes + 2 * kLanes, even, odd);
  }
}

struct EvenNumbers {
  uint64_t at[PhiloxLanes::kLanes];

  constexpr EvenNumbers() : at() {
    for (size_t i = 0; i < PhiloxLanes::kLanes; ++i) at[i] = 2 * i;
  }
};

// The four words at one counter of neighbouring rows, as many as Vec<float> has lanes: word w of row `first` + j goes to
// words[w * kLanes + j].
inline void WordsOfRows(const PhiloxKey& key, uint64_t first, Purpose purpose, size_t index, uint32_t* words) {
  constexpr size_t kLanes = PhiloxLanes::kLanes;
  // Even rows, then odd ones: Interleave joins them.
  static constexpr EvenNumbers kEven;
  PhiloxLanes c[2];
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < 2; ++u) {
    const Lanes64 row = SetLanes(first + u) + LoadLanes64(kEven.at);
    c[u] = {{SetLanes(index), SetHalves(static_cast<uint32_t>(purpose)), row, UpperHalf(row)}};
  }
  PhiloxPair(key, c);
  BOLTZMAX_UNROLL
  for (size_t w = 0; w < 4; ++w) StoreLanes64(words + w * 2 * kLanes, Interleave(c[0].word[w], c[1].word[w]));
}

}  // namespace
}  // namespace boltzmax::kernels
