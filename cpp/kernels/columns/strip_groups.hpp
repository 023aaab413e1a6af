// Groups of strips: columns of at most kInOrder elements, several vectors side by side.
//
// A long chain of instructions leads from a short column's maximum to its sum, and from there to its results. The strips
// of a group take each step together, so that the processor overlaps their chains. Memory is waited for while
// exponentials are computed: they take the longest, and prefetch a line of the next group and one of the results, if they
// are columns, each. A column has the same bits as in a strip by itself.
#pragma once

#include "columns.hpp"

namespace boltzmax::kernels {
namespace {

inline constexpr size_t kStripsOfGroup = 4;

// An array whose lines will be needed soon.
struct Ahead {
  const char* first;
  ptrdiff_t stride;
};

// Keeps exponentials in columns, and prefetches as many lines of the arrays.
template <class V, size_t kArrays>
struct KeepAndPrefetch {
  KeepInColumns<V> columns;
  Ahead ahead[kArrays];

  template <size_t U>
  [[gnu::always_inline]] void operator()(size_t i, size_t step, const Block<V, U>& e) const {
    columns(i, step, e);
    for (const Ahead& array : ahead) {
      BOLTZMAX_UNROLL
      for (size_t u = 0; u < U; ++u) __builtin_prefetch(array.first + static_cast<ptrdiff_t>(i + u) * array.stride);
    }
  }
  auto Kept(size_t i) const { return columns.Kept(i); }
};

// Copies of a group's strips, and their maxima.
template <class S, bool kCoarse>
struct StripGroup {
  using T = Compute<S>;
  using V = Vec<T>;
  static constexpr size_t kStrips = kStripsOfGroup, kBytes = V::kLanes * sizeof(S);
  Strip<S, kCoarse> first;
  Columns<T> columns[kStrips];
  V max[kStrips];

  // (The compiler reloads members after each store.)
  explicit StripGroup(Strip<S, kCoarse> strip) : first(strip) {
    Block<V, kStrips> maxima = Set<V>(Source<T>::kLowest);
    for (size_t i = 0; i < strip.n; ++i) {
      const S* row = strip.At(i);
      BOLTZMAX_UNROLL
      for (size_t k = 0; k < kStrips; ++k) {
        const V v = Load(row + k * V::kLanes);
        Store(columns[k].at + i * V::kLanes, v);
        maxima.part[k] = Max(v, maxima.part[k]);
      }
    }
    for (size_t k = 0; k < kStrips; ++k) max[k] = maxima.part[k];
  }
  Strip<T, kCoarse> operator[](size_t k) { return AsStrip<S, kCoarse>(columns[k].at, first.n); }

  // Strip k of the next group.
  Ahead Next(size_t k) const { return {first.x + (kStrips + k) * kBytes, first.stride}; }

  // y = f(k, element) for every strip k.
  template <class F>
  void Map(char* y, ptrdiff_t y_stride, F f) const {
    const size_t n = first.n;
    for (size_t i = 0; i < n; ++i) {
      S* row = reinterpret_cast<S*>(y + static_cast<ptrdiff_t>(i) * y_stride);
      BOLTZMAX_UNROLL
      for (size_t k = 0; k < kStrips; ++k) Store(row + k * V::kLanes, f(k, Load(columns[k].at + i * V::kLanes)));
    }
  }
};

// From what the logarithm of a strip's sums is computed.
template <class V>
struct LogTerms {
  SumOfExp<Wide<V>> sum;
  Wide<V> top_error;
  Pair<Wide<V>> rest;
};

// Reduces each strip for its logarithm; false if a column is degenerate. results(k) is prefetched, if there is any.
template <class S, bool kCoarse, class V, class... Results>
inline bool ReduceGroup(StripGroup<S, kCoarse>& group, LogTerms<V>* terms, Results... results) {
  Columns<Compute<S>> kept;
  Wide<V> degenerate = Const(0);
  for (size_t k = 0; k < group.kStrips; ++k) {
    const KeepAndPrefetch<V, 1 + sizeof...(results)> keep = {{kept.at}, {group.Next(k), results(k)...}};
    const auto [strip, rest] = ReduceInOrderForLog<false>(group[k], group.max[k], StripTemperature<V>().vector, keep);
    terms[k] = {strip.sum, strip.top_error, rest};
    degenerate = Max(degenerate, DegenerateLanes(strip.sum));
  }
  return !Any(Eq(degenerate, Wide<V>(Const(1))));
}

// The operations that run strips in groups. Run(first strip, y, y_stride) is false where strips must run singly; then
// nothing has been written.
template <Op op>
struct GroupOf {
  static constexpr bool kExists = false;
};

template <>
struct GroupOf<Op::kSoftmax> {
  static constexpr bool kExists = true;

