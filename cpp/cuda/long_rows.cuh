// Contiguous rows that are too long to stay on the chip: blocks sum pieces of a row, then read the pieces again and map
// them. They map from the end of memory to its beginning: what was read last is still in the second-level cache.
#pragma once

#include "gradients.cuh"
#include "on_chip_rows.cuh"
#include "pieces.cuh"

namespace boltzmax::cuda {

inline constexpr int kLongPackets = 2048;  // per piece

// The piece and the row that a block handles.
struct PieceOfBlock {
  int64_t r;
  int rank;

  BOLTZMAX_DEVICE PieceOfBlock(int64_t block, int pieces) : r(block / pieces), rank(static_cast<int>(block % pieces)) {}
  static BOLTZMAX_DEVICE PieceOfBlock FromTheEnd(const Task& task, int pieces) {
    return PieceOfBlock(task.rows * pieces - 1 - static_cast<int64_t>(blockIdx.x), pieces);
  }
};

// ---- softmax and related operations; JoinPieces runs in between ----

template <class S, Operation operation>
__global__ void __launch_bounds__(kStagedThreads, 3)
    SumsOfLongRows(const __grid_constant__ Task task, int pieces, RowSum<Compute<S>>* sums) {
  using T = Compute<S>;
  using Reader = RowReader<S, operation, false>;
  BOLTZMAX_SHARED(T, shared_max, kStagedWarps);
  BOLTZMAX_SHARED(typename Reader::Sum, shared_sum, kStagedWarps);
  BOLTZMAX_SHARED_OF_LAUNCH(uint4, shared);
  const PieceOfBlock piece(static_cast<int64_t>(blockIdx.x), pieces);
  const RowOf<S> row(task, piece.r);
  const Packets<S> packets(row.x, task.n);
  const Temperature<T> temperature(task.temperature);
  const Reader reader(row, packets, temperature);
  const ShareOfBlock<S, false> share(packets, pieces, piece.rank, row.third != nullptr);
  const Staged<Reader, ShareOfBlock<S, false>> staged = {reader, share, reinterpret_cast<Packet<S>*>(shared)};
  const T max = share.FoldAll(staged.Stage(), shared_max, TakeLarger());
  const auto sum = share.FoldAll(staged.Add(max), shared_sum, Join());
  if (threadIdx.x == 0) sums[blockIdx.x] = Reader::RowSumOf(max, sum);
}

template <class S, Operation operation>
__global__ void __launch_bounds__(kStagedThreads, 3)
    MapLongRows(const __grid_constant__ Task task, int pieces, const RowSum<Compute<S>>* sums) {
  using T = Compute<S>;
  BOLTZMAX_SHARED(T, shared_log, 2);
  const PieceOfBlock piece = PieceOfBlock::FromTheEnd(task, pieces);
  const RowOf<S> row(task, piece.r);
  const Packets<S> packets(row.x, task.n);
  const Temperature<T> temperature(task.temperature);
  const RowReader<S, operation, false> reader(row, packets, temperature);
  const ShareOfBlock<S, false> share(packets, pieces, piece.rank, row.third != nullptr);
  Result<T> result(task, piece.r, sums[piece.r * pieces], shared_log);
  result.totals.TakeScaled();
  const auto mapped = [&](int p, const Packet<S>& packet, T(&x)[Packet<S>::kItems]) {
    WidenPacket(packet, x);
    reader.Map(result, packets.First(share.begin + p), x);
  };
  share.ForEachWhole([&](int p) { return reader.LoadAll(packets.First(share.begin + p)); },
                     [&](int p, const Packet<S>& packet) {
                       T x[Packet<S>::kItems];
                       mapped(p, packet, x);
                       reader.StoreAll(packets.First(share.begin + p), x);
                     });
  share.ForEachOther([&](int p) {
    T x[Packet<S>::kItems];
    mapped(p, reader.LoadSome(packets.First(share.begin + p)), x);
    reader.StoreSome(packets.First(share.begin + p), x);
  });
}

// ---- gradients ----

template <class S, Operation operation>
__global__ void __launch_bounds__(kStagedThreads, 3)
    SumsOfLongGradients(const __grid_constant__ Task task, int pieces, WideSum<Compute<S>>* sums) {
  using T = Compute<S>;
  BOLTZMAX_SHARED(WideSum<T>, shared_sum, kStagedWarps);
  const PieceOfBlock piece(static_cast<int64_t>(blockIdx.x), pieces);
  const RowOf<S> row(task, piece.r);
  const Packets<S> packets(row.x, task.n);
  const GradientReader<S, operation> reader = {row, packets};
  const ShareOfBlock<S, false> share(packets, pieces, piece.rank, false);
  const Gradient<S, operation> gradient;
  auto sum = WideSum<T>::Zero();
  const auto add = [&](int, const PacketPair<S>& pair) { reader.Add(gradient, pair, sum); };
  share.ForEachWhole([&](int p) { return reader.LoadAll(share.begin + p); }, add);
  share.ForEachOther([&](int p) { add(p, reader.Load(share.begin + p)); });
  sum = share.FoldAll(sum, shared_sum, Join());
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// Joins the sums of a row's pieces; the first becomes the sum of the row.
template <class T>
__global__ void __launch_bounds__(kStagedThreads) JoinLongGradients(int pieces, WideSum<T>* sums) {
  BOLTZMAX_SHARED(WideSum<T>, shared_sum, kStagedWarps);
  WideSum<T>* const of_row = sums + static_cast<int64_t>(blockIdx.x) * pieces;
  auto sum = WideSum<T>::Zero();
  for (int s = static_cast<int>(threadIdx.x); s < pieces; s += kStagedThreads) sum.Join(of_row[s]);
  sum = Fold<kStagedWarps>(sum, shared_sum, Join());
  if (threadIdx.x == 0) of_row[0] = sum;
}

template <class S, Operation operation>
__global__ void __launch_bounds__(kStagedThreads, 2)
    MapLongGradients(const __grid_constant__ Task task, int pieces, const WideSum<Compute<S>>* sums) {
  const PieceOfBlock piece = PieceOfBlock::FromTheEnd(task, pieces);
  const RowOf<S> row(task, piece.r);
  const Packets<S> packets(row.x, task.n);
  const GradientReader<S, operation> reader = {row, packets};
  const ShareOfBlock<S, false> share(packets, pieces, piece.rank, false);
  Gradient<S, operation> gradient;
  gradient.total = sums[piece.r * pieces].Total();
  const auto store = [&](int p, const PacketPair<S>& pair) { reader.Store(gradient, pair, share.begin + p); };
  share.ForEachWhole([&](int p) { return reader.LoadAll(share.begin + p); }, store);
  share.ForEachOther([&](int p) { store(p, reader.Load(share.begin + p)); });
}

}  // namespace boltzmax::cuda
