// Totals of parts of rows, and the maps of rows with a total. Terms are exact_exp's: each depends on its element alone,
// and has the same bits on every ISA. Max error of a total 2 ULP of double, valid for |x / T| <= 2^59.
#pragma once

#include "../exact_total_types.hpp"
#include "../math/exact_exp.hpp"
#include "../rows/passes.hpp"

namespace boltzmax::kernels {
namespace {

inline constexpr double kMostDirect = 0x1p19;  // of |x / T|, for exact_exp's reduction
// Terms exp(-kSpan) below another one of the same sum are below its last digit: 2^-202 < 2^(-31.5 - 97).
inline constexpr double kSpan = 140.0;
inline constexpr size_t kTotalVectors = 4;
using TotalBlock = Block<F64, kTotalVectors>;

// x / T = high + low, to 2^-100 of its size; without fused multiplication, by Dekker's product.
template <class B>
inline B QuotientRest(const B& x, const B& q, double temperature) {
  const auto set = [](double c) { return B(Set<F64>(c)); };
  constexpr double kSplit = 134217729.0;
  const double t = temperature * kSplit, t_hi = t - (t - temperature), t_lo = temperature - t_hi;
  const B s = q * set(kSplit), q_hi = s - (s - q), q_lo = q - q_hi, p = q * set(temperature);
  const B error = ((q_hi * set(t_hi) - p) + q_hi * set(t_lo) + q_lo * set(t_hi)) + q_lo * set(t_lo);
  return ((x - p) - error) / set(temperature);
}

// The parts of exp(x / T) for x / T <= kMostDirect; below `least`, those of exp(least).
template <bool kScaled, class B>
inline ExactParts<B> TotalTerm(const B& x, double temperature, double least) {
  const B floor = B(Set<F64>(least));
  if constexpr (!kScaled) {
    return ExactPartsOf<false>(Max(x, floor), x);
  } else {
    const B q = x / B(Set<F64>(temperature));
    const B low = IfThenElse(Lt(q, floor), B(Set<F64>(0.0)), QuotientRest(x, q, temperature));
    return ExactPartsOf<true>(Max(q, floor), low);
  }
}

// ln 2 = (kLn2Hi + kLn2Lo / 2^64) / 2^64
inline constexpr uint64_t kLn2Hi = 0xB17217F7D1CF79AB, kLn2Lo = 0xC9E3B39803F2F6AF;

// exp(q + low) for kMostDirect < |q| <= kMostExact, of which the reduction takes 128 bits.
BOLTZMAX_RARE ExactTerm LargeTerm(double q, double low) {
  __extension__ using Wide = __int128;
  // Times 2^64. q has no digits below 2^-33; `low` is at most half of its last one, and may be more than 1.
  const auto fixed = [](double number) {
    const auto whole = static_cast<int64_t>(number);
    const auto fraction = static_cast<int64_t>((number - static_cast<double>(whole)) * 0x1p62);
    return static_cast<Wide>(whole) * (static_cast<Wide>(1) << 64) + static_cast<Wide>(fraction) * 4;
  };
  const Wide x = fixed(q) + fixed(low);
  const auto minus_k_ln2 = [x](int64_t k) {  // times 2^64
    return x - static_cast<Wide>(k) * static_cast<Wide>(kLn2Hi) -
           ((static_cast<Wide>(k) * static_cast<Wide>(kLn2Lo)) >> 64);
  };
  // The product with log2 e is up to 2^8 off; what is left of q says by how much.
  constexpr double kLog2E = 0x1.71547652b82fep+0, kToNearest = 0x1.8p52;
  auto k = static_cast<int64_t>(q * kLog2E);
  const double off = static_cast<double>(static_cast<int64_t>(minus_k_ln2(k) >> 16)) * 0x1p-48;
  k += static_cast<int64_t>((off * kLog2E + kToNearest) - kToNearest);
  const double rest = static_cast<double>(static_cast<int64_t>(minus_k_ln2(k))) * 0x1p-64;
  return {FirstLane(ExactMantissa(Block<F64, 1>(Set<F64>(rest))).part[0]), k};
}

// One term; nothing for one that is left out.
inline ExactTerm TermOfNumber(double x, double temperature) {
  const double q = x / temperature, size = q < 0 ? -q : q;
  if (!(size <= kMostExact)) return {0.0, 0};
  using B = Block<F64, 1>;
  const B v = B(Set<F64>(x));
  if (size > kMostDirect) {
    const bool scaled = temperature != 1.0;
    return LargeTerm(q, scaled ? FirstLane(QuotientRest(v, B(Set<F64>(q)), temperature).part[0]) : 0.0);
  }
  const auto parts =
      temperature == 1.0 ? TotalTerm<false>(v, 1.0, -kMostDirect) : TotalTerm<true>(v, temperature, -kMostDirect);
  return {FirstLane(parts.mantissa.part[0]), static_cast<int64_t>(FirstLane(parts.exponent.part[0]))};
}

template <class T>
inline bool HasNan(const T* x, size_t n) {
  using V = Vec<T>;
  // The product of zero and an infinity is NaN, too: then there is a closer look.
  V check = Set<V>(0);
  ForEachBlock<V, 4>(n, [&](size_t i, auto lanes) {
    const auto v = LoadLanes<V>(x + i, lanes, T(0));
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < lanes.kVectors; ++u) check = MulAdd(v.part[u], Set<V>(0), check);
  });
  T each[V::kLanes];
  Store(each, check);
  bool is_suspect = false;
  for (const T lane : each) is_suspect |= lane != lane;
  if (!is_suspect) return false;
  for (size_t i = 0; i < n; ++i) {
    if (x[i] != x[i]) return true;
  }
  return false;
}

// The terms one by one, for scores beyond kMostDirect.
template <class T>
BOLTZMAX_RARE void AddOneByOne(const T* x, size_t n, double temperature, RowTotal* total) {
  for (size_t i = 0; i < n; ++i) {
    const auto number = static_cast<double>(x[i]);
    if (number == total->max) {
      ++total->count;
      continue;
    }
    const ExactTerm term = TermOfNumber(number, temperature);
    if (term.mantissa != 0.0) AddTo(&total->rest, ExactSumOf(term.mantissa, term.exponent));
  }
}

inline double SumOfLanes(F64 v) {
  double lanes[F64::kLanes], sum = 0.0;
  Store(lanes, v);
  for (const double lane : lanes) sum += lane;
  return sum;
}

// Elements i, i + 1, ... as a block; `fill` beyond n.
template <class T>
inline TotalBlock LoadBlock(const T* x, size_t i, size_t n, double fill) {
  TotalBlock v;
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < kTotalVectors; ++u) {
    const size_t first = i + u * F64::kLanes;
    v.part[u] = n > first ? LoadDoubles(x + first, n - first, fill) : Set<F64>(fill);
  }
  return v;
}

