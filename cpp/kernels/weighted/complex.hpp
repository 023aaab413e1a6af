// Sums of complex exponentials, exp(x + i y) = exp(x) (cos y + i sin y).
#pragma once

#include "weighted.hpp"

namespace boltzmax::kernels {
namespace {

template <class B>
struct Complex {
  B re, im;
};

// cos y + i sin y. Max error 2^-52, valid for |y| <= kMostAngle.
//
// y = k pi/2 + r with |r| <= pi/4. Two parts of pi/2 have 33 binary digits and k has 17, so their products are exact
// (Cody & Waite). The polynomials are those of fdlibm's __kernel_cos and __kernel_sin (Sun Microsystems, 1993).
template <class B>
inline Complex<B> Cis(const B& y) {
  constexpr double kPart1 = 0x1.921fb544p+0, kPart2 = 0x1.0b4611a6p-34, kPart3 = 0x1.3198a2e037073p-69;
  constexpr double kMagic = ExpConstants<double>::kRoundingMagic, kTwoByPi = 0x1.45f306dc9c883p-1;
  constexpr double kSin[] = {1.58969099521155010221e-10,  -2.50507602534068634195e-08, 2.75573137070700676789e-06,
                             -1.98412698298579493134e-04, 8.33333333332248946124e-03,  -1.66666666666666324348e-01};
  constexpr double kCos[] = {-1.13596475577881948265e-11, 2.08757232129817482790e-09,  -2.75573143513906633035e-07,
                             2.48015872894767294178e-05,  -1.38888888888741095749e-03, 4.16666666666666019037e-02};
  const B magic = Const(kMagic), one = Const(1), none = Const(0);
  const B k = MulAdd(y, B(Const(kTwoByPi)), magic) - magic;
  B r = NegMulAdd(k, B(Const(kPart1)), y);
  r = NegMulAdd(k, B(Const(kPart2)), r);
  r = NegMulAdd(k, B(Const(kPart3)), r);
  const B z = r * r;
  B p = Const(kSin[0]), q = Const(kCos[0]);
  BOLTZMAX_UNROLL
  for (size_t i = 1; i < 6; ++i) {
    p = MulAdd(p, z, B(Const(kSin[i])));
    q = MulAdd(q, z, B(Const(kCos[i])));
  }
  const B sin = MulAdd(r * z, p, r);
  const B half = z * B(Const(0.5)), head = one - half;
  const B cos = head + MulAdd(z * z, q, (one - head) - half);
  // k mod 4, from -2 to 2: a rotation by that many right angles.
  const B turns = NegMulAdd(MulAdd(k, B(Const(0.25)), magic) - magic, B(Const(4)), k);
  const auto is_odd = Eq(turns * turns, one);
  const B re = IfThenElse(is_odd, sin, cos), im = IfThenElse(is_odd, cos, sin);
  const B low = Const(-1.5), high = Const(1.5), lower = Const(-0.5), upper = Const(0.5);
  return {IfThenElse(Lt(upper, turns), none - re, IfThenElse(Lt(turns, low), none - re, re)),
          IfThenElse(Lt(turns, lower), none - im, IfThenElse(Lt(high, turns), none - im, im))};
}

// If e_re is not null, the exponentials are kept.
BOLTZMAX_KERNEL inline ComplexSum SumComplex(const ComplexPiece& x, double max, double* e_re, double* e_im) {
  using V = Vec<double>;
  constexpr double kUnscale = ExpConstants<double>::kUnscale;
  const ExpShift<V, false> shift(Set<V>(max), MakeTemperature<V>(1.0));
  SignedSum<V> re, im;
  V weights = Set<V>(x.b_re == nullptr ? 1.0 : 0.0);
  ForEachBlock<V, 4>(x.n, [&](size_t i, auto lanes) {
    const auto e = ScaledExp(LoadLanes<V>(x.re + i, lanes, Source<double>::kLowest), shift);
    const auto phase = Cis(LoadLanes<V>(x.im + i, lanes, 0.0));
    auto t_re = e * phase.re, t_im = e * phase.im;
    if (e_re != nullptr) {
      StoreLanes(e_re + i, t_re, lanes);
      StoreLanes(e_im + i, t_im, lanes);
    }
    if (x.b_re != nullptr) {
      const auto b = LoadLanes<V>(x.b_re + i, lanes, 0.0);
      weights = MaxOfSizes(b, weights);
      auto by_re = t_re * b, by_im = t_im * b;
      if (x.b_im != nullptr) {
        const auto c = LoadLanes<V>(x.b_im + i, lanes, 0.0);
        weights = MaxOfSizes(c, weights);
        by_re = NegMulAdd(t_im, c, by_re);
        by_im = MulAdd(t_re, c, by_im);
        // The sizes include terms that cancel within a product.
        re.size = re.size + SumOfSizes(t_im * c);
        im.size = im.size + SumOfSizes(t_re * c);
      }
      t_re = by_re;
      t_im = by_im;
    }
    re.AddSingly(t_re);
    im.AddSingly(t_im);
  });
  const auto unscaled = [](const Sum& sum) { return Sum{sum.hi * kUnscale, sum.lo * kUnscale}; };
  return {FirstLane(shift.offset),
          FirstLane(shift.exponent),
          unscaled(re.sum.Total()),
          unscaled(im.sum.Total()),
          (re.Size() + im.Size()) * kUnscale,
          SizeOfVanished(x.n, ReduceMax(weights)),
          kUnscale};
}

}  // namespace
}  // namespace boltzmax::kernels
