// Exponential, Gumbel and normal variates from uniform numbers, which are given as in ../philox.hpp: s > 0 for w = s,
// s < 0 for w = 1 + s.
//
//     exponential   E = -log(1 - w)      from 2^-65 to 45.06
//     Gumbel        g = -log(E)          from -3.81 to 45.06
//     normal        z = Phi^-1(1 - w)    from -9.21 to 9.21
//
// Max error of a Gumbel variate 2^-21 max(1, |g|) for floats and 2^-51 max(1, |g|) for doubles, valid for all s. Max
// error of a normal one 2^-20 max(1, |z|) and 2^-48 max(1, |z|).
#pragma once

#include "../math/log_sum.hpp"
#include "float_log.hpp"

namespace boltzmax::kernels {
namespace {

template <size_t U>
using Doubles = Block<F64, U>;

// -log(v), valid for normal v > 0.
template <size_t U>
inline Floats<U> NegLog(const Floats<U>& v) {
  const SplitFloats<U> split(v);
  return Floats<U>(Set<F32>(0)) - LogOf(split.exponent, split.m - Floats<U>(Set<F32>(1)));
}
template <size_t U>
inline Doubles<U> SumOf(const LogParts<Doubles<U>>& parts) {
  const Pair<Doubles<U>> sum = Join<double>(parts);
  return sum.hi + sum.lo;
}
template <size_t U>
inline Doubles<U> NegLog(const Doubles<U>& v) {
  const Doubles<U> zero = Const(0);
  return zero - SumOf(LogPartsOf<double>(v, zero, zero));
}

// 1 - w
template <class B>
inline B Complement(const B& s) {
  using V = Vec<typename B::Scalar>;
  const B zero = Set<V>(0), one = Set<V>(1);
  return IfThenElse(Lt(s, zero), zero, one) - s;
}

// A small w is not rounded: log(1 - w) is taken from w itself.
template <size_t U>
inline Floats<U> ExponentialOf(const Floats<U>& s) {
  const Floats<U> zero = Set<F32>(0);
  const SplitFloats<U> split(Complement(s));
  const Floats<U> f = IfThenElse(Eq(split.exponent, zero), zero - s, split.m - Floats<U>(Set<F32>(1)));
  return zero - LogOf(split.exponent, f);
}
template <size_t U>
inline Doubles<U> ExponentialOf(const Doubles<U>& s) {
  const Doubles<U> zero = Const(0);
  LogParts<Doubles<U>> parts = LogPartsOf<double>(Complement(s), zero, zero);
  // Elsewhere than between 0 and 0.29, `near` is 0, and the parts stay.
  const Doubles<U> near = IfThenElse(Lt(s, Doubles<U>(Const(0.29))), Max(s, zero), zero);
  const auto is_far = Eq(near, zero);
  parts.base = IfThenElse(is_far, parts.base, zero);
  parts.f = IfThenElse(is_far, parts.f, zero - near);
  parts.extra = IfThenElse(is_far, parts.extra, zero);
  return zero - SumOf(parts);
}

template <class B>
inline B GumbelOf(const B& s) {
  return NegLog(ExponentialOf(s));
}

template <class B>
inline B Polynomial(const B& x, const double (&c)[8]) {
  using T = typename B::Scalar;
  B p = Set<Vec<T>>(static_cast<T>(c[7]));
  BOLTZMAX_UNROLL
  for (int i = 6; i >= 0; --i) p = MulAdd(p, x, B(Set<Vec<T>>(static_cast<T>(c[i]))));
  return p;
}

// Algorithm AS 241, PPND16 (Wichura, Applied Statistics 37(3), 1988): a quotient of polynomials in q^2 about the
// middle, and in sqrt(-log p) in the tails, where p = |s| and q = 1/2 - p.
struct NormalQuantile {
  static constexpr double kMiddle[2][8] = {
      {3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
       4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3},
      {1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3, 2.1213794301586595867e4,
       3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3}};
  static constexpr double kTails[2][8] = {
      {1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
       1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4},
      {1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1, 1.48103976427480074590e-1,
       1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9}};
  static constexpr double kFarTails[2][8] = {
      {6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0, 2.96560571828504891230e-1,
       2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7},
      {1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2, 7.86869131145613259100e-4,
       1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15}};

  template <class B>
  static B Of(const B& x, const double (&quotient)[2][8]) {
    return Polynomial(x, quotient[0]) / Polynomial(x, quotient[1]);
  }
};

template <class V, size_t U>
inline Block<V, U> NormalOf(const Block<V, U>& s) {
  using B = Block<V, U>;
  const auto set = [](double x) -> B { return Set<V>(static_cast<typename V::Scalar>(x)); };
  const B zero = set(0), p = Max(s, zero - s), q = set(0.5) - p;
  const B middle = q * NormalQuantile::Of(set(0.180625) - q * q, NormalQuantile::kMiddle);
  B r = NegLog(p);
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < U; ++u) r.part[u] = SquareRoot(r.part[u]);
  B size = IfThenElse(Lt(set(0.425), q), NormalQuantile::Of(r - set(1.6), NormalQuantile::kTails), middle);
  const auto is_far = Lt(set(5), r);
  if (Any(is_far)) size = IfThenElse(is_far, NormalQuantile::Of(r - set(5), NormalQuantile::kFarTails), size);
  return IfThenElse(Lt(s, zero), zero - size, size);
}

}  // namespace
}  // namespace boltzmax::kernels
