// Exponentials of the elements of a row, and their sums, with the same bits on every ISA.
#pragma once

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
using ExactBlock = Block<F64, kExactVectors>;

// (x - max) / T; at T = 1, the division is left out.
template <bool kScaled, class B>
inline B ExactDistance(const B& x, double max, double temperature) {
  const B distance = x - B(Set<F64>(max));
  if constexpr (kScaled) return distance / B(Set<F64>(temperature));
  else return distance;
}

// The terms of up to a block of elements; 0 beyond them.
template <bool kScaled, class T>
inline ExactBlock TermsOfBlock(const T* x, size_t n, double max, double temperature) {
  ExactBlock v;
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < kExactVectors; ++u) {
    const size_t first = u * F64::kLanes;
    v.part[u] = n > first ? LoadDoubles(x + first, n - first, -Infinity<T>()) : Set<F64>(-Infinity<double>());
  }
  return ExactExp(ExactDistance<kScaled>(v, max, temperature));
}

template <class T>
BOLTZMAX_KERNEL void ExactTerms(const T* x, size_t n, double max, double temperature, double* terms) {
  constexpr size_t kStep = kExactVectors * F64::kLanes;
  WithBool(temperature != 1.0, [&]<bool kScaled>(Bool<kScaled>) {
    for (size_t i = 0; i < n; i += kStep) {
      const size_t count = n - i < kStep ? n - i : kStep;
      const ExactBlock e = TermsOfBlock<kScaled>(x + i, count, max, temperature);
      if (count == kStep) StoreLanes(terms + i, e, Whole<kExactVectors>{});
      else StoreLanes(terms + i, e, Partial<kExactVectors>{count});
    }
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

// 2^(x scale - unit). The remainder is exact, up to the rounding of r itself.
template <class B>
inline B FastTerms(const B& x, const FastExp<float>& fast) {
  constexpr float kMagic = 0x1.8p23f;
  const auto set = [](float c) { return B(Set<F32>(c)); };
  const B scale = set(fast.scale_hi), v = Max(x, set(fast.low));
  const B t = FusedMulAdd(v, scale, set(kMagic)), minus_k = set(kMagic) - t;
  const B r = FusedMulAdd(v, set(fast.scale_lo), FusedMulAdd(v, scale, minus_k));
  return Pow2OfFraction(r) * Pow2(t + set(127.0f - fast.unit));
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

// A sum with the same bits on every ISA. Element i goes to lane i mod kSumLanes; of 4 kSumLanes elements, the four of a
// lane are added in a tree, in their own type; the lanes, in double, are added in order.
template <class T>
class LaneSums {
 public:
  static constexpr size_t kSumLanes = 64 / sizeof(T);
  using V = Vec<T>;
  static constexpr size_t kParts = kSumLanes / V::kLanes;

  // Adds the four vectors of a part of the lanes.
  void AddTree(size_t part, const Block<V, 4>& e) { Add(part, (e.part[0] + e.part[1]) + (e.part[2] + e.part[3])); }
  void Add(size_t part, V e) {
    if constexpr (sizeof(T) == sizeof(double)) {
      sums_[part] = sums_[part] + e;
    } else {
      sums_[2 * part] = sums_[2 * part] + PromoteLower(e);
      sums_[2 * part + 1] = sums_[2 * part + 1] + PromoteUpper(e);
    }
  }
  double Total() const {
    double each[kSumLanes];
    for (size_t j = 0; j < kVectors; ++j) Store(each + j * F64::kLanes, sums_[j]);
    double total = 0.0;
    for (size_t j = 0; j < kSumLanes / 2; ++j) total += each[j] + each[j + kSumLanes / 2];
    return total;
  }

 private:
  static constexpr size_t kVectors = kSumLanes / F64::kLanes;
  F64 sums_[kVectors] = {};
};

inline F32 LoadUpTo(const float* x, size_t n, float fill) { return n >= F32::kLanes ? Load(x) : LoadN(x, n, fill); }

// Calls f(v, add) for the elements of a group, in the type C; -inf is beyond them. add(sums, e) adds the terms of v to
// sums.
template <class C, class T, class F>
inline void ForEachTree(const T* x, size_t n, F f) {
  using V = Vec<C>;
  constexpr size_t kLanes = LaneSums<C>::kSumLanes, kParts = LaneSums<C>::kParts;
  const auto load = [&](const T* from, size_t count) {
    if constexpr (sizeof(C) == sizeof(double)) return LoadDoubles(from, count, -Infinity<T>());
    else return LoadUpTo(from, count, -Infinity<T>());
  };
  size_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    BOLTZMAX_UNROLL
    for (size_t part = 0; part < kParts; ++part) {
      Block<V, 4> v;
      BOLTZMAX_UNROLL
      for (size_t u = 0; u < 4; ++u) v.part[u] = load(x + i + u * kLanes + part * V::kLanes, V::kLanes);
      f(v, [part](LaneSums<C>* sums, const Block<V, 4>& e) { sums->AddTree(part, e); });
    }
  }
  for (size_t part = 0; i < n; part = (part + 1) % kParts, i += V::kLanes) {
    const Partial<1> lanes = {n - i < V::kLanes ? n - i : V::kLanes};
    const Block<V, 1> v = load(x + i, lanes.n);
    f(v, [&](LaneSums<C>* sums, const Block<V, 1>& e) { sums->Add(part, ZeroBeyond(e, lanes).part[0]); });
  }
}

template <bool kHasLo, bool kHasHi, class T>
inline double GroupMass(const T* x, size_t n, T lo, T hi, const FastExp<T>& fast) {
  LaneSums<T> sums;
  ForEachTree<T>(x, n, [&](auto v, auto add) {
    const auto e = FastTerms(v, fast);
    const auto set = [](T bound) { return decltype(v)(Set<Vec<T>>(bound)); };
    if constexpr (kHasLo) add(&sums, Between(v, e, set(lo), set(hi)));
    else if constexpr (kHasHi) add(&sums, UpTo(v, e, set(hi)));
    else add(&sums, e);
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
  ForEachTree<double>(x, n, [&](auto v, auto add) {
    using B = decltype(v);
    const B distance = ExactDistance<kScaled>(v, max, temperature), zero = Set<F64>(0);
    const B e = Between(v, ExactExp(distance), B(Set<F64>(lo)), B(Set<F64>(hi)));
    add(&sums, e);
    // Not of -inf: a term of 0 has no moment.
    add(&moments, IfThenElse(Eq(e, zero), zero, e * (zero - distance)));
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
