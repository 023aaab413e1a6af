// Rows divided by the sum of their weights, p_i = w(x_i) / sum_j w(x_j), for any weight w >= 0.
//
// A class Weights<V> has the formula of w:
//
//     Weights(options, temperature)
//     Size(x)         the number whose maximum over the row decides the scale of the weights; -inf where x is -inf
//     Fit(maximum)    chooses the scale, a factor common to all weights of a row, so that none overflows
//     (x)             the scaled weight; 0 where x is -inf
//     Slope(x)        the derivative of log w, finite; LogSlope(x), if there is one, is right where w underflows, too
//     Derivative(x)   if there is one, that of the scaled weight over Scale(), which is right where w underflows, too; 0
//                     where x is -inf
//     LogSums         V or F64: the vectors in which weights of a long row are added for a logarithm
//     LogRatioTo<T>(sum, maximum, temperature)
//                     a function from x to log(w(x) / sum), in double, for results of type T; the sum is one of a row in
//                     all lanes, or of a row in each
//
// x is -inf where it is masked, and beyond the end of the row. A row without a finite maximum, or with NaN, has no
// probabilities, as in softmax.
#pragma once

#include "../panels/transposed.hpp"
#include "doubles.hpp"
#include "row_call.hpp"

namespace boltzmax::kernels {
namespace {

template <class V>
inline V Lowest() {
  return Set<V>(-static_cast<typename V::Scalar>(__builtin_inff()));
}

// v, but 0 where x is -inf.
template <class V, class B>
inline B WhereCounted(const B& x, const B& v) {
  return IfThenElse(Eq(x, B(Lowest<V>())), B(Set<V>(0)), v);
}

// Whether weights of this sum are probabilities.
inline bool IsUsable(double size, const Sum& sum) { return IsFinite(size) && sum.hi == sum.hi; }
template <class V>
inline Wide<V> UnusableLanes(V size, const Wide<V>& sum) {
  const Wide<V> none = Const(0);
  return DegenerateLanes(SumOfExp<Wide<V>>{Promote(size), none, none, none, sum, none});
}

// The reciprocal of a sum of weights.
template <class V>
inline Divisor<V> Inverse(const Wide<V>& hi, const Wide<V>& lo) {
  const Wide<V> unscale = Const(ExpConstants<typename V::Scalar>::kUnscale);
  return {hi * unscale, lo * unscale};
}
template <class V>
inline Divisor<V> Inverse(const Sum& sum) {
  return Inverse<V>(Wide<V>(Const(sum.hi)), Wide<V>(Const(sum.lo)));
}

// ---- rows ----

// The largest size of a row, to which its weights are fitted.
template <class V, class W, class Src>
inline double FitTo(const Src& x, size_t n, W* weights) {
  const auto size = MaxOver<V>(n, [&](size_t i, auto lanes) { return W::Size(x(i, lanes)); });
  weights->Fit(Set<V>(size));
  return static_cast<double>(size);
}

// The weights wait in y for their sum, if it can hold them; else they are computed again.
template <template <class> class Weights, class S>
inline void MapRow(const RowOf<S>& row, const RowOptions& options) {
  using V = VecOf<S>;
  using T = Compute<S>;
  constexpr bool kKeeps = sizeof(S) == sizeof(T);
  Weights<V> weights(options, MakeTemperature<V>(row.temperature));
  const double size = FitTo<V>(row.x, row.n, &weights);
  const Sum sum = SumOver<V>(row.n, [&](size_t i, auto lanes) {
    const auto w = weights(row.x(i, lanes));
    if constexpr (kKeeps) StoreLanes(row.y + i, w, lanes);
    return w;
  });
  if (!IsUsable(size, sum)) return SoftmaxMapDegenerate(row.x, row.y, row.n);
  const Divisor<V> divisor = Inverse<V>(sum);
  MapTo<V>(row.y, row.n, false, [&](size_t i, auto lanes) {
    if constexpr (kKeeps) {
      return Divide(LoadLanes<V>(row.y + i, lanes, T(0)), divisor);
    } else {
      return Divide(weights(row.x(i, lanes)), divisor);
    }
  });
}

template <template <class> class Weights, class S>
inline void LogMapRow(const RowOf<S>& row, const RowOptions& options) {
  using V = VecOf<S>;
  using Sums = typename Weights<V>::LogSums;
  using T = typename Sums::Scalar;
  Weights<Sums> weights(options, MakeTemperature<Sums>(row.temperature));
  const auto size = MaxOver<V>(row.n, [&](size_t i, auto lanes) { return Weights<V>::Size(row.x(i, lanes)); });
  weights.Fit(Set<Sums>(static_cast<T>(size)));
  WideSum<V> total;
  ForEachBlock<V, 2>(row.n,
                     [&](size_t i, auto lanes) { AddWide(&total, InDouble(weights(As<Sums>(row.x(i, lanes))))); });
  const Sum sum = total.Total();
  if (!IsUsable(static_cast<double>(size), sum)) {
    return LogSoftmaxMapDegenerate(row.x, row.y, row.n, size < 0 || AnyNan(row.x, row.n));
  }
  const auto log_ratio =
      weights.template LogRatioTo<Compute<S>>(Const(sum.hi), Set<Sums>(static_cast<T>(size)), Const(row.temperature));
  ForEachBlock<V, 2>(row.n, [&](size_t i, auto lanes) {
    StoreLanes(row.y + i, Rounded<V>(log_ratio(InDouble(row.x(i, lanes)))), lanes);
  });
}

// ---- gradients ----

// With l = d log w / dx and the gradient dy of the result,
//
//     p:        dx_j = p_j l_j (dy_j - sum_i dy_i p_i)
//     log p:    dx_j = l_j (dy_j - p_j sum_i dy_i)
//
// `total` is the sum that occurs in it.
template <bool kLog, class W, class B>
inline B SlopeAt(const W& weights, const B& x) {
  if constexpr (kLog && requires { weights.LogSlope(x); }) return weights.LogSlope(x);
  else return weights.Slope(x);
}
template <bool kLog, class W, class B, class V>
inline B GradientOf(const W& weights, const B& x, const B& dy, const Divisor<V>& divisor, V total) {
  const B zero = Set<V>(0);
  if constexpr (kLog) {
    return WhereCounted<V>(x, B(SlopeAt<true>(weights, x) * NegMulAdd(Divide(weights(x), divisor), B(total), dy)));
  } else if constexpr (requires { weights.Derivative(x); }) {
    const B d = Divide(weights.Derivative(x), divisor);
    return IfThenElse(Eq(d, zero), zero, d * (dy - B(total)) * B(weights.Scale()));
  } else {
    const B p = Divide(weights(x), divisor);
    return IfThenElse(Eq(p, zero), zero, p * weights.Slope(x) * (dy - B(total)));
  }
}
// Adds the terms of the total without rounding products of floats: in a row of one element, dy - dy p / p is 0.
template <bool kLog, class V, class B>
inline void AddGradientTerms(WideSum<V>* total, const B& x, const B& dy, const B& w) {
  const auto counted = InDouble(WhereCounted<V>(x, dy));
  if constexpr (kLog) return AddWide(total, counted);
  AddWide(total, counted * InDouble(w));
}

// `row` is a row of dy, and its `other` one of x.
template <template <class> class Weights, bool kLog, class S>
inline void GradientRow(const RowOf<S>& row, const RowOptions& options) {
  using V = VecOf<S>;
  using T = Compute<S>;
  const Source<S> x = {row.other, row.x.mask};
  const auto dy = [&](size_t i, auto lanes) { return LoadLanes<V>(row.x.x + i, lanes, T(0)); };
  Weights<V> weights(options, MakeTemperature<V>(row.temperature));
  const double size = FitTo<V>(x, row.n, &weights);
  WideSum<V> products;
  const Sum sum = SumOver<V>(row.n, [&](size_t i, auto lanes) {
    const auto v = x(i, lanes), w = weights(v);
    AddGradientTerms<kLog>(&products, v, dy(i, lanes), w);
    return w;
  });
  if (!IsUsable(size, sum)) return SoftmaxMapDegenerate(x, row.y, row.n);
  const Divisor<V> divisor = Inverse<V>(sum);
  const double product = products.Total().hi;
  const V total = Set<V>(static_cast<T>(kLog ? product : product / sum.hi));
  MapTo<V>(row.y, row.n, false,
           [&](size_t i, auto lanes) { return GradientOf<kLog>(weights, x(i, lanes), dy(i, lanes), divisor, total); });
}

// ---- panels of short rows ----

// The sizes of a panel's rows, to which its weights are fitted.
template <class V, class W, class StripType>
inline V FitToLanes(const StripType& x, W* weights) {
  const V size = ColumnMax<V>(x.n, [&]<size_t U>(size_t i, RowCount<U>) { return W::Size(x.template Rows<U>(i, 1)); });
  weights->Fit(size);
  return size;
}

template <template <class> class Weights, class S, class V = VecOf<S>>
inline void MapPanel(const Panel<S>& panel, const RowOptions& options, const Temperature<V>& t) {
  Columns<Compute<S>> columns;
  LoadTransposed(panel, columns.at);
  const auto x = AsStrip<S, false>(columns.at, panel.n);
  Weights<V> weights(options, t);
  const V size = FitToLanes<V>(x, &weights);
  ForEachStripRow(x.n, [&]<size_t U>(size_t i, RowCount<U>) {
    StoreLanes(columns.at + i * V::kLanes, weights(x.template Rows<U>(i, 1)), Whole<U>{});
  });
  WideSum<V> total;
  for (size_t i = 0; i < x.n; ++i) total.AddStored(columns.at + i * V::kLanes);
  const auto sum = total.Lanes();
  const Divisor<V> divisor = Inverse<V>(sum.hi, sum.lo);
  ForEachStripRow(x.n, [&]<size_t U>(size_t i, RowCount<U>) {
    StoreLanes(columns.at + i * V::kLanes, Divide(x.template Rows<U>(i, 1), divisor), Whole<U>{});
  });
  StoreTransposed(columns.at, panel);
  ForEachMarked(panel, UnusableLanes(size, sum.hi),
                [&](size_t j) { SoftmaxMapDegenerate(panel.Row(j), panel.Out(j), panel.n); });
}

// The rows in vector w of doubles of a panel's lanes.
template <class V>
struct PanelPart {
  using T = typename V::Scalar;
  const T* columns;
  size_t w;

