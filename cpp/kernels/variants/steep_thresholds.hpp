// The thresholds of alpha-entmax with alpha above 2.
#pragma once

#include "thresholds.hpp"

namespace boltzmax::kernels {
namespace {

// The powers are concave in q, steep at the edge of the support, and 1/b is so small that an element just above t can
// have any probability. So t is measured from the smallest element of the support, a:
//
//     p = (c (x - a) + v^b)^(1/b),   c = b / T
//
// where v, the probability of a, solves a convex equation. The support has the elements x >= a for which those above a
// alone do not add up to one with t at a.
//
// SteepPowers is p = unit w^(1/b) with w = (c (x - a) + v^b) / unit^b. Where v^b is not small, unit is v, and w is near 1
// for all elements of about the same probability; otherwise it is 1. D is a vector or a block of doubles, as above.
template <class T, class D>
struct SteepPowers {
  D least, inverse_b, b_less_one, v, scale, w_least, u_least, unit, log_ratio;  // log_ratio = log(v / unit)
  Exponential exp;

  SteepPowers() = default;
  SteepPowers(const D& a, const D& b, const D& c, const D& of_least) : least(a), v(of_least) {
    const D zero = Const(0), one = Const(1);
    const auto is_positive = Lt(zero, v);
    const D log_v = LogOf<double>(IfThenElse(is_positive, v, one)),
            power = IfThenElse(is_positive, exp(b * log_v), zero);
    const auto is_small = Lt(power, D(Const(0x1p-20)));
    inverse_b = one / b;
    b_less_one = b - one;
    scale = IfThenElse(is_small, c, c / power);
    w_least = IfThenElse(is_small, power, one);
    u_least = IfThenElse(is_small, power - one, zero);
    unit = IfThenElse(is_small, one, v);
    log_ratio = IfThenElse(is_small, log_v, zero);
  }

  // The same with every number replaced by f of it.
  template <class F>
  auto Map(F f) const {
    SteepPowers<T, decltype(f(least))> result;
    result.least = f(least);
    result.inverse_b = f(inverse_b);
    result.b_less_one = f(b_less_one);
    result.v = f(v);
    result.scale = f(scale);
    result.w_least = f(w_least);
    result.u_least = f(u_least);
    result.unit = f(unit);
    result.log_ratio = f(log_ratio);
    return result;
  }

  template <class B>
  B operator()(const B& x, B* slope) const {
    const B d = Max(B(Const(-1)), x - B(least)), s = scale, zero = Const(0);
    const auto outside = Lt(d, zero), is_least = Eq(d, zero);
    const B log_p = LogOf<T>(MulAdd(d, s, B(w_least)), MulAdd(d, s, B(u_least))) * B(inverse_b);
    const B steep = exp((B(log_ratio) - log_p) * B(b_less_one));
    *slope = IfThenElse(outside, zero, IfThenElse(is_least, B(Const(1)), steep));
    const B p = IfThenElse(is_least, B(v), exp(log_p) * B(unit));
    return IfThenElse(outside, zero, p) + (d - d);  // NaN, if x is NaN
  }
};

template <class V>
class SteepThreshold {
 public:
  using T = typename V::Scalar;

  SteepThreshold(double alpha, double temperature, T max)
      : b_(alpha - 1.0), c_((alpha - 1.0) / temperature), max_(static_cast<double>(max)), least_(max_), v_(1.0) {}

  BOLTZMAX_KERNEL void Solve(const T* x, size_t n, int = kMostSteps) {
    FindLeast(x, n);
    v_ = 1.0 - SumAbove(x, n, least_);
    for (int step = 0; step < kMostSteps && v_ > 0; ++step) {
      const Powers powers = MakePowers(least_, v_);
      WideSum<V> sum, slopes;
      ForEachBlock<V, kTogether<V>>(n, [&](size_t i, auto lanes) {
        WideBlock<V, lanes.kVectors> slope;
        AddWide(&sum, powers(InDouble(LoadUpTo<V>(x + i, lanes)), &slope));
        AddWide(&slopes, slope);
      });
      const Sum total = sum.Total();
      const double moved = ((total.hi - 1.0) + total.lo) / slopes.Total().hi;
      v_ -= moved;
      if (!(moved > 0x1p-30 * v_)) break;
    }
    if (v_ < 0) v_ = 0;
  }

  bool SolveWhole(const T*, size_t) { return false; }
  bool IsNan() const { return v_ != v_; }
  V Bound() const { return BoundOf<V>(max_, max_ - least_ + (v_ > 0 ? ExpOf(b_ * LogOf(v_)) : 0.0) / c_); }

  template <size_t U>
  Block<V, U> operator()(const Block<V, U>& x) const {
    WideBlock<V, U> slope;
    return Rounded<V>(MakePowers(least_, v_)(InDouble(x), &slope));
  }

 private:
  using Powers = SteepPowers<T, F64>;
  Powers MakePowers(double least, double v) const { return {Const(least), Const(b_), Const(c_), Const(v)}; }

  // The sum of p with t at a, an element.
  BOLTZMAX_KERNEL double SumAbove(const T* x, size_t n, double a) const {
    const Powers powers = MakePowers(a, 0.0);
    WideSum<V> sum;
    ForEachBlock<V, kTogether<V>>(n, [&](size_t i, auto lanes) {
      WideBlock<V, lanes.kVectors> slope;
      AddWide(&sum, powers(InDouble(LoadUpTo<V>(x + i, lanes)), &slope));
    });
    const Sum total = sum.Total();
    return total.hi + total.lo;
  }
  double LargestBelow(const T* x, size_t n, double limit) const {
    const V lowest = Set<V>(-static_cast<T>(__builtin_inff())), bound = Set<V>(static_cast<T>(limit));
    return static_cast<double>(MaxOver<V>(n, [&](size_t i, auto lanes) {
      const auto v = LoadUpTo<V>(x + i, lanes);
      return IfThenElse(Lt(v, decltype(v)(bound)), v, decltype(v)(lowest));
    }));
  }
  double SmallestFrom(const T* x, size_t n, double limit) const {
    const V lowest = Set<V>(-static_cast<T>(__builtin_inff())), bound = Set<V>(static_cast<T>(limit));
    return -static_cast<double>(MaxOver<V>(n, [&](size_t i, auto lanes) {
      const auto v = LoadUpTo<V>(x + i, lanes);
      using B = decltype(v);
      return IfThenElse(Lt(v, B(bound)), B(lowest), B(Set<V>(T(0))) - v);
    }));
  }

  // Bisects the interval of values, in which the sum changes from at least one to less, until it holds no element.
  void FindLeast(const T* x, size_t n) {
    double low = max_ - 1.0 / c_, high = max_;
    for (double at = SmallestFrom(x, n, low); low < high;) {
      (SumAbove(x, n, at) < 1.0 ? high : low) = at;
      const double below = LargestBelow(x, n, high);
      if (!(below > low)) break;
      const double above = SmallestFrom(x, n, low + (high - low) * 0.5);
      at = above < high && above > low ? above : below;
    }
    least_ = high;
  }

  double b_, c_, max_, least_, v_;
};

}  // namespace
}  // namespace boltzmax::kernels
