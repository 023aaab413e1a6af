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
  // A term below 2^kFloor (times 2^K) is 0: there the shifted exponent itself is 0. This is far below every result.
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

// With a table of the powers between 1 and 2 (Tang, ACM TOMS 15(2), 1989), for vectors that can look one up. kPower[i]
// holds the bits of 2^(i / kNodes), less those of 1 and of the i that is added with the exponent; kRest[i] is the
// rounding error of that power, relative to it. A fused multiply-add keeps k * kStepHi exact.
template <>
struct ExpReduction<float, 16> {
  static constexpr bool kIsCoarse = false;
  static constexpr float kInverseStep = 0x1.715476p+4f, kStepHi = 0x1.62ep-5f, kStepLo = 0x1.0bfbe8p-19f;
  // Relative error 1.6e-9.
  static constexpr float kPoly[] = {0x1.55559ap-3f, 0x1.00021ep-1f};
  alignas(64) static constexpr uint32_t kPower[] = {
      0,          0xfffdaac3, 0xfffb95c2, 0xfff9c3d3, 0xfff837f0, 0xfff6f532, 0xfff5fed7, 0xfff5583f,
      0xfff504f3, 0xfff508a4, 0xfff5672a, 0xfff6248c, 0xfff744fd, 0xfff8ccdf, 0xfffac0c7, 0xfffd257d};
  alignas(64) static constexpr float kRest[] = {0.0f,
                                                0x1.8d96d4p-25f,
                                                -0x1.9c0c22p-27f,
                                                0x1.964904p-25f,
                                                0x1.125002p-25f,
                                                0x1.370be4p-25f,
                                                -0x1.0a3550p-25f,
                                                -0x1.00d8acp-27f,
                                                0x1.26055cp-26f,
                                                -0x1.05cb44p-25f,
                                                0x1.67a1cap-28f,
                                                0x1.a3b5e4p-28f,
                                                -0x1.f9c304p-27f,
                                                -0x1.6961b4p-28f,
                                                -0x1.a5217cp-28f,
                                                0x1.61428ep-28f};
};

template <>
struct ExpReduction<float, 16, true> {
  static constexpr bool kIsCoarse = true;
  static constexpr float kInverseStep = 0x1.715476p+4f, kStep = 0x1.62e43p-5f;
  // Relative error 1.7e-6.
  static constexpr float kPoly[] = {0x1.fff0ap-2f};
};

template <>
struct ExpReduction<double, 8> {
  static constexpr bool kIsCoarse = false;
  static constexpr double kInverseStep = 0x1.71547652b82fep+3, kStepHi = 0x1.62e42ffp-4,
                          kStepLo = -0x1.718432a1b0e26p-38;
  // Relative error 2.9e-18.
  static constexpr double kPoly[] = {0x1.a01639d835982p-13, 0x1.6c1cbd7ece99bp-10, 0x1.11111125d869bp-7,
                                     0x1.555555480ec43p-5,  0x1.5555555555131p-3,  0x1.000000000010bp-1};
  alignas(64) static constexpr uint64_t kPower[] = {0,
                                                    0xffff72b83c7d517b,
                                                    0xffff06fe0a31b715,
                                                    0xfffebfdad5362a27,
                                                    0xfffea09e667f3bcd,
                                                    0xfffeace5422aa0db,
                                                    0xfffee89f995ad3ad,
                                                    0xffff5818dcfba487};
  alignas(64) static constexpr double kRest[] = {0.0,
                                                 -0x1.01b15eaa59348p-55,
                                                 0x1.34d754db0abb6p-55,
                                                 0x1.690cebb7aafb0p-56,
                                                 -0x1.3b3efbf5e2228p-54,
                                                 0x1.db72fc1f0eab4p-55,
                                                 0x1.c1a7792cb3387p-55,
                                                 0x1.4a385a63d07a7p-56};
};

template <>
struct ExpReduction<double, 8, true> {
  static constexpr bool kIsCoarse = true;
  static constexpr double kInverseStep = 0x1.71547652b82fep+3, kStep = ExpConstants<double>::kLn2 / 8;
  // Relative error 1.7e-10.
  static constexpr double kPoly[] = {0x1.5548424e08229p-5, 0x1.555c75a134b95p-3, 0x1.0000006d86fffp-1};
};

}  // namespace
}  // namespace boltzmax