  // Elements i, ... of each row.
  template <size_t U>
  Block<F64, U> Rows(size_t i, RowCount<U>) const {
    Block<F64, U> b;
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < U; ++u) b.part[u] = Promote(Load(columns + (i + u) * V::kLanes)).part[w];
    return b;
  }
  Temperature<F64> Of(const StripTemperature<V>& t) const {
    if constexpr (kWide<V> == 1) return t.vector;
    else return {t.value.part[w], Const(1) / t.value.part[w], Const(0), t.vector.scaled};  // floats: enough digits
  }
};

// Weights and logarithms in double.
template <template <class> class Weights, class S, class V = VecOf<S>>
inline void LogMapPanel(const Panel<S>& panel, const RowOptions& options, const StripTemperature<V>& t) {
  Columns<Compute<S>> columns;
  LoadTransposed(panel, columns.at);
  const auto x = AsStrip<S, false>(columns.at, panel.n);
  const V size =
      ColumnMax<V>(x.n, [&]<size_t U>(size_t i, RowCount<U>) { return Weights<V>::Size(x.template Rows<U>(i, 1)); });
  const Wide<V> sizes = Promote(size);
  Wide<V> sums, results[V::kInOrder];
  for (size_t w = 0; w < kWide<V>; ++w) {
    const PanelPart<V> part = {columns.at, w};
    Weights<F64> weights(options, part.Of(t));
    weights.Fit(sizes.part[w]);
    WideSum<F64> total;
    ForEachStripRow(x.n, [&](size_t i, auto count) { AddEach(&total, weights(part.Rows(i, count))); });
    sums.part[w] = total.Lanes().hi.part[0];
    const auto log_ratio = weights.template LogRatioTo<Compute<S>>(sums.part[w], sizes.part[w], t.value.part[w]);
    ForEachStripRow(x.n, [&]<size_t U>(size_t i, RowCount<U> count) {
      const auto log = log_ratio(part.Rows(i, count));
      BOLTZMAX_UNROLL
      for (size_t u = 0; u < U; ++u) results[i + u].part[w] = log.part[u];
    });
  }
  for (size_t i = 0; i < x.n; ++i) Store(columns.at + i * V::kLanes, Demote(results[i]));
  StoreTransposed(columns.at, panel);
  ForEachMarked(panel, UnusableLanes(size, sums), [&](size_t j) {
    const auto row = panel.Row(j);
    const auto largest = MaxOver<V>(x.n, [&](size_t i, auto lanes) { return Weights<V>::Size(row(i, lanes)); });
    LogSoftmaxMapDegenerate(row, panel.Out(j), x.n, largest < 0 || AnyNan(row, x.n));
  });
}

// `panel` has the rows of x, and the gradient's result; `dy` those of dy.
template <template <class> class Weights, bool kLog, class S, class V = VecOf<S>>
inline void GradientPanel(const Panel<S>& panel, const Panel<S>& dy, const RowOptions& options,
                          const Temperature<V>& t) {
  Columns<Compute<S>> scores, gradients;
  LoadTransposed(panel, scores.at);
  LoadTransposed(dy, gradients.at);
  const auto x = AsStrip<S, false>(scores.at, panel.n), d = AsStrip<S, false>(gradients.at, panel.n);
  Weights<V> weights(options, t);
  const V size = FitToLanes<V>(x, &weights);
  WideSum<V> total, products;
  ForEachStripRow(x.n, [&]<size_t U>(size_t i, RowCount<U>) {
    const auto v = x.template Rows<U>(i, 1), w = weights(v);
    AddEach(&total, w);
    AddGradientTerms<kLog>(&products, v, d.template Rows<U>(i, 1), w);
  });
  const auto sum = total.Lanes(), product = products.Lanes();
  const Divisor<V> divisor = Inverse<V>(sum.hi, sum.lo);
  const V of_row = Demote(kLog ? product.hi : product.hi / sum.hi);
  ForEachStripRow(x.n, [&]<size_t U>(size_t i, RowCount<U>) {
    const auto dx = GradientOf<kLog>(weights, x.template Rows<U>(i, 1), d.template Rows<U>(i, 1), divisor, of_row);
    StoreLanes(gradients.at + i * V::kLanes, dx, Whole<U>{});
  });
  StoreTransposed(gradients.at, panel);
  ForEachMarked(panel, UnusableLanes(size, sum.hi),
                [&](size_t j) { SoftmaxMapDegenerate(panel.Row(j), panel.Out(j), panel.n); });
}

// ---- calls ----

template <template <class> class Weights, class S>
BOLTZMAX_KERNEL inline void WeightMap(const RowCall& call) {
  if (call.batch.n <= VecOf<S>::kInOrder) {
    return ForEachPanel<S>(
        call.batch, [&](const Panel<S>& panel, const auto& t) { MapPanel<Weights>(panel, call.options, t.vector); });
  }
  for (size_t r = 0; r < call.batch.rows; ++r) MapRow<Weights>(RowAt<S>(call, r), call.options);
}

template <template <class> class Weights, class S>
BOLTZMAX_KERNEL inline void WeightLogMap(const RowCall& call) {
  if (call.batch.n <= VecOf<S>::kInOrder) {
    return ForEachPanel<S>(call.batch,
                           [&](const Panel<S>& panel, const auto& t) { LogMapPanel<Weights>(panel, call.options, t); });
  }
  for (size_t r = 0; r < call.batch.rows; ++r) LogMapRow<Weights>(RowAt<S>(call, r), call.options);
}

template <template <class> class Weights, bool kLog, class S>
BOLTZMAX_KERNEL inline void WeightGradient(const RowCall& call) {
  if (call.batch.n <= VecOf<S>::kInOrder) {
    size_t first = 0;
    return ForEachPanel<S>(call.batch, [&](Panel<S> panel, const auto& t) {
      Panel<S> dy = panel;
      dy.mask = nullptr;
      panel.x = Offset<const S>(call.other, first, call.other_stride);
      panel.x_stride = call.other_stride;
      GradientPanel<Weights, kLog>(panel, dy, call.options, t.vector);
      first += Panel<S>::kRows;
    });
  }
  for (size_t r = 0; r < call.batch.rows; ++r) GradientRow<Weights, kLog>(RowAt<S>(call, r), call.options);
}

}  // namespace
}  // namespace boltzmax::kernels
