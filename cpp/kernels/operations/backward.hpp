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
  static B AddTerm(const B& sum, const B& dy, const B& y) {
    return MulAdd(dy, y, sum);
  }
  template <class B>
  B operator()(const B& dy, const B& y, const B& sum) const {
    return y * (dy - sum);
  }
};

template <class V>
struct LogSoftmaxGradient {
  using T = typename V::Scalar;
  PlainShift<V> shift;
  V unscale = Set<V>(static_cast<T>(ExpConstants<T>::kUnscale));
  // ScaledExp can hold a little more than exp(40); a log-probability is at most 0.
  V limit = Set<V>(T(40)), nan = Set<V>(static_cast<T>(__builtin_nanf("")));

  template <class B>
  static B Term(const B& dy, const B&) {
    return dy;
  }
  template <class B>
  static B AddTerm(const B& sum, const B& dy, const B&) {
    return sum + dy;
  }
  template <class B>
  B operator()(const B& dy, const B& y, const B& sum) const {
    const B p = ScaledExp(y, shift) * B(unscale);
    return NegMulAdd(IfThenElse(Lt(y, B(limit)), p, B(nan)), sum, dy);
  }
};

// The terms of up to so many vectors are added up in their own type before the wide sum: two thirds of the instructions
// of trees of four, with errors that differ little.
inline constexpr size_t kTree = 8;
// Rows of at most so many vectors go by panels: it takes longer to fold a sum than to read such a row. Those of doubles
// are in twice their precision.
template <class V>
inline constexpr size_t kPaneledVectors = sizeof(typename V::Scalar) == sizeof(double) ? 8 : 4;

// Calls f(lanes) for n elements in at most kMost vectors. (Always inlined, since Clang flattens one level only.)
template <class V, size_t kMost, class F>
[[gnu::always_inline]] inline auto WithLanes(size_t n, F f) {
  const size_t vectors = (n + V::kLanes - 1) / V::kLanes;
  if constexpr (kMost > 4) {
    switch (vectors) {
      case 5: return f(Partial<5>{n});
      case 6: return f(Partial<6>{n});
      case 7: return f(Partial<7>{n});
      case 8: return f(Partial<8>{n});
      default: break;
    }
  }
  switch (vectors) {
    case 1: return f(Partial<1>{n});
    case 2: return f(Partial<2>{n});
    case 3: return f(Partial<3>{n});
    default: return f(Partial<4>{n});
  }
}

// The terms at dy and y, added up to one vector, pairs first. The first vector overlaps the second one, and only what is
// not in that counts.
template <class S, class Gradient, class Lanes, class V = VecOf<S>>
inline V TreeOfTerms(const S* dy, const S* y, Lanes lanes) {
  constexpr size_t kVectors = Lanes::kVectors;
  if constexpr (kVectors == 1) {
    const auto load = [&](const S* p) { return LoadLanes<V>(p, lanes, Compute<S>(0)).part[0]; };
    return Gradient::Term(load(dy), load(y));
  } else {
    size_t first_lanes = V::kLanes;
    if constexpr (requires { lanes.n; }) first_lanes = lanes.n - (kVectors - 1) * V::kLanes;
    const auto begin = [&](size_t u) { return u == 0 ? 0 : first_lanes + (u - 1) * V::kLanes; };
    const auto term = [&](size_t u) {
      const V all = Gradient::Term(Load(dy + begin(u)), Load(y + begin(u)));
      if constexpr (requires { lanes.n; }) {
        if (u == 0) return IfThenElse(FirstN<V>(first_lanes), all, Set<V>(0));
      }
      return all;
    };
    const auto pair = [&](size_t u) {
      if (u + 1 == kVectors) return term(u);
      return Gradient::AddTerm(term(u), Load(dy + begin(u + 1)), Load(y + begin(u + 1)));
    };
    if constexpr (kVectors <= 2) return pair(0);
    if constexpr (kVectors == 3 || kVectors == 4) return pair(0) + pair(2);
    if constexpr (kVectors == 5 || kVectors == 6) return (pair(0) + pair(2)) + pair(4);
    if constexpr (kVectors > 6) return Tree(pair(0), pair(2), pair(4), pair(6));
  }
}

template <class S, class Gradient>
inline Sum BackwardReduce(const S* dy, const S* y, size_t n) {
  using V = VecOf<S>;
  constexpr size_t kStep = kTree * V::kLanes;
  WideSum<V> sum;
  size_t i = 0;
  for (; i + kStep <= n; i += kStep) sum.Add(TreeOfTerms<S, Gradient>(dy + i, y + i, Whole<kTree>{}));
  if (i < n) {
    const auto tree = [&](auto lanes) { return TreeOfTerms<S, Gradient>(dy + i, y + i, lanes); };
    sum.Add(WithLanes<V, kTree>(n - i, tree));
  }
  return sum.Total();
}

