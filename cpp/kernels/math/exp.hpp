// exp(x - m) without ever rounding x - m. Max error 1.2002 ULP, valid for every x <= 0; by type and ISA, see below.
//
// Reduce, approximate, reconstruct: with a step of ln(2) / N, k = round(x / step), r = x - k step and K the exponent of
// exp(m),
//
//     exp(x) = 2^K * [ 2^(k/N - K) * P(r) ],   |r| <= step / 2
//
// where N is 1, or the number of powers between 1 and 2 that the ISA can look up (Vec::kNodes), which allows a shorter
// P. The kernels add up the bracket, times kScale: the shift that keeps exp from overflowing is a whole power of two,
// so it costs no digit. The usual exp(x - m) first rounds x - m, which loses |x - m|/2 ulp of the result (Blanchard,
// Higham & Higham, IMA J. Numer. Anal. 41(4), 2021, section 4).
//
// Where |m| exceeds kDirectLimit, the two-constant reduction would lose digits. There x - m is exact for every term
// that counts (Sterbenz), and is taken first (`offset`). The same goes for a temperature: (x - m) / T.
//
// Error of exp(x), in ULP of the result. Over all 2^31 non-positive floats (tests/exponential.py) it is at most
//
//     float, table:    0.7707 ULP at -0x1.5da12p+6
//     float, FMA:      0.8914 ULP at -0x1.765026p+2
//     float, scalar:   1.1761 ULP at -0x1.df6e9ep+5
//
// and over 2^26 sampled doubles,
//
//     double, table:   0.7784 ULP at -0x1.6244ca0d0cffbp+9
//     double, FMA:     0.9083 ULP at -0x1.46a45a1f17a25p+9
//     double, scalar:  1.2002 ULP at -0x1.40e961ea3cce5p+7
//
// The coarse variant, for 16-bit results, has a relative error below 2^-14 where |x| is at most kDirectLimit; in double,
// for floats, below 2^-32.
#pragma once

#include "../exp_constants.hpp"
#include "../isa/block.hpp"

namespace boltzmax::kernels {
namespace {

// The temperature of a row, or that it has none: then scores are not divided, and `value` is 1. A row at temperature 1
// in a batch that has others is divided.
struct RowTemperature {
  double value = 1.0;
  bool scaled = false;
};

// T and 1/T; the inverse is an unevaluated sum of two numbers, so that it adds no rounding error.
template <class V>
struct Temperature {
  V value, inverse_hi, inverse_lo;
  bool scaled;
};

template <class T>
inline void InvertTemperature(double temperature, T* hi, T* lo) {
  const double inverse = 1.0 / temperature;
  *hi = static_cast<T>(inverse);
  *lo = static_cast<T>(sizeof(T) == 4 ? inverse - static_cast<double>(*hi)
                                      : __builtin_fma(-inverse, temperature, 1.0) * inverse);
}

template <class V>
inline Temperature<V> MakeTemperature(RowTemperature temperature) {
  using T = typename V::Scalar;
  if (!temperature.scaled) return {Set<V>(1), Set<V>(1), Set<V>(0), false};
  T hi, lo;
  InvertTemperature(temperature.value, &hi, &lo);
  return {Set<V>(static_cast<T>(temperature.value)), Set<V>(hi), Set<V>(lo), true};
}
template <class V>
inline Temperature<V> MakeTemperature(double temperature) {
  return MakeTemperature<V>({temperature, true});
}

template <class V, bool kCoarse = false>
using ReductionOf = ExpReduction<typename V::Scalar, V::kNodes, kCoarse>;

// The row's input to the reduction: the position of its maximum, and its temperature, if it may have one (kScaled).
template <class V, bool kScaled, class R = ReductionOf<V>>
struct ExpShift {
  using Vector = V;
  using Reduction = R;
  using T = typename V::Scalar;
  using C = ExpConstants<T>;

  V offset;    // subtracted from x before the reduction: 0, or the maximum
  V exponent;  // K
  V magic;
  V floor;  // of x - offset
  Temperature<V> temperature;

