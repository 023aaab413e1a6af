// Gradients of softmax and log_softmax, from the gradient dy of the result y.
//
//     softmax:      dx = y * (dy - sum(dy * y))
//     log_softmax:  dx = dy - exp(y) * sum(dy)
#pragma once

#include "panels.hpp"

namespace boltzmax::kernels {
namespace {

// The terms of the sum, and the map with it. A block of dy and y, or one vector.

template <class V>
struct SoftmaxGradient {
  template <class B>
  static B Term(const B& dy, const B& y) {
    return dy * y;
  }
  template <class B>
  B operator()(const B& dy, const B& y, V sum) const {
    return y * (dy - B(sum));
  }
};

template <class V>
struct LogSoftmaxGradient {
  using T = typename V::Scalar;
  ExpShift<V, false> shift = ExpShift<V, false>(Set<V>(T(0)), MakeTemperature<V>(1.0));
  V unscale = Set<V>(static_cast<T>(ExpConstants<T>::kUnscale));
  // ScaledExp holds exp(40) and a little more; a log-probability is at most 0.
  V limit = Set<V>(T(40)), nan = Set<V>(static_cast<T>(__builtin_nanf("")));

  template <class B>
  static B Term(const B& dy, const B&) {
    return dy;
  }
  template <class B>
  B operator()(const B& dy, const B& y, V sum) const {
    const B p = IfThenElse(Lt(y, B(limit)), ScaledExp(y, shift) * B(unscale), B(nan));
    return NegMulAdd(p, B(sum), dy);
  }
};

template <class S, class Gradient>
BOLTZMAX_KERNEL inline Sum BackwardReduce(const S* dy, const S* y, size_t n, bool far = false) {
  using V = VecOf<S>;
  return SumOver<V>(n, [&](size_t i, auto lanes) {
    if (far) {
      PrefetchAhead(dy + i, lanes);
      PrefetchAhead(y + i, lanes);
    }
    return Gradient::Term(LoadLanes<V>(dy + i, lanes, 0), LoadLanes<V>(y + i, lanes, 0));
  });
}

template <class S, class Gradient>
BOLTZMAX_KERNEL inline void BackwardMap(const S* dy, const S* y, S* dx, size_t n, const Sum& sum) {
  using V = VecOf<S>;
  const Gradient gradient;
  const V s = Set<V>(static_cast<Compute<S>>(sum.hi));
  ForEachBlock<V, 4>(n, [&](size_t i, auto lanes) {
    StoreLanes(dx + i, gradient(LoadLanes<V>(dy + i, lanes, 0), LoadLanes<V>(y + i, lanes, 0), s), lanes);
  });
}

// Asks for the row that lies `rows` of n elements beyond x, or a page if that is farther.
template <class S>
[[gnu::always_inline]] inline void PrefetchRow(const S* x, size_t n, size_t rows) {
  constexpr size_t kLeast = 4096, kLine = 64;
  const size_t row = n * sizeof(S), ahead = row * rows < kLeast ? kLeast : row * rows;
  for (size_t at = 0; at < row; at += kLine) __builtin_prefetch(reinterpret_cast<const char*>(x) + ahead + at);
}

// Short rows by panels, to the same bits: their sums are folded side by side.
template <class S, class Gradient>
BOLTZMAX_KERNEL inline void BackwardPanels(const GradBatch& b) {
  using T = Compute<S>;
  using V = Vec<T>;
  constexpr size_t kRows = V::kLanes;
  const Gradient gradient;
  const size_t n = b.n, trees = n / (4 * V::kLanes) * (4 * V::kLanes);
  for (size_t first = 0; first < b.rows; first += kRows) {
    const size_t rows = b.rows - first < kRows ? b.rows - first : kRows;
    const auto row = [&](auto* base, ptrdiff_t stride, size_t j) { return RowAt(base, stride, first + j); };
    const auto* all_dy = reinterpret_cast<const S*>(b.dy);
    const auto* all_y = reinterpret_cast<const S*>(b.y);
    decltype(PartialSum(WideSum<V>{})) partial[kRows];
    for (size_t j = 0; j < rows; ++j) {
      const S *dy = row(all_dy, b.dy_stride, j), *y = row(all_y, b.y_stride, j);
      const auto term = [&](size_t i, auto lanes) {
        return Gradient::Term(LoadLanes<V>(dy + i, lanes, 0), LoadLanes<V>(y + i, lanes, 0));
      };
      if (b.far) {
        PrefetchRow(dy, n, kRows);
        PrefetchRow(y, n, kRows);
      }
      WideSum<V> sum;
      for (size_t i = 0; i < trees; i += 4 * V::kLanes) AddTrees(&sum, term(i, Whole<4>{}));
      const size_t rest = n - trees;
      if (rest > V::kLanes) {
        AddTrees(&sum, term(trees, Partial<4>{rest}));
      } else if (rest != 0) {
        AddTrees(&sum, term(trees, Partial<1>{rest}));
      }
      partial[j] = PartialSum(sum);
    }
    for (size_t j = rows; j < kRows; ++j) partial[j] = partial[0];
    T sums[kRows];
    Store(sums, Demote(FoldSums(partial, V{}).hi));
    for (size_t j = 0; j < rows; ++j) {
      const S *dy = row(all_dy, b.dy_stride, j), *y = row(all_y, b.y_stride, j);
      S* dx = row(reinterpret_cast<S*>(b.dx), b.dx_stride, j);
      const V sum = Set<V>(sums[j]);
      ForEachVectorOf<V>(n, [&](size_t i, auto lanes) {
        StoreLanes(dx + i, gradient(LoadLanes<V>(dy + i, lanes, 0), LoadLanes<V>(y + i, lanes, 0), sum), lanes);
      });
    }
  }
}

template <class S, class Gradient>
inline void BackwardRows(const GradBatch& b) {
  if (b.n <= kPaneled<Compute<S>>) return BackwardPanels<S, Gradient>(b);
  for (size_t r = 0; r < b.rows; ++r) {
    const S* dy = RowAt(reinterpret_cast<const S*>(b.dy), b.dy_stride, r);
    const S* y = RowAt(reinterpret_cast<const S*>(b.y), b.y_stride, r);
    S* dx = RowAt(reinterpret_cast<S*>(b.dx), b.dx_stride, r);
    BackwardMap<S, Gradient>(dy, y, dx, b.n, BackwardReduce<S, Gradient>(dy, y, b.n, b.far));
  }
}

}  // namespace
}  // namespace boltzmax::kernels
