// The kernels. A row is reduced to a RowSum and mapped with it; Result says what becomes of an element.
//
//   RowsInRegisters   one warp a row, or one block: read once, written once
//   PiecesOfRows      rows too long for that, or of any strides: a block sums a piece of a row,
//   MapPieces         and another maps it with the sum of all
//
// Lanes beyond a row, or masked, are -inf, whose exponential is 0.
#pragma once

#include "row_sum.cuh"
#include "task.hpp"

namespace boltzmax::cuda {

// ---- where elements lie ----

enum Operand : int { kX = 0, kY = 1, kThird = 2 };

BOLTZMAX_DEVICE int64_t OffsetOf(const Axes& axes, int operand, int64_t index) {
  int64_t offset = 0;
  for (int d = axes.count - 1; d > 0; --d) {
    offset += index % axes.size[d] * axes.stride[operand][d];
    index /= axes.size[d];
  }
  return axes.count == 0 ? offset : offset + index * axes.stride[operand][0];
}

template <class S>
struct RowOf {
  const Task& task;
  const char* x;
  char* y;
  const char* third;

  BOLTZMAX_DEVICE RowOf(const Task& t, int64_t r)
      : task(t),
        x(t.x + OffsetOf(t.outer, kX, r)),
        y(t.y == nullptr ? nullptr : t.y + OffsetOf(t.outer, kY, r)),
        third(t.third == nullptr ? nullptr : t.third + OffsetOf(t.outer, kThird, r)) {}

  BOLTZMAX_DEVICE bool Counts(int64_t i) const {
    return third == nullptr || *(third + OffsetOf(task.inner, kThird, i)) != 0;
  }
  BOLTZMAX_DEVICE Compute<S> X(int64_t i) const {
    return Widen(*reinterpret_cast<const S*>(x + OffsetOf(task.inner, kX, i)));
  }
  BOLTZMAX_DEVICE Compute<S> Third(int64_t i) const {
    return Widen(*reinterpret_cast<const S*>(third + OffsetOf(task.inner, kThird, i)));
  }
  BOLTZMAX_DEVICE void SetY(int64_t i, Compute<S> value) const {
    *reinterpret_cast<S*>(y + OffsetOf(task.inner, kY, i)) = Narrow<S>::Of(value);
  }
};

// ---- what becomes of an element, and of a row ----

template <class T>
struct Result {
  const Task& task;
  RowTotals<T> totals;
  Temperature<T> temperature;
  int64_t target;  // -1 where there is none, or the row is left out
  T gain;

  BOLTZMAX_DEVICE Result(const Task& t, int64_t r, const RowSum<T>& sum)
      : task(t), totals(sum, t.operation != Operation::kSoftmax), temperature(t.temperature), target(-1), gain(1) {
    if (task.operation != Operation::kCrossEntropy) return;
    target = task.target[r];
    gain = static_cast<T>(task.gain * (task.scale == nullptr ? 1.0 : *task.scale));
    if (target >= task.n) gain = NotANumber<T>();
  }

  // (x - max) / T, given x
  BOLTZMAX_DEVICE T Difference(T x) const { return temperature.Divide(x - totals.max); }
  // softmax, given exp(x - max)
  BOLTZMAX_DEVICE T Share(T e) const { return MulAdd(e, totals.inverse_hi, e * totals.inverse_lo); }
  BOLTZMAX_DEVICE T LogShare(T x) const { return (Difference(x) - totals.log_hi) - totals.log_lo; }

  // What `Of` wants of an element: x, or the exponential.
  BOLTZMAX_DEVICE T Kept(T x, T e) const { return task.operation == Operation::kLogSoftmax ? x : e; }
  // Of element i, which counts or does not.
  BOLTZMAX_DEVICE T Of(int64_t i, T kept, bool counts) const {
    const bool is_finite = totals.max - totals.max == T(0);
    switch (task.operation) {
      case Operation::kLogSoftmax: return counts ? LogShare(kept) : -Infinity<T>();
      case Operation::kCrossEntropy: {
        if (target < 0) return T(0);
        const T p = is_finite ? Share(kept) : NotANumber<T>();
        return gain * (p - (i == target ? T(1) : T(0)));
      }
      default: return !counts ? T(0) : (is_finite ? Share(kept) : NotANumber<T>());
    }
  }

