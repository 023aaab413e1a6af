// Statistics of rows of logits: their logsumexp, entropy, largest elements, and the target's rank.
#pragma once

#include "rows.cuh"

namespace boltzmax::cuda {

// A candidate for the top: the larger comes first; of equal ones, the lower index. NaN ranks as low as -inf.
template <class T>
struct Candidate {
  T key;
  int64_t id;

  BOLTZMAX_DEVICE bool GoesBefore(const Candidate& other) const {
    return key > other.key || (key == other.key && id < other.id);
  }
};
template <class T>
BOLTZMAX_DEVICE Candidate<T> FromLane(const Candidate<T>& candidate, int distance) {
  return {FromLane(candidate.key, distance), FromLane(candidate.id, distance)};
}

inline constexpr int kStatisticsWarps = 8;
inline constexpr int64_t kStatisticsThreads = 32 * kStatisticsWarps;

// The elements of a row that one thread handles.
template <class S>
struct ShareOfRow {
  using T = Compute<S>;
  const RowOf<S>& row;
  int64_t first, n;

  // The best element that comes after `last`.
  BOLTZMAX_DEVICE Candidate<T> BestAfter(const Candidate<T>& last) const {
    Candidate<T> best = {-Infinity<T>(), n};
    BOLTZMAX_NO_UNROLL
    for (int64_t i = first; i < n; i += kStatisticsThreads) {
      const T x = row.X(i);
      const Candidate<T> here = {x > -Infinity<T>() ? x : -Infinity<T>(), i};
      if (last.GoesBefore(here) && here.GoesBefore(best)) best = here;
    }
    return best;
  }
};

// One block per row. The top is a tournament: all threads offer their best element, and the winner looks for its next.
template <class S>
__global__ void __launch_bounds__(kStatisticsThreads)
    StatisticsOfRows(const __grid_constant__ Task task, const __grid_constant__ Statistics out) {
  using T = Compute<S>;
  BOLTZMAX_SHARED(Candidate<T>, shared_best, kStatisticsWarps);
  BOLTZMAX_SHARED(Terms<T>, shared_terms, kStatisticsWarps);
  BOLTZMAX_SHARED(WideSum<T>, shared_mean, kStatisticsWarps);
  BOLTZMAX_SHARED(int64_t, shared_count, kStatisticsWarps);
  BOLTZMAX_SHARED(T, shared_log, 2);
  const int64_t r = static_cast<int64_t>(blockIdx.x);
  const RowOf<S> row(task, r);
  const Temperature<T> temperature(task.temperature);
  const ExpOf<T> exp(temperature);
  const ShareOfRow<S> share = {row, static_cast<int64_t>(threadIdx.x), task.n};
  const auto fold_best = [&](const Candidate<T>& mine) {
    return Fold<kStatisticsWarps>(mine, shared_best, [](Candidate<T>& a, const Candidate<T>& b) {
      if (b.GoesBefore(a)) a = b;
    });
  };
  const int64_t target = task.target == nullptr ? -1 : task.target[r];
  const bool has_target = target >= 0 && target < task.n;
  const T at_target = has_target ? row.X(target) : NotANumber<T>();

  Candidate<T> mine = share.BestAfter({Infinity<T>(), -1});
  Candidate<T> best = fold_best(mine);
  auto sum = RowSum<T>::Empty();
  sum.max = best.key;
  auto mean = WideSum<T>::Zero();  // of (x - max) / T, weighted by the exponentials
  int64_t above = 0;
  BOLTZMAX_NO_UNROLL
  for (int64_t i = share.first; i < task.n; i += kStatisticsThreads) {
    const T x = row.X(i);
    above += x > at_target ? 1 : 0;
    if (x == sum.max) {
      ++sum.terms.count;
      continue;
    }
    const T e = exp(x - sum.max);
    sum.Add(e);
    if (e > T(0)) mean.Add(e * temperature.Divide(x - sum.max));
  }
  sum.terms = Fold<kStatisticsWarps>(sum.terms, shared_terms, Join());
  mean = Fold<kStatisticsWarps>(mean, shared_mean, Join());
  above = Fold<kStatisticsWarps>(above, shared_count, [](int64_t& a, int64_t b) { a += b; });

  const Result<T> result(task, r, sum, shared_log);
  const bool is_degenerate = sum.max - sum.max != T(0) || result.totals.log_hi != result.totals.log_hi;
  const auto log_prob = [&](T x) { return is_degenerate ? NotANumber<T>() : result.LogShare(x); };
  const auto set = [&](char* where, int64_t i, T value) { reinterpret_cast<T*>(where)[i] = value; };
  if (threadIdx.x == 0) {
    const T lse = result.LogSumExp();
    set(out.lse, r, lse);
    set(out.energy, r, static_cast<T>(-task.temperature.value * static_cast<double>(lse)));
    if (out.entropy != nullptr) {
      // log sum exp((x - max) / T) less the mean of (x - max) / T: neither term is negative.
      const T below = mean.Total() * result.totals.inverse_hi;
      set(out.entropy, r, is_degenerate ? NotANumber<T>() : result.totals.log_hi + (result.totals.log_lo - below));
    }
    if (task.target != nullptr) {
      set(out.target_log_prob, r, log_prob(at_target));
      out.target_rank[r] = has_target ? 1 + above : 0;
    }
  }
  for (int64_t j = 0; j < out.k; ++j) {
    if (threadIdx.x == 0) {
      out.top_ids[r * out.k + j] = best.id;
      set(out.top_log_probs, r * out.k + j, log_prob(row.X(best.id)));
    }
    if (j + 1 == out.k) return;
    if (mine.id == best.id) mine = share.BestAfter(best);
    best = fold_best(mine);
  }
}

}  // namespace boltzmax::cuda
