// Losses and statistics of a batch of rows, panel by panel.
#pragma once

#include "../panels/widened.hpp"
#include "losses.hpp"

namespace boltzmax::kernels {
namespace {

// How a panel is reduced: its rows transposed, as stored, or as stored and in one pass.
enum class Form { kTransposed, kAlong, kInOnePass };
template <Form kForm, bool kMayBeScaled>
struct FormAs {
  static constexpr Form value = kForm;
  static constexpr bool kScaled = kMayBeScaled;
};

// Calls f with the form as a type; transposed rows, the shortest, also without a temperature. Rows of 16 bits that are
// short have been widened.
template <class S, class F>
inline void WithForm(size_t n, bool scaled, F f) {
  using T = Compute<S>;
  if constexpr (sizeof(S) == sizeof(T)) {
    if (n <= Vec<T>::kInOrder) {
      return scaled ? f(FormAs<Form::kTransposed, true>{}) : f(FormAs<Form::kTransposed, false>{});
    }
    if (n <= kPaneledForLogs<T>) return f(FormAs<Form::kAlong, true>{});
  }
  f(FormAs<Form::kInOnePass, true>{});
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
  WithForm<S>(b.n, t.vector.scaled, [&](auto form) {
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
  PlainTrial trial;
  ForEachLossPanel<S>(b, reinterpret_cast<S*>(b.y), b.y_stride, b.y != nullptr,
                      [&](auto form, size_t first, const Panel<S>& panel, const auto& t) {
                        constexpr Form kForm = decltype(form)::value;
                        if constexpr (kForm == Form::kTransposed)
                          CrossEntropyTransposed<decltype(form)::kScaled>(b, first, panel, t);
                        if constexpr (kForm == Form::kAlong) CrossEntropyAlong(b, first, panel, t, &trial);
                        if constexpr (kForm == Form::kInOnePass) CrossEntropyInOnePass(b, first, panel, t);
                      });
}
template <class S>
BOLTZMAX_KERNEL inline void RowStatsRows(const RowStatsBatch& b) {
  PlainTrial trial;
  ForEachLossPanel<S>(b, static_cast<S*>(nullptr), 0, true,
                      [&](auto form, size_t first, const Panel<S>& panel, const auto& t) {
                        constexpr Form kForm = decltype(form)::value;
                        if constexpr (kForm == Form::kTransposed)
                          StatsTransposed<decltype(form)::kScaled>(b, first, panel, t);
                        if constexpr (kForm == Form::kAlong) StatsAlong(b, first, panel, t, &trial);
                        if constexpr (kForm == Form::kInOnePass) StatsInOnePass(b, first, panel, t);
                      });
}

// Calls run(rows) for rows of floats: those of 16 bits [first, first + rows) of a batch.
template <Storage16 S, class Batch, class F>
inline void ForEachWideBatch(const Batch& b, F run) {
  ForEachWidenedBlock<S>({reinterpret_cast<const S*>(b.x), b.x_stride}, b.rows, b.n, b.far,
                         [&](size_t first, size_t rows, float* x) {
                           Batch wide = b;
                           wide.x = reinterpret_cast<const char*>(x);
                           wide.x_stride = static_cast<ptrdiff_t>(b.n * sizeof(float));
                           wide.rows = rows;
                           wide.far = false;
                           if (b.target != nullptr) wide.target += first;
                           wide.lse += first;
                           run(first, x, &wide);
                         });
}
template <Storage16 S>
BOLTZMAX_KERNEL inline void WidenedCrossEntropy(const LossBatch& b) {
  ForEachWideBatch<S>(b, [&](size_t first, float* x, LossBatch* wide) {
    wide->log_prob += first;
    if (b.y == nullptr) return CrossEntropyRows<float>(*wide);
    const size_t step = first * b.step;
    wide->gain += step;
    wide->lse_gain += step;
    wide->add += step;
    wide->target_gain += step;
    wide->y = reinterpret_cast<char*>(x);
    wide->y_stride = wide->x_stride;
    CrossEntropyRows<float>(*wide);
    NarrowRows<S>(x, {Offset<S>(b.y, first, b.y_stride), b.y_stride}, wide->rows, b.n, false);
  });
}
template <Storage16 S>
BOLTZMAX_KERNEL inline void WidenedRowStats(const RowStatsBatch& b) {
  ForEachWideBatch<S>(b, [&](size_t first, float*, RowStatsBatch* wide) {
    if (b.top_id != nullptr) {
      wide->top_id += first;
      wide->top_log_prob += first;
    }
    if (b.target != nullptr) {
      wide->target_log_prob += first;
      wide->target_rank += first;
    }
    RowStatsRows<float>(*wide);
  });
}

template <class S>
inline void CrossEntropy(const LossBatch& b) {
  if constexpr (sizeof(S) < sizeof(Compute<S>)) {
    if (b.n <= kPaneledForLogs<Compute<S>>) return WidenedCrossEntropy<S>(b);
  }
  CrossEntropyRows<S>(b);
}
template <class S>
inline void RowStats(const RowStatsBatch& b) {
  if constexpr (sizeof(S) < sizeof(Compute<S>)) {
    if (b.n <= kPaneledForLogs<Compute<S>>) return WidenedRowStats<S>(b);
  }
  RowStatsRows<S>(b);
}

template <class S>
constexpr LossKernels kLossKernels = {kSegment<S>, CrossEntropy<S>, RowStats<S>};

}  // namespace
}  // namespace boltzmax::kernels