  BOLTZMAX_DEVICE T LogSumExp() const {
    if (totals.is_empty) return -Infinity<T>();
    if (totals.log_hi != totals.log_hi) return totals.log_hi;
    if (totals.max - totals.max != T(0)) return totals.max;
    const double log = static_cast<double>(totals.log_hi) + static_cast<double>(totals.log_lo);
    return static_cast<T>(static_cast<double>(totals.max) / task.temperature + log);
  }
  // Of the whole row: its logarithm, or its loss.
  template <class S>
  BOLTZMAX_DEVICE void StoreOfRow(int64_t r, const RowOf<S>& row) const {
    if (task.operation == Operation::kLogSumExp) *reinterpret_cast<S*>(row.y) = Narrow<S>::Of(LogSumExp());
    if (task.operation != Operation::kCrossEntropy) return;
    T loss = T(0);
    if (target >= task.n) loss = NotANumber<T>();
    if (target >= 0 && target < task.n) loss = T(0) - LogShare(row.X(target));
    reinterpret_cast<T*>(task.loss)[r] = loss;
  }
  BOLTZMAX_DEVICE bool MapsElements() const { return task.operation != Operation::kLogSumExp && task.y != nullptr; }
};

// ---- rows that fit into the registers of a warp or a block ----

template <class S, int kItems, int kPackets, int kWarps, int kRowsOfBlock>
__global__ void __launch_bounds__(32 * kWarps * kRowsOfBlock) RowsInRegisters(const __grid_constant__ Task task) {
  using T = Compute<S>;
  constexpr int kThreads = 32 * kWarps;
  __shared__ T shared_max[kWarps];
  __shared__ RowSum<T> shared_sum[kWarps];
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t r = static_cast<int64_t>(blockIdx.x) * kRowsOfBlock + static_cast<int64_t>(threadIdx.y);
  if (r >= task.rows) return;
  const RowOf<S> row(task, r);
  const Temperature<T> temperature(task.temperature);
  const auto first_of = [&](int p) { return (static_cast<int64_t>(p) * kThreads + thread) * kItems; };

  T x[kPackets][kItems];
  T max = -Infinity<T>();
  BOLTZMAX_UNROLL
  for (int p = 0; p < kPackets; ++p) {
    const int64_t first = first_of(p);
    Packet<S, kItems> packet;
    if (first < task.n) packet = Packet<S, kItems>::Load(reinterpret_cast<const S*>(row.x) + first);
    BOLTZMAX_UNROLL
    for (int i = 0; i < kItems; ++i) {
      x[p][i] = first < task.n && row.Counts(first + i) ? Widen(packet.item[i]) : -Infinity<T>();
      max = Max(max, x[p][i]);
    }
  }
  max = Fold<kWarps>(max, shared_max, [](T& a, T b) { a = Max(a, b); });

  RowSum<T> sum = RowSum<T>::Empty();
  sum.max = max;
  BOLTZMAX_UNROLL
  for (int p = 0; p < kPackets; ++p) {
    const int64_t first = first_of(p);
    T tree[kItems];
    BOLTZMAX_UNROLL
    for (int i = 0; i < kItems; ++i) {
      const bool is_largest = x[p][i] == max;
      const T e = is_largest ? T(1) : Exp(x[p][i] - max, temperature);
      tree[i] = is_largest ? T(0) : e;
      // Where nothing but -inf counts, lanes that do not count look like the largest.
      sum.count += is_largest && first < task.n && (max != -Infinity<T>() || row.Counts(first + i)) ? 1 : 0;
      if (task.operation != Operation::kLogSoftmax) x[p][i] = e;
    }
    BOLTZMAX_UNROLL
    for (int step = kItems / 2; step > 0; step /= 2) {
      BOLTZMAX_UNROLL
      for (int i = 0; i < step; ++i) tree[i] += tree[i + step];
    }
    sum.Add(tree[0]);
  }
  sum = Fold<kWarps>(sum, shared_sum, [&](RowSum<T>& a, const RowSum<T>& b) { a.Merge(b, temperature); });

  const Result<T> result(task, r, sum);
  if (thread == 0) result.StoreOfRow(r, row);
  if (!result.MapsElements()) return;
  // y may be x, of which the loss has just read an element.
  kWarps == 1 ? __syncwarp() : __syncthreads();
  BOLTZMAX_UNROLL
  for (int p = 0; p < kPackets; ++p) {
    const int64_t first = first_of(p);
    if (first >= task.n) continue;
    Packet<S, kItems> packet;
    BOLTZMAX_UNROLL
    for (int i = 0; i < kItems; ++i) {
      packet.item[i] = Narrow<S>::Of(result.Of(first + i, x[p][i], row.Counts(first + i)));
    }
    packet.Store(reinterpret_cast<S*>(row.y) + first);
  }
}

// ---- pieces of long rows, and rows of any strides ----

inline constexpr int kPieceWarps = 8;
inline constexpr int64_t kPiece = 16384;

// The sum of one piece. Where a row is one piece, it is mapped at once (`sums` is null).
template <class S>
__global__ void __launch_bounds__(32 * kPieceWarps)
    PiecesOfRows(const __grid_constant__ Task task, int64_t pieces, RowSum<Compute<S>>* sums) {
  using T = Compute<S>;
  __shared__ T shared_max[kPieceWarps];
  __shared__ RowSum<T> shared_sum[kPieceWarps];
  const Temperature<T> temperature(task.temperature);
  const int64_t begin = static_cast<int64_t>(blockIdx.x) % pieces * kPiece;
  const int64_t end = begin + kPiece < task.n ? begin + kPiece : task.n;
  const int64_t r = static_cast<int64_t>(blockIdx.x) / pieces;
  const RowOf<S> row(task, r);
  const int64_t first = begin + static_cast<int64_t>(threadIdx.x), step = 32 * kPieceWarps;

  T max = -Infinity<T>();
  for (int64_t i = first; i < end; i += step) {
    if (row.Counts(i)) max = Max(max, row.X(i));
  }
  max = Fold<kPieceWarps>(max, shared_max, [](T& a, T b) { a = Max(a, b); });

  RowSum<T> sum = RowSum<T>::Empty();
  sum.max = max;
  for (int64_t i = first; i < end; i += step) {
    if (!row.Counts(i)) continue;
    const T x = row.X(i);
    if (x == max) {
      ++sum.count;
    } else {
      sum.Add(Exp(x - max, temperature));
    }
  }
  sum = Fold<kPieceWarps>(sum, shared_sum, [&](RowSum<T>& a, const RowSum<T>& b) { a.Merge(b, temperature); });
  if (sums != nullptr) {
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
    return;
  }

  const Result<T> result(task, r, sum);
  if (threadIdx.x == 0) result.StoreOfRow(r, row);
  if (!result.MapsElements()) return;
  __syncthreads();  // y may be x, of which the loss has just read an element
  for (int64_t i = first; i < end; i += step) {
    const T x = row.X(i);
    const T e = x == max ? T(1) : Exp(x - max, temperature);
    row.SetY(i, result.Of(i, result.Kept(x, e), row.Counts(i)));
  }
}

// Joins the sums of a row's pieces, in their order, and maps one of them.
template <class S>
__global__ void __launch_bounds__(32 * kPieceWarps)
    MapPieces(const __grid_constant__ Task task, int64_t pieces, const RowSum<Compute<S>>* sums) {
  using T = Compute<S>;
  __shared__ RowSum<T> shared_sum[kPieceWarps];
  const Temperature<T> temperature(task.temperature);
  const int64_t piece = static_cast<int64_t>(blockIdx.x) % pieces, r = static_cast<int64_t>(blockIdx.x) / pieces;
  const RowOf<S> row(task, r);
  RowSum<T> sum = RowSum<T>::Empty();
  for (int64_t s = static_cast<int64_t>(threadIdx.x); s < pieces; s += 32 * kPieceWarps) {
    sum.Merge(sums[r * pieces + s], temperature);
  }
  sum = Fold<kPieceWarps>(sum, shared_sum, [&](RowSum<T>& a, const RowSum<T>& b) { a.Merge(b, temperature); });

  const Result<T> result(task, r, sum);
  const bool holds_target = result.target / kPiece == piece;
  // The block that will overwrite the target's element, if y is x, is the one that reads it.
  if (threadIdx.x == 0 &&
      (task.operation == Operation::kCrossEntropy && result.target >= 0 && result.target < task.n ? holds_target
                                                                                                  : piece == 0)) {
    result.StoreOfRow(r, row);
  }
  if (!result.MapsElements()) return;
  __syncthreads();
  const int64_t end = (piece + 1) * kPiece < task.n ? (piece + 1) * kPiece : task.n;
  for (int64_t i = piece * kPiece + static_cast<int64_t>(threadIdx.x); i < end; i += 32 * kPieceWarps) {
    const T x = row.X(i);
    const T e = x == sum.max ? T(1) : Exp(x - sum.max, temperature);
    row.SetY(i, result.Of(i, result.Kept(x, e), row.Counts(i)));
  }
}

}  // namespace boltzmax::cuda
