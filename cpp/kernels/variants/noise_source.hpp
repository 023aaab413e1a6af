// The noise of the elements of a row.
#pragma once

#include "philox.hpp"
#include "variates.hpp"

namespace boltzmax::kernels {
namespace {

struct Gumbel {
  template <class B>
  static B Of(const B& s) {
    return GumbelOf(s);
  }
};
// Exponential variates E = exp(-g), times 2^16: exp(x) / E then stays within the range of floats.
struct ScaledExponential {
  template <class B>
  static B Of(const B& s) {
    return ExponentialOf(s) * B(Set<Vec<typename B::Scalar>>(0x1p16f));
  }
};
struct Normal {
  template <class B>
  static B Of(const B& s) {
    return NormalOf(s);
  }
};

// The numbers whose words are in their tails, replaced. One block of a row in thirty has any, too many for code that is
// as short as possible.
template <class T, class Find>
BOLTZMAX_KERNEL inline void RefineTails(const PhiloxKey& key, const uint32_t* words, T* s, size_t n, Find find) {
  for (size_t j = 0; j < n; ++j) {
    if (!IsTail(words[j])) continue;
    const auto [row, element] = find(j);
    s[j] = static_cast<T>(TailOf(key, row, element, words[j]));
  }
}
struct ElementOfRow {
  uint64_t row;
  size_t element;
};

// Uniform numbers from n words, a multiple of V's lanes; find(j) is the element that word j belongs to.
template <class V, class Find>
inline void Uniforms(const PhiloxKey& key, const uint32_t* words, typename V::Scalar* s, size_t n, Find find) {
  using T = typename V::Scalar;
  V nearest = Set<V>(-1);  // to 0, of the negative squares
  for (size_t j = 0; j < n; j += V::kLanes) {
    const V v = MulAdd(LoadSigned(words + j, V{}), Set<V>(T(0x1p-32)), Set<V>(T(0x1p-33)));
    nearest = Max(NegMulAdd(v, v, Set<V>(0)), nearest);
    Store(s + j, v);
  }
  if (Any(Lt(Set<V>(T(-kTail * kTail)), nearest))) RefineTails(key, words, s, n, find);
}

// The noise of n elements of a row from the first on, a multiple of four; writes up to the next multiple of kRowWords.
// The words of a whole piece come first: both steps are long chains of instructions, and the processor overlaps those of
// neighbouring elements.
inline constexpr size_t kNoisePiece = 512;
template <class T, class Kind>
BOLTZMAX_KERNEL inline void FillNoise(const PhiloxKey& key, uint64_t row, size_t first, size_t n, T* noise) {
  using V = Vec<T>;
  alignas(64) uint32_t words[kNoisePiece];
  for (size_t j = 0; j < n; j += kRowWords) WordsOfRow(key, row, first + j, words + j);
  constexpr Whole<4> kBlock;
  constexpr size_t kStep = 4 * V::kLanes;
  for (size_t j = 0; j < n; j += kStep) {
    T* s = noise + j;
    Uniforms<V>(key, words + j, s, kStep, [&](size_t w) { return ElementOfRow{row, first + j + w}; });
    StoreLanes(s, Kind::Of(LoadLanes<V>(s, kBlock, T(0))), kBlock);
  }
}

// Calls f(first, n, noise) for the pieces of a row.
template <class T, class Kind, class F>
inline void ForEachNoisePiece(const PhiloxKey& key, uint64_t row, size_t row_length, F f) {
  alignas(64) T noise[kNoisePiece];
  for (size_t first = 0; first < row_length; first += kNoisePiece) {
    const size_t n = row_length - first < kNoisePiece ? row_length - first : kNoisePiece;
    FillNoise<T, Kind>(key, row, first, n, noise);
    f(first, n, noise);
  }
}

// The noise of n elements of neighbouring rows, a row to a lane: that of element i goes to columns[i * kLanes]. Writes
// up to the next multiple of four elements.
template <class T, class Kind>
BOLTZMAX_KERNEL inline void NoiseOfRows(const PhiloxKey& key, uint64_t first, size_t n, T* columns) {
  using V = Vec<T>;
  constexpr Whole<4> kBlock;
  for (size_t i = 0; i < n; i += 4) {
    alignas(64) uint32_t words[4 * F32::kLanes];
    WordsOfRows(key, first, Purpose::kNoise, i / 4, words);
    T* s = columns + i * V::kLanes;
    for (size_t w = 0; w < 4; ++w) {
      Uniforms<V>(key, words + w * F32::kLanes, s + w * V::kLanes, V::kLanes,
                  [&](size_t j) { return ElementOfRow{first + j, i + w}; });
    }
    StoreLanes(s, Kind::Of(LoadLanes<V>(s, kBlock, T(0))), kBlock);
  }
}

}  // namespace
}  // namespace boltzmax::kernels
