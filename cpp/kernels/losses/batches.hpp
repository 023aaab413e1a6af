// Losses and statistics of a batch of rows, panel by panel.
#pragma once

#include "losses.hpp"

namespace boltzmax::kernels {
namespace {

// How a panel is reduced: its rows transposed, as stored, or as stored and in one pass.
enum class Form { kTransposed, kAlong, kInOnePass };
template <Form kForm>
struct FormAs {
  static constexpr Form value = kForm;
};

// Calls f with the form as a type.
template <class V, class F>
inline void WithForm(size_t n, F f) {
  using T = typename V::Scalar;
  if (n <= V::kInOrder) return f(FormAs<Form::kTransposed>{});
  if (n <= kPaneledForLogs<T>) return f(FormAs<Form::kAlong>{});
  f(FormAs<Form::kInOnePass>{});
}

// The number of rows in a panel. What a gradient reads again should still be in the second-level cache.
template <class S>
inline size_t RowsOfPanel(size_t n, bool reads_again) {
  constexpr size_t kBytes = 65536;
  const size_t fit = kBytes / (n * sizeof(S));
  if (!reads_again || fit >= Panel<S>::kRows) return Panel<S>::kRows;
  return fit == 0 ? 1 : fit;
}

// Calls f(form, first, panel, temperatures) for every panel of rows.
template <class S, class Batch, class F>
inline void ForEachLossPanel(const Batch& b, S* y, ptrdiff_t y_stride, bool reads_again, F f) {
  using V = VecOf<S>;
  const size_t rows = RowsOfPanel<S>(b.n, reads_again && b.n > kPaneledForLogs<Compute<S>>);
  StripTemperature<V> t;
  if (b.temperature != 1.0) t = {&b.temperature, 0, V::kLanes};
  WithForm<V>(b.n, [&](auto form) {
    for (size_t r = 0; r < b.rows; r += rows) {
      const Panel<S> panel = {RowAt(reinterpret_cast<const S*>(b.x), b.x_stride, r),
                              y == nullptr ? nullptr : RowAt(y, y_stride, r),
                              nullptr,
                              b.x_stride,
                              y_stride,
                              0,
                              b.rows - r < rows ? b.rows - r : rows,
                              b.n,
                              b.far};
      f(form, r, panel, t);
    }
  });
}

template <class S>
BOLTZMAX_KERNEL inline void CrossEntropyRows(const LossBatch& b) {
  ForEachLossPanel<S>(b, reinterpret_cast<S*>(b.y), b.y_stride, b.y != nullptr,
                      [&](auto form, size_t first, const Panel<S>& panel, const auto& t) {
                        constexpr Form kForm = decltype(form)::value;
                        if constexpr (kForm == Form::kTransposed) CrossEntropyTransposed(b, first, panel, t);
                        if constexpr (kForm == Form::kAlong) CrossEntropyAlong(b, first, panel, t);
                        if constexpr (kForm == Form::kInOnePass) CrossEntropyInOnePass(b, first, panel, t);
                      });
}
template <class S>
BOLTZMAX_KERNEL inline void RowStatsRows(const RowStatsBatch& b) {
  ForEachLossPanel<S>(b, static_cast<S*>(nullptr), 0, true,
                      [&](auto form, size_t first, const Panel<S>& panel, const auto& t) {
                        constexpr Form kForm = decltype(form)::value;
                        if constexpr (kForm == Form::kTransposed) StatsTransposed(b, first, panel, t);
                        if constexpr (kForm == Form::kAlong) StatsAlong(b, first, panel, t);
                        if constexpr (kForm == Form::kInOnePass) StatsInOnePass(b, first, panel, t);
                      });
}

template <class S>
constexpr LossKernels kLossKernels = {kSegment<S>, CrossEntropyRows<S>, RowStatsRows<S>};

}  // namespace
}  // namespace boltzmax::kernels
