// Random words for draws of candidates, and draws from the log-uniform law.
#pragma once

#include "../candidate_types.hpp"
#include "doubles.hpp"
#include "philox.hpp"

namespace boltzmax::kernels {
namespace {

BOLTZMAX_KERNEL void WordsOfBatch(const PhiloxKey& key, const BatchCounter& at, size_t count, BatchWords* words) {
  constexpr size_t kLanes = PhiloxLanes::kLanes;
  static_assert(kDrawBatch % (2 * kLanes) == 0);
  // Even counters, then odd ones: Interleave joins them.
  static constexpr EvenNumbers kEven;
  const Lanes64 even = LoadLanes64(kEven.at), purpose = SetHalves(at.purpose);
  const Lanes64 low = SetLanes(at.row), high = SetLanes(at.row >> 32);
  for (size_t i = 0; i < count; i += 2 * kLanes) {
    PhiloxLanes c[2];
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < 2; ++u) c[u] = {{SetLanes(at.first + i + u) + even, purpose, low, high}};
    PhiloxPair(key, c);
    BOLTZMAX_UNROLL
    for (size_t w = 0; w < 4; ++w) StoreLanes64(words->word[w] + i, Interleave(c[0].word[w], c[1].word[w]));
  }
}

// Calls f(i) for vectors of doubles; the last ones may go beyond count, up to a batch.
template <class F>
inline void ForEachPairOfVectors(size_t count, F f) {
  static_assert(kDrawBatch % (2 * F64::kLanes) == 0);
  for (size_t i = 0; i < count; i += 2 * F64::kLanes) f(i);
}

using Doubles = Block<F64, 2>;
inline Doubles SetDoubles(double x) { return Doubles(Set<F64>(x)); }
// Unsigned words as numbers below 1.
inline Doubles Fractions(const uint32_t* p) {
  Doubles d;
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < 2; ++u) d.part[u] = LoadSigned(p + u * F64::kLanes, F64{});
  d = d * SetDoubles(0x1p-32);
  return IfThenElse(Lt(d, SetDoubles(0.0)), d + SetDoubles(1.0), d);
}

// (ln 2)^n / n! from n = 13 down to 2.
inline constexpr double kPowersOfTwo[] = {0x1.816193166d0f9p-40, 0x1.c3bd650fc2986p-36, 0x1.e8cac7351bb25p-32,
                                          0x1.e4cf5158b8ecap-28, 0x1.b5253d395e7c4p-24, 0x1.62c0223a5c824p-20,
                                          0x1.ffcbfc588b0c7p-17, 0x1.430912f86c787p-13, 0x1.5d87fe78a6731p-10,
                                          0x1.3b2ab6fba4e77p-7,  0x1.c6b08d704a0c0p-5,  0x1.ebfbdff82c58fp-3};

// 2^(k + f) for an integer k and f from -1/2 to 1/2, by Taylor's polynomial. Max error 2 ULP; no multiplication is
// fused.
inline Doubles PowerOfTwo(const Doubles& k, const Doubles& f) {
  constexpr double kBias = 1023.0;
  Doubles p = SetDoubles(kPowersOfTwo[0]);
  BOLTZMAX_UNROLL
  for (size_t i = 1; i < sizeof kPowersOfTwo / sizeof(double); ++i) p = p * f + SetDoubles(kPowersOfTwo[i]);
  const Doubles e = (f * SetDoubles(0x1.62e42fefa39efp-1) + (f * f) * p) + SetDoubles(1.0);
  return e * Pow2(k + SetDoubles(0x1.8p52 + kBias));
}

