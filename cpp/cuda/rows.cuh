// The kernels. A row is reduced to a RowSum and mapped with it; Result says what becomes of an element.
//
//   ShortRows      a warp keeps a row in registers: read once, written once
//   StagedRows     a block, or a cluster of blocks, keeps one in shared memory: the same
//   PiecesOfRows   rows too long for that, or of any strides: a block sums a piece of a row,
//   JoinPieces     another joins them,
//   MapPieces      and others map the pieces
//
// Lanes beyond a row, or masked, are -inf, whose exponential is 0.
#pragma once

#include "row_sum.cuh"
#include "task.hpp"

namespace boltzmax::cuda {

// ---- where elements lie ----

enum Operand : int { kX = 0, kY = 1, kThird = 2 };

// Divisions of 64 bits are long: one copy of them, for the slow way.
template <int kUnused = 0>
__device__ __noinline__ int64_t OffsetAlongAxes(const Axes& axes, int operand, int64_t index) {
  int64_t offset = 0;
  BOLTZMAX_NO_UNROLL
  for (int d = axes.count - 1; d > 0; --d) {
    offset += index % axes.size[d] * axes.stride[operand][d];
    index /= axes.size[d];
  }
  return offset + index * axes.stride[operand][0];
}
BOLTZMAX_DEVICE int64_t OffsetOf(const Axes& axes, int operand, int64_t index) {
  return axes.count <= 1 ? index * axes.stride[operand][0] : OffsetAlongAxes(axes, operand, index);
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

  // `shared` has room for two; null where the threads are those of one warp.
  BOLTZMAX_DEVICE Result(const Task& t, int64_t r, const RowSum<T>& sum, T* shared)
      : task(t), totals(sum), temperature(t.temperature), target(-1), gain(1) {
    if (task.operation != Operation::kSoftmax) FindLog(sum, shared);
    if (task.operation != Operation::kCrossEntropy) return;
    target = task.target[r];
    gain = static_cast<T>(task.gain * (task.scale == nullptr ? 1.0 : *task.scale));
    if (target >= task.n) gain = NotANumber<T>();
  }

  // By one warp, which tells the others of its block.
  BOLTZMAX_DEVICE void FindLog(const RowSum<T>& sum, T* shared) {
    if (shared == nullptr || threadIdx.x < 32) totals.FindLog(sum);
    if (shared == nullptr) return;
    if (threadIdx.x == 0) {
      shared[0] = totals.log_hi;
      shared[1] = totals.log_lo;
    }
    __syncthreads();
    totals.log_hi = shared[0];
    totals.log_lo = shared[1];
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
    return static_cast<T>(static_cast<double>(totals.max) / task.temperature.value + log);
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

// ---- rows that wait where they were read ----

// What a row's threads gather on the way: the largest element first, then the sum beside it.
template <class S>
struct Reader {
  using T = Compute<S>;
  static constexpr int kItems = Packet<S>::kItems;
  const RowOf<S>& row;
  const Packets<S>& packets;
  const ExpOf<S>& exp;
  bool keeps_exponentials;

  // A contiguous row has one axis, also in the mask.
  BOLTZMAX_DEVICE bool Counts(int i) const {
    return packets.Holds(i) && (row.third == nullptr || row.third[i * row.task.inner.stride[kThird][0]] != 0);
  }
  // The largest of a packet.
  BOLTZMAX_DEVICE T Largest(const Packet<S>& packet, int first) const {
    T largest = -Infinity<T>();
    BOLTZMAX_UNROLL
    for (int i = 0; i < kItems; ++i) {
      if (Counts(first + i)) largest = Max(largest, Widen(packet.item[i]));
    }
    return largest;
  }
  // Adds a packet x to the sum; x becomes the exponentials, if they are kept.
  BOLTZMAX_DEVICE void Add(T (&x)[kItems], int first, RowSum<T>& sum) const {
    T tree[kItems];
    BOLTZMAX_UNROLL
    for (int i = 0; i < kItems; ++i) {
      const bool counts = Counts(first + i);
      const bool is_largest = counts && x[i] == sum.max;
      const T e = is_largest ? T(1) : (counts ? exp(x[i] - sum.max) : T(0));
      tree[i] = is_largest ? T(0) : e;
      sum.count += is_largest ? 1 : 0;
      if (keeps_exponentials) x[i] = e;
    }
    BOLTZMAX_UNROLL
    for (int step = kItems / 2; step > 0; step /= 2) {
      BOLTZMAX_UNROLL
      for (int i = 0; i < step; ++i) tree[i] += tree[i + step];
    }
    sum.Add(tree[0]);
  }
  // `kept` are elements or exponentials, as Result::Kept says.
  BOLTZMAX_DEVICE void Store(const Result<T>& result, int first, const T (&kept)[kItems]) const {
    Packet<S> packet;
    BOLTZMAX_UNROLL
    for (int i = 0; i < kItems; ++i) {
      packet.item[i] = Narrow<S>::Of(result.Of(first + i, kept[i], Counts(first + i)));
    }
    packets.Store(row.y, first, packet);
  }
};

inline constexpr int kRowsOfBlock = 4;

// A warp for each row.
template <class S, int kPackets>
__global__ void __launch_bounds__(32 * kRowsOfBlock, 6) ShortRows(const __grid_constant__ Task task) {
  using T = Compute<S>;
  const int lane = static_cast<int>(threadIdx.x);
  const int64_t r = static_cast<int64_t>(blockIdx.x) * kRowsOfBlock + static_cast<int64_t>(threadIdx.y);
  if (r >= task.rows) return;
  const RowOf<S> row(task, r);
  const Packets<S> packets(row.x, task.n);
  const Temperature<T> temperature(task.temperature);
  const ExpOf<S> exp(temperature);
  const Reader<S> reader = {row, packets, exp, task.operation != Operation::kLogSoftmax};

  T x[kPackets][Packet<S>::kItems] = {};
  auto sum = RowSum<T>::Empty();
  BOLTZMAX_UNROLL
  for (int j = 0; j < kPackets; ++j) {
    const int p = j * 32 + lane;
    if (p >= packets.count) continue;
    const auto packet = packets.Load(row.x, packets.First(p));
    WidenPacket(packet, x[j]);
    sum.max = Max(sum.max, reader.Largest(packet, packets.First(p)));
  }
  sum.max = FoldWarp(sum.max, [](T& a, T b) { a = Max(a, b); });
  BOLTZMAX_UNROLL
  for (int j = 0; j < kPackets; ++j) {
    const int p = j * 32 + lane;
    if (p < packets.count) reader.Add(x[j], packets.First(p), sum);
  }
  sum = FoldWarp(sum, [&](RowSum<T>& a, const RowSum<T>& b) { a.Merge(b, temperature); });

  const Result<T> result(task, r, sum, nullptr);
  if (lane == 0) result.StoreOfRow(r, row);
  if (!result.MapsElements()) return;
  __syncwarp();  // y may be x, of which the loss has just read an element
  BOLTZMAX_UNROLL
  for (int j = 0; j < kPackets; ++j) {
    const int p = j * 32 + lane;
    if (p < packets.count) reader.Store(result, packets.First(p), x[j]);
  }
}

inline constexpr int kStagedWarps = 8, kStagedThreads = 32 * kStagedWarps;

// What of a row's packets one block of a cluster looks after.
template <bool kClustered>
struct ShareOfBlock {
  int rank, begin, count;

  BOLTZMAX_DEVICE ShareOfBlock(int packets, int blocks) : rank(kClustered ? ClusterRank() : 0) {
    const int share = (packets + blocks - 1) / blocks;
    begin = rank * share;
    count = begin + share < packets ? share : (begin < packets ? packets - begin : 0);
  }
  template <class X, class Add>
  BOLTZMAX_DEVICE X FoldAll(X mine, X* shared, Add add) const {
    mine = Fold<kStagedWarps>(mine, shared, add);
    if constexpr (kClustered) mine = FoldCluster(mine, shared, add);
    return mine;
  }
  // visit(place in the share, packet) with what `load` gives of it. Loads are issued four at a time: a processor has to have
  // some 30 KB on their way to keep the memory busy.
  template <class Load, class Visit>
  BOLTZMAX_DEVICE void ForEach(Load load, Visit visit) const {
    constexpr int kAtOnce = 4;
    for (int p = static_cast<int>(threadIdx.x); p < count; p += kAtOnce * kStagedThreads) {
      decltype(load(0)) packet[kAtOnce];
      BOLTZMAX_UNROLL
      for (int j = 0; j < kAtOnce; ++j) {
        if (p + j * kStagedThreads < count) packet[j] = load(begin + p + j * kStagedThreads);
      }
      BOLTZMAX_UNROLL
      for (int j = 0; j < kAtOnce; ++j) {
        if (p + j * kStagedThreads < count) visit(p + j * kStagedThreads, packet[j]);
      }
    }
  }
};

// A block for each row, or a cluster of them. Each thread stages packets of its own, so nobody waits for the memory of
// others.
template <class S, bool kClustered>
__global__ void __launch_bounds__(kStagedThreads, 3) StagedRows(const __grid_constant__ Task task, int blocks) {
  using T = Compute<S>;
  // The elements wait as they are, or become their exponentials where these are of the same size.
  constexpr bool kKeeps = sizeof(S) == sizeof(T);
  BOLTZMAX_SHARED(T, shared_max, kStagedWarps);
  BOLTZMAX_SHARED(RowSum<T>, shared_sum, kStagedWarps);
  BOLTZMAX_SHARED(T, shared_log, 2);
  BOLTZMAX_SHARED_OF_LAUNCH(uint4, shared);
  auto* const staged = reinterpret_cast<Packet<S>*>(shared);
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t r = static_cast<int64_t>(blockIdx.x) / blocks;
  const RowOf<S> row(task, r);
  const Packets<S> packets(row.x, task.n);
  const ShareOfBlock<kClustered> share(packets.count, blocks);
  const Temperature<T> temperature(task.temperature);
  const ExpOf<S> exp(temperature);
  const Reader<S> reader = {row, packets, exp, kKeeps && task.operation != Operation::kLogSoftmax};
  const auto first_of = [&](int p) { return packets.First(share.begin + p); };

  auto sum = RowSum<T>::Empty();
  share.ForEach([&](int p) { return packets.Load(row.x, packets.First(p)); },
                [&](int p, const Packet<S>& packet) {
                  staged[p] = packet;
                  sum.max = Max(sum.max, reader.Largest(packet, first_of(p)));
                });
  sum.max = share.FoldAll(sum.max, shared_max, [](T& a, T b) { a = Max(a, b); });

  BOLTZMAX_NO_UNROLL
  for (int p = thread; p < share.count; p += kStagedThreads) {
    T x[Packet<S>::kItems];
    WidenPacket(staged[p], x);
    reader.Add(x, first_of(p), sum);
    if constexpr (kKeeps) {
      Packet<S> kept;
      BOLTZMAX_UNROLL
      for (int i = 0; i < Packet<S>::kItems; ++i) kept.item[i] = x[i];
      staged[p] = kept;
    }
  }
  sum = share.FoldAll(sum, shared_sum, [&](RowSum<T>& a, const RowSum<T>& b) { a.Merge(b, temperature); });

  const Result<T> result(task, r, sum, shared_log);
  if (share.rank == 0 && thread == 0) result.StoreOfRow(r, row);
  if (!result.MapsElements()) return;
  // y may be x, of which the loss has just read an element.
  if (task.operation == Operation::kCrossEntropy) kClustered ? WaitForCluster() : __syncthreads();
  BOLTZMAX_NO_UNROLL
  for (int p = thread; p < share.count; p += kStagedThreads) {
    T x[Packet<S>::kItems];
    WidenPacket(staged[p], x);
    if (!kKeeps && task.operation != Operation::kLogSoftmax) {
      BOLTZMAX_UNROLL
      for (int i = 0; i < Packet<S>::kItems; ++i) x[i] = x[i] == sum.max ? T(1) : exp(x[i] - sum.max);
    }
    reader.Store(result, first_of(p), x);
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
  BOLTZMAX_SHARED(T, shared_max, kPieceWarps);
  BOLTZMAX_SHARED(T, shared_log, 2);
  BOLTZMAX_SHARED(RowSum<T>, shared_sum, kPieceWarps);
  const Temperature<T> temperature(task.temperature);
  const ExpOf<S> exp(temperature);
  const int64_t begin = static_cast<int64_t>(blockIdx.x) % pieces * kPiece;
  const int64_t end = begin + kPiece < task.n ? begin + kPiece : task.n;
  const int64_t r = static_cast<int64_t>(blockIdx.x) / pieces;
  const RowOf<S> row(task, r);
  const int64_t first = begin + static_cast<int64_t>(threadIdx.x), step = 32 * kPieceWarps;

  T max = -Infinity<T>();
  BOLTZMAX_NO_UNROLL
  for (int64_t i = first; i < end; i += step) {
    if (row.Counts(i)) max = Max(max, row.X(i));
  }
  max = Fold<kPieceWarps>(max, shared_max, [](T& a, T b) { a = Max(a, b); });

  RowSum<T> sum = RowSum<T>::Empty();
  sum.max = max;
  BOLTZMAX_NO_UNROLL
  for (int64_t i = first; i < end; i += step) {
    if (!row.Counts(i)) continue;
    const T x = row.X(i);
    if (x == max) {
      ++sum.count;
    } else {
      sum.Add(exp(x - max));
    }
  }
  sum = Fold<kPieceWarps>(sum, shared_sum, [&](RowSum<T>& a, const RowSum<T>& b) { a.Merge(b, temperature); });
  if (sums != nullptr) {
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
    return;
  }

  const Result<T> result(task, r, sum, shared_log);
  if (threadIdx.x == 0) result.StoreOfRow(r, row);
  if (!result.MapsElements()) return;
  __syncthreads();  // y may be x, of which the loss has just read an element
  BOLTZMAX_NO_UNROLL
  for (int64_t i = first; i < end; i += step) {
    const T x = row.X(i);
    const T e = x == max ? T(1) : exp(x - max);
    row.SetY(i, result.Of(i, result.Kept(x, e), row.Counts(i)));
  }
}

// Joins the sums of a row's pieces, in their order: the first becomes that of all. What is told of whole rows is stored.
template <class S>
__global__ void __launch_bounds__(32 * kPieceWarps)
    JoinPieces(const __grid_constant__ Task task, int64_t pieces, RowSum<Compute<S>>* sums) {
  using T = Compute<S>;
  BOLTZMAX_SHARED(RowSum<T>, shared_sum, kPieceWarps);
  const Temperature<T> temperature(task.temperature);
  const int64_t r = static_cast<int64_t>(blockIdx.x);
  auto sum = RowSum<T>::Empty();
  BOLTZMAX_NO_UNROLL
  for (int64_t s = static_cast<int64_t>(threadIdx.x); s < pieces; s += 32 * kPieceWarps) {
    sum.Merge(sums[r * pieces + s], temperature);
  }
  sum = Fold<kPieceWarps>(sum, shared_sum, [&](RowSum<T>& a, const RowSum<T>& b) { a.Merge(b, temperature); });
  if (threadIdx.x != 0) return;
  sums[r * pieces] = sum;
  Result<T>(task, r, sum, nullptr).StoreOfRow(r, RowOf<S>(task, r));
}

// Maps a piece with the sum of all.
template <class S>
__global__ void __launch_bounds__(32 * kPieceWarps)
    MapPieces(const __grid_constant__ Task task, int64_t pieces, const RowSum<Compute<S>>* sums) {
  using T = Compute<S>;
  BOLTZMAX_SHARED(T, shared_log, 2);
  const Temperature<T> temperature(task.temperature);
  const ExpOf<S> exp(temperature);
  const int64_t piece = static_cast<int64_t>(blockIdx.x) % pieces, r = static_cast<int64_t>(blockIdx.x) / pieces;
  const RowOf<S> row(task, r);
  const RowSum<T> sum = sums[r * pieces];
  const Result<T> result(task, r, sum, shared_log);
  const int64_t end = (piece + 1) * kPiece < task.n ? (piece + 1) * kPiece : task.n;
  BOLTZMAX_NO_UNROLL
  for (int64_t i = piece * kPiece + static_cast<int64_t>(threadIdx.x); i < end; i += 32 * kPieceWarps) {
    const T x = row.X(i);
    const T e = x == sum.max ? T(1) : exp(x - sum.max);
    row.SetY(i, result.Of(i, result.Kept(x, e), row.Counts(i)));
  }
}

}  // namespace boltzmax::cuda
