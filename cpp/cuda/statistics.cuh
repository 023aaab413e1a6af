// Statistics of rows of logits: their logsumexp, entropy, largest elements, and the target's rank.
#pragma once

#include "ranking.cuh"
#include "rows.cuh"

namespace boltzmax::cuda {

// The key of an element in the top: NaN ranks as low as -inf.
template <class T>
BOLTZMAX_DEVICE T RankingKey(T x) {
  return x > -Infinity<T>() ? x : -Infinity<T>();
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
      const Candidate<T> here = {RankingKey(row.X(i)), i};
      if (last.GoesBefore(here) && here.GoesBefore(best)) best = here;
    }
    return best;
  }
};

// ---- the first k of a row, for large k ----

// Unsigned numbers in the order of ranking: the key of the first candidate has the smallest. Zeros of both signs are
// equal.
BOLTZMAX_DEVICE uint64_t OrderOf(float key) {
  const auto bits = BitCast<uint32_t>(key == 0.0f ? 0.0f : key);
  return bits >> 31 != 0 ? bits : bits ^ 0x7fffffffu;
}
BOLTZMAX_DEVICE uint64_t OrderOf(double key) {
  const auto bits = BitCast<uint64_t>(key == 0.0 ? 0.0 : key);
  return bits >> 63 != 0 ? bits : bits ^ 0x7fffffffffffffffu;
}

inline constexpr int kDigitBits = 8, kDigits = 1 << kDigitBits;
using Tally = unsigned long long;  // an integer that atomicAdd takes
static_assert(kDigits == kStatisticsThreads, "each thread clears one tally");

// The number at a rank, from 0 on, among number_of(i) for i < n of those that count: a radix selection, the highest
// digits first. Then the rank is that among equal numbers. All threads of a block call together.
template <class NumberOf, class Counts>
BOLTZMAX_DEVICE uint64_t NumberAtRank(int64_t* rank, int64_t n, int bits, Tally* tallies, NumberOf number_of,
                                      Counts counts) {
  uint64_t prefix = 0;
  BOLTZMAX_NO_UNROLL
  for (int shift = bits - kDigitBits; shift >= 0; shift -= kDigitBits) {
    tallies[threadIdx.x] = 0;
    __syncthreads();
    BOLTZMAX_NO_UNROLL
    for (int64_t i = threadIdx.x; i < n; i += kStatisticsThreads) {
      const uint64_t digits = number_of(i) >> shift;
      if (digits >> kDigitBits == prefix && counts(i)) atomicAdd(&tallies[digits % kDigits], Tally{1});
    }
    __syncthreads();
    int digit = 0;
    for (; *rank >= static_cast<int64_t>(tallies[digit]); ++digit) *rank -= static_cast<int64_t>(tallies[digit]);
    prefix = prefix << kDigitBits | static_cast<uint64_t>(digit);
    __syncthreads();  // the tallies have been read
  }
  return prefix;
}

// Stores the first k elements of a row, sorted: those before the k-th are found by a selection, by key and then by
// index, which takes the row's length times the number of digits.
template <class S, class T = Compute<S>>
BOLTZMAX_DEVICE void StoreTop(const RowOf<S>& row, int64_t n, int64_t k, const CandidateArrays<T>& top,
                              Tally* tallies) {
  const auto order_of = [&](int64_t i) { return OrderOf(RankingKey(row.X(i))); };
  uint64_t last_order = UINT64_MAX, last_index = UINT64_MAX;
  if (k < n) {
    int64_t rank = k - 1;
    last_order =
        NumberAtRank(&rank, n, 8 * static_cast<int>(sizeof(T)), tallies, order_of, [](int64_t) { return true; });
    int bits = kDigitBits;
    while (bits < 64 && (n - 1) >> bits > 0) bits += kDigitBits;
    last_index = NumberAtRank(
        &rank, n, bits, tallies, [](int64_t i) { return static_cast<uint64_t>(i); },
        [&](int64_t i) { return order_of(i) == last_order; });
  }
  tallies[threadIdx.x] = 0;
  __syncthreads();
  BOLTZMAX_NO_UNROLL
  for (int64_t i = threadIdx.x; i < n; i += kStatisticsThreads) {
    const T key = RankingKey(row.X(i));
    const uint64_t order = OrderOf(key);
    if (order > last_order || (order == last_order && static_cast<uint64_t>(i) > last_index)) continue;
    top.Set(static_cast<int64_t>(atomicAdd(&tallies[0], Tally{1})), {key, i});
  }
  __syncthreads();
  Sort<static_cast<int>(kStatisticsThreads)>(top, k);
}

// ---- all statistics ----

// Up to so many ranks are found by a tournament: all threads offer their best element, and the winner looks for its
// next. That takes a share of the row for each rank; more ranks are selected and sorted.
inline constexpr int64_t kFewRanks = 16;

// One block per row.
template <class S, bool kHasFewRanks>
__global__ void __launch_bounds__(kStatisticsThreads)
    StatisticsOfRows(const __grid_constant__ Task task, const __grid_constant__ Statistics out) {
  using T = Compute<S>;
  BOLTZMAX_SHARED(Candidate<T>, shared_best, kStatisticsWarps);
  BOLTZMAX_SHARED(Terms<T>, shared_terms, kStatisticsWarps);
  BOLTZMAX_SHARED(WideSum<T>, shared_mean, kStatisticsWarps);
  BOLTZMAX_SHARED(int64_t, shared_count, kStatisticsWarps);
  BOLTZMAX_SHARED(T, shared_log, 2);
  BOLTZMAX_SHARED(Tally, tallies, kHasFewRanks ? 1 : kDigits);
  const int64_t r = static_cast<int64_t>(blockIdx.x);
  const RowOf<S> row(task, r);
  const Temperature<T> temperature(task.temperature);
  const ExpOf<T> exp(temperature);
  const ShareOfRow<S> share = {row, static_cast<int64_t>(threadIdx.x), task.n};
  const int64_t target = task.target == nullptr ? -1 : task.target[r];
  const bool has_target = target >= 0 && target < task.n;
  const T at_target = has_target ? row.X(target) : NotANumber<T>();

  Candidate<T> mine = share.BestAfter({Infinity<T>(), -1});
  Candidate<T> best = FoldBest<kStatisticsWarps>(mine, shared_best);
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
  const CandidateArrays<T> top = {reinterpret_cast<T*>(out.top_log_probs) + r * out.k, out.top_ids + r * out.k};
  if constexpr (kHasFewRanks) {
    for (int64_t j = 0; j < out.k; ++j) {
      if (threadIdx.x == 0) top.Set(j, {log_prob(best.key), best.id});
      if (j + 1 == out.k) return;
      if (mine.id == best.id) mine = share.BestAfter(best);
      best = FoldBest<kStatisticsWarps>(mine, shared_best);
    }
  } else {
    StoreTop(row, task.n, out.k, top, tallies);
    for (int64_t j = threadIdx.x; j < out.k; j += kStatisticsThreads) top.keys[j] = log_prob(top.keys[j]);
  }
}

}  // namespace boltzmax::cuda
