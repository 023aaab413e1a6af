// Exponentials of the elements of a row, and their sums, with the same bits on every ISA.
#pragma once

#include <type_traits>

#include "../math/exact_exp.hpp"
#include "../rows/passes.hpp"
#include "../sampling_types.hpp"

namespace boltzmax::kernels {
namespace {

template <class T>
inline T Infinity() {
  return static_cast<T>(__builtin_inff());
}

// Calls f(first, count, group) for the groups of a piece.
template <class F>
inline void ForEachGroup(size_t n, F f) {
  for (size_t g = 0; g * kSampleGroup < n; ++g) {
    const size_t first = g * kSampleGroup;
    f(first, n - first < kSampleGroup ? n - first : kSampleGroup, g);
  }
}

// ---- exact terms ----

inline constexpr size_t kExactVectors = 4;

// (x - max) / T; at T = 1, the division is left out.
template <bool kScaled, class B>
inline B ExactDistance(const B& x, double max, double temperature) {
  const B distance = x - B(Set<F64>(max));
  if constexpr (kScaled) return distance / B(Set<F64>(temperature));
  else return distance;
}

// A block of elements as doubles; `fill` beyond them.
template <class T, class Lanes>
inline auto LoadDoubleLanes(const T* x, Lanes lanes, double fill) {
  Block<F64, Lanes::kVectors> v;
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < Lanes::kVectors; ++u) {
    size_t n = F64::kLanes;
    if constexpr (std::is_same_v<Lanes, Partial<Lanes::kVectors>>) n = lanes.template Lanes<F64>(u);
    v.part[u] = n > 0 ? LoadDoubles(x + u * F64::kLanes, n, fill) : Set<F64>(fill);
  }
  return v;
}

template <class T>
BOLTZMAX_KERNEL void ExactTerms(const T* x, size_t n, double max, double temperature, double* terms) {
  WithBool(temperature != 1.0, [&]<bool kScaled>(Bool<kScaled>) {
    ForEachBlock<F64, kExactVectors>(n, [&](size_t i, auto lanes) {
      const auto v = LoadDoubleLanes(x + i, lanes, -Infinity<T>());
      StoreLanes(terms + i, ExactExp(ExactDistance<kScaled>(v, max, temperature)), lanes);
    });
  });
}

// ---- masses ----

// The float nearest to p + c. The sum in double is rounded to odd, so that the second rounding is that of the exact sum.
inline float RoundedOnce(double p, double c) {
  const double sum = p + c, from_c = sum - p, error = (p - (sum - from_c)) + (c - from_c);
  int64_t bits;
  memcpy(&bits, &sum, sizeof bits);
  if (error != 0.0 && (bits & 1) == 0) bits += (error > 0.0) == (sum > 0.0) ? 1 : -1;
  double odd;
  memcpy(&odd, &bits, sizeof odd);
  return static_cast<float>(odd);
}

// a * b + c, rounded once on every ISA. Products of floats are exact in double.
template <class B>
inline B FusedMulAdd(const B& a, const B& b, const B& c) {
  if constexpr (F32::kHasFma) {
    return MulAdd(a, b, c);
  } else {
    B r;
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < sizeof(B) / sizeof(F32); ++u) {
      float x[F32::kLanes], y[F32::kLanes], z[F32::kLanes];
      Store(x, a.part[u]), Store(y, b.part[u]), Store(z, c.part[u]);
      for (size_t j = 0; j < F32::kLanes; ++j) x[j] = RoundedOnce(static_cast<double>(x[j]) * y[j], z[j]);
      r.part[u] = Load(x);
    }
    return r;
  }
}

// 2^r for |r| <= 1/2; relative error 2.0e-8, with the rounding of its coefficients.
template <class B>
inline B Pow2OfFraction(const B& r) {
  const auto set = [](float c) { return B(Set<F32>(c)); };
  B p = FusedMulAdd(set(0x1.444p-13f), r, set(0x1.5f48c0p-10f));
  p = FusedMulAdd(p, r, set(0x1.3b2a1cp-7f));
  p = FusedMulAdd(p, r, set(0x1.c6aeccp-5f));
  p = FusedMulAdd(p, r, set(0x1.ebfbe0p-3f));
  p = FusedMulAdd(p, r, set(0x1.62e430p-1f));
  return FusedMulAdd(p, r, set(1.0f));
}

// 2^(x scale - unit). The remainder is exact, up to the rounding of r itself. The bias of exponents is part of the number
// that rounds.
template <class B>
inline B FastTerms(const B& x, const FastExp<float>& fast) {
  const auto set = [](float c) { return B(Set<F32>(c)); };
  const B magic = set(0x1.8p23f + (127.0f - fast.unit)), scale = set(fast.scale_hi);
  const B v = Max(set(fast.low), x);  // NaN stays NaN
  const B t = FusedMulAdd(v, scale, magic), minus_k = magic - t;
  const B r = FusedMulAdd(v, set(fast.scale_lo), FusedMulAdd(v, scale, minus_k));
  return Pow2OfFraction(r) * Pow2(t);
}
template <class B>
inline B FastTerms(const B& x, const FastExp<double>& fast) {
  return ExactExp(ExactDistance<true>(x, fast.max, fast.temperature));
}

