// The noise of the elements of a row.
#pragma once

#include "philox.hpp"
#include "variates.hpp"

namespace boltzmax::kernels {
namespace {

struct Gumbel {
  template <class V>
  static V Of(V s) {
    return GumbelOf(s);
  }
};
struct Normal {
  template <class V>
  static V Of(V s) {
    return NormalOf(s);
  }
};

// The numbers whose words are in their tails, replaced; few rows of a panel or blocks of a row have any.
template <class T, class Find>
BOLTZMAX_RARE inline void RefineTails(const PhiloxKey& key, const uint32_t* words, T* s, size_t n, Find find) {
  for (size_t j = 0; j < n; ++j) {
    if (!IsTail(UniformOf(words[j]))) continue;
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
  V nearest = Set<V>(-1);  // to 0, of the negative sizes
  for (size_t j = 0; j < n; j += V::kLanes) {
    const V v = (LoadSigned(words + j, V{}) + Set<V>(T(0.5))) * Set<V>(T(0x1p-32));
    nearest = Max(Set<V>(0) - Abs(v), nearest);
    Store(s + j, v);
  }
  if (Any(Lt(Set<V>(T(-kTail)), nearest))) RefineTails(key, words, s, n, find);
}

// noise(i, lanes) is the noise of the elements of a row from i on, a multiple of four.
template <class T, class Kind>
struct NoiseOfRow {
  using V = Vec<T>;
  const PhiloxKey& key;
  uint64_t row;

  template <class Lanes>
  Block<V, Lanes::kVectors> operator()(size_t i, Lanes) const {
    constexpr size_t kCount = Lanes::kVectors * V::kLanes;
    constexpr size_t kWords = (kCount + kRowWords - 1) / kRowWords * kRowWords;
    uint32_t words[kWords];
    T s[kCount];
    for (size_t j = 0; j < kWords; j += kRowWords) WordsOfRow(key, row, i + j, words + j);
    Uniforms<V>(key, words, s, kCount, [&](size_t j) { return ElementOfRow{row, i + j}; });
    Block<V, Lanes::kVectors> noise;
    for (size_t u = 0; u < Lanes::kVectors; ++u) noise.part[u] = Kind::Of(Load(s + u * V::kLanes));
    return noise;
  }
};

// The noise of n elements of neighbouring rows, a row to a lane: that of element i goes to columns[i * kLanes].
template <class T, class Kind>
inline void NoiseOfRows(const PhiloxKey& key, uint64_t first, size_t n, T* columns) {
  using V = Vec<T>;
  for (size_t i = 0; i < n; i += 4) {
    uint32_t words[4 * F32::kLanes];
    T s[F32::kLanes];
    WordsOfRows(key, first, Purpose::kNoise, i / 4, words);
    for (size_t w = 0; w < 4 && i + w < n; ++w) {
      Uniforms<V>(key, words + w * F32::kLanes, s, V::kLanes, [&](size_t j) { return ElementOfRow{first + j, i + w}; });
      Store(columns + (i + w) * V::kLanes, Kind::Of(Load(s)));
    }
  }
}

}  // namespace
}  // namespace boltzmax::kernels
