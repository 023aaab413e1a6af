// The weights of sigsoftmax (Kanai, Fujiwara, Yamanaka & Adachi, NeurIPS 2018): exp(y) sigma(y) with y = x / T.
//
// With e = exp(y - L), where exp(L) is near the largest exp(y),
//
//     exp(y) sigma(y) = exp(2y) / (1 + exp(y))  is proportional to  e * e / (exp(-L) + e)    if L >= 0
//                                                                  e * e / (1 + exp(L) e)    if L < 0
//
// so that there is one exponential and one division for an element, and nothing overflows.
#pragma once

#include "weights.hpp"

namespace boltzmax::kernels {
namespace {

// log(exp(y) sigma(y) / sum of them) in double, from the distance to the largest. For a row of one element it is
// exactly 0.
template <bool kScaled, class T>
struct SigsoftmaxLogRatio {
  F64 temperature, max, log_sigmoid_of_max, log_sum;

  SigsoftmaxLogRatio(F64 largest, F64 t, F64 sum_over_largest)
      : temperature(t),
        max(largest),
        log_sigmoid_of_max(LogSigmoid(OverTemperature(max))),
        log_sum(LogOf<T>(sum_over_largest, Const(0))) {}

  // -log sigma(|y|) = log(1 + exp(-|y|))
  template <class B>
  static B LogSigmoid(const B& y) {
    const B zero = Const(0), one = Const(1);
    const ExpShift<F64, false> shift(Const(0), MakeTemperature<F64>(1));
    const B e = ScaledExp(zero - Max(zero - y, y), shift) * B(Const(ExpConstants<double>::kUnscale));
    return LogOf<T>(one + e, zero);
  }
  // x / T, which floats do not carry out of double's range.
  template <class B>
  B OverTemperature(const B& x) const {
    if constexpr (!kScaled) return x;
    if constexpr (sizeof(T) == sizeof(float)) return x * B(Const(1) / temperature);
    return x / B(temperature);
  }
  // min(x, 0)
  template <class B>
  static B NegativePart(const B& x) {
    return IfThenElse(Lt(x, B(Const(0))), x, B(Const(0)));
  }

  // log(exp(y) sigma(y)) = y + min(y, 0) - log(1 + exp(-|y|))
  template <class B>
  B operator()(const B& x) const {
    const B distance = (x - B(max)) + (NegativePart(x) - B(NegativePart(max)));
    const B rest = LogSigmoid(OverTemperature(x)) - B(log_sigmoid_of_max);
    return (OverTemperature(distance) - rest) - B(log_sum);
  }
};

template <class V, bool kScaled>
class SigsoftmaxWeights {
 public:
  using T = typename V::Scalar;
  using C = ExpConstants<T>;
  using LogSums = V;

  SigsoftmaxWeights(const RowOptions&, const Temperature<V>& t) : shift_(Set<V>(0), t) {}

  template <class B>
  static B Size(const B& x) {
    return x;
  }

  void Fit(V max) {
    const V zero = Set<V>(0), one = Set<V>(1);
    const Temperature<V> t = shift_.temperature;
    shift_ = Shift(max, t);
    // One of the two parts of L is 0.
    const V level = MulAdd(shift_.exponent, Set<V>(C::kLn2), kScaled ? shift_.offset * t.inverse_hi : shift_.offset);
    const ExpShift<V, false> decay(zero, MakeTemperature<V>(1));
    const V small = ScaledExp(zero - Abs(level), decay);
    const auto is_negative = Lt(level, zero);
    // In the scale of e, kScale. Above 0: there is no 0 / 0 where e underflows.
    floor_ = IfThenElse(is_negative, Set<V>(static_cast<T>(C::kScale)), Max(small, Set<V>(kLeast)));
    gain_ = IfThenElse(is_negative, small * Set<V>(static_cast<T>(C::kUnscale)), one);
  }

  template <class B>
  B operator()(const B& x) const {
    const B e = ScaledExp(x, shift_);
    return e * Quotient(e);
  }

  // 1 + sigma(-y) = 2 - sigma(y), over T
  template <class B>
  B Slope(const B& x) const {
    const B slope = NegMulAdd(B(gain_), Quotient(ScaledExp(x, shift_)), B(Set<V>(2)));
    if constexpr (kScaled) return slope * B(shift_.temperature.inverse_hi);
    return slope;
  }

  // The same from y alone.
  template <class B>
  B LogSlope(const B& x) const {
    const Temperature<V>& t = shift_.temperature;
    const B y = kScaled ? x * B(t.inverse_hi) : x, zero = Set<V>(0), one = Set<V>(1);
    const ExpShift<V, false> decay(Set<V>(0), MakeTemperature<V>(1));
    const B e = ScaledExp(zero - Max(zero - y, y), decay) * B(Set<V>(static_cast<T>(C::kUnscale)));
    const B slope = one + IfThenElse(Lt(y, zero), one, e) / (one + e);
    if constexpr (kScaled) return slope * B(t.inverse_hi);
    return slope;
  }

  template <class Result>
  SigsoftmaxLogRatio<kScaled, Result> LogRatioTo(F64 sum, V max, F64 temperature) const {
    return {InDouble(max), temperature, sum / InDouble((*this)(max))};
  }

 private:
  using Shift = ExpShift<V, kScaled>;
  static constexpr T kLeast = sizeof(T) == 4 ? T(0x1p-126) : T(0x1p-1022);
  Shift shift_;
  V floor_, gain_;

  // One number in all lanes, or doubles.
  static F64 InDouble(F32 v) { return Const(static_cast<double>(FirstLane(v))); }
  static F64 InDouble(F64 v) { return v; }

  // e / (floor + gain e)
  template <class B>
  B Quotient(const B& e) const {
    return e / MulAdd(B(gain_), e, B(floor_));
  }
};

template <class V>
using UnscaledSigsoftmax = SigsoftmaxWeights<V, false>;
template <class V>
using ScaledSigsoftmax = SigsoftmaxWeights<V, true>;

}  // namespace
}  // namespace boltzmax::kernels
