// Prefix sums of exponentials, and their logarithms.
//
// A set of elements is reduced to (m, s): its maximum, or a number at most kRise below it, and the sum of exp(x - m).
// Merging two of them takes no subtraction of sums, so that no digit is lost, wherever the large elements are.
//
//     logcumsumexp_i = log sum_{j <= i} exp(x_j)
#pragma once

#include "../rows/softmax.hpp"
#include "float_log.hpp"
#include "lanes.hpp"
#include "row_call.hpp"

namespace boltzmax::kernels {
namespace {

// exp(d) for d <= kRise. Max error 1.2002 ULP, valid down to 2^-126 (float) or 2^-1022 (double); 0 below.
template <class B>
inline B ExpOf(const B& d) {
  using T = typename B::Scalar;
  using V = Vec<T>;
  // With the exponent of kScale as the shift, the terms are not scaled.
  constexpr double kExponent = ExpConstants<T>::kBias - (sizeof(T) == sizeof(float) ? 127.0 : 1023.0);
  const ExpShift<V, false> shift(RowSum{0.0, 0.0, kExponent, 0.0, 0.0, 0.0}, MakeTemperature<V>(1.0));
  return ScaledExp(d, DirectShift(shift));
}
inline double ExpOfNumber(double d) { return FirstLane(ExpOf(Block<F64, 1>(Const(d))).part[0]); }

// log(s). Max error 1 ULP, or 2^-36 relatively for floats, valid for normal s.
template <class T, size_t U>
inline Block<F64, U> LogOf(const Block<F64, U>& s) {
  using D = Block<F64, U>;
  using C = ExpConstants<double>;
  const D one = Const(1);
  D mantissa;
  const D exponent = SplitExponent(s, &mantissa);
  const auto carries = Lt(D(Const(0x1.6a09e667f3bcdp0)), mantissa);
  const D m = IfThenElse(carries, mantissa * D(Const(0.5)), mantissa);
  const D j = exponent + IfThenElse(carries, one, D(Const(0)));
  if constexpr (kNeedsLow<T>) {
    const auto log = Join<T>(LogParts<D>{j * D(Const(C::kLn2Hi)), m - one, j * D(Const(C::kLn2Lo))});
    return log.hi + log.lo;
  }
  const D q = Quotient<float>(m - one, m + one), z = q * q;
  return MulAdd(j, D(Const(C::kLn2)), MulAdd(q * z, AtanhPoly<float>(z), q + q));
}

// (m, s) for every element of a block.
template <class V, size_t U>
struct PartialSums {
  Block<V, U> max;
  WideBlock<V, U> sum;
};

// m + log(s); -inf where s is 0, and NaN where it is NaN.
template <class V, size_t U>
inline Block<V, U> LogSumExpOf(const PartialSums<V, U>& p) {
  using D = WideBlock<V, U>;
  const D zero = Const(0), none = Const(-__builtin_inf());
  const D max = MulAdd(p.sum, zero, InDouble(p.max));
  return Rounded<V>(IfThenElse(Eq(p.sum, zero), none, max + LogOf<typename V::Scalar>(p.sum)));
}

// The same for floats whose sums are below 2^127 where they are not 0. Exponentials of floats are good to 2^-24, and so are
// these logarithms, relatively to the larger of 1, |m| and log(s).
template <size_t U>
inline Block<F32, U> LogSumExpOfSmall(const PartialSums<F32, U>& p) {
  using B = Block<F32, U>;
  const B zero = Set<F32>(0), sum = Rounded<F32>(p.sum);
  const SplitFloats<U> split(sum);
  const B level = MulAdd(split.exponent, B(Set<F32>(kLn2OfUnit)), MulAdd(sum, zero, p.max));
  const B log = level + LogSeries(split.m - B(Set<F32>(1)));
  return IfThenElse(Eq(sum, zero), B(Set<F32>(-__builtin_inff())), log);
}
template <size_t U>
inline Block<F64, U> LogSumExpOfSmall(const PartialSums<F64, U>& p) {
  return LogSumExpOf(p);
}

// (m, s) of the elements up to each one; or backward, from each one on.
//
// A block of elements shares one m, the largest element so far and in the block, if that is at most kRise above the
// largest before. With kWideTerms, terms are doubles and kRise is larger, so that even a row's first elements share it.
template <class V, bool kBackward, bool kWideTerms>
class RunningLogSum {
  using T = typename V::Scalar;
  static constexpr T kLowest = -static_cast<T>(__builtin_inff());
  static constexpr T kRise = !kWideTerms ? T(2) : (kNeedsLow<T> ? T(4) : T(300));

