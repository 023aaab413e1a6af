// softmax, log_softmax and logsumexp of rows.
//
//     m = max x;  s = sum exp(x - m);  softmax = exp(x - m) / s;  log_softmax = (x - m) - log s;  logsumexp = m + log s
//
// A row is reduced to a RowSum, and then mapped with it. Rows of at most kSegment elements do both in one call; for
// longer ones, core/ joins the halves. The two maps decide how NaN, infinities and masks affect a result.
#pragma once

#include "rest.hpp"

namespace boltzmax::kernels {
namespace {

// 1 / sum in the kernels' scale, as a sum of two numbers. Multiplying by it is as good as a division (1/2 ulp and a
// little, and x / x is 1). Without FMA, there is a division by hi instead.
template <class V>
struct Divisor {
  V hi, lo;

  Divisor() = default;
  Divisor(const Wide<V>& sum_hi, const Wide<V>& sum_lo) {
    const Wide<V> scale = Const(ExpConstants<typename V::Scalar>::kScale);
    const Wide<V> s_hi = sum_hi * scale, s_lo = sum_lo * scale;
    if constexpr (V::kHasFma) {
      // One Newton step: 1 / s = hi / (1 - rest) with rest = 1 - hi s, of which hi + hi rest is kept.
      hi = Set<V>(1) / Demote(s_hi);
      const Wide<V> wide = Promote(hi), rest = NegMulAdd(wide, s_hi, Const(1)) - wide * s_lo;
      lo = Demote(wide * rest);
    } else {
      hi = Demote(s_hi);
      lo = Set<V>(0);
    }
  }
  explicit Divisor(const RowSum& sum) : Divisor(Const(sum.hi), Const(sum.lo)) {}
};

// A divisor per lane; [lane] broadcasts one of them to all lanes.
template <class V>
struct LaneDivisors {
  typename V::Scalar hi[V::kLanes], lo[V::kLanes];

  explicit LaneDivisors(const Divisor<V>& divisors) {
    Store(hi, divisors.hi);
    Store(lo, divisors.lo);
  }
  Divisor<V> operator[](size_t lane) const {
    Divisor<V> divisor;
    divisor.hi = Set<V>(hi[lane]);
    divisor.lo = Set<V>(lo[lane]);
    return divisor;
  }
};

template <class B, class V>
inline B Divide(const B& e, const Divisor<V>& by) {
  if constexpr (V::kHasFma) return MulAdd(e, by.hi, e * by.lo);
  return e / B(by.hi);
}

// ---- the maps ----

// For a row without probabilities: NaN, but 0 for masked elements.
template <class Src, class S>
BOLTZMAX_RARE inline void SoftmaxMapDegenerate(const Src& x, S* y, size_t n) {
  using V = typename Src::V;
  using T = typename Src::T;
  const V nan = Set<V>(static_cast<T>(__builtin_nanf(""))), zero = Set<V>(T(0));
  ForEachBlock<V, 4>(n, [&](size_t i, auto lanes) { StoreLanes(y + i, x.Keep(i, lanes, nan, zero), lanes); });
}

template <class Src, class S>
inline void SoftmaxMap(const Src& x, S* y, size_t n, RowTemperature temperature, const RowSum& sum, bool stream) {
  using V = typename Src::V;
  if (IsDegenerate(sum)) return SoftmaxMapDegenerate(x, y, n);
  const typename Src::Shift row_shift(sum, MakeTemperature<V>(temperature));
  const Divisor<V> divisor(sum);
  WithShift(row_shift, [&](const auto& shift) {
    MapTo<V>(y, n, stream, [&](size_t i, auto lanes) { return Divide(ScaledExp(x(i, lanes), shift), divisor); });
  });
}

// y = gain * softmax(x) + add. Degenerate rows are NaN, masked elements included: neither has a gradient.
template <class Src, class S>
inline void AffineSoftmaxMap(const Src& x, S* y, size_t n, RowTemperature temperature, const RowSum& sum, double gain,
                             double add, bool stream) {
  using V = typename Src::V;
  using T = typename Src::T;
  if (IsDegenerate(sum)) return SoftmaxMapDegenerate(x, y, n);
  const typename Src::Shift row_shift(sum, MakeTemperature<V>(temperature));
  const Divisor<V> divisor(sum);
  const V slope = Set<V>(static_cast<T>(gain)), offset = Set<V>(static_cast<T>(add));
  WithShift(row_shift, [&](const auto& shift) {
    MapTo<V>(y, n, stream, [&](size_t i, auto lanes) {
      const auto p = Divide(ScaledExp(x(i, lanes), shift), divisor);
      return MulAdd(p, decltype(p)(slope), decltype(p)(offset));
    });
  });
}

// What log_softmax subtracts: x/T - logsumexp = ((x - offset)/T + minus_high) - low, where low - minus_high has twice
// the precision. Without a temperature the offset is 0, and x - max is never rounded. Since minus_high is never -0, the
// logarithm of probability 1 is not -0 either, even for the row [-0].
template <class V>
struct LogShift {
  V offset, minus_high, low;

