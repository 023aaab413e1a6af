// Rows of one element: a short cut through the operations whose results are known without an exponential.
#pragma once

#include "../panels/for_each_panel.hpp"
#include "../rows/softmax.hpp"

namespace boltzmax::kernels {
namespace {

// The results of an operation.
template <class Operation>
struct ResultOfOne;
template <class S>
struct ResultOfOne<SoftmaxOp<S>> {
  static VecOf<S> Of(VecOf<S> x) { return WhereFinite(x, Set<VecOf<S>>(1)); }
  static VecOf<S> WhereFinite(VecOf<S> x, VecOf<S> y) {
    const VecOf<S> zero = Set<VecOf<S>>(0);
    return IfThenElse(Eq(x - x, zero), y, Set<VecOf<S>>(static_cast<Compute<S>>(__builtin_nanf(""))));
  }
};
template <class S>
struct ResultOfOne<LogSoftmaxOp<S>> {
  static VecOf<S> Of(VecOf<S> x) { return ResultOfOne<SoftmaxOp<S>>::WhereFinite(x, Set<VecOf<S>>(0)); }
};
template <class S>
struct ResultOfOne<LogSumExpOp<S>> {
  // -0 becomes 0, as by the addition of a logarithm.
  static VecOf<S> Of(VecOf<S> x) {
    return IfThenElse(Eq(x, x), x + Set<VecOf<S>>(0), Set<VecOf<S>>(static_cast<Compute<S>>(__builtin_nanf(""))));
  }
};

// Whether the rows of one element each are neighbours, with no option that changes them.
template <class S>
inline bool IsBatchOfOnes(const RowBatch& b) {
  constexpr auto kStride = static_cast<ptrdiff_t>(sizeof(S));
  return b.n == 1 && !b.scaled && b.mask == nullptr && b.x_stride == kStride && b.y_stride == kStride;
}
template <class S, class Result>
BOLTZMAX_KERNEL inline void RunRowsOfOne(const RowBatch& b) {
  using V = VecOf<S>;
  const auto* x = reinterpret_cast<const S*>(b.x);
  ForEachBlock<V, 4>(b.rows, [&](size_t i, auto lanes) {
    auto v = LoadLanes<V>(x + i, lanes, 0);
    BOLTZMAX_UNROLL
    for (V& part : v.part) part = Result::Of(part);
    StoreLanes(reinterpret_cast<S*>(b.y) + i, v, lanes);
  });
}

}  // namespace
}  // namespace boltzmax::kernels
