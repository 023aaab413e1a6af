// Further statistics of a row: the mean score, how many elements exceed a number, and which.
#pragma once

#include "reduce.hpp"

namespace boltzmax::kernels {
namespace {

// a_0 b_0 + a_1 b_1 + ..., rounded a few times.
template <class V, size_t U>
inline V SumOfProducts(const Block<V, U>& a, const Block<V, U>& b) {
  if constexpr (U == 1) return a.part[0] * b.part[0];
  V even = a.part[0] * b.part[0], odd = a.part[1] * b.part[1];
  BOLTZMAX_UNROLL
  for (size_t u = 2; u < U; u += 2) {
    even = MulAdd(a.part[u], b.part[u], even);
    odd = MulAdd(a.part[u + 1], b.part[u + 1], odd);
  }
  return even + odd;
}

// The mean sum_j x_j exp(x_j) / sum_j exp(x_j), less the maximum. It is taken about a number near the maximum, so that
// little cancels: about the guess; or about the maximum itself (kCareful), where -inf was multiplied by 0, or the guess
// was poor for an entropy that may be small. The error is that of rounding the distance between the two, and the entropy
// is at least the share of all terms but the largest.
template <bool kCareful = false, class Src>
inline RowSum ReduceMean(const Src& x, size_t n, RowTemperature temperature, bool far, double* mean) {
  using V = typename Src::V;
  using T = typename Src::T;
  using C = ExpConstants<T>;
  const T guess = kCareful ? MaxOver<V>(n, x) : GuessMax(x, n);
  const V center = Set<V>(guess - guess == T(0) ? guess : T(0));
  WideSum<V> moment;
  const RowSum sum = ReduceRow(x, n, temperature, guess, KeepForLog{[&](size_t i, auto lanes, const auto& e) {
                                 if (i == 0) moment = {};  // starts over where the guess was poor
                                 auto distance = ZeroBeyond(x(i, lanes) - center, lanes);
                                 if constexpr (kCareful) {
                                   // Where a term has vanished, so has its share, even at an infinite
                                   // distance.
                                   const decltype(distance) zero = Set<V>(0);
                                   distance = IfThenElse(Eq(e, zero), zero, distance);
                                 }
                                 moment.Add(SumOfProducts(e, distance));
                               }},
                               far);
  const double total = moment.Total().hi;
  const double from_guess = sum.max - static_cast<double>(guess), rest = 1.0 - sum.top / sum.hi;
  const bool poor = !(from_guess <= 64.0 * rest * temperature.value) || total - total != 0.0;
  if constexpr (!kCareful) {
    if (poor && !IsDegenerate(sum)) return ReduceMean<true>(x, n, temperature, far, mean);
  }
  *mean = (static_cast<double>(FirstLane(center)) - sum.max) + total * C::kUnscale / sum.hi;
  return sum;
}

// sum_c (from - x_c), so that large scores do not cancel.
template <class Src>
inline double SumOfDistances(const Src& x, size_t n, double from) {
  using V = typename Src::V;
  const V origin = Set<V>(static_cast<typename Src::T>(from));
  const Sum sum = SumOver<V>(n, [&](size_t i, auto lanes) {
    const auto v = x(i, lanes);
    return ZeroBeyond(decltype(v)(origin) - v, lanes);
  });
  return IsFinite(sum.hi) ? sum.hi + sum.lo : sum.hi;
}

template <class Src>
inline size_t CountAbove(const Src& x, size_t n, double limit) {
  using V = typename Src::V;
  using T = typename Src::T;
  // Adding ones is exact, since a row is no longer than a segment.
  Block<V, 4> counts = Set<V>(0);
  const V bound = Set<V>(static_cast<T>(limit)), one = Set<V>(1);
  ForEachBlock<V, 4>(n, [&](size_t i, auto lanes) {
    const auto v = x(i, lanes);
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < lanes.kVectors; ++u) {
      counts.part[u] = IfThenElse(Lt(bound, v.part[u]), counts.part[u] + one, counts.part[u]);
    }
  });
  T lanes[V::kLanes];
  Store(lanes, Tree(counts.part[0], counts.part[1], counts.part[2], counts.part[3]));
  T total = 0;
  for (const T lane : lanes) total += lane;
  return static_cast<size_t>(total);
}

// The maxima of groups of elements, one for each lane of four vectors: the k-th largest of them bounds the k-th largest
// element from below. Elements after the last four whole vectors are in no group.
template <class Src>
inline size_t MaximaOfGroups(const Src& x, size_t n, double* maxima) {
  using V = typename Src::V;
  using T = typename Src::T;
  constexpr size_t kStep = 4 * V::kLanes;
  static_assert(kStep <= kGroups);
  Block<V, 4> max = Set<V>(Src::kLowest);
  for (size_t i = 0; i + kStep <= n; i += kStep) max = Max(x(i, Whole<4>{}), max);
  T lanes[kStep];
  StoreLanes(lanes, max, Whole<4>{});
  for (size_t i = 0; i < kStep; ++i) maxima[i] = static_cast<double>(lanes[i]);
  return kStep;
}

// The maximum of eight vectors; NaN is ignored as far as Max ignores it.
template <class V>
inline V MaxOfEight(const Block<V, 8>& b) {
  const V low = Max(Max(b.part[0], b.part[1]), Max(b.part[2], b.part[3]));
  return Max(low, Max(Max(b.part[4], b.part[5]), Max(b.part[6], b.part[7])));
}

template <class Src>
inline size_t FindAbove(const Src& x, size_t n, double limit, size_t begin, size_t most, Element* found,
                        size_t* count) {
  using V = typename Src::V;
  using T = typename Src::T;
  constexpr size_t kStep = 8 * V::kLanes;
  const V bound = Set<V>(static_cast<T>(limit));
  *count = 0;
  while (begin < n) {
    // Most blocks hold none: one maximum and one comparison decide.
    if (begin + kStep <= n && !Any(Lt(bound, MaxOfEight(x(begin, Whole<8>{}))))) {
      begin += kStep;
      continue;
    }
    const size_t end = n - begin < kStep ? n : begin + kStep;
    for (; begin < end; begin += V::kLanes) {
      const size_t step = end - begin < V::kLanes ? end - begin : V::kLanes;
      const V v = x(begin, Partial<1>{step}).part[0];
      if (!Any(Lt(bound, v))) continue;
      T elements[V::kLanes];
      Store(elements, v);
      for (size_t i = 0; i < step; ++i) {
        if (!(elements[i] > static_cast<T>(limit))) continue;
        found[(*count)++] = {static_cast<double>(elements[i]), begin + i};
        if (*count == most) return begin + i + 1;
      }
    }
    if (begin > end) begin = end;
  }
  return n;
}

}  // namespace
}  // namespace boltzmax::kernels
