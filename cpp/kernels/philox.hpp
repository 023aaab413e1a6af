// Philox4x32-10: random numbers from a counter (Salmon, Moraes, Dror & Shaw, SC 2011), one counter at a time. Kernels
// compute several at once (variants/philox.hpp), with the same bits.
//
// Every random number here is a word of the block at the counter (index, purpose, row), under a key of 64 bits:
//
//     kNoise        element i of a row has word i % 4 of block i / 4
//     kNoiseTail    further bits of the same element, for a number near 0
//     kDraw         draw d of a row has block d: words 0 and 1, and words 2 and 3, are two numbers of 64 bits
//     kSample       the same for draws from what filters leave; if a draw has to be made again, it has further blocks
//     kFilter       the filter at place s of a program has block s
//     kRace         element i of a row has block i
//     kCandidate    draw d of a row of candidates has block d, and further blocks
//     kUniform      element i of a row has block i, the bits of i above the lowest 32 in the purpose likewise
//
// Further blocks have numbers above the lowest 8 bits of the purpose.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace boltzmax {

// The key of every round.
struct PhiloxKey {
  uint32_t round[10][2];
};

namespace {

enum class Purpose : uint32_t {
  kNoise = 0,
  kNoiseTail = 1,
  kDraw = 2,
  kSample = 3,
  kFilter = 4,
  kRace = 5,
  kCandidate = 6,
  kUniform = 7
};

struct PhiloxConstants {
  static constexpr int kRounds = sizeof(PhiloxKey::round) / sizeof(PhiloxKey::round[0]);
  static constexpr uint32_t kMultiplier0 = 0xd2511f53, kMultiplier1 = 0xcd9e8d57;
  static constexpr uint32_t kWeyl0 = 0x9e3779b9, kWeyl1 = 0xbb67ae85;
};

inline PhiloxKey MakePhiloxKey(uint64_t key) {
  PhiloxKey rounds;
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (auto& k : rounds.round) {
    k[0] = k0;
    k[1] = k1;
    k0 += PhiloxConstants::kWeyl0;
    k1 += PhiloxConstants::kWeyl1;
  }
  return rounds;
}

struct PhiloxBlock {
  uint32_t word[4];

  uint64_t Upper() const { return static_cast<uint64_t>(word[3]) << 32 | word[2]; }
  uint64_t Lower() const { return static_cast<uint64_t>(word[1]) << 32 | word[0]; }
};

inline PhiloxBlock Philox(const PhiloxKey& key, PhiloxBlock c) {
  for (const auto& k : key.round) {
    const uint64_t p0 = static_cast<uint64_t>(PhiloxConstants::kMultiplier0) * c.word[0];
    const uint64_t p1 = static_cast<uint64_t>(PhiloxConstants::kMultiplier1) * c.word[2];
    c = {{static_cast<uint32_t>(p1 >> 32) ^ c.word[1] ^ k[0], static_cast<uint32_t>(p1),
          static_cast<uint32_t>(p0 >> 32) ^ c.word[3] ^ k[1], static_cast<uint32_t>(p0)}};
  }
  return c;
}
inline PhiloxBlock Philox(const PhiloxKey& key, uint64_t row, Purpose purpose, size_t index, uint32_t further = 0) {
  return Philox(key, PhiloxBlock{{static_cast<uint32_t>(index), static_cast<uint32_t>(purpose) | further << 8,
                                  static_cast<uint32_t>(row), static_cast<uint32_t>(row >> 32)}});
}

// The 53 upper bits as a number from 0 to below 1.
inline double ShareOf(uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1p-53; }

// A number s between -1/2 and 1/2 stands for the uniform number w = s where s > 0, and w = 1 + s where s < 0: so both w
// and 1 - w keep their digits where they are small. A word gives the middle of one of 2^32 intervals. Where that is
// within kTail of 0, a word of kNoiseTail divides the interval again: |s| is at least 2^-65, and its distance to the
// next number is at most 2^-20 of it.
inline constexpr double kTail = 0x1p-12;

inline double UniformOf(uint32_t word) { return (static_cast<double>(static_cast<int32_t>(word)) + 0.5) * 0x1p-32; }
inline double TailUniform(uint32_t word, uint32_t further) {
  return (static_cast<double>(static_cast<int32_t>(word)) + (static_cast<double>(further) + 0.5) * 0x1p-32) * 0x1p-32;
}
// Whether UniformOf(word) is between -kTail and kTail.
inline bool IsTail(uint32_t word) {
  constexpr auto kWords = static_cast<uint32_t>(kTail * 0x1p32);
  return word + kWords < 2 * kWords;
}

// The number of an element whose word is in its tail.
inline double TailOf(const PhiloxKey& key, uint64_t row, size_t element, uint32_t word) {
  return TailUniform(word, Philox(key, row, Purpose::kNoiseTail, element / 4).word[element % 4]);
}

}  // namespace
}  // namespace boltzmax