  static LogShift Make(const Wide<V>& sum_offset, const Pair<Wide<V>>& log_sum, bool scaled) {
    const Wide<V> zero = Const(0);
    Wide<V> error;
    const Wide<V> total = TwoSum(scaled ? zero : sum_offset, log_sum.hi, &error);
    const V minus_high = Demote(zero - total);
    const Wide<V> low = (total + Promote(minus_high)) + (error + log_sum.lo);
    return {Demote(scaled ? sum_offset : zero), minus_high, Demote(low)};
  }
};

template <bool kScaled, class B, class V>
inline B SubtractLog(B x, const LogShift<V>& shift, const Temperature<V>& t) {
  if constexpr (kScaled) {
    // Where d / T overflows, whether d is -inf or finite, the product with the small half of 1/T must not: it could be
    // +inf.
    const V lowest = Set<V>(-ExpConstants<typename V::Scalar>::kHuge);
    const B d = x - shift.offset;
    const B finite = Max(B(Max(lowest, lowest * t.value)), d);
    x = MulAdd(d, t.inverse_hi, finite * t.inverse_lo);
  }
  return (x + shift.minus_high) - shift.low;
}

// For rows that have NaN or no finite maximum: the logarithms are NaN, except below +inf, which outweighs every finite
// score.
template <class V, class B>
inline B DegenerateLog(const B& x, bool all_nan) {
  using T = typename V::Scalar;
  const B inf = Set<V>(static_cast<T>(__builtin_inff())), nan = Set<V>(static_cast<T>(__builtin_nanf("")));
  return all_nan ? nan : IfThenElse(Eq(x, inf), nan, B(Set<V>(-static_cast<T>(__builtin_inff()))));
}
inline bool IsAllNan(const RowSum& sum) { return sum.hi != sum.hi || sum.max < 0; }

template <class Src, class S>
BOLTZMAX_RARE inline void LogSoftmaxMapDegenerate(const Src& x, S* y, size_t n, bool all_nan) {
  using V = typename Src::V;
  ForEachBlock<V, 4>(n, [&](size_t i, auto lanes) {
    const auto v = DegenerateLog<V>(x(i, lanes), all_nan);
    StoreLanes(y + i, x.Keep(i, lanes, v, Set<V>(Src::kLowest)), lanes);
  });
}

template <class Src, class S>
inline void LogSoftmaxMap(const Src& x, S* y, size_t n, RowTemperature temperature, const RowSum& sum,
                          const Sum& log_sum, bool stream) {
  using V = typename Src::V;
  if (IsDegenerate(sum)) return LogSoftmaxMapDegenerate(x, y, n, IsAllNan(sum));
  const Pair<Wide<V>> log = {Const(log_sum.hi), Const(log_sum.lo)};
  const auto shift = LogShift<V>::Make(Const(sum.offset), log, temperature.scaled);
  const auto t = MakeTemperature<V>(temperature);
  WithBool(temperature.scaled, [&]<bool kScaled>(Bool<kScaled>) {
    MapTo<V>(y, n, stream, [&](size_t i, auto lanes) { return SubtractLog<kScaled>(x(i, lanes), shift, t); });
  });
}

// ---- whole rows ----

// Each operation on a row has two halves, Reduce and Map, so that those of neighbouring rows can overlap: between the
// sum and its first use is a chain of some eighty cycles, in which the next row is read. Finish is the second half for
// a segment of a longer row.

inline RowTemperature TemperatureOf(const Row& row) { return {row.temperature, row.temperature != 1.0}; }

template <class S>
struct SoftmaxOp {
  using T = Compute<S>;
  using V = Vec<T>;
  static constexpr bool kCoarse = kCoarseWillDo<S>;
  S* y;
  T* e;  // where the exponentials are kept: y itself or scratch; null to compute them again
  RowSum sum;

