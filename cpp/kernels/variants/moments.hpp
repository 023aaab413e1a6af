// Moments of rows under softmax, with d = x - max and e = exp(d / T):
//
//     mean = sum e d / sum e,    variance = sum e d^2 / sum e - mean^2
//
// Sums are taken in twice the precision of the terms, except in trees of four. Max error of the mean 6 ULP of the type,
// of the variance 12 ULP of sum e d^2 / sum e; valid for temperatures from 1e-6 to 1e6. Distances below -132 T for
// floats, or -1151 / 1.44 T for doubles, have no term: there e is 0.
#pragma once

#include "../moment_types.hpp"
#include "../panels/transposed.hpp"

namespace boltzmax::kernels {
namespace {

// d, kept above the floor of e, so that 0 is not multiplied by an infinity; NaN stays NaN.
template <class Shift, class B>
inline B Distance(const B& x, const Shift& shift) {
  return Max(B(shift.floor), x - B(shift.offset));
}

// Calls f(i, lanes) for a row of n, of which blocks of four vectors come first, then single ones.
template <class T>
inline RowMoments MomentsOfRow(const T* x, size_t n, const Temperature<Vec<T>>& temperature) {
  using V = Vec<T>;
  const Source<T> row = {x, nullptr};
  const T max = MaxOver<V>(n, row);
  const ExpShift<V, true> shift(Set<V>(max), temperature);
  WideSum<V> total, first, second;
  ForEachBlock<V, 4>(n, [&](size_t i, auto lanes) {
    const auto v = row(i, lanes);
    const auto d = Distance(v, shift), e = ScaledExp(v, shift), ed = e * d;
    AddTrees(&total, e);
    AddTrees(&first, ed);
    AddTrees(&second, ed * d);
  });
  const double sum = total.Total().hi, mean = first.Total().hi / sum;
  return {static_cast<double>(max), mean, second.Total().hi / sum - mean * mean};
}

// Rows of at most kInOrder elements, one in each lane.
template <class T>
inline void MomentsOfPanel(const Panel<T>& panel, const Temperature<Vec<T>>& temperature, RowMoments* moments) {
  using V = Vec<T>;
  Columns<T> columns;
  const V max = LoadTransposed(panel, columns.at);
  const auto x = AsStrip<T, false>(columns.at, panel.n);
  const ExpShift<V, true> shift(max, temperature);
  WideSum<V> total, first, second;
  ForEachStripRow(x.n, [&]<size_t U>(size_t i, RowCount<U>) {
    const auto v = x.template Rows<U>(i, 1);
    const auto d = Distance(v, shift), e = ScaledExp(v, shift), ed = e * d;
    AddEach(&total, e);
    AddEach(&first, ed);
    AddEach(&second, ed * d);
  });
  const auto sum = total.Lanes().hi, mean = first.Lanes().hi / sum;
  const auto variance = second.Lanes().hi / sum - mean * mean;
  constexpr Whole<V::kLanes / F64::kLanes> kAll;
  double maxima[V::kLanes], means[V::kLanes], variances[V::kLanes];
  StoreLanes(maxima, Promote(max), kAll);
  StoreLanes(means, mean, kAll);
  StoreLanes(variances, variance, kAll);
  for (size_t j = 0; j < panel.rows; ++j) moments[j] = {maxima[j], means[j], variances[j]};
}

template <class T>
BOLTZMAX_KERNEL inline void MomentsOfRows(const T* x, ptrdiff_t stride, size_t rows, size_t n, double temperature,
                                          RowMoments* moments) {
  using V = Vec<T>;
  const Temperature<V> t = MakeTemperature<V>(temperature);
  if (n > V::kInOrder) {
    for (size_t r = 0; r < rows; ++r) moments[r] = MomentsOfRow(RowAt(x, stride, r), n, t);
    return;
  }
  constexpr size_t kRows = Panel<T>::kRows;
  for (size_t r = 0; r < rows; r += kRows) {
    const Panel<T> panel = {
        RowAt(x, stride, r), nullptr, nullptr, stride, 0, 0, rows - r < kRows ? rows - r : kRows, n, false};
    MomentsOfPanel(panel, t, moments + r);
  }
}

}  // namespace
}  // namespace boltzmax::kernels
