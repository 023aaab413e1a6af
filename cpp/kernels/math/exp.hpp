// exp(x - m) without ever rounding x - m. Max error 1.2002 ULP, valid for every x <= 0; by type and ISA, see below.
//
// Reduce, approximate, reconstruct: with a step of ln(2) / N, k = round(x / step), r = x - k step and K the exponent of
// exp(m),
//
//     exp(x) = 2^K * [ 2^(k/N - K) * P(r) ],   |r| <= step / 2
//
// where N is 1, or the number of powers between 1 and 2 that the ISA can look up (Vec::kNodes), which allows a shorter
// P. The kernels add up the bracket, times kScale: the shift that keeps exp from overflowing is a whole power of two,
// so it costs no digit, and any K that keeps the terms in range gives the same bits. The usual exp(x - m) first rounds
// x - m, which loses |x - m|/2 ulp of the result (Blanchard, Higham & Higham, IMA J. Numer. Anal. 41(4), 2021, section
// 4).
//
// Where |m| exceeds kDirectLimit, the two-constant reduction would lose digits. There x - m is exact for every term
// that counts (Sterbenz), and is taken first (`offset`). The same goes for a temperature: (x - m) / T.
//
// Error of exp(x), in ULP of the result. Over all 2^31 non-positive floats (tests/exponential.py) it is at most
//
//     float, table:    0.7663 ULP at -0x1.5d9664p+6
//     float, FMA:      0.8914 ULP at -0x1.765026p+2
//     float, scalar:   1.1761 ULP at -0x1.df6e9ep+5
//
// and over 2^26 sampled doubles,
//
//     double, table:   0.7759 ULP at -0x1.624ec288cd7a5p+9
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

// Whether a term is multiplied by its power of two in an instruction, which any exponent may go to. Else that power is
// made from the bits of k, and K is subtracted from the magic number that rounds to k.
template <class V>
inline constexpr bool kScales = V::kNodes > 1;

// Terms below 2^LeastPower (times 2^K) are 0: far below every result.
template <class V>
constexpr typename V::Scalar LeastPower() {
  // Multiplying by a power of two must not give a subnormal number, which is slow.
  return ExpConstants<typename V::Scalar>::kFloor + (kScales<V> ? 1 : 0);
}

inline constexpr int kPlainPower = 36;

// The magic number whose addition rounds to k.
template <class V, class R>
inline V RoundingMagic(V unit) {
  if constexpr (kScales<V>) {
    return Set<V>(R::kMagic);
  } else {
    return unit;
  }
}

// The row's input to the reduction: the position of its maximum, and its temperature, if it may have one (kScaled).
template <class V, bool kScaled, class R = ReductionOf<V>>
struct ExpShift {
  using Vector = V;
  using Reduction = R;
  using T = typename V::Scalar;
  using C = ExpConstants<T>;

  V offset;    // subtracted from x before the reduction: 0, or the maximum
  V exponent;  // K
  V unit;      // the same, or the magic number less K: see kScales
  V floor;     // of x - offset
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

  // Takes K = 0 where the maximum is so near to 0 that terms and sums stay in range: see PlainShift.
  void Simplify() {
    exponent = IfThenElse(Lt(Set<V>(T(kPlainPower)), Abs(exponent)), exponent, Set<V>(T(0)));
    Finish();
  }

  template <class B>
  B Distance(const B& x) const {
    return x - offset;
  }
  // d / T. Without a temperature, 1/T is 1 + 0, and rounds nothing.
  template <class B>
  B Divided(const B& d) const {
    if constexpr (kScaled) return MulAdd(d, temperature.inverse_hi, d * temperature.inverse_lo);
    return d;
  }
  V Magic() const { return RoundingMagic<V, R>(unit); }
  // The exponent of a term.
  template <class B>
  B PowerOf(const B& k) const {
    return k - unit;
  }

 private:
  void Finish() {
    floor = MulAdd(exponent, Set<V>(C::kLn2), Set<V>(LeastPower<V>() * C::kLn2));
    if constexpr (kScaled) floor = floor * temperature.value;
    unit = kScales<V> ? exponent : Set<V>(C::kRoundingMagic + C::kBias) - exponent;
  }
};

// x itself, for shifts with offset 0 and without a temperature.
struct NoOffset {
  template <class B>
  static B Distance(const B& x) {
    return x;
  }
  template <class B>
  static B Divided(const B& d) {
    return d;
  }
};

// An ExpShift with offset 0 and without a temperature; the same bits.
template <class V, class R>
struct DirectShift : NoOffset {
  using Vector = V;
  using Reduction = R;
  V unit, floor;

  DirectShift(V unit_of_row, V floor_of_row) : unit(unit_of_row), floor(floor_of_row) {}
  template <bool kScaled>
  explicit DirectShift(const ExpShift<V, kScaled, R>& shift) : unit(shift.unit), floor(shift.floor) {}

  V Magic() const { return RoundingMagic<V, R>(unit); }
  template <class B>
  B PowerOf(const B& k) const {
    return k - unit;
  }
};

