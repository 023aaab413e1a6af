// The weights of taylor_softmax (de Brebisson & Vincent, ICLR 2016), T_n(x / T) with the Taylor polynomial of exp,
// T_n(x) = 1 + x + ... + x^n / n!, and an even n. At temperature 0, the limit, they are x^n; with n = 2 this is
// spherical_softmax.
//
// T_n has no real root, so it is a product of n / 2 positive quadratics,
//
//     T^n n! T_n(x / T) = prod_j [(x - a_j T)^2 + (b_j T)^2]
//
// of which nothing cancels: each factor has an error of about 1.5 ULP for every x. Horner's rule has one multiplication
// less per factor, but for negative x its terms have alternating signs, and cost 7 ULP for n = 2 and thousands for n =
// 12.
//
// A row's x is multiplied by a power of two near 1 / max |x|, which is exact, and then no product overflows.
#pragma once

#include "weights.hpp"

namespace boltzmax::kernels {
namespace {

// The roots a + ib of T_n in the upper half-plane, for n = 2, 4, ..., 12.
struct Root {
  double a, b;
};
inline constexpr size_t kMostFactors = 6;
inline constexpr Root kTaylorRoots[kMostFactors][kMostFactors] = {
    {{-0x1.0000000000000p+0, 0x1.0000000000000p+0}},
    {{-0x1.babcdb6cb110cp+0, 0x1.c727a640d9d04p-1}, {-0x1.150c924d3bbcfp-2, 0x1.409c7f3085d25p+1}},
    {{-0x1.2e4fcbc644034p+1, 0x1.ad3c3f64800e7p-1},
     {-0x1.7119e55bbcd44p+0, 0x1.379e7071de5dep+1},
     {0x1.9b72f9d089b57p-1, 0x1.d94e4a83197acp+1}},
    {{-0x1.7b77ff203364cp+1, 0x1.9e254cd4826d3p-1},
     {-0x1.24a9b6fc10e1dp+1, 0x1.3058db1e3f10ep+1},
     {-0x1.93dcc1e5b770dp-1, 0x1.e2cab21de2142p+1},
     {0x1.0518e695b222cp+1, 0x1.2dfdc94837b7ep+2}},
    {{-0x1.c6e56897fb058p+1, 0x1.942f21998c69ep-1},
     {-0x1.81fd137cf2e73p+1, 0x1.2ae89d88f05c3p+1},
     {-0x1.df251c45fb8f8p+0, 0x1.e29597efcd5f3p+1},
     {0x1.0f295a44f3d77p-4, 0x1.3dee757439a1fp+2},
     {0x1.affbbf65c415bp+1, 0x1.6810b6f19c26ep+2}},
    {{-0x1.08adce2e2d6c4p+2, 0x1.8d13d8f333b29p-1},
     {-0x1.d82dc7bea8660p+1, 0x1.26c0bf0b52bf6p+1},
     {-0x1.6105ca8758410p+1, 0x1.e05381616ef5dp+1},
     {-0x1.3fc6aa5755f1bp+0, 0x1.432be92f48a42p+2},
     {0x1.0dad2bf1282e8p+0, 0x1.83ceb528b5bc7p+2},
     {0x1.31cdf6eab9309p+2, 0x1.9ce012b77cc6cp+2}}};

// 1 / 2^e for the power of two with 2^e <= x < 2^(e+1), as far as it is a normal number.
inline float InversePower(float x) {
  const int32_t e = 254 - static_cast<int32_t>(__builtin_bit_cast(uint32_t, x) >> 23);
  return __builtin_bit_cast(float, (e < 1 ? 1 : (e > 253 ? 253 : e)) << 23);
}
inline double InversePower(double x) {
  const int64_t e = 2046 - static_cast<int64_t>(__builtin_bit_cast(uint64_t, x) >> 52);
  return __builtin_bit_cast(double, (e < 1 ? int64_t{1} : (e > 2045 ? int64_t{2045} : e)) << 52);
}
template <class V>
inline V InversePowers(V x) {
  typename V::Scalar lanes[V::kLanes];
  Store(lanes, x);
  for (auto& lane : lanes) lane = InversePower(lane);
  return Load(lanes);
}

// log(w(x) / sum of w) in double. Every factor is split into exponent and mantissa, so that it is finite even where the
// weight itself would underflow. For a row of one element it is exactly 0.
template <class T>
struct TaylorLogRatio {
  F64 center[kMostFactors], radius[kMostFactors];
  size_t factors = 0;
  F64 log_sum, exponent;  // of the weights without their scale: log(sum) = log_sum + exponent * ln 2

  template <class B>
  B operator()(const B& x) const {
    const B zero = Const(0), one = Const(1);
    B product = one, k = zero - B(exponent);
    auto is_zero = Eq(x, B(Lowest<F64>()));
    for (size_t j = 0; j < factors; ++j) {
      const B d = x - B(center[j]);
      const B square = SumOfSquares(d, B(radius[j]), &k);
      is_zero = Eq(IfThenElse(is_zero, zero, square), zero);
      B mantissa;
      k = k + SplitExponent(IfThenElse(is_zero, one, square), &mantissa);
      product = product * mantissa;
    }
    return IfThenElse(is_zero, B(Lowest<F64>()), LogOf<T>(product, k) - B(log_sum));
  }

