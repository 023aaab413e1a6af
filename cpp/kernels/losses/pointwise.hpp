// Losses of single numbers, with their gradients: the binary cross-entropy of logits, and the Kullback-Leibler
// divergence from log-probabilities.
//
// Max error of the binary cross-entropy 2.24 ULP (2.6 ULP without FMA), of its derivative 2.41 ULP, valid for one float
// without weights, 2^-30 <= |x| <= 104 and labels in [0, 1]: there no element is a difference of larger ones. A
// divergence from probabilities is such a difference, and is computed in double.
//
// Sums are taken element by element, floats in doubles and doubles in pairs: trees of four floats might overflow.
#pragma once

#include "../math/wide_block.hpp"
#include "../pointwise_table.hpp"
#include "../rows/passes.hpp"

namespace boltzmax::kernels {
namespace {

// ---- binary cross-entropy ----

// Q of log1p(e) = e + e^2 Q(e), by Chebyshev on [0, 1], highest first. Relative error of the whole: 3.2e-8 and 4.2e-17.
template <class T>
struct Log1pPoly;
template <>
struct Log1pPoly<float> {
  static constexpr float kTerms[] = {-0x1.24b298p-8f, 0x1.9d455ap-6f,  -0x1.11708cp-4f, 0x1.d992bcp-4f, -0x1.448ee2p-3f,
                                     0x1.969cb2p-3f,  -0x1.ffb95cp-3f, 0x1.55540cp-2f,  -0x1.fffffep-2f};
};
template <>
struct Log1pPoly<double> {
  static constexpr double kTerms[] = {-0x1.80d9a3ccbf91fp-16, 0x1.162ed8469e3cap-12, -0x1.7dec9249c0d6p-10,
                                      0x1.4cfe8d6ef2506p-8,   -0x1.a1350510338a4p-7, 0x1.9467cbf5e4b32p-6,
                                      -0x1.40832de4ea7fp-5,   0x1.b401d10b0a3fbp-5,  -0x1.0a677de2654e4p-4,
                                      0x1.30f090840e956p-4,   -0x1.522c60f86b9c8p-4, 0x1.7395166f619e2p-4,
                                      -0x1.99730ed878462p-4,  0x1.c716c84fc063fp-4,  -0x1.ffff6260f597p-4,
                                      0x1.2492430c8c061p-3,   -0x1.5555550459f81p-3, 0x1.999999970365cp-3,
                                      -0x1.fffffffff4bedp-3,  0x1.55555555554b9p-2,  -0x1p-1};
};

// log(1 + e) for e in [0, 1]; keeps all the digits even of a tiny e.
template <class V, class B>
inline B Log1pOfTail(const B& e) {
  constexpr auto& kTerms = Log1pPoly<typename V::Scalar>::kTerms;
  B q = Set<V>(kTerms[0]);
  BOLTZMAX_UNROLL
  for (size_t k = 1; k < sizeof(kTerms) / sizeof(kTerms[0]); ++k) q = MulAdd(q, e, B(Set<V>(kTerms[k])));
  return MulAdd(q * e, e, e);
}

// exp(x) for x <= 0.
template <class V>
struct Decay {
  DirectShift<V, ReductionOf<V>> shift{ExpShift<V, false>(Set<V>(0), MakeTemperature<V>(1.0))};