// The same with K = 0, for rows whose maxima are within kPlainPower ln(2) = 25 of 0: all of it is constant.
template <class V, class R = ReductionOf<V>>
struct PlainShift : NoOffset {
  using Vector = V;
  using Reduction = R;
  using C = ExpConstants<typename V::Scalar>;
  const V floor = Set<V>(LeastPower<V>() * C::kLn2);

  V Magic() const { return RoundingMagic<V, R>(Set<V>(C::kRoundingMagic + C::kBias)); }
  template <class B>
  B PowerOf(const B& k) const {
    return k;
  }
};

template <class Shift>
inline constexpr bool kIsPlain = false;
template <class V, class R>
inline constexpr bool kIsPlain<PlainShift<V, R>> = true;

// Calls f(shift), as a DirectShift where no lane has an offset, and as a PlainShift where all K are 0: the same bits with
// fewer operations.
template <class V, bool kScaled, class R, class F>
inline void WithShift(const ExpShift<V, kScaled, R>& shift, F f) {
  const V zero = Set<V>(0);
  if (shift.IsScaled() || Any(Lt(zero, Abs(shift.offset)))) return f(shift);
  if (kScaled || Any(Lt(zero, Abs(shift.exponent)))) return f(DirectShift(shift));
  if constexpr (!kScaled) f(PlainShift<V, R>());
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

// (x - offset) / T = k step + r, where k is an integer; in units of 1 / kNodes if there are nodes. `t` has k in its low
// bits. Where d = x - offset is below the floor, the term is 0: d is kept above it, or `counts` leaves the lane out.
template <class B, class Shift>
struct ExpArgument {
  using V = typename Shift::Vector;
  using R = typename Shift::Reduction;
  B d, a, t, k;

  ExpArgument(const B& x, const Shift& shift) : d(shift.Distance(x)) {
    if constexpr (!kScales<V>) d = Max(B(shift.floor), d);  // NaN stays NaN
    a = shift.Divided(d);
    t = MulAdd(a, B(Set<V>(R::kInverseStep)), B(shift.Magic()));
    k = t - B(shift.Magic());
  }
  auto Counts(const Shift& shift) const { return NotLess(d, B(shift.floor)); }
  B Remainder() const {
    if constexpr (R::kIsCoarse) return NegMulAdd(k, B(Set<V>(R::kStep)), a);
    if constexpr (!R::kIsCoarse) {
      return NegMulAdd(k, B(Set<V>(R::kStepLo)), NegMulAdd(k, B(Set<V>(R::kStepHi)), a));
    }
  }
};

// kScale * exp((x - offset) / T) * 2^-K = scale + part * q, for a vector or a block of them.
template <class B, bool kIsScaled>
struct ExpTerms {
  B q, part, scale;

  B Value() const { return MulAdd(q, part, scale); }
  // The rounding error of Value().
  B Error() const { return Remainder(scale - Value(), B(Set<Vec<typename B::Scalar>>(0)) - q, part); }
};
// The same with a power of two that is multiplied with at the end.
template <class B>
struct ExpTerms<B, true> {
  ExpTerms<B, false> terms;
  B power;
  typename B::Mask counts;

  B Value() const { return ScaleIf(counts, terms.Value(), power); }
  B Error() const { return ScaleIf(counts, terms.Error(), power); }
};

// The polynomial (exp(r) - 1) / r.
template <class R, class B>
inline B ExpPoly(const B& r) {
  using V = Vec<typename B::Scalar>;
  B q = Set<V>(R::kPoly[0]);
  BOLTZMAX_UNROLL
  for (size_t i = 1; i < sizeof(R::kPoly) / sizeof(R::kPoly[0]); ++i) q = MulAdd(q, r, Set<V>(R::kPoly[i]));
  return MulAdd(q, r, Set<V>(1));
}

template <class B, class Shift>
inline auto ExpTermsOf(const B& x, const Shift& shift) {
  using V = typename Shift::Vector;
  using R = typename Shift::Reduction;
  const ExpArgument<B, Shift> argument(x, shift);
  const B r = argument.Remainder(), q = ExpPoly<R>(r);
  if constexpr (kScales<V>) {
    const B node = NodePower(argument.t);
    B part;
    if constexpr (R::kIsCoarse) {
      part = r * node;
    } else {
      part = MulAdd(r, node, NodeRest(argument.t));
    }
    return ExpTerms<B, true>{{q, part, node}, shift.PowerOf(argument.k), argument.Counts(shift)};
  } else {
    const B scale = Pow2(argument.t);
    return ExpTerms<B, false>{q, r * scale, scale};
  }
}

// Vectors of an ISA that scales go one by one: the masks of several would not find registers, and such processors look
// far enough ahead.
template <class B, class Shift>
inline B ScaledExp(const B& x, const Shift& shift) {
  using V = typename Shift::Vector;
  if constexpr (kScales<V> && requires { x.part; }) {
    B e;
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < sizeof(x.part) / sizeof(V); ++u) e.part[u] = ExpTermsOf(x.part[u], shift).Value();
    return e;
  } else {
    return ExpTermsOf(x, shift).Value();
  }
}

}  // namespace
}  // namespace boltzmax::kernels