// The sum of the terms below the maximum; exp(below) is the largest of them, and their digits begin at `unit`.
template <bool kScaled, class T>
inline ExactSum SumOfTerms(const T* x, size_t n, double temperature, double max, double below, int64_t unit) {
  using B = TotalBlock;
  const auto set = [](double c) { return B(Set<F64>(c)); };
  const B bias = set(kExactMagic + kExactBias - static_cast<double>(unit * kDigitBits));
  F64 digit[kExactDigits];
  for (F64& d : digit) d = Set<F64>(0.0);
  constexpr size_t kStep = kTotalVectors * F64::kLanes;
  constexpr double kWeights[kExactDigits] = {1.0, 0x1p-32, 0x1p-64, 0x1p-96};
  for (size_t i = 0; i < n; i += kStep) {
    const B v = LoadBlock(x, i, n, -__builtin_inf());
    const ExactParts<B> term = TotalTerm<kScaled>(v, temperature, below - kSpan);
    B rest = IfThenElse(Eq(v, set(max)), set(0.0), term.mantissa * Pow2(term.exponent + bias));
    BOLTZMAX_UNROLL
    for (size_t j = 0; j < kExactDigits; ++j) {
      const B magic = set(0x1.8p52 * kWeights[j]), part = (rest + magic) - magic;
      rest = rest - part;
      digit[j] = digit[j] + ((part.part[0] + part.part[1]) + (part.part[2] + part.part[3]));
    }
  }
  ExactSum sum = {unit, {}};  // sums of at most 2^16 digits of at most 2^32 are exact
  for (size_t j = 0; j < kExactDigits; ++j) sum.digit[j] = static_cast<int64_t>(SumOfLanes(digit[j]) / kWeights[j]);
  return sum;
}

// How many of at most 2^16 elements are equal to a number.
template <class T>
inline int64_t CountOf(const T* x, size_t n, T number) {
  using V = Vec<T>;
  V sum = Set<V>(0);
  ForEachBlock<V, 4>(n, [&](size_t i, auto lanes) {
    const auto v = LoadLanes<V>(x + i, lanes, -static_cast<T>(__builtin_inff()));
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < lanes.kVectors; ++u) {
      sum = sum + IfThenElse(Eq(v.part[u], Set<V>(number)), Set<V>(1), Set<V>(0));
    }
  });
  T lanes[V::kLanes], count = 0;
  Store(lanes, sum);
  for (const T lane : lanes) count += lane;
  return static_cast<int64_t>(count);
}

