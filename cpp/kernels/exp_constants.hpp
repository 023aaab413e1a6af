// The numbers behind exp: see exp.hpp for how they are used. Hexadecimal, so that they are what they are.
#pragma once

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
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits of the mantissa.
  static constexpr float kRoundingMagic = 0x1.8p23f;
  // ScaledExp is 2^kScaleExponent times the bracket of exp.hpp: terms that are subnormal next to the largest keep their
  // digits, and nothing on the way is subnormal.
  static constexpr double kScale = 0x1p64, kUnscale = 0x1p-64;
  static constexpr float kBias = 127.0f + 64.0f;
  // How far x may rise above what an ExpShift was made for before sums or their reciprocals leave the range.
  static constexpr float kHeadroom = 16.0f;
  // A term below 2^kFloor (times 2^K) is 0: at that power the shifted exponent is 0 itself. Far below every result.
  static constexpr float kFloor = -kBias;
  // exp(r) = 1 + r (1 + r (c2 + r (...))): minimax on |r| <= ln(2)/2, relative error 3.2e-9.
  static constexpr float kPoly[] = {0x1.6ab89ep-10f, 0x1.123d70p-7f, 0x1.55585ap-5f, 0x1.55548cp-3f, 0x1.fffffcp-2f};
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
  // Relative error 9.7e-18.
  static constexpr double kPoly[] = {
      0x1.ad7f02ab63935p-26, 0x1.28adce7339679p-22, 0x1.71df262c451e1p-19, 0x1.a01999adcb23bp-16, 0x1.a01a0129b4612p-13,
      0x1.6c16c1844b01cp-10, 0x1.1111111127e83p-7,  0x1.55555555507f1p-5,  0x1.55555555554f9p-3,  0x1.000000000000ap-1};
};

}  // namespace
}  // namespace boltzmax