// dx for n elements in a row; sum(i, lanes) is that of their row, or of their rows.
template <size_t kLeastToAlign, class S, class Gradient, class F>
inline void BackwardMap(const Gradient& gradient, const S* dy, const S* y, S* dx, size_t n, F sum) {
  using V = VecOf<S>;
  ForEachVectorTo<V, kLeastToAlign>(dx, n, [&](size_t i, auto lanes) {
    StoreLanes(dx + i, gradient(LoadLanes<V>(dy + i, lanes, 0), LoadLanes<V>(y + i, lanes, 0), sum(i, lanes)), lanes);
  });
}
template <class S, class Gradient>
inline void BackwardMapRow(const Gradient& gradient, const S* dy, const S* y, S* dx, size_t n, Compute<S> sum) {
  constexpr size_t kLeast = 1024;  // by measurement
  const auto sum_of_row = Set<VecOf<S>>(sum);
  BackwardMap<kLeast>(gradient, dy, y, dx, n,
                      [&]<class Lanes>(size_t, Lanes) { return Block<VecOf<S>, Lanes::kVectors>(sum_of_row); });
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

// Whether each row begins where the last one ends.
template <class S>
inline bool Adjoin(const GradBatch& b) {
  const auto row = static_cast<ptrdiff_t>(b.n * sizeof(S));
  return b.places == nullptr && b.dy_stride == row && b.y_stride == row && b.dx_stride == row;
}

// The sums over the lanes of tree(j) for all rows j of a panel, side by side. The first steps are in the vectors' own
// type, so that fewer vectors are widened; no more than kTree terms meet there.
template <size_t kVectors, class F>
inline F32 SumsOfTrees(F32, F tree) {
  constexpr size_t kRows = F32::kLanes, kParts = kRows / F32::kPart;
  F64 partial[kRows];
  if constexpr (kParts == 1) {
    for (size_t j = 0; j < kRows; ++j) {
      const auto wide = Promote(tree(j));
      partial[j] = wide.part[0] + wide.part[1];
    }
  } else {
    const auto halves = [](const auto& a, const auto& b) { return JoinLowHalves(a, b) + JoinHighHalves(a, b); };
    if constexpr (kParts == 4 && kVectors <= 2) {
      const auto quarters = [](const auto& a, const auto& b) { return JoinEvenQuarters(a, b) + JoinOddQuarters(a, b); };
      const auto pairs = [](F64 a, F64 b) { return UnpackLow(a, b) + UnpackHigh(a, b); };
      // Rows j, j + 2, j + 8 and j + 10 together: so the last step leaves all of them in order.
      const auto four = [&](size_t j) {
        return Promote(quarters(halves(tree(j), tree(j + 2)), halves(tree(j + 8), tree(j + 10))));
      };
      const auto a = four(0), b = four(1), c = four(4), d = four(5);
      const auto last = [&](size_t half) {
        return pairs(quarters(a.part[half], c.part[half]), quarters(b.part[half], d.part[half]));
      };
      return Demote(last(0), last(1));
    }
    BOLTZMAX_UNROLL
    for (size_t j = 0; j < kRows; j += 2) {
      const auto both = Promote(halves(tree(j), tree(j + 1)));
      partial[j] = both.part[0];
      partial[j + 1] = both.part[1];
    }
  }
  return Demote(FoldSums(partial, F32{}).hi);
}
template <size_t kVectors, class F>
inline F64 SumsOfTrees(F64, F tree) {
  Pair<F64> partial[F64::kLanes];
  for (size_t j = 0; j < F64::kLanes; ++j) partial[j] = {tree(j), Const(0)};
  return Demote(FoldSums(partial, F64{}).hi);
}

// For each element of a panel whose rows follow one another, the number of its row.
template <class V>
struct RowOfElement {
  static constexpr size_t kAtOnce = 16;
  uint8_t row[V::kLanes * kPaneledVectors<V> * V::kLanes + kAtOnce];

  void Fill(size_t n) {
    memset(row + V::kLanes * n, 0, kAtOnce);
    for (size_t j = 0; j < V::kLanes; ++j) {
      for (size_t i = 0; i < n; i += kAtOnce) memset(row + j * n + i, static_cast<int>(j), kAtOnce);
    }
  }
  template <class Lanes>
  Block<V, Lanes::kVectors> Pick(V of_rows, size_t i, Lanes) const {
    Block<V, Lanes::kVectors> picked;
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < Lanes::kVectors; ++u) picked.part[u] = PickLanes(of_rows, row + i + u * V::kLanes);
    return picked;
  }
};

