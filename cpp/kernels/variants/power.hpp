// Logarithms and exponentials in double precision, from which powers are made: w^e = exp(e log w).
#pragma once

#include "../math/wide_block.hpp"

namespace boltzmax::kernels {
namespace {

// log(w), where u is w - 1, perhaps with more digits. Max relative error 2^-52 for T = double, 2^-36 for float, valid
// for normal w > 0. Near 1 it is log1p(u), so that a tiny u keeps its digits.
template <class T, class D>
inline D LogOf(const D& w, const D& u) {
  using C = ExpConstants<double>;
  const D one = Const(1), zero = Const(0);
  D mantissa;
  const D exponent = SplitExponent(w, &mantissa);
  const auto carries = Lt(Const(0x1.6a09e667f3bcdp0), mantissa);
  const D k = exponent + IfThenElse(carries, one, zero);
  const D reduced = IfThenElse(carries, mantissa * Const(0.5), mantissa) - one;
  const Pair<D> l = Log1p<T>(D(IfThenElse(Eq(k, zero), u, reduced)));
  return MulAdd(k, Const(C::kLn2Hi), l.hi) + MulAdd(k, Const(C::kLn2Lo), l.lo);
}
template <class T, class D>
inline D LogOf(const D& w) {
  return LogOf<T>(w, w - Const(1));
}

// exp(v). Max error 1.3 ULP, valid for v <= 600; below -1151 ln 2 it is 0, and NaN stays NaN.
struct Exponential {
  ExpShift<F64, false> shift = ExpShift<F64, false>(Const(0), MakeTemperature<F64>(1.0));

  template <class D>
  D operator()(const D& v) const {
    return ScaledExp(v, DirectShift(shift)) * Const(ExpConstants<double>::kUnscale);
  }
};

inline double LogOf(double w) { return FirstLane(LogOf<double>(Const(w))); }
inline double ExpOf(double v) { return FirstLane(Exponential{}(Const(v))); }

}  // namespace
}  // namespace boltzmax::kernels
