// softmax, log_softmax and logsumexp of rows.
//
//     m = max x;  s = sum exp(x - m);     softmax = exp(x - m) / s;   log_softmax = (x - m) - log s;   logsumexp = m + log s
//
// A row is reduced to a RowSum and mapped with it. Rows of at most kChunk elements do both in one call; core/ joins the
// halves for longer ones. What to do with NaN, infinities and masks is decided here, in ReduceRow and in the two maps.
#pragma once

#include "exp.hpp"
#include "passes.hpp"
#include "row_sum.hpp"

namespace boltzmax::kernels {
namespace {

// The elements of a row; masked ones read as -inf, whose exp is 0.
template <class S, bool kMasked>
struct Source {
  using T = Compute<S>;
  using V = Vec<T>;
  static constexpr bool kIsMasked = kMasked;
  static constexpr T kLowest = -static_cast<T>(__builtin_inff());
  const S* x;
  const uint8_t* mask;

  template <class Lanes>
  Block<V, Lanes::kVectors> operator()(size_t i, Lanes lanes) const {
    return Keep(i, lanes, LoadLanes<V>(x + i, lanes, kLowest), Set<V>(kLowest));
  }
  // v where the element counts, `otherwise` where it is masked.
  template <class Lanes>
  Block<V, Lanes::kVectors> Keep(size_t i, Lanes lanes, const Block<V, Lanes::kVectors>& v, V otherwise) const {
    if constexpr (kMasked) return IfThenElse(MaskLanes<V>(mask + i, lanes), v, otherwise);
    return v;
  }
};

// 1 / sum in the kernels' scale, as a sum of two numbers: multiplying by it is as good as a division (1/2 ulp and a
// little, and x / x is 1). Without FMA the division is done after all, by hi.
template <class V>
struct Divisor {
  using T = typename V::Scalar;
  T hi, lo;

