// Contiguous rows that wait where they were read, and are read and written once.
//
//   ShortRows    a warp keeps a row in registers
//   StagedRows   a block, or a cluster of blocks, keeps one in shared memory
//
// What is beyond a row, or masked, does not count: see Reader::Counts.
#pragma once

#include "rows.cuh"

namespace boltzmax::cuda {

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

}  // namespace boltzmax::cuda
