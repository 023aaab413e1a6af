// The logarithm of a row's sum, in double precision and a little more: hi + lo. One formula serves a row (a Vec<double>
// with the same number in all lanes) and the columns of a strip (a Block of them).
//
//     log((hi + lo) 2^k) = j ln 2 + log1p(f) + lo / hi,     hi 2^k = 2^j (1 + f),  1/sqrt(2) < 1 + f < sqrt(2)
//
// and for a peaked row, whose largest term is exp(max) and the sum of the others `rest`,
//
//     log(exp(max) + rest) = max + log1p(rest / exp(max))
//
// which keeps all the digits even of a tiny rest: logsumexp([0, -40]) is log1p(exp(-40)), not 0.
#pragma once

#include "../row_sum.hpp"
#include "exp.hpp"

namespace boltzmax::kernels {
namespace {

template <class D>
struct Pair {
  D hi, lo;
};

inline F64 Const(double x) { return Set<F64>(x); }

// kPeaked for short rows: with few lanes, more of their terms meet in one tree.
inline constexpr double kPeakedHere = F64::kHasFma && F64::kLanes > 2 ? kPeaked : kPeakedWithoutFma;

// Doubles need their logarithm a little more accurately than to double precision. Floats have digits to spare, and do
// without the low parts.
template <class T>
inline constexpr bool kNeedsLow = sizeof(T) == sizeof(double);

// a / b. Max error for floats some 2^-42, relatively: where the ISA has an estimate (to 2^-14), one Halley step
// replaces the division, 1 / b = inverse (1 + error + error^2) with error = 1 - inverse b. For doubles, one division.
template <class T, class D>
inline D Quotient(const D& a, const D& b) {
  if constexpr (!kNeedsLow<T> && F64::kHasInverse) {
    const D inverse = InverseEstimate(b), error = NegMulAdd(inverse, b, Const(1)), quotient = a * inverse;
    return MulAdd(quotient, MulAdd(error, error, error), quotient);
  } else {
    return a / b;
  }
}

// P of 2 atanh(s) = 2s + s^3 P(s^2), minimax on s^2 <= 0.02945. Error of the whole: 2^-58 for doubles, 2^-37 for
// floats.
template <class T>
struct AtanhOfLog {
  static constexpr double kPoly[] = {0x1.2b5b5fb2eac92p-3, 0x1.39fe208c33457p-3, 0x1.7462b69705382p-3,
                                     0x1.c71c62debf86bp-3, 0x1.2492492df6947p-2, 0x1.99999999952b2p-2,
                                     0x1.5555555555558p-1};
};
template <>
struct AtanhOfLog<float> {
  static constexpr double kPoly[] = {0x1.e2f99bdb841e7p-3, 0x1.2438c32be36f2p-2, 0x1.999a7ad773699p-2,
                                     0x1.555554fd750cap-1};
};
template <class T, class D>
inline D AtanhPoly(const D& z) {
  constexpr auto& kPoly = AtanhOfLog<T>::kPoly;
  D p = Const(kPoly[0]);
  BOLTZMAX_UNROLL
  for (size_t i = 1; i < sizeof(kPoly) / sizeof(kPoly[0]); ++i) p = MulAdd(p, z, Const(kPoly[i]));
  return p;
}

// log(1 + f). Max error about 2^-57, for floats 2^-36, valid for an exact f in [-0.293, 0.415]. It is 2 atanh(s) with s
// = f / (2 + f).
template <class T, class D>
inline Pair<D> Log1p(const D& f) {
  const D two = Const(2);
  const D d = two + f;
  const D s = Quotient<T>(f, d);
  const D z = s * s, p = AtanhPoly<T>(z);
  if constexpr (!kNeedsLow<T>) return {s + s, s * z * p};
  const D d_error = f - (d - two), one = Const(1);
  const D s_error = (Remainder(f, s, d) - s * d_error) * (one / d);
  // Half of a subnormal number is rounded; but an f this small is its own log1p.
  const auto is_tiny = Lt(Max(f, Const(0) - f), Const(0x1p-1000));
  return {IfThenElse(is_tiny, f, s + s), IfThenElse(is_tiny, Const(0), MulAdd(s * z, p, s_error + s_error))};
}

// exp(a - k ln 2). Max error about 2^-58, valid for a - k ln 2 in [-ln(2)/2, ln(2)/2].
template <class T, class D>
inline Pair<D> ExpReduced(const D& a, const D& k) {
  using C = ExpConstants<double>;
  const D one = Const(1);
  const D high = NegMulAdd(k, Const(C::kLn2Hi), a);  // exact
  const D low = k * Const(C::kLn2Lo);
  const D r = high - low;
  constexpr auto& kPoly = ExpReduction<double, 1>::kPoly;
  D q = Const(kPoly[0]);
  BOLTZMAX_UNROLL
  for (size_t i = 1; i < sizeof(kPoly) / sizeof(kPoly[0]); ++i) q = MulAdd(q, r, Const(kPoly[i]));
  const D head = one + r;
  if constexpr (!kNeedsLow<T>) return {MulAdd(q * r, r, head), Const(0)};
  const D r_error = (high - r) - low;
  const D tail = (r - (head - one)) + MulAdd(q * r, r, r_error * head);
  const D hi = head + tail;
  return {hi, tail - (hi - head)};
}

// A logarithm before its log1p is computed: base + log1p(f) + extra.
template <class D>
struct LogParts {
  D base, f, extra;
};

template <class T, class D>
inline Pair<D> Join(const LogParts<D>& parts) {
  const Pair<D> l = Log1p<T>(parts.f);
  D error;
  const D hi = TwoSum(parts.base, l.hi, &error);
  return {hi, error + (l.lo + parts.extra)};
}

// log((hi + lo) * 2^k)
template <class T, class D>
inline LogParts<D> LogPartsOf(const D& hi, const D& lo, const D& k) {
  using C = ExpConstants<double>;
  const D one = Const(1);
  D mantissa;
  const D exponent = SplitExponent(hi, &mantissa);
  const auto carries = Lt(Const(0x1.6a09e667f3bcdp0), mantissa);
  const D j = (k + exponent) + IfThenElse(carries, one, Const(0));
  const D f = IfThenElse(carries, mantissa * Const(0.5), mantissa) - one;
  const D low = j * Const(C::kLn2Lo);
  return {j * Const(C::kLn2Hi), f, kNeedsLow<T> ? low + lo / hi : low};
}

template <class T, class D>
inline LogParts<D> LogPartsOfSum(const SumOfExp<D>& sum) {
  return LogPartsOf<T>(sum.hi, sum.lo, sum.exponent);
}

// log((top + rest) 2^k), where top 2^k = exp(a). Max error 2^-36, which is enough for a float, valid for rest >= 0.
// With total = top + rest,
//
//     a + log1p(rest / top)                    where the rest is small: it keeps all its digits,
//     (k + j) ln 2 + log(m), total = 2^j m     elsewhere.
//
// Both are base + 2 atanh(numerator / denominator), with one division. The result is their exact sum: log_softmax of the
// largest element is the second term, however small it is compared with the first.
template <class D>
inline Pair<D> LogOfTopAndRest(const D& a, const D& k, const D& top, const D& rest) {
  using C = ExpConstants<double>;
  const D one = Const(1), zero = Const(0), total = top + rest;
  D mantissa;
  const D exponent = SplitExponent(total, &mantissa);
  const auto carries = Lt(Const(0x1.6a09e667f3bcdp0), mantissa), is_small = Lt(rest, top * Const(0.375));
  const D m = IfThenElse(carries, mantissa * Const(0.5), mantissa);
  const D j = (k + exponent) + IfThenElse(carries, one, zero);
  const D base = IfThenElse(is_small, a, j * Const(C::kLn2));
  const D s = Quotient<float>(IfThenElse(is_small, rest, m - one), IfThenElse(is_small, total + top, m + one));
  const D z = s * s;
  D error;
  const D hi = TwoSum(base, MulAdd(s * z, AtanhPoly<float>(z), s + s), &error);
  return {hi, error};
}

// Where the rest is not small, it is added to the largest term, which is computed here in twice the precision.
template <class T, class D>
inline LogParts<D> LogPartsOfPeakedSum(const SumOfExp<D>& sum, const Pair<D>& rest) {
  using C = ExpConstants<double>;
  const D magic = Const(C::kRoundingMagic);
  const D a = sum.max - sum.offset;
  const D k = MulAdd(a, Const(C::kLog2e), magic) - magic;
  const D unit = Pow2((sum.exponent - k) + Const(C::kRoundingMagic + 1023.0));
  const Pair<D> largest = ExpReduced<T>(a, k);
  const D others = rest.hi * unit, ratio = others / largest.hi;
  D total_error;
  const D total = TwoSum(largest.hi, others, &total_error);
  const auto usual = LogPartsOf<T>(total, total_error + MulAdd(rest.lo, unit, largest.lo), k);
  D correction = Const(0);
  if constexpr (kNeedsLow<T>) {
    const D ratio_error = Remainder(others, ratio, largest.hi) + rest.lo * unit;
    correction = (ratio_error - ratio * largest.lo) / total;
  }
  const auto is_large = Lt(largest.hi * Const(0.25), others);
  return {IfThenElse(is_large, usual.base, a), IfThenElse(is_large, usual.f, ratio),
          IfThenElse(is_large, usual.extra, correction)};
}

}  // namespace
}  // namespace boltzmax::kernels
