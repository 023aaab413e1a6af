// Sums of products with the same bits on every ISA: no multiplication is fused with an addition, and the order of the
// additions does not depend on the number of lanes.
#pragma once

#include "../candidate_types.hpp"
#include "../rows/passes.hpp"

namespace boltzmax::kernels {
namespace {

// As many sums go side by side as 128 bytes hold, whatever the vectors.
template <class T>
inline constexpr size_t kSums = 128 / sizeof(T);

// The sum of kSums numbers, halves onto halves.
template <class V, class T>
inline T Folded(Block<V, kSums<T> / V::kLanes>& sums) {
  BOLTZMAX_UNROLL
  for (size_t half = kSums<T> / V::kLanes / 2; half > 0; half /= 2) {
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < half; ++u) sums.part[u] = sums.part[u] + sums.part[u + half];
  }
  alignas(64) T lanes[V::kLanes];
  Store(lanes, sums.part[0]);
  BOLTZMAX_UNROLL
  for (size_t half = V::kLanes / 2; half > 0; half /= 2) {
    BOLTZMAX_UNROLL
    for (size_t j = 0; j < half; ++j) lanes[j] = lanes[j] + lanes[j + half];
  }
  return lanes[0];
}

// R products at once, for as many chains of additions.
template <class T, size_t R>
inline void DotsOf(const T* x, const T* rows, size_t n, T* z) {
  using V = Vec<T>;
  constexpr size_t kVectors = kSums<T> / V::kLanes;
  using B = Block<V, kVectors>;
  B sums[R];
  BOLTZMAX_UNROLL
  for (size_t r = 0; r < R; ++r) sums[r] = Set<V>(0);
  const auto add = [&](size_t i, auto lanes) {
    const B part = LoadLanes<V>(x + i, lanes, T(0));
    BOLTZMAX_UNROLL
    for (size_t r = 0; r < R; ++r) sums[r] = sums[r] + LoadLanes<V>(rows + r * n + i, lanes, T(0)) * part;
  };
  size_t i = 0;
  for (; i + kSums<T> <= n; i += kSums<T>) add(i, Whole<kVectors>{});
  if (i < n) add(i, Partial<kVectors>{n - i});
  BOLTZMAX_UNROLL
  for (size_t r = 0; r < R; ++r) z[r] = Folded<V, T>(sums[r]);
}

template <class T>
BOLTZMAX_KERNEL void OrderedDots(const T* x, const T* rows, size_t m, size_t n, T* z) {
  constexpr size_t kAtOnce = Vec<T>::kUnroll >= 8 ? 4 : 2;
  size_t j = 0;
  for (; j + kAtOnce <= m; j += kAtOnce) DotsOf<T, kAtOnce>(x, rows + j * n, n, z + j);
  for (; j < m; ++j) DotsOf<T, 1>(x, rows + j * n, n, z + j);
}

template <class T>
BOLTZMAX_KERNEL void OuterSum(const T* rows, size_t m, size_t n, T* packed) {
  using V = Vec<T>;
  for (size_t i = 0; i < n; ++i) {
    T* line = packed + i * (i + 1) / 2;
    ForEachBlock<V, 4>(i + 1, [&](size_t k, auto lanes) {
      Block<V, decltype(lanes)::kVectors> sum = Set<V>(0);
      for (size_t j = 0; j < m; ++j) {
        const T* row = rows + j * n;
        sum = sum + LoadLanes<V>(row + k, lanes, T(0)) * Block<V, decltype(lanes)::kVectors>(Set<V>(row[i]));
      }
      StoreLanes(line + k, sum, lanes);
    });
  }
}

template <class T>
inline constexpr OrderedKernels<T> kOrdered = {OrderedDots<T>, OuterSum<T>};

}  // namespace
}  // namespace boltzmax::kernels