  // For a row whose maximum is about `max`.
  ExpShift(V max, const Temperature<V>& t) : temperature(t) {
    if (IsScaled()) {
      offset = max;
      exponent = Set<V>(T(0));
    } else {
      offset = IfThenElse(Lt(Set<V>(C::kDirectLimit), Abs(max)), max, Set<V>(T(0)));
      const V magic0 = Set<V>(C::kRoundingMagic);
      // K is even where a * log2 e is rounded before `magic` is added (without FMA): a tie must not depend on K's last
      // bit.
      constexpr T kUnit = V::kHasFma ? T(1) : T(2);
      exponent = (MulAdd(max - offset, Set<V>(C::kLog2e / kUnit), magic0) - magic0) * Set<V>(kUnit);
    }
    Finish();
  }
  // For a row that has been summed.
  ExpShift(const RowSum& sum, const Temperature<V>& t)
      : offset(Set<V>(static_cast<T>(sum.offset))), exponent(Set<V>(static_cast<T>(sum.exponent))), temperature(t) {
    Finish();
  }

  bool IsScaled() const { return kScaled && temperature.scaled; }

  // (x - offset) / T, kept above the floor; NaN stays NaN. Without a temperature, 1/T is 1 + 0, and rounds nothing.
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
    constexpr T kNodes = T(V::kNodes);
    magic = NegMulAdd(exponent, Set<V>(kNodes), Set<V>(C::kRoundingMagic + C::kBias * kNodes));
  }
};

// An ExpShift with offset 0 and without a temperature; the same bits.
template <class V, class R>
struct DirectShift {
  using Vector = V;
  using Reduction = R;
  V magic, floor;

  DirectShift(V magic_of_row, V floor_of_row) : magic(magic_of_row), floor(floor_of_row) {}
  template <bool kScaled>
  explicit DirectShift(const ExpShift<V, kScaled, R>& shift) : magic(shift.magic), floor(shift.floor) {}

  template <class B>
  B Argument(const B& x) const {
    return Max(B(floor), x);
  }
};

// Calls f(shift), as a DirectShift where no lane has an offset: the same bits with a subtraction and a division less.
template <class V, bool kScaled, class R, class F>
inline void WithShift(const ExpShift<V, kScaled, R>& shift, F f) {
  if (!shift.IsScaled() && !Any(Lt(Set<V>(0), Abs(shift.offset)))) return f(DirectShift(shift));
  f(shift);
}

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
  // The rounding error of Value().
  B Error() const { return Remainder(scale - Value(), B(Set<Vec<typename B::Scalar>>(0)) - q, part); }
};

template <class B, class Shift>
inline ExpTerms<B> ExpTermsOf(const B& x, const Shift& shift) {
  using V = typename Shift::Vector;
  using R = typename Shift::Reduction;
  constexpr bool kLooksUp = V::kNodes > 1;
  const B a = shift.Argument(x);
  const B t = MulAdd(a, Set<V>(R::kInverseStep), shift.magic);
  const B k = t - shift.magic;
  B r;
  if constexpr (R::kIsCoarse) {
    r = NegMulAdd(k, Set<V>(R::kStep), a);
  } else {
    r = NegMulAdd(k, Set<V>(R::kStepHi), a);
    r = NegMulAdd(k, Set<V>(R::kStepLo), r);
    if constexpr (kLooksUp) r = r + NodeRest(t);
  }
  B q = Set<V>(R::kPoly[0]);
  BOLTZMAX_UNROLL
  for (size_t i = 1; i < sizeof(R::kPoly) / sizeof(R::kPoly[0]); ++i) q = MulAdd(q, r, Set<V>(R::kPoly[i]));
  q = MulAdd(q, r, Set<V>(1));
  B scale;
  if constexpr (kLooksUp) {
    scale = NodePower(t);
  } else {
    scale = Pow2(t);
  }
  return {q, r * scale, scale};
}

template <class B, class Shift>
inline B ScaledExp(const B& x, const Shift& shift) {
  return ExpTermsOf(x, shift).Value();
}

}  // namespace
}  // namespace boltzmax::kernels