  template <class S, bool kCoarse>
  BOLTZMAX_KERNEL static bool Run(const Strip<S, kCoarse>& x, char* y, ptrdiff_t y_stride) {
    using V = VecOf<S>;
    using Group = StripGroup<S, kCoarse>;
    Group group(x);
    Pair<Wide<V>> sums[Group::kStrips];
    for (size_t k = 0; k < Group::kStrips; ++k) {
      const KeepAndPrefetch<V, 2> keep = {{group.columns[k].at}, {group.Next(k), {y + k * Group::kBytes, y_stride}}};
      const auto strip =
          ReduceShort<false>(group[k], group.max[k], StripTemperature<V>().vector, keep, InOrder<V, false>(x.n));
      sums[k] = {strip.sum.hi, strip.sum.lo};
    }
    Divisor<V> divisors[Group::kStrips];
    for (size_t k = 0; k < Group::kStrips; ++k) divisors[k] = Divisor<V>(sums[k].hi, sums[k].lo);
    group.Map(y, y_stride, [&](size_t k, const V& e) { return Divide(e, divisors[k]); });
    return true;
  }
};

template <>
struct GroupOf<Op::kLogSoftmax> {
  static constexpr bool kExists = true;

  template <class S, bool kCoarse>
  BOLTZMAX_KERNEL static bool Run(const Strip<S, kCoarse>& x, char* y, ptrdiff_t y_stride) {
    using V = VecOf<S>;
    using Group = StripGroup<S, kCoarse>;
    Group group(x);
    LogTerms<V> terms[Group::kStrips];
    if (!ReduceGroup(group, terms, [&](size_t k) { return Ahead{y + k * Group::kBytes, y_stride}; })) return false;
    LogShift<V> shifts[Group::kStrips];
    for (size_t k = 0; k < Group::kStrips; ++k) {
      const auto& [sum, top_error, rest] = terms[k];
      shifts[k] = LogShift<V>::Make(sum.offset, LogOfShort<Compute<S>>(sum, top_error, rest), false);
    }
    const Temperature<V> t = StripTemperature<V>().vector;
    group.Map(y, y_stride, [&](size_t k, const V& v) { return SubtractLog<false>(v, shifts[k], t); });
    return true;
  }
};

template <>
struct GroupOf<Op::kLogSumExp> {
  static constexpr bool kExists = true;

  template <class S, bool kCoarse>
  BOLTZMAX_KERNEL static bool Run(const Strip<S, kCoarse>& x, char* y, ptrdiff_t) {
    using V = VecOf<S>;
    using Group = StripGroup<S, kCoarse>;
    Group group(x);
    LogTerms<V> terms[Group::kStrips];
    if (!ReduceGroup(group, terms)) return false;
    for (size_t k = 0; k < Group::kStrips; ++k) {
      const auto& [sum, top_error, rest] = terms[k];
      const auto log_sum = LogOfShort<Compute<S>>(sum, top_error, rest);
      Store(reinterpret_cast<S*>(y) + k * V::kLanes, Demote((sum.offset + log_sum.hi) + log_sum.lo));
    }
    return true;
  }
};

}  // namespace
}  // namespace boltzmax::kernels
