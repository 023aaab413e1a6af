// Gradients of softmax and log_softmax, from the gradient dy of the result y.
//
//     softmax:      dx = y * (dy - sum(dy * y))
//     log_softmax:  dx = dy - exp(y) * sum(dy)
#pragma once

#include "exp.hpp"
#include "passes.hpp"

namespace boltzmax::kernels {
namespace {

template <class S>
BOLTZMAX_KERNEL inline Sum SoftmaxBackwardReduce(const S* dy, const S* y, size_t n) {
  using V = VecOf<S>;
  return SumOver<V>(
      n, [&](size_t i, auto lanes) { return LoadLanes<V>(dy + i, lanes, 0) * LoadLanes<V>(y + i, lanes, 0); });
}

template <class S>
BOLTZMAX_KERNEL inline void SoftmaxBackwardMap(const S* dy, const S* y, S* dx, size_t n, const Sum& dot) {
  using V = VecOf<S>;
  const V d = Set<V>(static_cast<Compute<S>>(dot.hi));
  ForEachBlock<V, 4>(n, [&](size_t i, auto lanes) {
    StoreLanes(dx + i, LoadLanes<V>(y + i, lanes, 0) * (LoadLanes<V>(dy + i, lanes, 0) - d), lanes);
  });
}

template <class S>
BOLTZMAX_KERNEL inline Sum LogSoftmaxBackwardReduce(const S* dy, const S*, size_t n) {
  using V = VecOf<S>;
  return SumOver<V>(n, [&](size_t i, auto lanes) { return LoadLanes<V>(dy + i, lanes, 0); });
}

template <class S>
BOLTZMAX_KERNEL inline void LogSoftmaxBackwardMap(const S* dy, const S* y, S* dx, size_t n, const Sum& sum) {
  using V = VecOf<S>;
  using T = Compute<S>;
  const ExpShift<V, false> shift(Set<V>(T(0)), MakeTemperature<V>(1.0));
  const V s = Set<V>(static_cast<T>(sum.hi)), unscale = Set<V>(static_cast<T>(ExpConstants<T>::kUnscale));
  // ScaledExp holds exp(40) and a little more; a log-probability is at most 0.
  const V limit = Set<V>(T(40)), nan = Set<V>(static_cast<T>(__builtin_nanf("")));
  ForEachBlock<V, 4>(n, [&](size_t i, auto lanes) {
    const auto log_p = LoadLanes<V>(y + i, lanes, 0);
    const auto p = IfThenElse(Lt(log_p, limit), ScaledExp(log_p, shift) * unscale, nan);
    StoreLanes(dx + i, NegMulAdd(p, s, LoadLanes<V>(dy + i, lanes, 0)), lanes);
  });
}

}  // namespace
}  // namespace boltzmax::kernels
