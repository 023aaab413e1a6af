// The logarithm of a mixture of softmaxes, from logits and the logarithms of their weights:
//
//     y_k = log sum_m exp(x_mk + c_m),    c_m = log pi_m - logsumexp(x_m)
#pragma once

#include "scans.hpp"

namespace boltzmax::kernels {
namespace {

// exp(x + c) = weight * exp(x) 2^-K, where K is near that of the row's largest element.
template <class S>
struct Component {
  using T = Compute<S>;
  const S* x;
  double c;
  T unit, floor, weight;
};
inline constexpr size_t kComponentDoubles = 5;  // at most, in scratch memory

template <class S>
struct Mixture {
  using T = Compute<S>;
  using V = Vec<T>;
  using Shift = ExpShift<V, false>;
  const Component<S>* components;
  size_t count;
  bool is_direct;  // no component needs an offset

  // kScale * sum_m exp(x_mk + c_m)
  template <class Lanes>
  auto ScaledSum(size_t k, Lanes lanes) const {
    using B = Block<V, Lanes::kVectors>;
    DirectShift shift(Shift(Set<V>(0), MakeTemperature<V>(1.0)));
    B sum = Set<V>(0);
    for (size_t m = 0; m < count; ++m) {
      const Component<S>& c = components[m];
      shift.unit = Set<V>(c.unit);
      shift.floor = Set<V>(c.floor);
      sum = MulAdd(ScaledExp(LoadLanes<V>(c.x + k, lanes, T(0)), shift), B(Set<V>(c.weight)), sum);
    }
    return sum;
  }
  // The logarithm itself, by way of the largest term: for probabilities that would underflow, and logits far from 0.
  template <class Lanes>
  auto LogOfFar(size_t k, Lanes lanes) const {
    using B = Block<V, Lanes::kVectors>;
    using D = WideBlock<V, Lanes::kVectors>;
    const auto term = [&](size_t m) {
      return InDouble(B(LoadLanes<V>(components[m].x + k, lanes, T(0)))) + D(Const(components[m].c));
    };
    D max = Const(-ExpConstants<double>::kHuge), sum = Const(0);
    for (size_t m = 0; m < count; ++m) max = Max(term(m), max);
    for (size_t m = 0; m < count; ++m) sum = sum + ExpOf(term(m) - max);
    const D none = Const(-__builtin_inf());
    const D y = MulAdd(sum, D(Const(0)), max) + LogOf<T>(Max(D(Const(0x1p-1000)), sum));
    return Rounded<V>(IfThenElse(Eq(sum, D(Const(0))), none, y));
  }
};

template <class S>
inline Mixture<S> MixtureOf(const RowCall& call) {
  using T = Compute<S>;
  using V = Vec<T>;
  const RowBatch& b = call.batch;
  auto* components = static_cast<Component<S>*>(b.scratch);
  size_t count = 0;
  bool is_direct = true;
  for (size_t m = 0; m < b.rows; ++m) {
    const double c = b.temperature[m];
    if (c < -ExpConstants<double>::kHuge) continue;  // a weight of 0
    const bool here = c <= ExpConstants<T>::kDirectLimit && -c <= ExpConstants<T>::kDirectLimit;
    is_direct = is_direct && here;
    const ExpShift<V, false> shift(Set<V>(here ? static_cast<T>(-c) : T(0)), MakeTemperature<V>(1.0));
    const double exponent = static_cast<double>(FirstLane(shift.exponent));
    const double weight = here ? ExpOfNumber(c + exponent * ExpConstants<double>::kLn2) : 0.0;
    components[count++] = {Offset<const S>(b.x, m, b.x_stride), c, FirstLane(shift.unit), FirstLane(shift.floor),
                           static_cast<T>(weight)};
  }
  return {components, count, is_direct};
}

// The batch's rows are the components of one mixture, and their temperatures are c_m. y has one row.
template <class S>
BOLTZMAX_KERNEL inline void MixtureOfRows(const RowCall& call) {
  using T = Compute<S>;
  using V = Vec<T>;
  const Mixture<S> mixture = MixtureOf<S>(call);
  S* y = reinterpret_cast<S*>(call.batch.y);
  constexpr double kTiny = ExpConstants<T>::kScale * 0x1p-60;  // terms below 2^-100 of this may be lost
  ForEachBlock<V, 4>(call.batch.n, [&](size_t k, auto lanes) {
    constexpr size_t U = decltype(lanes)::kVectors;
    if (mixture.is_direct) {
      const auto sum = mixture.ScaledSum(k, lanes);
      if (!Any(Lt(sum, Block<V, U>(Set<V>(static_cast<T>(kTiny)))))) {
        const auto wide = InDouble(sum) * WideBlock<V, U>(Const(ExpConstants<T>::kUnscale));
        const auto zero = WideBlock<V, U>(Const(0));
        return StoreLanes(y + k, Rounded<V>(MulAdd(wide, zero, LogOf<T>(wide))), lanes);
      }
    }
    StoreLanes(y + k, mixture.LogOfFar(k, lanes), lanes);
  });
}

}  // namespace
}  // namespace boltzmax::kernels