  explicit Divisor(const RowSum& sum) {
    const double s_hi = sum.hi * ExpConstants<T>::kScale, s_lo = sum.lo * ExpConstants<T>::kScale;
    if constexpr (V::kHasFma) {
      const double inverse = 1.0 / s_hi;
      const double rest = (__builtin_fma(-inverse, s_hi, 1.0) - inverse * s_lo) * inverse;
      hi = static_cast<T>(inverse);
      lo = static_cast<T>((inverse - static_cast<double>(hi)) + rest);
    } else {
      hi = static_cast<T>(s_hi);
      lo = 0;
    }
  }
};

template <class B, class V>
inline B Divide(const B& e, V hi, V lo) {
  if constexpr (V::kHasFma) return MulAdd(e, hi, e * lo);
  return e / hi;
}

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

// A row without a finite maximum: nothing to sum, but NaN must not be lost.
template <class Src>
BOLTZMAX_RARE inline RowSum DegenerateSum(const Src& x, size_t n, double max) {
  const double sum = AnyNan(x, n) ? __builtin_nan("") : (max > 0 ? max : 0.0);
  return {max, 0.0, 0.0, 0.0, sum, 0.0};
}

// The largest element's own exponential comes from the same instructions as in the sum, so that it can be taken out.
template <class V, bool kScaled>
inline double LargestTerm(typename V::Scalar max, const ExpShift<V, kScaled>& shift) {
  return static_cast<double>(FirstLane(ScaledExp(Set<V>(max), shift))) * ExpConstants<typename V::Scalar>::kUnscale;
}

template <class V, bool kScaled>
inline RowSum MakeRowSum(typename V::Scalar max, const ExpShift<V, kScaled>& shift, Sum sum) {
  return {static_cast<double>(max),
          static_cast<double>(FirstLane(shift.offset)),
          static_cast<double>(FirstLane(shift.exponent)),
          LargestTerm(max, shift),
          sum.hi * ExpConstants<typename V::Scalar>::kUnscale,
          sum.lo * ExpConstants<typename V::Scalar>::kUnscale};
}

template <bool kScaled, class Src, class Keep>
BOLTZMAX_RARE inline RowSum ReduceKnowingMax(const Src& x, size_t n, const Temperature<typename Src::V>& t,
                                             typename Src::T max, Keep keep) {
  using V = typename Src::V;
  if (!IsFinite(static_cast<double>(max))) return DegenerateSum(x, n, static_cast<double>(max));
  const ExpShift<V, kScaled> shift(Set<V>(max), t);
  const Sum sum = SumOver<V>(n, [&](size_t i, auto lanes) {
    const auto e = ScaledExp(x(i, lanes), shift);
    keep(i, lanes, e);
    return e;
  });
  return MakeRowSum(max, shift, sum);
}

// The maximum and the sum of exponentials, each of which is handed to keep(i, lanes, e).
//
// One pass will do: the terms are scaled by a power of two, and any power near that of the maximum is as good as its
// own, to the last bit. The maximum of the row's first block is nearly always near enough; if not, the sum is taken
// again, now that the maximum is known. Where keep overwrites x there is no second time: then `known` asks for the
// maximum of the whole row first.
template <bool kScaled, class Src, class Keep>
inline RowSum ReduceRow(const Src& x, size_t n, double temperature, Keep keep, bool known = false) {
  using V = typename Src::V;
  using T = typename Src::T;
  using C = ExpConstants<T>;
  const auto t = MakeTemperature<V>(temperature);
  const auto is_direct = [](T v) { return v < C::kDirectLimit && v > -C::kDirectLimit; };
  constexpr size_t kHead = V::kUnroll * V::kLanes;
  const T head = MaxOver<V>(kScaled || known || n < kHead ? n : kHead, x);
  T max = head;
  if constexpr (!kScaled) {
    if (is_direct(head)) {
      const ExpShift<V, kScaled> shift(Set<V>(head), t);
      V running = Set<V>(Src::kLowest);
      const Sum sum = SumOver<V>(n, [&](size_t i, auto lanes) {
        const auto v = x(i, lanes);
        running = MaxOf(v, running);
        const auto e = ScaledExp(v, shift);
        keep(i, lanes, e);
        return e;
      });
      max = ReduceMax(running);
      if (max - head <= C::kHeadroom && is_direct(max)) return MakeRowSum(max, shift, sum);
    } else if (n > kHead) {
      max = MaxOver<V>(n, x);
    }
  }
  return ReduceKnowingMax<kScaled>(x, n, t, max, keep);
}
struct KeepNothing {
  template <class Lanes, class B>
  void operator()(size_t, Lanes, const B&) const {}
};

// In double the rounding of the exponentials themselves shows in the logarithm of a sum of few: it is added up as well.
// (Floats are summed in double, and their logarithms have room enough.)
template <class V, class SumFunction, class F>
inline Sum RestErrors(SumFunction sum_over, F f) {
  if constexpr (sizeof(typename V::Scalar) == sizeof(double)) return sum_over(f);
  return {0.0, 0.0};
}
template <class T>
inline RestSum MakeRest(const Sum& sum, const Sum& errors, double count) {
  return {sum.hi * ExpConstants<T>::kUnscale, (sum.lo + errors.hi) * ExpConstants<T>::kUnscale, count};
}

template <bool kScaled, class Src>
BOLTZMAX_KERNEL inline RestSum ReduceRest(const Src& x, size_t n, double temperature, const RowSum& row) {
  using V = typename Src::V;
  using T = typename Src::T;
  const V max = Set<V>(static_cast<T>(row.max));
  const ExpShift<V, kScaled> shift(row, MakeTemperature<V>(temperature));
  const V zero = Set<V>(T(0));
  V count = zero;
  const Sum sum = SumOver<V>(n, [&](size_t i, auto lanes) {
    const auto v = x(i, lanes);
    const auto largest = Eq(v, max);
    for (const auto& part : largest.part) count = count + IfThenElse(part, Set<V>(T(1)), zero);
    return IfThenElse(largest, zero, ScaledExp(v, shift));
  });
  const Sum errors = RestErrors<V>([&](auto f) { return SumOver<V>(n, f); },
                                   [&](size_t i, auto lanes) {
                                     const auto v = x(i, lanes);
                                     return IfThenElse(Eq(v, max), zero, ExpTermsOf(v, shift).Error());
                                   });
  T counts[V::kLanes];
  Store(counts, count);
  double total = 0.0;
  for (const T lane : counts) total += static_cast<double>(lane);
  return MakeRest<T>(sum, errors, total);
}

// log(sum exp(x/T)) - offset/T
template <bool kScaled, class Src>
inline Sum LogSum(const Src& x, size_t n, double temperature, const RowSum& sum) {
  if (IsDegenerate(sum)) return {0.0, 0.0};
  if (IsPeakedFor<typename Src::T>(sum)) return LogOfPeakedSum(sum, ReduceRest<kScaled>(x, n, temperature, sum));
  return LogOfSum(sum);
}

// ---- the maps ----

// No probabilities to be had: NaN, but a masked element is 0 all the same.
template <class Src, class S>
BOLTZMAX_RARE inline void SoftmaxMapDegenerate(const Src& x, S* y, size_t n) {
  using V = typename Src::V;
  using T = typename Src::T;
  const V nan = Set<V>(static_cast<T>(__builtin_nanf(""))), zero = Set<V>(T(0));
  ForEachBlock<V, 4>(n, [&](size_t i, auto lanes) { StoreLanes(y + i, x.Keep(i, lanes, nan, zero), lanes); });
}

template <bool kScaled, class Src, class S>
inline void SoftmaxMap(const Src& x, S* y, size_t n, double temperature, const RowSum& sum, bool stream) {
  using V = typename Src::V;
  if (IsDegenerate(sum)) return SoftmaxMapDegenerate(x, y, n);
  const ExpShift<V, kScaled> shift(sum, MakeTemperature<V>(temperature));
  const Divisor<V> divisor(sum);
  const V hi = Set<V>(divisor.hi), lo = Set<V>(divisor.lo);
  MapTo<V>(y, n, stream, [&](size_t i, auto lanes) { return Divide(ScaledExp(x(i, lanes), shift), hi, lo); });
}

// What log_softmax subtracts: x/T - logsumexp = ((x - offset)/T - high) - low, where high + low has twice the
// precision. Without a temperature the offset is 0, and x - max is never rounded.
template <class T>
struct LogShift {
  T offset, high, low;