  template <class B>
  B operator()(const B& x) const {
    return ScaledExp(x, shift) * B(Set<V>(static_cast<typename V::Scalar>(ExpConstants<typename V::Scalar>::kUnscale)));
  }
};

// share * size, but 0 where the share is 0, even if the size is infinite; NaN stays NaN.
template <class V, class B>
inline B ShareOf(const B& share, const B& size) {
  const B infinity = Set<V>(static_cast<typename V::Scalar>(__builtin_inff()));
  const B counted = IfThenElse(Eq(size, infinity), B(Set<V>(1)), size);
  return share * IfThenElse(Eq(share, B(Set<V>(0))), counted, size);
}

// With a the share of true, b that of false, and e = exp(-|x|):
//
//     loss = -a log sigma(x) - b log sigma(-x) = (a + b) log1p(e) + (x < 0 ? a : b) |x|
//     gradient = b sigma(x) - a sigma(-x) = (x < 0 ? b e - a : b - a e) / (1 + e)
template <class S>
BOLTZMAX_KERNEL inline Sum BinaryCrossEntropy(const PointPiece& piece) {
  using V = VecOf<S>;
  using T = Compute<S>;
  const S *x = static_cast<const S*>(piece.x), *target = static_cast<const S*>(piece.target);
  const S *weight = static_cast<const S*>(piece.weight), *pos_weight = static_cast<const S*>(piece.pos_weight);
  T* loss = static_cast<T*>(piece.loss);
  S* gradient = static_cast<S*>(piece.gradient);
  const V divisor = Set<V>(static_cast<T>(piece.divisor));
  const Decay<V> decay;
  WideSum<V> sum;
  ForEachBlock<V, V::kUnroll>(piece.n, [&](size_t i, auto lanes) {
    using B = Block<V, decltype(lanes)::kVectors>;
    const B zero = Set<V>(0), one = Set<V>(1);
    const B logit = LoadLanes<V>(x + i, lanes, T(0));
    B a = LoadLanes<V>(target + i, lanes, T(0)), b = one - a;
    if (pos_weight != nullptr) a = a * LoadLanes<V>(pos_weight + i, lanes, T(0));
    if (weight != nullptr) {
      const B w = LoadLanes<V>(weight + i, lanes, T(0));
      a = a * w;
      b = b * w;
    }
    const auto is_negative = Lt(logit, zero);
    const B size = Max(logit, zero - logit), e = decay(zero - size);
    const B linear = ShareOf<V>(IfThenElse(is_negative, a, b), size);
    const B each = ZeroBeyond(MulAdd(a + b, Log1pOfTail<V>(e), linear), lanes);
    AddEach(&sum, each);
    if (loss != nullptr) StoreLanes(loss + i, each, lanes);
    if (gradient != nullptr) {
      const B slope = IfThenElse(is_negative, MulAdd(b, e, zero - a), NegMulAdd(a, e, b));
      StoreLanes(gradient + i, slope / ((one + e) * B(divisor)), lanes);
    }
  });
  return sum.Total();
}

// ---- Kullback-Leibler divergence ----

// log p - log q for a finite p > 0 of type T. Computed in double, and added up from the largest part, j ln 2, down, so
// that a small difference of large logarithms keeps its digits.
template <class T, class D>
inline D LogRatio(const D& p, const D& log_q) {
  D normal = p, exponent = Const(0);
  if constexpr (sizeof(T) == sizeof(double)) {  // a subnormal float is a normal double
    const auto is_subnormal = Lt(p, D(Const(0x1p-1022)));
    normal = IfThenElse(is_subnormal, p * D(Const(0x1p54)), p);
    exponent = IfThenElse(is_subnormal, D(Const(-54.0)), D(Const(0.0)));
  }
  const auto parts = LogPartsOf<float>(normal, D(Const(0)), exponent);  // accurate to double
  const D s = parts.f / (D(Const(2)) + parts.f), z = s * s;
  return (parts.base - log_q) + (MulAdd(s * z, AtanhPoly<double>(z), s + s) + parts.extra);
}

// loss = p (log p - log q), 0 where p = 0; gradient = -p. In double, since the difference may cancel.
template <class S>
BOLTZMAX_KERNEL inline Sum Divergence(const PointPiece& piece) {
  using V = VecOf<S>;
  using T = Compute<S>;
  constexpr size_t kVectors = 4 * F64::kLanes / V::kLanes;  // more would not stay in registers
  const S *x = static_cast<const S*>(piece.x), *target = static_cast<const S*>(piece.target);
  T* loss = static_cast<T*>(piece.loss);
  S* gradient = static_cast<S*>(piece.gradient);
  const V divisor = Set<V>(static_cast<T>(piece.divisor));
  WideSum<V> sum;
  ForEachBlock<V, kVectors>(piece.n, [&](size_t i, auto lanes) {
    using B = Block<V, decltype(lanes)::kVectors>;
    const B truth = LoadLanes<V>(target + i, lanes, T(0));
    const auto p = InDouble(truth), log_q = InDouble(LoadLanes<V>(x + i, lanes, T(0)));
    using D = decltype(InDouble(truth));
    const D zero = Const(0), infinity = Const(__builtin_inf()), nan = Const(__builtin_nan(""));
    const D nothing = IfThenElse(Eq(log_q, log_q), zero, nan);
    const D ratio = IfThenElse(Lt(p, infinity), LogRatio<T>(p, log_q), p - log_q);
    const D each = IfThenElse(Lt(zero, p), p * ratio, IfThenElse(Eq(p, zero), nothing, nan));
    AddWide(&sum, each);
    if (loss != nullptr) StoreLanes(loss + i, Rounded<V>(each), lanes);
    if (gradient != nullptr) StoreLanes(gradient + i, (B(Set<V>(0)) - truth) / B(divisor), lanes);
  });
  return sum.Total();
}

// The range of exp(x). Up to kMost, ScaledExp holds exp(x) for a row whose maximum is 0. Beyond, up to infinity, exp(x)
// = exp(x - kStep) exp(kStep), where x - kStep is exact.
template <class T>
struct ExpRange;
template <>
struct ExpRange<float> {
  static constexpr float kMost = 40.0f, kStep = 50.0f, kExpOfStep = 0x1.19103ep+72f;
};
template <>
struct ExpRange<double> {
  static constexpr double kMost = 600.0, kStep = 300.0, kExpOfStep = 0x1.c05c0a7166b4ap+432;
};

template <class V, class B>
inline B ExpOfAny(const B& x, const Decay<V>& exp) {
  using R = ExpRange<typename V::Scalar>;
  const B most = Set<V>(R::kMost);
  const auto is_huge = Lt(most, x);
  const B near = IfThenElse(is_huge, x - B(Set<V>(R::kStep)), x);
  const B e = exp(IfThenElse(Lt(most, near), most, near));
  return IfThenElse(is_huge, e * B(Set<V>(R::kExpOfStep)), e);
}

// The divergence from log-probabilities: target is log p.
template <class S>
BOLTZMAX_KERNEL inline Sum DivergenceOfLogs(const PointPiece& piece) {
  using V = VecOf<S>;
  using T = Compute<S>;
  const S *x = static_cast<const S*>(piece.x), *target = static_cast<const S*>(piece.target);
  T* loss = static_cast<T*>(piece.loss);
  S* gradient = static_cast<S*>(piece.gradient);
  const V divisor = Set<V>(static_cast<T>(piece.divisor));
  const Decay<V> exp;
  WideSum<V> sum;
  ForEachBlock<V, V::kUnroll>(piece.n, [&](size_t i, auto lanes) {
    using B = Block<V, decltype(lanes)::kVectors>;
    const B zero = Set<V>(0);
    const B log_q = LoadLanes<V>(x + i, lanes, T(0));
    const B log_p = LoadLanes<V>(target + i, lanes, -static_cast<T>(__builtin_inff()));
    const B p = ExpOfAny<V>(log_p, exp);
    const B each = IfThenElse(Eq(p, zero), IfThenElse(Eq(log_q, log_q), zero, log_q), p * (log_p - log_q));
    AddEach(&sum, each);
    if (loss != nullptr) StoreLanes(loss + i, each, lanes);
    if (gradient != nullptr) StoreLanes(gradient + i, (zero - p) / B(divisor), lanes);
  });
  return sum.Total();
}

template <class S>
constexpr PointKernels kPointKernels = {BinaryCrossEntropy<S>, Divergence<S>, DivergenceOfLogs<S>};

}  // namespace
}  // namespace boltzmax::kernels
