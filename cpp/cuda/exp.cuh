// exp(d / T) of differences d <= 0, and the temperature T.
#pragma once

#include "../kernels/exp_constants.hpp"
#include "numbers.cuh"
#include "task.hpp"

namespace boltzmax::cuda {

// 2^x. Max error 2^-22, relatively; subnormal results may be 0.
BOLTZMAX_DEVICE float RoughPow2(float x) {
#if defined(__CUDA_ARCH__)
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
#else
  return exp2f(x);
#endif
}

// T and 1/T, the inverse as an unevaluated sum, so that a quotient is rounded once.
template <class T>
struct Temperature {
  T value, inverse_hi, inverse_lo;

  explicit BOLTZMAX_DEVICE Temperature(const TemperatureParts& temperature)
      : value(static_cast<T>(temperature.value)), inverse_hi(static_cast<T>(temperature.inverse)) {
    inverse_lo = sizeof(T) == 4 ? static_cast<T>(temperature.inverse - static_cast<double>(inverse_hi))
                                : static_cast<T>(temperature.error);
  }
  // d / T. If that is infinite, the small half of 1 / T must not be added: it might make it NaN.
  BOLTZMAX_DEVICE T Divide(T d) const {
    const T quotient = d * inverse_hi;
    return quotient - quotient == T(0) ? MulAdd(d, inverse_hi, d * inverse_lo) : quotient;
  }
};

// A coefficient as a separate constant: device code cannot see a host's array.
template <class T, int i>
constexpr T kExpPoly = ExpReduction<T, 1>::kPoly[i];

template <class T, int i = 1>
BOLTZMAX_DEVICE T ExpPolynomial(T r, T q) {
  constexpr int kTerms = sizeof(ExpReduction<T, 1>::kPoly) / sizeof(T);
  if constexpr (i == kTerms) {
    return MulAdd(q, r, T(1));
  } else {
    return ExpPolynomial<T, i + 1>(r, MulAdd(q, r, kExpPoly<T, i>));
  }
}

// Exponentials are scaled by 2^kBits, so that none that counts is subnormal, and the product with 2^k is always exact.
// At kLowest, k + kBits makes the exponent's bits 0: anything as low, or lower, becomes 0. Without the scale that is
// less than half the smallest number.
template <class T>
struct ExpScale;
template <>
struct ExpScale<float> {
  static constexpr int kBits = 24;
  static constexpr float kInverse = 0x1p-24f;
  static constexpr float kLowest = -104.66f;  // -151 log 2
};
template <>
struct ExpScale<double> {
  static constexpr int kBits = 54;
  static constexpr double kInverse = 0x1p-54;
  static constexpr double kLowest = -746.52;  // -1077 log 2
};

// v 2^(k + bits of the scale), where `shifted` has k in its lowest bits, as after adding kRoundingMagic.
BOLTZMAX_DEVICE float TimesPow2(float v, float shifted) {
  constexpr uint32_t kBias = 127 + ExpScale<float>::kBits;
  return v * BitCast<float>((BitCast<uint32_t>(shifted) << 23) + (kBias << 23));
}
BOLTZMAX_DEVICE double TimesPow2(double v, double shifted) {
  constexpr uint64_t kBias = 1023 + ExpScale<double>::kBits;
  return v * BitCast<double>((BitCast<uint64_t>(shifted) << 52) + (kBias << 52));
}

// exp(d / T) times ExpScale. Max error 1 ULP, valid for d <= 0 and T = 1; any other T rounds d / T. The reduction and
// the polynomial are those of kernels/math/exp.hpp.
template <class T>
BOLTZMAX_DEVICE T ScaledExp(T d, T lowest, const Temperature<T>& temperature) {
  using C = ExpConstants<T>;
  const T finite = AtLeast(lowest, d);
  const T a = MulAdd(finite, temperature.inverse_hi, finite * temperature.inverse_lo);
  const T shifted = MulAdd(a, C::kLog2e, C::kRoundingMagic);
  const T k = shifted - C::kRoundingMagic;
  const T r = MulAdd(-k, C::kLn2Lo, MulAdd(-k, C::kLn2Hi, a));
  const T v = MulAdd(ExpPolynomial<T>(r, kExpPoly<T, 0>), r, T(1));
  return TimesPow2(v, shifted);
}

// The exponential for rows of S.
template <class S>
class ExpOf {
 public:
  using T = Compute<S>;
  explicit BOLTZMAX_DEVICE ExpOf(const Temperature<T>& temperature)
      : temperature_(temperature), lowest_(ExpScale<T>::kLowest * temperature.value) {}
  BOLTZMAX_DEVICE T Scaled(T d) const { return ScaledExp(d, lowest_, temperature_); }
  // Max error 1 ULP, and half the smallest number more where the result is subnormal.
  BOLTZMAX_DEVICE T operator()(T d) const { return Scaled(d) * ExpScale<T>::kInverse; }

 private:
  Temperature<T> temperature_;
  T lowest_;
};

// For 16-bit results, the processor's own power of two is accurate enough, and one rounding of d log2(e) / T <= 160.
// Max error 2^-16 of a result, whose half ULP is at least 2^-12.
class ExpOfHalves {
 public:
  explicit BOLTZMAX_DEVICE ExpOfHalves(const Temperature<float>& temperature)
      : lowest_(-160.0f * temperature.value), factor_(temperature.inverse_hi * ExpConstants<float>::kLog2e) {
    constexpr float kLog2e = ExpConstants<float>::kLog2e, kLog2eLo = 0x1.4ae0cp-26f;
    rest_ = MulAdd(temperature.inverse_hi, kLog2e, -factor_) +
            MulAdd(temperature.inverse_hi, kLog2eLo, temperature.inverse_lo * kLog2e);
  }
  BOLTZMAX_DEVICE float Scaled(float d) const {
    return RoughPow2(MulAdd(d, factor_, static_cast<float>(ExpScale<float>::kBits)));
  }
  BOLTZMAX_DEVICE float operator()(float d) const { return Scaled(d) * ExpScale<float>::kInverse; }
  // For losses in float32. Max error 2^-21, since the rounding error of the argument is corrected by a factor near 1.
  // Subnormal results may be 0.
  BOLTZMAX_DEVICE float Careful(float d) const {
    const float finite = AtLeast(lowest_, d);
    const float power = finite * factor_;
    const float lost = MulAdd(finite, rest_, MulAdd(finite, factor_, -power));
    const float e = RoughPow2(power);
    return MulAdd(e, lost * 0x1.62e43p-1f, e);
  }

 private:
  float lowest_, factor_, rest_;
};
template <>
class ExpOf<Half> : public ExpOfHalves {
  using ExpOfHalves::ExpOfHalves;
};
template <>
class ExpOf<BFloat16> : public ExpOfHalves {
  using ExpOfHalves::ExpOfHalves;
};

template <class T>
BOLTZMAX_DEVICE T Exp(T d, const Temperature<T>& temperature) {
  return ExpOf<T>(temperature)(d);
}

}  // namespace boltzmax::cuda
