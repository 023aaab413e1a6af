// A row's maximum and the sum of its exponentials in one pass: ReduceRow. This file decides how NaN, infinities and
// masks affect a sum.
#pragma once

#include <type_traits>

#include "../math/exp.hpp"
#include "../row_sum.hpp"
#include "passes.hpp"

namespace boltzmax::kernels {
namespace {

// Whether exp may be coarse for a result with S's digits. Not for logsumexp: max + log(sum) may cancel.
template <class S>
inline constexpr bool kCoarseWillDo = sizeof(S) == 2;

// The elements of a row; masked ones read as -inf, whose exp is 0.
template <class S, bool kCoarse = false>
struct Source {
  using T = Compute<S>;
  using V = Vec<T>;
  template <bool kScaled>
  using ShiftAs = ExpShift<V, kScaled, ReductionOf<V, kCoarse>>;
  using Shift = ShiftAs<true>;
  static constexpr T kLowest = -static_cast<T>(__builtin_inff());
  const S* x;
  const uint8_t* mask;  // or null; tested once per block, at no cost next to a second copy of every kernel

  template <class Lanes>
  Block<V, Lanes::kVectors> operator()(size_t i, Lanes lanes) const {
    return Keep(i, lanes, LoadLanes<V>(x + i, lanes, kLowest), Set<V>(kLowest));
  }
  // v where the element counts, `otherwise` where it is masked.
  template <class Lanes>
  Block<V, Lanes::kVectors> Keep(size_t i, Lanes lanes, const Block<V, Lanes::kVectors>& v, V otherwise) const {
    if (mask != nullptr) return IfThenElse(MaskLanes<V>(mask + i, lanes), v, otherwise);
    return v;
  }
};

// 0 for a number or an infinity, 1 for NaN.
template <class V, class B>
inline B IsNan(const B& x) {
  using T = typename V::Scalar;
  return IfThenElse(Eq(x, x), B(Set<V>(T(0))), B(Set<V>(T(1))));
}

template <class Src>
inline bool AnyNan(const Src& x, size_t n) {
  using V = typename Src::V;
  using T = typename Src::T;
  const auto is_nan = [&](size_t i, auto lanes) { return IsNan<V>(x(i, lanes)); };
  return MaxOver<V>(n, is_nan) > T(0);
}

// The sum of a row without a finite maximum: there is nothing to sum, but NaN must not be lost.
template <class Src>
BOLTZMAX_RARE inline RowSum DegenerateSum(const Src& x, size_t n, double max) {
  const double sum = AnyNan(x, n) ? __builtin_nan("") : (max > 0 ? max : 0.0);
  return {max, 0.0, 0.0, 0.0, sum, 0.0};
}

// The exponential of the largest element, by the same instructions as in the sum, so that it can be taken out of it.
template <class Shift>
inline double LargestTerm(typename Shift::T max, const Shift& shift) {
  using V = typename Shift::Vector;
  return static_cast<double>(FirstLane(ScaledExp(Set<V>(max), shift))) * Shift::C::kUnscale;
}

template <class Shift>
inline RowSum MakeRowSum(typename Shift::T max, const Shift& shift, Sum sum) {
  using C = typename Shift::C;
  return {static_cast<double>(max),
          static_cast<double>(FirstLane(shift.offset)),
          static_cast<double>(FirstLane(shift.exponent)),
          LargestTerm(max, shift),
          sum.hi * C::kUnscale,
          sum.lo * C::kUnscale};
}

// What is done with each exponential besides summing, and whether the logarithm of the sum is wanted (kForLog).
struct KeepNothing {
  static constexpr bool kForLog = true;
  template <class Lanes, class B>
  void operator()(size_t, Lanes, const B&) const {}
};
template <class T>
struct KeepAll {
  static constexpr bool kForLog = false;
  T* e;
  template <class Lanes, class B>
  void operator()(size_t i, Lanes lanes, const B& b) const {
    StoreLanes(e + i, b, lanes);
  }
};
template <class F>
struct KeepForLog : F {
  static constexpr bool kForLog = true;
};
template <class F>
KeepForLog(F) -> KeepForLog<F>;

// Rows this short have so few terms that their rounding errors do not cancel. If the logarithm of the sum is wanted,
// every term is added singly; in rows of fewer than kTiny elements, where a term or two make up the whole sum, its
// rounding error is added, too.
inline constexpr size_t kShort = 512, kTiny = 8;

// Rows of at most this many elements go by panels that are read twice: panels.hpp. A whole panel stays in the first-level
// cache. Where a logarithm is wanted, a longer chain of instructions for each row, rows of up to kPaneledForLogs go by
// panels, too: those of maps and reductions are read once (one_pass.hpp), those of losses still twice.
template <class T>
inline constexpr size_t kPaneled = kMostPaneled * sizeof(float) / sizeof(T);
template <class T>
inline constexpr size_t kPaneledForLogs = 2 * kPaneled<T>;

// The sum of the exponentials of x(i, lanes): singly in a short row, otherwise by trees.
template <class V, class Keep, class Shift, class F>
inline Sum SumOfTerms(size_t n, Keep keep, const Shift& shift, F x) {
  if constexpr (Keep::kForLog) {
    if (n <= kShort) {
      WideSum<V> sum;
      ForEachBlock<V, 4>(n, [&](size_t i, auto lanes) {
        const auto v = x(i, lanes);
        const auto e = ScaledExp(v, shift);
        keep(i, lanes, e);
        AddEach(&sum, e);
        if (n < kTiny) AddEach(&sum, ExpTermsOf(v, shift).Error());
      });
      return sum.Total();
    }
  }
  return SumOver<V>(n, [&](size_t i, auto lanes) {
    const auto e = ScaledExp(x(i, lanes), shift);
    keep(i, lanes, e);
    return e;
  });
}

template <class Src, class Keep>
BOLTZMAX_KERNEL inline RowSum ReduceKnowingMax(const Src& x, size_t n, const Temperature<typename Src::V>& t,
                                               typename Src::T max, Keep keep) {
  using V = typename Src::V;
  if (!IsFinite(static_cast<double>(max))) return DegenerateSum(x, n, static_cast<double>(max));
  const typename Src::Shift shift(Set<V>(max), t);
  const Sum sum = SumOfTerms<V>(n, keep, shift, x);
  return MakeRowSum(max, shift, sum);
}

// Prefetches what will be read some two microseconds from now. The processor's own prefetchers stop at the second-level
// cache, and the loop has too many instructions in flight to wait even for that.
template <class S, class Lanes>
inline void PrefetchAhead(const S* x, Lanes) {
  constexpr size_t kAhead = 16384, kLine = 64, kBytes = Lanes::kVectors * Vec<Compute<S>>::kLanes * sizeof(S);
  BOLTZMAX_UNROLL
  for (size_t b = 0; b < kBytes; b += kLine) __builtin_prefetch(reinterpret_cast<const char*>(x) + kAhead + b);
}

// The maximum of the row's first elements, as a guess at that of the row.
template <class Src>
inline typename Src::T GuessMax(const Src& x, size_t n) {
  using V = typename Src::V;
  constexpr size_t kHead = 4 * V::kLanes;
  return MaxOver<V>(n < kHead ? n : kHead, x);
}

// The maximum and the sum of the exponentials, each of which is passed to keep(i, lanes, e).
//
// One pass is enough: the terms are scaled by a power of two, and any power near that of the maximum gives the same
// bits. The guess is nearly always near enough; if not, the sum is taken again with the true maximum, which is known by
// then. If keep overwrites x, a second pass is impossible: then `known` requires the maximum of the whole row first.
template <class Src, class Keep>
BOLTZMAX_KERNEL inline RowSum ReduceRow(const Src& x, size_t n, RowTemperature temperature, typename Src::T guess,
                                        Keep keep, bool far, bool known = false) {
  using V = typename Src::V;
  using T = typename Src::T;
  using C = ExpConstants<T>;
  const auto is_direct = [&](T v) { return !temperature.scaled && v <= C::kDirectLimit && v >= -C::kDirectLimit; };
  if (known || !is_direct(guess)) guess = MaxOver<V>(n, x);
  while (is_direct(guess)) {
    const typename Src::Shift shift(Set<V>(guess), MakeTemperature<V>(RowTemperature{}));
    const DirectShift direct(shift);
    V running = Set<V>(Src::kLowest);
    const Sum sum = SumOfTerms<V>(n, keep, direct, [&](size_t i, auto lanes) {
      const auto v = x(i, lanes);
      if (far) PrefetchAhead(x.x + i, lanes);
      running = MaxOf(v, running);
      return v;
    });
    const T max = ReduceMax(running);
    if (max - guess <= C::kHeadroom && is_direct(max)) return MakeRowSum(max, shift, sum);
    guess = max;
  }
  return ReduceKnowingMax(x, n, MakeTemperature<V>(temperature), guess, keep);
}

}  // namespace
}  // namespace boltzmax::kernels
