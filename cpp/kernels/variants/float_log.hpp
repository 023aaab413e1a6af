// Logarithms of floats.
#pragma once

#include "bits.hpp"

namespace boltzmax::kernels {
namespace {

// All functions take blocks of vectors, whose chains of instructions alternate: see isa/block.hpp.
template <size_t U>
using Floats = Block<F32, U>;

// v = m 2^e with m from 2/3 to 4/3; e is in units of 2^-23.
template <size_t U>
struct SplitFloats {
  Floats<U> exponent, m;

  explicit SplitFloats(const Floats<U>& v) {
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < U; ++u) {
      const Bits32 bits = BitsOf(v.part[u]), e = And(bits - SetBits(0x3f2aaaab), SetBits(0xff800000));
      exponent.part[u] = ToFloat(e);
      m.part[u] = FloatOf(bits - e);
    }
  }
};

// log(1 + f). Max error 1.5 ULP, valid for f from -1/3 to 1/3: f + f^2 Q(f), with a minimax Q.
template <size_t U>
inline Floats<U> LogSeries(const Floats<U>& f) {
  constexpr float kPoly[] = {0x1.265df0p-3f, -0x1.3ace30p-3f, 0x1.1d1adep-3f, -0x1.504658p-3f,
                             0x1.99edb0p-3f, -0x1.0013dep-2f, 0x1.5554bep-2f, -0x1.ffffd8p-2f};
  Floats<U> q = Set<F32>(kPoly[0]);
  BOLTZMAX_UNROLL
  for (size_t i = 1; i < sizeof kPoly / sizeof kPoly[0]; ++i) q = MulAdd(q, f, Floats<U>(Set<F32>(kPoly[i])));
  return MulAdd(f * f, q, f);
}
inline constexpr float kLn2OfUnit = 0x1.62e430p-24f;  // of exponents in units of 2^-23

// log(2^e (1 + f)). Max error 1.5 ULP.
template <size_t U>
inline Floats<U> LogOf(const Floats<U>& exponent, const Floats<U>& f) {
  return MulAdd(exponent, Floats<U>(Set<F32>(kLn2OfUnit)), LogSeries(f));
}

}  // namespace
}  // namespace boltzmax::kernels
