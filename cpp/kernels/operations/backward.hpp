// Gradients of softmax and log_softmax, from the gradient dy of the result y.
//
//     softmax:      dx = y * (dy - sum(dy * y))
//     log_softmax:  dx = dy - exp(y) * sum(dy)
#pragma once

#include "../panels/panels.hpp"

namespace boltzmax::kernels {
namespace {

// The terms of the sum, and the map with it, for a block or one vector of dy and y.

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
  // ScaledExp can hold a little more than exp(40); a log-probability is at most 0.
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

// In blocks of four vectors, the size of a tree: larger blocks would have more lanes beyond the end of a row.
template <class S, class Gradient>
inline Sum BackwardReduce(const S* dy, const S* y, size_t n) {
  using V = VecOf<S>;
  WideSum<V> sum;
  ForEachBlock<V, 4>(n, [&](size_t i, auto lanes) {
    AddTrees(&sum, Gradient::Term(LoadLanes<V>(dy + i, lanes, 0), LoadLanes<V>(y + i, lanes, 0)));
  });
  return sum.Total();
}

template <class S, class Gradient>
inline void BackwardMap(const S* dy, const S* y, S* dx, size_t n, VecOf<S> sum) {
  using V = VecOf<S>;
  constexpr size_t kLeast = 1024;  // by measurement
  const Gradient gradient;
  ForEachVectorTo<V, kLeast>(dx, n, [&](size_t i, auto lanes) {
    StoreLanes(dx + i, gradient(LoadLanes<V>(dy + i, lanes, 0), LoadLanes<V>(y + i, lanes, 0), sum), lanes);
  });
}

// The tree of the terms of a row of kVectors vectors; `last` is the number of elements in the last of them.
template <size_t kVectors, class S, class Gradient, class V = VecOf<S>>
inline V TreeOfTerms(const S* dy, const S* y, size_t last) {
  V v[4] = {Set<V>(0), Set<V>(0), Set<V>(0), Set<V>(0)};
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < kVectors; ++u) {
    const auto load = [&](const S* p) {
      return u + 1 < kVectors ? Load(p + u * V::kLanes) : LoadN(p + u * V::kLanes, last, Compute<S>(0));
    };
    v[u] = Gradient::Term(load(dy), load(y));
  }
  if constexpr (kVectors == 1) return v[0];
  if constexpr (kVectors == 2) return v[0] + v[1];
  if constexpr (kVectors == 3) return (v[0] + v[1]) + v[2];
  return (v[0] + v[1]) + (v[2] + v[3]);
}

// The rows of a batch.
template <class S>
struct GradRows {
  Rows<const S> dy, y;
  Rows<S> dx;

  explicit GradRows(const GradBatch& b)
      : dy{reinterpret_cast<const S*>(b.dy), b.dy_stride, b.places},
        y{reinterpret_cast<const S*>(b.y), b.y_stride, b.places},
        dx{reinterpret_cast<S*>(b.dx), b.dx_stride, b.places} {}
};

// Rows of at most four vectors go by panels, with the same bits: their sums are folded side by side. Longer rows gain
// nothing, since the folds of one overlap with the loads of the next; and a panel of them would leave the first-level
// cache before it is read again.
template <size_t kVectors, class S, class Gradient>
inline void BackwardPanels(const GradBatch& b) {
  using T = Compute<S>;
  using V = Vec<T>;
  constexpr size_t kRows = V::kLanes;
  const size_t n = b.n;
  const GradRows<S> all(b);
  for (size_t first = 0; first < b.rows; first += kRows) {
    const size_t rows = b.rows - first < kRows ? b.rows - first : kRows;
    const auto dy = all.dy.From(first), y = all.y.From(first);
    const auto dx = all.dx.From(first);
    decltype(PartialSum(WideSum<V>{})) partial[kRows];
    for (size_t j = 0; j < rows; ++j) {
      WideSum<V> sum;
      sum.Add(TreeOfTerms<kVectors, S, Gradient>(dy[j], y[j], n - (kVectors - 1) * V::kLanes));
      partial[j] = PartialSum(sum);
    }
    for (size_t j = rows; j < kRows; ++j) partial[j] = partial[0];
    T sums[kRows];
    Store(sums, Demote(FoldSums(partial, V{}).hi));
    for (size_t j = 0; j < rows; ++j) BackwardMap<S, Gradient>(dy[j], y[j], dx[j], n, Set<V>(sums[j]));
  }
}

template <class S, class Gradient>
BOLTZMAX_KERNEL inline void BackwardRows(const GradBatch& b) {
  using V = VecOf<S>;
  switch ((b.n + V::kLanes - 1) / V::kLanes) {
    case 1: return BackwardPanels<1, S, Gradient>(b);
    case 2: return BackwardPanels<2, S, Gradient>(b);
    case 3: return BackwardPanels<3, S, Gradient>(b);
    case 4: return BackwardPanels<4, S, Gradient>(b);
    default: break;
  }
  const GradRows<S> rows(b);
  for (size_t r = 0; r < b.rows; ++r) {
    const Sum sum = BackwardReduce<S, Gradient>(rows.dy[r], rows.y[r], b.n);
    BackwardMap<S, Gradient>(rows.dy[r], rows.y[r], rows.dx[r], b.n, Set<V>(static_cast<Compute<S>>(sum.hi)));
  }
}

}  // namespace
}  // namespace boltzmax::kernels