template <class T>
BOLTZMAX_KERNEL void TotalOf(const T* x, size_t n, double temperature, RowTotal* total) {
  using V = Vec<T>;
  constexpr T kLowest = -static_cast<T>(__builtin_inff());
  *total = kNoTotal;
  if (HasNan(x, n)) {
    total->max = __builtin_nan("");
    return;
  }
  const auto load = [x](size_t i, auto lanes) { return LoadLanes<V>(x + i, lanes, kLowest); };
  const T max = MaxOver<V>(n, load);
  total->max = static_cast<double>(max);
  size_t first = 0;
  while (first + V::kLanes <= n && !Any(Eq(Load(x + first), Set<V>(max)))) first += V::kLanes;
  while (x[first] != max) ++first;
  total->argmax = static_cast<int64_t>(first);
  const T next = MaxOver<V>(n, [&](size_t i, auto lanes) {
    using B = Block<V, lanes.kVectors>;
    const B v = load(i, lanes);
    return IfThenElse(Lt(v, B(Set<V>(max))), v, B(Set<V>(kLowest)));
  });
  const double below = static_cast<double>(next) / temperature;
  if (next != kLowest && below <= kMostDirect && below - kSpan >= -kMostDirect) {
    // 2^exponent is near the largest of the other terms, and their digits begin there.
    const int64_t unit = TermOfNumber(static_cast<double>(next), temperature).exponent >> 5;
    WithBool(temperature != 1.0, [&]<bool kScaled>(Bool<kScaled>) {
      total->rest = SumOfTerms<kScaled>(x, n, temperature, total->max, below, unit);
    });
    total->count = CountOf(x, n, max);
    return;
  }
  AddOneByOne(x, n, temperature, total);
}

// ---- maps ----

inline void StorePart(float* y, const TotalBlock& b, size_t n) {
  using B = Block<F32, kTotalVectors / 2>;
  B result;
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < kTotalVectors / 2; ++u) result.part[u] = Demote(b.part[2 * u], b.part[2 * u + 1]);
  if (n >= kTotalVectors * F64::kLanes) return StoreLanes(y, result, Whole<kTotalVectors / 2>{});
  StoreLanes(y, result, Partial<kTotalVectors / 2>{n});
}
inline void StorePart(double* y, const TotalBlock& b, size_t n) {
  if (n >= kTotalVectors * F64::kLanes) return StoreLanes(y, b, Whole<kTotalVectors>{});
  StoreLanes(y, b, Partial<kTotalVectors>{n});
}

// y = f(x)
template <class T, class F>
inline void MapBlocks(const T* x, size_t n, double fill, T* y, F f) {
  constexpr size_t kStep = kTotalVectors * F64::kLanes;
  for (size_t i = 0; i < n; i += kStep) StorePart(y + i, f(LoadBlock(x, i, n, fill)), n - i);
}

template <bool kScaled>
inline TotalBlock DistanceFromMax(const TotalBlock& x, const TotalMap& map) {
  const TotalBlock d = x - TotalBlock(Set<F64>(map.max));
  if constexpr (!kScaled) return d;
  return d / TotalBlock(Set<F64>(map.temperature));
}

// e / divisor, in two steps, since it may be subnormal.
inline TotalBlock Quotient(const ExactParts<TotalBlock>& e, double mantissa, double exponent) {
  using B = TotalBlock;
  const auto set = [](double c) { return B(Set<F64>(c)); };
  const B k = e.exponent - set(exponent), bias = set(kExactMagic + kExactBias);
  const B half = (k * set(0.5) + set(kExactMagic)) - set(kExactMagic);
  return ((e.mantissa / set(mantissa)) * Pow2(half + bias)) * Pow2((k - half) + bias);
}

inline constexpr double kZeroTerm = -760.0;  // of which the exponential is 0

template <class T>
BOLTZMAX_KERNEL void SoftmaxWithTotal(const T* x, size_t n, const TotalMap& map, T* y) {
  using B = TotalBlock;
  const double q = map.max / map.temperature;
  WithBool(map.temperature != 1.0, [&]<bool kScaled>(Bool<kScaled>) {
    // Terms are those that were added up, so that no difference is rounded; only large scores are subtracted first.
    if (q <= kMostDirect && q + kZeroTerm >= -kMostDirect) {
      const ExactTerm top = TermOfNumber(map.max, map.temperature);
      MapBlocks(x, n, map.max, y, [&](const B& v) {
        return Quotient(TotalTerm<kScaled>(v, map.temperature, q + kZeroTerm), map.sum * top.mantissa,
                        static_cast<double>(top.exponent));
      });
      return;
    }
    MapBlocks(x, n, map.max, y, [&](const B& v) {
      const B d = Max(DistanceFromMax<kScaled>(v, map), B(Set<F64>(kZeroTerm)));
      return Quotient(ExactPartsOf<false>(d, d), map.sum, 0.0);
    });
  });
}

template <class T>
BOLTZMAX_KERNEL void LogSoftmaxWithTotal(const T* x, size_t n, const TotalMap& map, T* y) {
  const TotalBlock log_sum = TotalBlock(Set<F64>(map.log_sum));
  WithBool(map.temperature != 1.0, [&]<bool kScaled>(Bool<kScaled>) {
    MapBlocks(x, n, map.max, y, [&](const TotalBlock& v) { return DistanceFromMax<kScaled>(v, map) - log_sum; });
  });
}

template <class T>
constexpr ExactTotalKernels<T> ExactTotalKernelsOf() {
  return {TotalOf<T>, SoftmaxWithTotal<T>, LogSoftmaxWithTotal<T>};
}

}  // namespace
}  // namespace boltzmax::kernels