 private:
  // (d^2 + r^2) / 2^k, where k is added to *exponent. Squares of numbers beyond 2^400, or of those below 2^-400 if nothing
  // is added, might leave the range; those of floats do not.
  template <class B>
  static B SumOfSquares(const B& d, const B& r, B* exponent) {
    if constexpr (sizeof(T) == sizeof(float)) return MulAdd(d, d, r * r);
    const B zero = Const(0), one = Const(1), size = Max(zero - d, d);
    const auto is_large = Lt(B(Const(0x1p400)), size), is_small = Lt(size + r, B(Const(0x1p-400)));
    const B scale = IfThenElse(is_large, B(Const(0x1p-600)), IfThenElse(is_small, B(Const(0x1p600)), one));
    *exponent = *exponent + IfThenElse(is_large, B(Const(1200)), IfThenElse(is_small, B(Const(-1200)), zero));
    const B u = d * scale, v = r * scale;
    return MulAdd(u, u, v * v);
  }
};

// With kQuadratic, n is 2.
template <class V, bool kQuadratic>
class TaylorWeights {
 public:
  using T = typename V::Scalar;
  using LogSums = F64;

  TaylorWeights(const RowOptions& options, const Temperature<V>& t)
      : factors_(kQuadratic ? 1 : static_cast<size_t>(options.count) / 2), temperature_(t.value) {}

  template <class B>
  static B Size(const B& x) {
    const B zero = Set<V>(0);
    return IfThenElse(Eq(x, B(Lowest<V>())), x, Max(zero - x, x));
  }

  // At temperature 0, a row of zeros is uniform, as at any other.
  void Fit(V size) {
    const V zero = Set<V>(0), largest = Max(size, temperature_);
    const V t = IfThenElse(Lt(zero, largest), temperature_, Set<V>(1));
    scale_ = InversePowers(Max(largest, t));
    for (size_t j = 0; j < Factors(); ++j) {
      const Root& root = kTaylorRoots[Factors() - 1][j];
      center_[j] = Set<V>(static_cast<T>(root.a)) * t;
      radius_[j] = Set<V>(static_cast<T>(root.b)) * t;
      minus_center_[j] = zero - center_[j] * scale_;
      const V radius = radius_[j] * scale_;
      square_[j] = radius * radius;
    }
  }

  template <class B>
  B operator()(const B& x) const {
    B product = Factor(x, 0);
    for (size_t j = 1; j < Factors(); ++j) product = product * Factor(x, j);
    return WhereCounted<V>(x, product);
  }

  // sum_j 2d / (d^2 + b^2) with d = x - a_j, in a form that does not overflow.
  template <class B>
  B Slope(const B& x) const {
    const B zero = Set<V>(0), two = Set<V>(2);
    B sum = zero;
    for (size_t j = 0; j < Factors(); ++j) {
      const B d = x - B(center_[j]), b = radius_[j];
      sum = sum + IfThenElse(Eq(d, zero), zero, two / MulAdd(b, b / d, d));
    }
    // Finite, next to a root of x = 0, too.
    const B most = Set<V>(sizeof(T) == sizeof(float) ? T(0x1p126) : T(0x1p1022));
    return Max(zero - most, zero - Max(zero - most, zero - sum));
  }

  // That of (scale x - c)^2 + r^2 over the scale.
  template <class B>
    requires kQuadratic
  B Derivative(const B& x) const {
    const B u = MulAdd(x, B(scale_), B(minus_center_[0]));
    return WhereCounted<V>(x, B(u + u));
  }
  V Scale() const { return scale_; }

  template <class Result>
  TaylorLogRatio<Result> LogRatioTo(F64 sum, V, F64) const {
    TaylorLogRatio<Result> log = {};
    log.factors = Factors();
    F64 mantissa, ignored;
    log.exponent = SplitExponent(sum, &mantissa);
    log.log_sum = LogOf<Result>(mantissa, Const(0));
    // Every factor was multiplied by scale^2.
    log.exponent = log.exponent - Const(2.0 * static_cast<double>(Factors())) * SplitExponent(scale_, &ignored);
    for (size_t j = 0; j < Factors(); ++j) {
      log.center[j] = center_[j];
      log.radius[j] = radius_[j];
    }
    return log;
  }

 private:
  static constexpr size_t kMost = kQuadratic ? 1 : kMostFactors;
  size_t factors_;
  V temperature_, scale_;
  V center_[kMost], radius_[kMost], minus_center_[kMost], square_[kMost];

  size_t Factors() const { return kQuadratic ? 1 : factors_; }

  template <class B>
  B Factor(const B& x, size_t j) const {
    const B u = MulAdd(x, B(scale_), B(minus_center_[j]));
    return MulAdd(u, u, B(square_[j]));
  }
};

template <class V>
using QuadraticWeights = TaylorWeights<V, true>;
template <class V>
using PolynomialWeights = TaylorWeights<V, false>;

}  // namespace
}  // namespace boltzmax::kernels
