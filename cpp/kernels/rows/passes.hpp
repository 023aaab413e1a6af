// Passes over a row. An operation is a few of them, with lambdas that read like its formula.
//
// A lambda is called as f(i, lanes): i is the first element, and lanes, Whole<U>, Partial<U> or Ending<U>, gives the number
// of elements. It loads and returns a Block<V, U>. The end of a row goes through the same code as its middle.
#pragma once

#include "../isa/block.hpp"
#include "../math/wide_sum.hpp"

namespace boltzmax::kernels {
namespace {

template <bool kValue>
struct Bool {
  static constexpr bool value = kValue;
};

// Calls f(scaled) with the boolean as a type.
template <class F>
inline void WithBool(bool scaled, F f) {
  scaled ? f(Bool<true>{}) : f(Bool<false>{});
}

// Calls f for every element of a row of n, in blocks of U vectors; from element i on.
template <class V, size_t U, class F>
inline void ForEachBlockFrom(size_t i, size_t n, F f) {
  constexpr size_t kStep = U * V::kLanes;
  for (; i + kStep <= n; i += kStep) f(i, Whole<U>{});
  const size_t rest = n - i;
  if (rest == 0) return;
  if (rest <= V::kLanes) return f(i, Partial<1>{rest});
  f(i, Partial<U>{rest});
}
template <class V, size_t U, class F>
inline void ForEachBlock(size_t n, F f) {
  ForEachBlockFrom<V, U>(0, n, f);
}

// Calls f for every element of a row so short that the processor works on several at once; from element i on. After the
// blocks of four vectors, the rest goes vector by vector, so that only the last vector has idle lanes.
template <class V, class F>
inline void ForEachVectorFrom(size_t i, size_t n, F f) {
  for (; i + 4 * V::kLanes <= n; i += 4 * V::kLanes) f(i, Whole<4>{});
  for (; i + V::kLanes <= n; i += V::kLanes) f(i, Whole<1>{});
  if (i < n) f(i, Partial<1>{n - i});
}
template <class V, class F>
inline void ForEachVectorOf(size_t n, F f) {
  ForEachVectorFrom<V>(0, n, f);
}

// Calls f(i, ending) for rows of n elements, whose ending from element i on is one to four vectors. Before it are whole
// blocks of four.
template <class V, class F>
inline void WithEnding(size_t n, F f) {
  constexpr size_t kLanes = V::kLanes, kStep = 4 * kLanes;
  const size_t i = (n - 1) / kStep * kStep, rest = n - i;
  if (rest <= kLanes) return f(i, Ending<1>{rest});
  if (rest <= 2 * kLanes) return f(i, Ending<2>{rest});
  if (rest <= 3 * kLanes) return f(i, Ending<3>{rest});
  f(i, Ending<4>{rest});
}

// The number of elements of y before the first that begins a vector in memory.
template <class V, class S>
inline size_t ToAligned(const S* y) {
  constexpr size_t kBytes = V::kLanes * sizeof(S);
  return (kBytes - reinterpret_cast<uintptr_t>(y) % kBytes) % kBytes / sizeof(S);
}

// ForEachVectorOf for results at y. If they are at least kLeast bytes, vectors begin where those of memory do: storing
// into two cache lines at once takes longer than a first vector with idle lanes.
template <class V, size_t kLeast, class S, class F>
inline void ForEachVectorTo(const S* y, size_t n, F f) {
  const size_t first = n * sizeof(S) < kLeast ? 0 : ToAligned<V>(y);
  if (first != 0) f(0, Partial<1>{first});
  ForEachVectorFrom<V>(first, n, f);
}

// The maximum of f; NaN is ignored.
template <class V, class F>
inline typename V::Scalar MaxOver(size_t n, F f) {
  V max = Set<V>(-static_cast<typename V::Scalar>(__builtin_inff()));
  ForEachBlock<V, 4>(n, [&](size_t i, auto lanes) { max = MaxOf(f(i, lanes), max); });
  return ReduceMax(max);
}

// The sum of f: trees of four vectors, added up in twice the precision. f must be 0 beyond the row.
template <class V, class F>
inline Sum SumOver(size_t n, F f) {
  WideSum<V> sum;
  ForEachBlock<V, V::kUnroll>(n, [&](size_t i, auto lanes) { AddTrees(&sum, f(i, lanes)); });
  return sum.Total();
}

// y = f, element by element. Streaming bypasses the cache, for results that would not stay in it anyway. It writes
// whole aligned vectors, with ordinary stores before and after them.
template <class V, class S, class F>
inline void MapTo(S* y, size_t n, bool stream, F f) {
  const auto store = [&](size_t i, auto lanes) { StoreLanes(y + i, f(i, lanes), lanes); };
  constexpr size_t kStep = 4 * V::kLanes;
  size_t i = 0;
  if (stream) {
    const size_t to_aligned = ToAligned<V>(y);
    i = to_aligned < n ? to_aligned : n;
    if (i != 0) store(0, Partial<1>{i});
    for (; i + kStep <= n; i += kStep) StreamLanes(y + i, f(i, Whole<4>{}), Whole<4>{});
  }
  ForEachBlockFrom<V, 4>(i, n, store);
}

}  // namespace
}  // namespace boltzmax::kernels
