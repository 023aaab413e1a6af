// The fuzzer's input, read byte by byte; after its end, a generator continues.
#pragma once

#include <cstddef>
#include <cstdint>

namespace boltzmax::fuzz {

class Bytes {
 public:
  Bytes(const uint8_t* data, size_t size) : next_(data), end_(data + size), state_(size * 2654435761u + 1) {}

  uint8_t Next() {
    if (next_ < end_) {
      state_ = state_ * 31 + *next_;
      return *next_++;
    }
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint8_t>(state_ >> 56);
  }
  size_t Below(size_t n) { return Next() % n; }
  bool Once(size_t in) { return Below(in) == 0; }

  // Lengths around the ends of vectors and blocks.
  size_t Side() {
    constexpr size_t kSides[] = {15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 129, 255, 257, 300, 511, 513};
    const size_t byte = Next();
    return byte < 160 ? byte % 8 : byte < 224 ? kSides[byte % 16] : byte;
  }

 private:
  const uint8_t* next_;
  const uint8_t* end_;
  uint64_t state_;
};

}  // namespace boltzmax::fuzz
