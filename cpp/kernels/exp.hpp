// exp(x - m) without ever rounding x - m.
//
// Reduce, approximate, reconstruct: with k = round(x log2 e), r = x - k ln 2 and K the exponent of exp(m),
//
//     exp(x) = 2^K * [ 2^(k-K) * P(r) ],   |r| <= ln(2)/2
//
// and the bracket, times 2^kScale, is what the kernels add up: the shift that keeps exp from overflowing is a whole
// power of two, so it costs no digit. The usual exp(x - m) first rounds x - m, which loses |x - m|/2 ulp of the result
// (Blanchard, Higham & Higham, IMA J. Numer. Anal. 41(4), 2021, section 4).
//
// Where |m| exceeds kDirectLimit the two-constant reduction would lose digits; there x - m is exact for every term that
// counts (Sterbenz), and is taken first (`offset`). A temperature does the same: (x - m) / T.
//
// Error of exp(x), in ULP of the result. Over all 2^31 non-positive floats (tests/exponential.py) it is at most
//
//     float, FMA:      0.8914 ULP at -0x1.765026p+2
//     float, scalar:   1.1761 ULP at -0x1.df6e9ep+5
//
// and over 2^26 doubles, drawn and chosen,
//
//     double, FMA:     0.9083 ULP at -0x1.46a45a1f17a25p+9
//     double, scalar:  1.2002 ULP at -0x1.40e961ea3cce5p+7
#pragma once

#include "block.hpp"
#include "exp_constants.hpp"

namespace boltzmax::kernels {
namespace {

// T and 1/T, the inverse as an unevaluated sum of two numbers so that it costs no rounding of its own.
template <class V>
struct Temperature {
  V value, inverse_hi, inverse_lo;
};

template <class T>
inline void InvertTemperature(double temperature, T* hi, T* lo) {
  const double inverse = 1.0 / temperature;
  *hi = static_cast<T>(inverse);
  *lo = static_cast<T>(sizeof(T) == 4 ? inverse - static_cast<double>(*hi)
                                      : __builtin_fma(-inverse, temperature, 1.0) * inverse);
}

template <class V>
inline Temperature<V> MakeTemperature(double temperature) {
  using T = typename V::Scalar;
  T hi, lo;
  InvertTemperature(temperature, &hi, &lo);
  return {Set<V>(static_cast<T>(temperature)), Set<V>(hi), Set<V>(lo)};
}

// What the reduction needs to know of a row: where its maximum lies, and its temperature.
template <class V, bool kScaled>
struct ExpShift {
  using T = typename V::Scalar;
  using C = ExpConstants<T>;

  V offset;    // subtracted from x before the reduction: 0, or the maximum
  V exponent;  // K
  V magic;
  V floor;  // of x - offset
  Temperature<V> temperature;

  // For a row whose maximum is about `max`.
  ExpShift(V max, const Temperature<V>& t) : temperature(t) {
    if constexpr (kScaled) {
      offset = max;
      exponent = Set<V>(T(0));
    } else {
      offset = IfThenElse(Lt(Abs(max), Set<V>(C::kDirectLimit)), Set<V>(T(0)), max);
      const V magic0 = Set<V>(C::kRoundingMagic);
      exponent = MulAdd(max - offset, Set<V>(C::kLog2e), magic0) - magic0;
    }
    Finish();
  }
  // For a row that was summed already.
  ExpShift(const RowSum& sum, const Temperature<V>& t)
      : offset(Set<V>(static_cast<T>(sum.offset))), exponent(Set<V>(static_cast<T>(sum.exponent))), temperature(t) {
    Finish();
  }

  // (x - offset) / T, kept above the floor; NaN stays NaN.
  template <class B>
  B Argument(const B& x) const {
    const B d = Max(B(floor), x - offset);
    if constexpr (kScaled) return MulAdd(d, temperature.inverse_hi, d * temperature.inverse_lo);
    return d;
  }

 private:
  void Finish() {
    floor = MulAdd(exponent, Set<V>(C::kLn2), Set<V>(C::kFloor * C::kLn2));
    if constexpr (kScaled) floor = floor * temperature.value;
    magic = Set<V>(C::kRoundingMagic + C::kBias) - exponent;
  }
};

// c - a * b, rounded once.
template <class B>
inline B Remainder(const B& c, const B& a, const B& b) {
  using T = typename B::Scalar;
  if constexpr (Vec<T>::kHasFma) {
    return NegMulAdd(a, b, c);
  } else {  // Dekker: halves, whose products are exact
    const B split = Set<Vec<T>>(sizeof(T) == 4 ? T(4097) : T(134217729));
    const B product = a * b, ca = a * split, cb = b * split;
    const B a_hi = ca - (ca - a), b_hi = cb - (cb - b);
    const B a_lo = a - a_hi, b_lo = b - b_hi;
    const B error = ((a_hi * b_hi - product) + a_hi * b_lo + a_lo * b_hi) + a_lo * b_lo;
    return (c - product) - error;
  }
}

// kScale * exp((x - offset) / T) * 2^-K = scale + part * q, for a vector or a block of them.
template <class B>
struct ExpTerms {
  B q, part, scale;

  B Value() const { return MulAdd(q, part, scale); }
  // What rounding Value() lost.
  B Error() const { return Remainder(scale - Value(), B(Set<Vec<typename B::Scalar>>(0)) - q, part); }
};

template <class B, class V, bool kScaled>
inline ExpTerms<B> ExpTermsOf(const B& x, const ExpShift<V, kScaled>& shift) {
  using C = ExpConstants<typename V::Scalar>;
  const B a = shift.Argument(x);
  const B t = MulAdd(a, Set<V>(C::kLog2e), shift.magic);
  const B k = t - shift.magic;
  B r = NegMulAdd(k, Set<V>(C::kLn2Hi), a);
  r = NegMulAdd(k, Set<V>(C::kLn2Lo), r);
  B q = Set<V>(C::kPoly[0]);
  BOLTZMAX_UNROLL
  for (size_t i = 1; i < sizeof(C::kPoly) / sizeof(C::kPoly[0]); ++i) q = MulAdd(q, r, Set<V>(C::kPoly[i]));
  q = MulAdd(q, r, Set<V>(1));
  const B scale = Pow2(t);
  return {q, r * scale, scale};
}

template <class B, class V, bool kScaled>
inline B ScaledExp(const B& x, const ExpShift<V, kScaled>& shift) {
  return ExpTermsOf(x, shift).Value();
}

}  // namespace
}  // namespace boltzmax::kernels