  template <bool kScaled>
  static LogShift Make(const RowSum& sum, const Sum& log_sum) {
    double error;
    const double total = TwoSum(kScaled ? 0.0 : sum.offset, log_sum.hi, &error);
    const T high = static_cast<T>(total);
    const double low = (total - static_cast<double>(high)) + (error + log_sum.lo);
    return {static_cast<T>(kScaled ? sum.offset : 0.0), high, static_cast<T>(low)};
  }
};

template <bool kScaled, class B, class V>
inline B SubtractLog(B x, V offset, V high, V low, const Temperature<V>& t) {
  if constexpr (kScaled) {
    // -inf * 0 would be NaN: the small half of 1/T multiplies a finite number.
    const B d = x - offset;
    const B finite = Max(B(Set<V>(-ExpConstants<typename V::Scalar>::kHuge)), d);
    x = MulAdd(d, t.inverse_hi, finite * t.inverse_lo);
  }
  return (x - high) - low;
}

// No finite maximum, or NaN: the logarithms are NaN but below +inf, which outweighs every finite score.
template <class V, class B>
inline B DegenerateLog(const B& x, bool all_nan) {
  using T = typename V::Scalar;
  const B inf = Set<V>(static_cast<T>(__builtin_inff())), nan = Set<V>(static_cast<T>(__builtin_nanf("")));
  return all_nan ? nan : IfThenElse(Eq(x, inf), nan, B(Set<V>(-static_cast<T>(__builtin_inff()))));
}
inline bool IsAllNan(const RowSum& sum) { return sum.hi != sum.hi || sum.max < 0; }

template <bool kScaled, class Src, class S>
inline void LogSoftmaxMap(const Src& x, S* y, size_t n, double temperature, const RowSum& sum, const Sum& log_sum,
                          bool stream) {
  using V = typename Src::V;
  using T = typename Src::T;
  if (IsDegenerate(sum)) {
    return ForEachBlock<V, 4>(n, [&](size_t i, auto lanes) {
      const auto v = DegenerateLog<V>(x(i, lanes), IsAllNan(sum));
      StoreLanes(y + i, x.Keep(i, lanes, v, Set<V>(Src::kLowest)), lanes);
    });
  }
  const auto shift = LogShift<T>::template Make<kScaled>(sum, log_sum);
  const V offset = Set<V>(shift.offset), high = Set<V>(shift.high), low = Set<V>(shift.low);
  const auto t = MakeTemperature<V>(temperature);
  MapTo<V>(y, n, stream, [&](size_t i, auto lanes) { return SubtractLog<kScaled>(x(i, lanes), offset, high, low, t); });
}

// ---- whole rows ----

// Each operation on a row has two halves, so that those of neighbouring rows can overlap: between the sum and what is
// done with it lies a chain of some eighty cycles in which the next row is read.

template <class S>
struct SoftmaxOp {
  using T = Compute<S>;
  using V = Vec<T>;
  S* y;
  T* e;  // where the exponentials wait: y itself or scratch; null to compute them again
  RowSum sum;

