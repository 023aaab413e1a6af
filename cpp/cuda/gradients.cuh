// Gradients through softmax and log_softmax.
#pragma once

#include "on_chip_rows.cuh"
#include "wide_sum.cuh"

namespace boltzmax::cuda {

//   softmax:      dx = y (dy - sum dy y)
//   log_softmax:  dx = dy - exp(y) sum dy,    y <= 0
template <class S, Operation operation>
struct Gradient {
  using T = Compute<S>;
  static constexpr bool kOfSoftmax = operation == Operation::kSoftmaxBackward;
  ExpOf<S> exp = ExpOf<S>(Temperature<T>(TemperatureParts{1.0, 1.0, 0.0}));
  T total = T(0);

  BOLTZMAX_DEVICE T Term(T dy, T y) const { return kOfSoftmax ? dy * y : dy; }
  BOLTZMAX_DEVICE T Of(T dy, T y) const {
    if constexpr (kOfSoftmax) return y * (dy - total);
    return MulAdd(-exp(y > T(0) ? T(0) : y), total, dy);
  }
};

// ---- rows that stay on the chip between reading and writing ----

template <class S>
struct PacketPair {
  Packet<S> dy, y;
};

// dy, y and dx have the same offset from packet boundaries.
template <class S, Operation operation>
struct GradientReader {
  using T = Compute<S>;
  static constexpr int kItems = Packet<S>::kItems;
  const RowOf<S>& row;
  const Packets<S>& packets;

  BOLTZMAX_DEVICE PacketPair<S> Load(int p) const {
    const int first = packets.First(p);
    return {packets.Load(row.x, first, S{}), packets.Load(row.third, first, S{})};
  }
  BOLTZMAX_DEVICE PacketPair<S> LoadAll(int p) const {
    const int first = packets.First(p);
    return {Packet<S>::Load(reinterpret_cast<const S*>(row.x) + first),
            Packet<S>::Load(reinterpret_cast<const S*>(row.third) + first)};
  }
  BOLTZMAX_DEVICE void Add(const Gradient<S, operation>& gradient, const PacketPair<S>& pair, WideSum<T>& sum) const {
    T dy[kItems], y[kItems];
    WidenPacket(pair.dy, dy);
    WidenPacket(pair.y, y);
    // Elements beyond the row are 0.
    BOLTZMAX_UNROLL
    for (int i = 0; i < kItems; ++i) dy[i] = gradient.Term(dy[i], y[i]);
    sum.Add(TreeSum(dy));
  }
  BOLTZMAX_DEVICE void Store(const Gradient<S, operation>& gradient, const PacketPair<S>& pair, int p) const {
    T dy[kItems], y[kItems];
    WidenPacket(pair.dy, dy);
    WidenPacket(pair.y, y);
    BOLTZMAX_UNROLL
    for (int i = 0; i < kItems; ++i) dy[i] = gradient.Of(dy[i], y[i]);
    packets.Store(row.y, packets.First(p), NarrowPacket<S>(dy));
  }
};

// One warp per row.
template <class S, Operation operation, int kPackets>
__global__ void __launch_bounds__(32 * kRowsOfBlock, 5) ShortGradients(const __grid_constant__ Task task) {
  using T = Compute<S>;
  const int64_t r = static_cast<int64_t>(blockIdx.x) * kRowsOfBlock + static_cast<int64_t>(threadIdx.y);
  if (r >= task.rows) return;
  const RowOf<S> row(task, r);
  const Packets<S> packets(row.x, task.n);
  const GradientReader<S, operation> reader = {row, packets};
  Gradient<S, operation> gradient;
  PacketPair<S> pair[kPackets] = {};
  auto sum = WideSum<T>::Zero();
  BOLTZMAX_UNROLL
  for (int j = 0; j < kPackets; ++j) {
    const int p = j * 32 + static_cast<int>(threadIdx.x);
    if (p < packets.count) pair[j] = reader.Load(p);
  }
  BOLTZMAX_UNROLL
  for (int j = 0; j < kPackets; ++j) reader.Add(gradient, pair[j], sum);
  sum = JoinWarp(sum);
  gradient.total = sum.Total();
  BOLTZMAX_UNROLL
  for (int j = 0; j < kPackets; ++j) {
    const int p = j * 32 + static_cast<int>(threadIdx.x);
    if (p < packets.count) reader.Store(gradient, pair[j], p);
  }
}

// One block per row, or one cluster.
template <class S, Operation operation, bool kClustered>
__global__ void __launch_bounds__(kStagedThreads, 3) StagedGradients(const __grid_constant__ Task task, int blocks) {
  using T = Compute<S>;
  BOLTZMAX_SHARED(WideSum<T>, shared_sum, kStagedWarps);
  BOLTZMAX_SHARED_OF_LAUNCH(uint4, shared);
  auto* const staged = reinterpret_cast<PacketPair<S>*>(shared);
  const RowOf<S> row(task, static_cast<int64_t>(blockIdx.x) / blocks);
  const Packets<S> packets(row.x, task.n);
  const ShareOfBlock<S, kClustered> share(packets, blocks, kClustered ? ClusterRank() : 0, false);
  const GradientReader<S, operation> reader = {row, packets};
  Gradient<S, operation> gradient;
  auto sum = WideSum<T>::Zero();
  const auto stage = [&](int p, const PacketPair<S>& pair) {
    staged[p] = pair;
    reader.Add(gradient, pair, sum);
  };
  share.ForEachWhole([&](int p) { return reader.LoadAll(share.begin + p); }, stage);
  share.ForEachOther([&](int p) { stage(p, reader.Load(share.begin + p)); });
  sum = share.FoldAll(sum, shared_sum, Join());
  gradient.total = sum.Total();
  BOLTZMAX_NO_UNROLL
  for (int p = static_cast<int>(threadIdx.x); p < share.count; p += share.threads) {
    reader.Store(gradient, staged[p], share.begin + p);
  }
}

// ---- rows too long for that, or of any strides: read twice ----

inline constexpr int kGradientWarps = 8;

template <class S, Operation operation>
__global__ void __launch_bounds__(32 * kGradientWarps) GradientsOfRows(const __grid_constant__ Task task) {
  using T = Compute<S>;
  BOLTZMAX_SHARED(WideSum<T>, shared, kGradientWarps);
  const RowOf<S> row(task, static_cast<int64_t>(blockIdx.x));
  const int64_t first = static_cast<int64_t>(threadIdx.x), step = 32 * kGradientWarps;
  Gradient<S, operation> gradient;
  auto sum = WideSum<T>::Zero();
  BOLTZMAX_NO_UNROLL
  for (int64_t i = first; i < task.n; i += step) sum.Add(gradient.Term(row.X(i), row.Third(i)));
  sum = Fold<kGradientWarps>(sum, shared, Join());
  gradient.total = sum.Total();
  BOLTZMAX_NO_UNROLL
  for (int64_t i = first; i < task.n; i += step) row.SetY(i, gradient.Of(row.X(i), row.Third(i)));
}

}  // namespace boltzmax::cuda