// Elements up to hi keep their terms, others become 0.
template <class B>
inline B UpTo(const B& x, const B& e, const B& hi) {
  return IfThenElse(Lt(hi, x), B(Set<Vec<typename B::Scalar>>(0)), e);
}
// Elements from lo to hi keep their terms, others become 0.
template <class B>
inline B Between(const B& x, const B& e, const B& lo, const B& hi) {
  const B zero = Set<Vec<typename B::Scalar>>(0);
  return IfThenElse(Lt(x, lo), zero, IfThenElse(Lt(hi, x), zero, e));
}

// A sum with the same bits on every ISA. Element i goes to lane i mod kSumLanes; lanes are in double, so that the sums of
// parts add up to that of the whole; then halves are added onto halves.
template <class T>
class LaneSums {
 public:
  static constexpr size_t kSumLanes = 64 / sizeof(T);
  using V = Vec<T>;
  static constexpr size_t kParts = kSumLanes / V::kLanes;
  // The vectors of a block. Exact terms need many registers.
  static constexpr size_t kFew = sizeof(T) == sizeof(double) ? 4 : V::kUnroll, kBlock = kParts > kFew ? kParts : kFew;

  // Adds a block, whose first element has a number that is divisible by kSumLanes.
  template <size_t U>
  void Add(const Block<V, U>& e) {
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < U; ++u) AddVector(u % kParts, e.part[u]);
  }
  double Total() const {
    double each[kSumLanes];
    BOLTZMAX_UNROLL
    for (size_t j = 0; j < kVectors; ++j) Store(each + j * F64::kLanes, sums_[j]);
    BOLTZMAX_UNROLL
    for (size_t half = kSumLanes / 2; half > 0; half /= 2) {
      BOLTZMAX_UNROLL
      for (size_t j = 0; j < half; ++j) each[j] += each[j + half];
    }
    return each[0];
  }

 private:
  static constexpr size_t kVectors = kSumLanes / F64::kLanes;

  void AddVector(size_t part, V e) {
    if constexpr (sizeof(T) == sizeof(double)) {
      sums_[part] = sums_[part] + e;
    } else {
      sums_[2 * part] = sums_[2 * part] + PromoteLower(e);
      sums_[2 * part + 1] = sums_[2 * part + 1] + PromoteUpper(e);
    }
  }

  F64 sums_[kVectors] = {};
};

// Calls f(i, lanes) for the blocks that LaneSums adds.
template <class C, class F>
inline void ForEachSummed(size_t n, F f) {
  ForEachBlock<Vec<C>, LaneSums<C>::kBlock>(n, f);
}

template <bool kHasLo, bool kHasHi, class T>
inline double GroupMass(const T* x, size_t n, T lo, T hi, const FastExp<T>& fast) {
  LaneSums<T> sums;
  ForEachSummed<T>(n, [&](size_t i, auto lanes) {
    const auto v = LoadLanes<Vec<T>>(x + i, lanes, -Infinity<T>());
    const auto e = ZeroBeyond(FastTerms(v, fast), lanes);
    const auto set = [](T bound) { return decltype(v)(Set<Vec<T>>(bound)); };
    if constexpr (kHasLo) sums.Add(Between(v, e, set(lo), set(hi)));
    else if constexpr (kHasHi) sums.Add(UpTo(v, e, set(hi)));
    else sums.Add(e);
  });
  return sums.Total();
}

template <class T>
BOLTZMAX_KERNEL void Masses(const T* x, size_t n, T lo, T hi, const FastExp<T>& fast, double* sums) {
  // Elements below `low`, as -inf is, count little enough to be left in.
  const bool has_lo = lo > fast.low, has_hi = hi < fast.high;
  WithBool(has_lo, [&]<bool kHasLo>(Bool<kHasLo>) {
    WithBool(has_hi, [&]<bool kHasHi>(Bool<kHasHi>) {
      ForEachGroup(n, [&](size_t first, size_t count, size_t g) {
        sums[g] += GroupMass<kHasLo, kHasHi>(x + first, count, lo, hi, fast);
      });
    });
  });
}

// The sum of exact terms of a group, and that of terms times (max - x) / T.
template <bool kScaled, class T>
inline void AddExactGroup(const T* x, size_t n, T lo, T hi, double max, double temperature, double* total,
                          double* weighted) {
  LaneSums<double> sums, moments;
  ForEachSummed<double>(n, [&](size_t i, auto lanes) {
    const auto v = LoadDoubleLanes(x + i, lanes, -Infinity<T>());
    using B = Block<F64, lanes.kVectors>;
    const B zero = Set<F64>(0), one = Set<F64>(1), from = Set<F64>(lo), to = Set<F64>(hi);
    if (!Any(Eq(Between(v, one, from, to), one))) return;
    const B distance = ExactDistance<kScaled>(v, max, temperature), e = Between(v, ExactExp(distance), from, to);
    sums.Add(e);
    // Not of -inf: a term of 0 has no moment.
    moments.Add(IfThenElse(Eq(e, zero), zero, e * (zero - distance)));
  });
  *total += sums.Total();
  *weighted += moments.Total();
}

template <class T>
BOLTZMAX_KERNEL void ExactMoments(const T* x, size_t n, T lo, T hi, double max, double temperature, double* sums,
                                  double* weighted) {
  WithBool(temperature != 1.0, [&]<bool kScaled>(Bool<kScaled>) {
    ForEachGroup(n, [&](size_t first, size_t count, size_t g) {
      AddExactGroup<kScaled>(x + first, count, lo, hi, max, temperature, sums + g, weighted);
    });
  });
}

}  // namespace
}  // namespace boltzmax::kernels