// With the uniform number u of 64 bits, x = (V + 1)^u has the density 1 / (x log(V + 1)) on [1, V + 1), so floor(x) - 1
// has the law. Max relative error of x 2^-50: an error of the probabilities of k, relative to them, of at most (k + 2)
// 2^-50.
//
// The exponent t = u log2(V + 1) is the exact product of the upper word of u and log2_hi, and a small rest.
BOLTZMAX_KERNEL void DrawLogUniform(const BatchWords& words, size_t count, const LogUniformLaw& law, int64_t* ids) {
  constexpr double kMagic = 0x1.8p52;
  const Doubles one = SetDoubles(1.0), magic = SetDoubles(kMagic);
  const auto floor = [&](const Doubles& x) {
    const Doubles nearest = (x + magic) - magic;
    return IfThenElse(Lt(x, nearest), nearest - one, nearest);
  };
  alignas(64) int64_t k[2 * F64::kLanes];
  ForEachPairOfVectors(count, [&](size_t i) {
    const Doubles upper = Fractions(words.word[1] + i), lower = Fractions(words.word[0] + i) * SetDoubles(0x1p-32);
    const Doubles head = upper * SetDoubles(law.log2_hi);
    const Doubles rest = upper * SetDoubles(law.log2_lo) + lower * SetDoubles(law.log2_hi);
    const Doubles whole = (head + magic) - magic;
    const Doubles x = floor(PowerOfTwo(whole, (head - whole) + rest));
    const Doubles least = IfThenElse(Lt(x, one), one, x), most = SetDoubles(law.classes);
    const Doubles id = IfThenElse(Lt(most, least), most, least) - one;
    const size_t rest_of_batch = count - i;
    if (rest_of_batch >= 2 * F64::kLanes) {
      StoreIntegers(ids + i, id.part[0]);
      StoreIntegers(ids + i + F64::kLanes, id.part[1]);
    } else {
      StoreIntegers(k, id.part[0]);
      StoreIntegers(k + F64::kLanes, id.part[1]);
      for (size_t j = 0; j < rest_of_batch; ++j) ids[i + j] = k[j];
    }
  });
}

// P of log(atanh(s) / s) = z P(z) with z = s^2, by Chebyshev on z <= 1/9, highest first. Error of the whole: 2.1e-18.
inline constexpr double kLogAtanhPoly[] = {
    0x1.20a49b63ee762p-5, 0x1.49447160837f2p-6, 0x1.c884b95b3f3adp-6, 0x1.065b096e39802p-5, 0x1.3bb5468e828ddp-5,
    0x1.8894dfa412b9fp-5, 0x1.0086140aa0cf4p-4, 0x1.6aa4e3311f092p-4, 0x1.27d27d27d2c34p-3, 0x1.5555555555555p-2};

// log P(k), where log((k + 2) / (k + 1)) = 2 atanh(s) with s = 1 / (2k + 3). Max error 3 ULP of log(k + 2), valid for k
// from 0 to 2^51.
BOLTZMAX_KERNEL void LogUniformLogP(const int64_t* ids, size_t count, const LogUniformLaw& law, double* log_p) {
  const auto take = [&](const int64_t* k, double* result) {
    Doubles id;
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < 2; ++u) id.part[u] = LoadIntegers(k + u * F64::kLanes);
    const Doubles middle = id + SetDoubles(1.5), s = SetDoubles(0.5) / middle, z = s * s;
    Doubles p = SetDoubles(kLogAtanhPoly[0]);
    BOLTZMAX_UNROLL
    for (size_t i = 1; i < sizeof kLogAtanhPoly / sizeof(double); ++i) {
      p = MulAdd(p, z, SetDoubles(kLogAtanhPoly[i]));
    }
    const Doubles log_middle = LogOf<double>(middle, SetDoubles(0.0));
    StoreLanes(result, (z * p - log_middle) - SetDoubles(law.log_of_log), Whole<2>{});
  };
  constexpr size_t kStep = 2 * F64::kLanes;
  size_t i = 0;
  for (; i + kStep <= count; i += kStep) take(ids + i, log_p + i);
  if (i == count) return;
  int64_t k[kStep] = {};
  double result[kStep];
  for (size_t j = i; j < count; ++j) k[j - i] = ids[j];
  take(k, result);
  for (size_t j = i; j < count; ++j) log_p[j] = result[j - i];
}

}  // namespace
}  // namespace boltzmax::kernels
