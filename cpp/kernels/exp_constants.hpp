// The constants of exp: see exp.hpp for their use. In hexadecimal, so that no digit is rounded.
#pragma once

#include <stdint.h>

namespace boltzmax {
namespace {

template <class T>
struct ExpConstants;

template <>
struct ExpConstants<float> {
  static constexpr float kHuge = 0x1.fffffep127f;
  static constexpr float kDirectLimit = 1024.0f;
  static constexpr float kLog2e = 0x1.715476p+0f;
  // ln2_hi has 12 bits, so that k * ln2_hi is exact for |k| < 2^12.
  static constexpr float kLn2Hi = 0x1.62ep-1f;
  static constexpr float kLn2Lo = 0x1.0bfbe8p-15f;
  static constexpr float kLn2 = 0x1.62e430p-1f;
  // Adding 1.5 * 2^23 rounds to an integer, which is then in the low bits of the mantissa.
  static constexpr float kRoundingMagic = 0x1.8p23f;
  // ScaledExp is kScale times the bracket of exp.hpp. So terms that would be subnormal next to the largest keep their
  // digits, and no intermediate result that matters is subnormal.
  static constexpr double kScale = 0x1p64, kUnscale = 0x1p-64;
  static constexpr float kBias = 127.0f + 64.0f;
  // How far x may exceed the maximum that an ExpShift was made for before sums or their reciprocals leave the range.
  static constexpr float kHeadroom = 16.0f;
  // A term below 2^kFloor (times 2^K) is 0: there the shifted exponent itself is 0. This is far below every result. See
  // LeastPower, too.
  static constexpr float kFloor = -kBias;
};

template <>
struct ExpConstants<double> {
  static constexpr double kHuge = 0x1.fffffffffffffp1023;
  static constexpr double kDirectLimit = 0x1p19;
  static constexpr double kLog2e = 0x1.71547652b82fep+0;
  // ln2_hi has 32 bits, so that k * ln2_hi is exact for |k| < 2^21.
  static constexpr double kLn2Hi = 0x1.62e42feep-1;
  static constexpr double kLn2Lo = 0x1.a39ef35793c76p-33;
  static constexpr double kLn2 = 0x1.62e42fefa39efp-1;
  static constexpr double kRoundingMagic = 0x1.8p52;
  static constexpr double kScale = 0x1p128, kUnscale = 0x1p-128;
  static constexpr double kBias = 1023.0 + 128.0;
  static constexpr double kHeadroom = 16.0;
  static constexpr double kFloor = -kBias;
};

// The reduction of x: to the nearest multiple of a step, ln(2) / kNodes, and a remainder r. exp(r) = 1 + r (1 + r (c2 +
// r (...))) is minimax on |r| <= step / 2; coefficients are stored from the highest down.
//
// With kCoarse, k step is subtracted in one piece, and the polynomial is shorter: accurate enough for results of 16
// bits or, in double, for sums of floats whose weights cancel.
template <class T, int kNodes, bool kCoarse = false>
struct ExpReduction;

template <>
struct ExpReduction<float, 1> {
  static constexpr bool kIsCoarse = false;
  using C = ExpConstants<float>;
  static constexpr float kInverseStep = C::kLog2e, kStepHi = C::kLn2Hi, kStepLo = C::kLn2Lo;
  // Relative error 3.2e-9.
  static constexpr float kPoly[] = {0x1.6ab89ep-10f, 0x1.123d70p-7f, 0x1.55585ap-5f, 0x1.55548cp-3f, 0x1.fffffcp-2f};
};

template <>
struct ExpReduction<double, 1> {
  static constexpr bool kIsCoarse = false;
  using C = ExpConstants<double>;
  static constexpr double kInverseStep = C::kLog2e, kStepHi = C::kLn2Hi, kStepLo = C::kLn2Lo;
  // Relative error 9.7e-18.
  static constexpr double kPoly[] = {
      0x1.ad7f02ab63935p-26, 0x1.28adce7339679p-22, 0x1.71df262c451e1p-19, 0x1.a01999adcb23bp-16, 0x1.a01a0129b4612p-13,
      0x1.6c16c1844b01cp-10, 0x1.1111111127e83p-7,  0x1.55555555507f1p-5,  0x1.55555555554f9p-3,  0x1.000000000000ap-1};
};

template <>
struct ExpReduction<float, 1, true> {
  static constexpr bool kIsCoarse = true;
  static constexpr float kInverseStep = ExpConstants<float>::kLog2e, kStep = ExpConstants<float>::kLn2;
  // Relative error 5.3e-6.
  static constexpr float kPoly[] = {0x1.52258ep-5f, 0x1.571cc2p-3f, 0x1.0006b6p-1f};
};

template <>
struct ExpReduction<double, 1, true> {
  static constexpr bool kIsCoarse = true;
  static constexpr double kInverseStep = ExpConstants<double>::kLog2e, kStep = ExpConstants<double>::kLn2;
  // Relative error 5.2e-11.
  static constexpr double kPoly[] = {0x1.9f08a4683e2edp-13, 0x1.6d8cf3e9076a3p-10, 0x1.1112708ee7f7cp-7,
                                     0x1.55548dd8abad8p-5,  0x1.55555443662b9p-3,  0x1.0000003a1ac57p-1};
};

// With a table of the powers between 1 and 2 (Tang, ACM TOMS 15(2), 1989), for vectors that can look one up: kPower[i] is
// kScale * 2^(i / kNodes), and kRest[i] its rounding error. Here k counts units of ln(2), in multiples of 1 / kNodes: so
// many bits after the binary point are left by adding kMagic. A fused multiply-add keeps k * kStepHi exact.
template <>
struct ExpReduction<float, 16> {
  static constexpr bool kIsCoarse = false;
  using C = ExpConstants<float>;
  static constexpr float kMagic = 0x1.8p19f, kInverseStep = C::kLog2e, kStepHi = C::kLn2Hi, kStepLo = C::kLn2Lo;
  // Relative error 1.6e-9.
  static constexpr float kPoly[] = {0x1.55559ap-3f, 0x1.00021ep-1f};
  alignas(64) static constexpr float kPower[] = {0x1.000000p+64f, 0x1.0b5586p+64f, 0x1.172b84p+64f, 0x1.2387a6p+64f,
                                                 0x1.306fe0p+64f, 0x1.3dea64p+64f, 0x1.4bfdaep+64f, 0x1.5ab07ep+64f,
                                                 0x1.6a09e6p+64f, 0x1.7a1148p+64f, 0x1.8ace54p+64f, 0x1.9c4918p+64f,
                                                 0x1.ae89fap+64f, 0x1.c199bep+64f, 0x1.d5818ep+64f, 0x1.ea4afap+64f};
  alignas(64) static constexpr float kRest[] = {0.0f,
                                                0x1.9f3122p+39f,
                                                -0x1.c15742p+37f,
                                                0x1.ceac48p+39f,
                                                0x1.4636e2p+39f,
                                                0x1.824684p+39f,
                                                -0x1.593abcp+39f,
                                                -0x1.5bd5ecp+37f,
                                                0x1.9fcef4p+38f,
                                                -0x1.829fd0p+39f,
                                                0x1.15506ep+37f,
                                                0x1.51f848p+37f,
                                                -0x1.a94b14p+38f,
                                                -0x1.3d56b2p+37f,
                                                -0x1.822dbcp+37f,
                                                0x1.52486cp+37f};
};

template <>
struct ExpReduction<float, 16, true> {
  static constexpr bool kIsCoarse = true;
  using C = ExpConstants<float>;
  static constexpr float kMagic = 0x1.8p19f, kInverseStep = C::kLog2e, kStep = C::kLn2;
  // Relative error 1.7e-6.
  static constexpr float kPoly[] = {0x1.fff0ap-2f};
};

template <>
struct ExpReduction<double, 8> {
  static constexpr bool kIsCoarse = false;
  static constexpr double kMagic = 0x1.8p49, kInverseStep = ExpConstants<double>::kLog2e, kStepHi = 0x1.62e42ffp-1,
                          kStepLo = -0x1.718432a1b0e26p-35;
  // Relative error 2.9e-18.
  static constexpr double kPoly[] = {0x1.a01639d835982p-13, 0x1.6c1cbd7ece99bp-10, 0x1.11111125d869bp-7,
                                     0x1.555555480ec43p-5,  0x1.5555555555131p-3,  0x1.000000000010bp-1};
  alignas(64) static constexpr double kPower[] = {0x1p+128,
                                                  0x1.172b83c7d517bp+128,
                                                  0x1.306fe0a31b715p+128,
                                                  0x1.4bfdad5362a27p+128,
                                                  0x1.6a09e667f3bcdp+128,
                                                  0x1.8ace5422aa0dbp+128,
                                                  0x1.ae89f995ad3adp+128,
                                                  0x1.d5818dcfba487p+128};
  alignas(64) static constexpr double kRest[] = {0.0,
                                                 -0x1.19041b9d78a76p+73,
                                                 0x1.6f46ad23182e4p+73,
                                                 0x1.d4397afec42e2p+72,
                                                 -0x1.bdd3413b26456p+74,
                                                 0x1.6e9f156864b27p+74,
                                                 0x1.7a1cd345dcc81p+74,
                                                 0x1.2ed02d75b3707p+73};
};

template <>
struct ExpReduction<double, 8, true> {
  static constexpr bool kIsCoarse = true;
  using C = ExpConstants<double>;
  static constexpr double kMagic = 0x1.8p49, kInverseStep = C::kLog2e, kStep = C::kLn2;
  // Relative error 1.7e-10.
  static constexpr double kPoly[] = {0x1.5548424e08229p-5, 0x1.555c75a134b95p-3, 0x1.0000006d86fffp-1};
};

}  // namespace
}  // namespace boltzmax