// Rows of at most kPaneledVectors vectors go by panels: their sums are folded side by side. Where they follow one another
// in memory, the map takes them as one long row, so that it stores whole cache lines and no vector has idle lanes.
template <class S, class Gradient>
inline void BackwardPanels(const GradBatch& b, bool adjoin) {
  using V = VecOf<S>;
  constexpr size_t kRows = V::kLanes;
  const size_t n = b.n;
  const bool picks = V::kHasPick && adjoin && b.rows >= kRows;
  RowOfElement<V> row_of;
  if (picks) row_of.Fill(n);
  const GradRows<S> all(b);
  const Gradient gradient;
  for (size_t first = 0; first < b.rows; first += kRows) {
    const size_t rows = b.rows - first < kRows ? b.rows - first : kRows;
    const auto dy = all.dy.From(first), y = all.y.From(first);
    const auto dx = all.dx.From(first);
    const V sums = WithLanes<V, kPaneledVectors<V>>(n, [&]<class Lanes>(Lanes lanes) {
      return SumsOfTrees<Lanes::kVectors>(V{}, [&](size_t j) {
        const size_t row = j < rows ? j : 0;
        return TreeOfTerms<S, Gradient>(dy[row], y[row], lanes);
      });
    });
    if constexpr (V::kHasPick) {
      if (picks && rows == kRows) {
        BackwardMap<1>(gradient, dy[0], y[0], dx[0], kRows * n,
                       [&](size_t i, auto lanes) { return row_of.Pick(sums, i, lanes); });
        continue;
      }
    }
    Compute<S> sum[kRows];
    Store(sum, sums);
    for (size_t j = 0; j < rows; ++j) BackwardMapRow(gradient, dy[j], y[j], dx[j], n, sum[j]);
  }
}

// Longer rows that follow one another. Vectors begin where those of memory do: one goes across the border of two rows,
// and waits for the sum of the second.
template <class S, class Gradient>
inline void BackwardAdjoining(const S* dy, const S* y, S* dx, size_t rows, size_t n) {
  using V = VecOf<S>;
  const Gradient gradient;
  const auto map = [&]<class Lanes>(size_t i, Lanes lanes, V sum) {
    const Block<V, Lanes::kVectors> sums(sum);
    StoreLanes(dx + i, gradient(LoadLanes<V>(dy + i, lanes, 0), LoadLanes<V>(y + i, lanes, 0), sums), lanes);
  };
  const size_t to_aligned = ToAligned<V>(dx);
  size_t i = 0;
  V sum = Set<V>(0);
  for (size_t r = 0; r < rows; ++r) {
    const size_t begin = r * n, end = begin + n;
    const V before = sum;
    sum = Set<V>(static_cast<Compute<S>>(BackwardReduce<S, Gradient>(dy + begin, y + begin, n).hi));
    if (r == 0 && to_aligned != 0) {
      map(0, Partial<1>{to_aligned}, sum);
      i = to_aligned;
    }
    if (i < begin) {
      map(i, Whole<1>{}, IfThenElse(FirstN<V>(begin - i), before, sum));
      i += V::kLanes;
    }
    for (; i + 4 * V::kLanes <= end; i += 4 * V::kLanes) map(i, Whole<4>{}, sum);
    for (; i + V::kLanes <= end; i += V::kLanes) map(i, Whole<1>{}, sum);
  }
  if (i < rows * n) map(i, Partial<1>{rows * n - i}, sum);
}

template <class S, class Gradient>
BOLTZMAX_KERNEL inline void BackwardRows(const GradBatch& b) {
  const bool adjoin = Adjoin<S>(b);
  if (b.n <= kPaneledVectors<VecOf<S>> * VecOf<S>::kLanes) return BackwardPanels<S, Gradient>(b, adjoin);
  const GradRows<S> rows(b);
  if (adjoin) return BackwardAdjoining<S, Gradient>(rows.dy[0], rows.y[0], rows.dx[0], b.rows, b.n);
  const Gradient gradient;
  for (size_t r = 0; r < b.rows; ++r) {
    const Sum sum = BackwardReduce<S, Gradient>(rows.dy[r], rows.y[r], b.n);
    BackwardMapRow(gradient, rows.dy[r], rows.y[r], rows.dx[r], b.n, static_cast<Compute<S>>(sum.hi));
  }
}

}  // namespace
}  // namespace boltzmax::kernels