 public:
  template <size_t U>
  PartialSums<V, U> Next(const Block<V, U>& x) {
    if (Any(Lt(Block<V, U>(Set<V>(state_.max)), x)) || !IsFinite(static_cast<double>(state_.max))) {
      const T max = ReduceMax(MaxOf(x, Set<V>(kLowest))), before = kWideTerms ? LargestBefore(x) : state_.max;
      if (!(max - before <= kRise)) {
        const auto next = OneByOne(state_, x);
        state_ = next.state;
        return next.sums;
      }
      if (max > state_.max) state_.Rescale(max);
    }
    const Block<V, U> max = Set<V>(state_.max);
    if constexpr (kWideTerms) return {max, Add(ExpOf(InDouble(x) - InDouble(max)))};
    return {max, Add(InDouble(ExpOf(x - max)))};
  }

 private:
  struct State {
    T max = kLowest;
    F64 hi = Const(0), lo = Const(0);  // of the sum; the same in all lanes

    void Add(F64 terms) {
      F64 error;
      hi = TwoSum(hi, terms, &error);
      lo = lo + error;
    }
    void Rescale(T to) {
      const F64 factor = Const(ExpOfNumber(static_cast<double>(max) - static_cast<double>(to)));
      hi = hi * factor;
      lo = lo * factor;
      max = to;
    }
    void AddElement(T x) {
      if (x == kLowest) return;
      double term = 1.0;
      if (x > max) {
        Rescale(x);
      } else if (x != max) {
        term = ExpOfNumber(static_cast<double>(x) - static_cast<double>(max));
      }
      Add(Const(term));
    }
  };
  template <size_t U>
  struct Stepped {
    State state;
    PartialSums<V, U> sums;
  };

  // The maximum so far; at the beginning, the least element of the block that is not -inf.
  template <size_t U>
  T LargestBefore(const Block<V, U>& x) const {
    using B = Block<V, U>;
    if (state_.max != kLowest) return state_.max;
    const B lowest = Set<V>(kLowest), zero = Set<V>(0);
    const T least = -ReduceMax(MaxOf(IfThenElse(Eq(x, lowest), lowest, zero - x), Set<V>(kLowest)));
    return least < -kLowest ? least : kLowest;
  }
  template <size_t W>
  Block<F64, W> Add(const Block<F64, W>& terms) {
    Block<F64, W> sums;
    BOLTZMAX_UNROLL
    for (size_t k = 0; k < W; ++k) {
      const size_t w = kBackward ? W - 1 - k : k;
      const F64 own = kBackward ? Suffix(terms.part[w]) : Prefix(terms.part[w]);
      const F64 total = kBackward ? BroadcastFirst(own) : BroadcastLast(own);
      if constexpr (kNeedsLow<T>) {
        sums.part[w] = (own + state_.lo) + state_.hi;
        state_.Add(total);
      } else {
        sums.part[w] = own + state_.hi;
        state_.hi = state_.hi + total;
      }
    }
    return sums;
  }
  // Where the maximum rises far, or is infinite. NaN stays in the sum. (The state by value: if its address were taken,
  // it would be kept in memory.)
  template <size_t U>
  BOLTZMAX_RARE static Stepped<U> OneByOne(State state, Block<V, U> x) {
    constexpr size_t kLanes = U * V::kLanes;
    T elements[kLanes], max[kLanes];
    double sum[kLanes];
    StoreLanes(elements, x, Whole<U>{});
    for (size_t k = 0; k < kLanes; ++k) {
      const size_t i = kBackward ? kLanes - 1 - k : k;
      state.AddElement(elements[i]);
      max[i] = state.max;
      sum[i] = FirstLane(state.hi) + FirstLane(state.lo);
    }
    return {state, {LoadLanes<V>(max, Whole<U>{}, T(0)), LoadLanes<F64>(sum, Whole<U * kWide<V>>{}, 0.0)}};
  }

  State state_;
};

template <class S>
BOLTZMAX_KERNEL inline void LogCumSumExp(const RowCall& call) {
  using V = VecOf<S>;
  for (size_t r = 0; r < call.batch.rows; ++r) {
    const RowOf<S> row = RowAt<S>(call, r);
    RunningLogSum<V, false, false> sums;
    ForEachBlock<V, 2>(row.n, [&](size_t i, auto lanes) {
      StoreLanes(row.y + i, LogSumExpOfSmall(sums.Next(row.x(i, lanes))), lanes);
    });
  }
}

}  // namespace
}  // namespace boltzmax::kernels