  template <bool kScaled, class Src>
  void Reduce(const Src& x, size_t n, double temperature) {
    if (e == nullptr) {
      sum = ReduceRow<kScaled>(x, n, temperature, KeepNothing{});
    } else {
      const bool overwrites = static_cast<const void*>(e) == static_cast<const void*>(x.x);
      sum = ReduceRow<kScaled>(
          x, n, temperature, [this](size_t i, auto lanes, const auto& v) { StoreLanes(e + i, v, lanes); }, overwrites);
    }
  }
  template <bool kScaled, class Src>
  void Map(const Src& x, size_t n, double temperature, bool stream) const {
    if (e == nullptr) return SoftmaxMap<kScaled>(x, y, n, temperature, sum, stream);
    if (IsDegenerate(sum)) return SoftmaxMapDegenerate(x, y, n);
    const Divisor<V> divisor(sum);
    const V hi = Set<V>(divisor.hi), lo = Set<V>(divisor.lo);
    MapTo<V>(y, n, stream, [&](size_t i, auto lanes) { return Divide(LoadLanes<V>(e + i, lanes, T(0)), hi, lo); });
  }
};

template <class S>
struct LogSoftmaxOp {
  S* y;
  RowSum sum;

  template <bool kScaled, class Src>
  void Reduce(const Src& x, size_t n, double temperature) {
    sum = ReduceRow<kScaled>(x, n, temperature, KeepNothing{});
  }
  template <bool kScaled, class Src>
  void Map(const Src& x, size_t n, double temperature, bool stream) const {
    LogSoftmaxMap<kScaled>(x, y, n, temperature, sum, LogSum<kScaled>(x, n, temperature, sum), stream);
  }
};

inline void StoreScalar(float* y, double value) { *y = static_cast<float>(value); }
inline void StoreScalar(double* y, double value) { *y = value; }
template <class S>
inline void StoreScalar(S* y, double value) {
  StoreN(y, Set<Vec<float>>(static_cast<float>(value)), 1);
}

template <class S>
struct LogSumExpOp {
  S* y;
  RowSum sum;

  template <bool kScaled, class Src>
  void Reduce(const Src& x, size_t n, double temperature) {
    sum = ReduceRow<kScaled>(x, n, temperature, KeepNothing{});
  }
  template <bool kScaled, class Src>
  void Map(const Src& x, size_t n, double temperature, bool) const {
    StoreScalar(y, LogSumExpOf(sum, LogSum<kScaled>(x, n, temperature, sum), temperature));
  }
};

}  // namespace
}  // namespace boltzmax::kernels