  template <class Src>
  void Reduce(const Src& x, size_t n, RowTemperature temperature, typename Src::T guess, bool far) {
    if (e == nullptr) {
      sum = ReduceRow(x, n, temperature, guess, KeepNothing{}, far);
    } else {
      const bool overwrites = static_cast<const void*>(e) == static_cast<const void*>(x.x);
      sum = ReduceRow(x, n, temperature, guess, KeepAll<T>{e}, far, overwrites);
    }
  }
  template <class Src>
  void Map(const Src& x, size_t n, RowTemperature temperature, bool stream) const {
    if (e == nullptr) return SoftmaxMap(x, y, n, temperature, sum, stream);
    if (IsDegenerate(sum)) return SoftmaxMapDegenerate(x, y, n);
    const Divisor<V> divisor(sum);
    MapTo<V>(y, n, stream, [&](size_t i, auto lanes) { return Divide(LoadLanes<V>(e + i, lanes, T(0)), divisor); });
  }
  template <class Src>
  static void Finish(const Src& x, S* y, const Row& row, const RowSum& sum, const Sum&) {
    SoftmaxMap(x, y, row.n, TemperatureOf(row), sum, row.stream);
  }
};

template <class S>
struct LogSoftmaxOp {
  static constexpr bool kCoarse = kCoarseWillDo<S>;
  S* y;
  RowSum sum;

  template <class Src>
  void Reduce(const Src& x, size_t n, RowTemperature temperature, typename Src::T guess, bool far) {
    sum = ReduceRow(x, n, temperature, guess, KeepNothing{}, far);
  }
  template <class Src>
  void Map(const Src& x, size_t n, RowTemperature temperature, bool stream) const {
    LogSoftmaxMap(x, y, n, temperature, sum, LogSum(x, n, temperature, sum), stream);
  }
  template <class Src>
  static void Finish(const Src& x, S* y, const Row& row, const RowSum& sum, const Sum& log_sum) {
    LogSoftmaxMap(x, y, row.n, TemperatureOf(row), sum, log_sum, row.stream);
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
  static constexpr bool kCoarse = false;
  S* y;
  RowSum sum;

  template <class Src>
  void Reduce(const Src& x, size_t n, RowTemperature temperature, typename Src::T guess, bool far) {
    sum = ReduceRow(x, n, temperature, guess, KeepNothing{}, far);
  }
  template <class Src>
  void Map(const Src& x, size_t n, RowTemperature temperature, bool) const {
    StoreScalar(y, LogSumExpOf(sum, LogSum(x, n, temperature, sum), temperature.value));
  }
  template <class Src>
  static void Finish(const Src&, S* y, const Row& row, const RowSum& sum, const Sum& log_sum) {
    StoreScalar(y, LogSumExpOf(sum, log_sum, row.temperature));
  }
};

}  // namespace
}  // namespace boltzmax::kernels
