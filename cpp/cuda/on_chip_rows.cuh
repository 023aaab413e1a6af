// Contiguous rows that stay on the chip between reading and writing: memory is read and written once.
//
//     ShortRows    a warp keeps a row in registers
//     StagedRows   a block, or a cluster of blocks, keeps a row in shared memory
//
// A multiprocessor of an H200 has some fifty instructions for each float32 that its share of the memory bandwidth reads
// and writes, half as many for 16-bit numbers. So each operation is a separate kernel, and what can be tested once per
// packet is not tested for each element. Elements that are outside the row or masked are kept as -inf.
#pragma once

#include <type_traits>

#include "packets.cuh"
#include "rows.cuh"

namespace boltzmax::cuda {

// Processes a row: first the maximum, then the terms of the sum, then the map. kLogSoftmax also stands for kLogSumExp.
// With kKeeps, exponentials are kept in place of the elements that they will map.
template <class S, Operation operation, bool kKeeps>
struct RowReader {
  using T = Compute<S>;
  using Element = S;
  // The largest terms need not be counted apart from the rest if no logarithm is wanted.
  using Sum = std::conditional_t<operation == Operation::kSoftmax, WideSum<T>, Terms<T>>;
  static constexpr int kItems = Packet<S>::kItems;
  static constexpr bool kMapsExponentials = operation != Operation::kLogSoftmax;
  static constexpr bool kKeepsExponentials = kKeeps && kMapsExponentials;
  // Losses of 16-bit logits are float32, and their exponentials are not scaled by ExpScale.
  static constexpr bool kIsCareful = operation == Operation::kCrossEntropy && sizeof(S) < sizeof(T);
  static constexpr bool kMapsScaled = !(kIsCareful && kKeepsExponentials);

  const RowOf<S>& row;
  const Packets<S>& packets;
  const ExpOf<S> exp;

  BOLTZMAX_DEVICE RowReader(const RowOf<S>& r, const Packets<S>& p, const Temperature<T>& temperature)
      : row(r), packets(p), exp(temperature) {}

  // A contiguous row has one axis, in the mask as well.
  BOLTZMAX_DEVICE bool IsMasked(int i) const {
    return row.third != nullptr && row.third[i * row.task.inner.stride[kThird][0]] == 0;
  }
  // Loads a packet of which all elements count; one that may reach outside the row; and one that may also have masked
  // elements.
  BOLTZMAX_DEVICE Packet<S> LoadAll(int first) const {
    return Packet<S>::Load(reinterpret_cast<const S*>(row.x) + first);
  }
  BOLTZMAX_DEVICE Packet<S> LoadRow(int first) const { return packets.Load(row.x, first, Narrow<S>(-Infinity<T>())); }
  BOLTZMAX_DEVICE Packet<S> LoadSome(int first) const {
    Packet<S> packet = LoadRow(first);
    BOLTZMAX_UNROLL
    for (int i = 0; i < kItems; ++i) {
      if (packets.Holds(first + i) && IsMasked(first + i)) packet.item[i] = Narrow<S>(-Infinity<T>());
    }
    return packet;
  }

  BOLTZMAX_DEVICE T Term(T d) const {
    if constexpr (kIsCareful) {
      return exp.Careful(d);
    } else {
      return exp.Scaled(d);
    }
  }
  // Adds the terms of a packet x to a sum; replaces x by what is kept.
  BOLTZMAX_DEVICE void Add(T (&x)[kItems], T max, Sum& sum) const {
    T term[kItems];
    int largest = 0;
    BOLTZMAX_UNROLL
    for (int i = 0; i < kItems; ++i) {
      term[i] = Term(x[i] - max);
      const bool is_largest = operation != Operation::kSoftmax && x[i] == max;
      if (kKeepsExponentials) x[i] = term[i];
      if (is_largest) term[i] = T(0);
      largest += is_largest ? 1 : 0;
    }
    if constexpr (operation == Operation::kSoftmax) {
      sum.Add(TreeSum(term));
    } else {
      sum.rest.Add(TreeSum(term));
      sum.count += largest;
    }
  }
  static BOLTZMAX_DEVICE RowSum<T> RowSumOf(T max, const Sum& sum) {
    constexpr T kInverse = kIsCareful ? T(1) : ExpScale<T>::kInverse;
    if constexpr (operation == Operation::kSoftmax) {
      return {max, {sum.Times(kInverse), 0}};
    } else {
      return {max, {sum.rest.Times(kInverse), sum.count}};
    }
  }

  // Maps a packet of kept values.
  BOLTZMAX_DEVICE void Map(const Result<T>& result, int first, T (&x)[kItems]) const {
    const int target = result.target < row.task.n ? static_cast<int>(result.target) : -1;
    BOLTZMAX_UNROLL
    for (int i = 0; i < kItems; ++i) {
      if (kMapsExponentials && !kKeepsExponentials) x[i] = exp.Scaled(x[i] - result.totals.max);
      x[i] = result.template Map<operation, S>(x[i], first + i == target);
    }
  }
  BOLTZMAX_DEVICE void StoreAll(int first, const T (&y)[kItems]) const {
    NarrowPacket<S>(y).Store(reinterpret_cast<S*>(row.y) + first);
  }
  BOLTZMAX_DEVICE void StoreSome(int first, T (&y)[kItems]) const {
    BOLTZMAX_UNROLL
    for (int i = 0; i < kItems; ++i) {
      if (packets.Holds(first + i) && IsMasked(first + i)) y[i] = Result<T>::Uncounted(operation);
    }
    packets.Store(row.y, first, NarrowPacket<S>(y));
  }
};

inline constexpr int kRowsOfBlock = 4;

// One warp per row. With more than one packet per thread, rows cannot be masked: that would take much code.
template <class S, Operation operation, int kPackets>
__global__ void __launch_bounds__(32 * kRowsOfBlock, 5) ShortRows(const __grid_constant__ Task task) {
  using T = Compute<S>;
  using Reader = RowReader<S, operation, true>;
  const int lane = static_cast<int>(threadIdx.x);
  const int64_t r = static_cast<int64_t>(blockIdx.x) * kRowsOfBlock + static_cast<int64_t>(threadIdx.y);
  if (r >= task.rows) return;
  const RowOf<S> row(task, r);
  const Packets<S> packets(row.x, task.n);
  const Temperature<T> temperature(task.temperature);
  const Reader reader(row, packets, temperature);
  // Calls visit(packet of x, index of its first element).
  T x[kPackets][Packet<S>::kItems] = {};
  const auto for_each = [&](auto visit) {
    BOLTZMAX_UNROLL
    for (int j = 0; j < kPackets; ++j) {
      const int p = j * 32 + lane;
      if (p < packets.count) visit(x[j], packets.First(p));
    }
  };

  Packet<S> loaded[kPackets];
  BOLTZMAX_UNROLL
  for (int j = 0; j < kPackets; ++j) {
    const int p = j * 32 + lane, first = packets.First(p);
    if (p < packets.count) loaded[j] = kPackets > 1 ? reader.LoadRow(first) : reader.LoadSome(first);
  }
  T max = -Infinity<T>();
  BOLTZMAX_UNROLL
  for (int j = 0; j < kPackets; ++j) {
    if (j * 32 + lane >= packets.count) continue;
    max = Max(max, Largest(loaded[j]));
    WidenPacket(loaded[j], x[j]);
  }
  max = FoldWarp(max, TakeLarger());
  auto sum = Reader::Sum::Zero();
  for_each([&](auto& packet, int) { reader.Add(packet, max, sum); });
  const RowSum<T> row_sum = Reader::RowSumOf(max, JoinWarp(sum));

  Result<T> result(task, r, row_sum, nullptr);
  if (lane == 0) result.StoreOfRow(r, row);
  if (!result.MapsElements()) return;
  __syncwarp();  // y may be x, of which the loss has just read an element
  if (Reader::kMapsScaled) result.totals.TakeScaled();
  for_each([&](auto& packet, int first) {
    reader.Map(result, first, packet);
    kPackets > 1 ? packets.Store(row.y, first, NarrowPacket<S>(packet)) : reader.StoreSome(first, packet);
  });
}

inline constexpr int kStagedWarps = 8, kStagedThreads = 32 * kStagedWarps;  // at most, per block

// The packets of a row that one block handles, alone or as part of a cluster: `count` of them from `begin` on. All
// elements of packets [whole, end) of this share count.
template <class S, bool kClustered>
struct ShareOfBlock {
  int rank, begin, count, whole, end;
  int threads = static_cast<int>(blockDim.x);

  BOLTZMAX_DEVICE ShareOfBlock(const Packets<S>& packets, int blocks, int which, bool is_masked) : rank(which) {
    const int share = (packets.count + blocks - 1) / blocks;
    begin = rank * share;
    count = begin + share < packets.count ? share : (begin < packets.count ? packets.count - begin : 0);
    whole = begin == 0 && packets.shift > 0 ? 1 : 0;
    end = begin + count == packets.count && !packets.HoldsAll(packets.First(packets.count - 1)) ? count - 1 : count;
    if (is_masked || end < whole) whole = end = 0;
  }
  template <class X, class Add>
  BOLTZMAX_DEVICE X FoldAll(X mine, X* shared, Add add) const {
    mine = FoldWarps(mine, shared, threads / 32, add);
    if constexpr (kClustered) mine = FoldCluster(mine, shared, add);
    return mine;
  }
  // Calls visit(p, load(p)) for the whole packets. Loads are issued four at a time: a multiprocessor needs some 30 KB
  // in flight to keep the memory busy.
  template <class Load, class Visit>
  BOLTZMAX_DEVICE void ForEachWhole(Load load, Visit visit) const {
    constexpr int kAtOnce = 4;
    int p = whole + static_cast<int>(threadIdx.x);
    BOLTZMAX_NO_UNROLL
    for (; p + (kAtOnce - 1) * threads < end; p += kAtOnce * threads) {
      decltype(load(0)) packet[kAtOnce];
      BOLTZMAX_UNROLL
      for (int j = 0; j < kAtOnce; ++j) packet[j] = load(p + j * threads);
      BOLTZMAX_UNROLL
      for (int j = 0; j < kAtOnce; ++j) visit(p + j * threads, packet[j]);
    }
    decltype(load(0)) packet[kAtOnce - 1];
    BOLTZMAX_UNROLL
    for (int j = 0; j < kAtOnce - 1; ++j) {
      if (p + j * threads < end) packet[j] = load(p + j * threads);
    }
    BOLTZMAX_UNROLL
    for (int j = 0; j < kAtOnce - 1; ++j) {
      if (p + j * threads < end) visit(p + j * threads, packet[j]);
    }
  }
  // Calls visit(p) for the other packets: the row's first and last, or all of a masked row.
  template <class Visit>
  BOLTZMAX_DEVICE void ForEachOther(Visit visit) const {
    BOLTZMAX_NO_UNROLL
    for (int i = static_cast<int>(threadIdx.x); i < whole + (count - end); i += threads) {
      visit(i < whole ? i : i - whole + end);
    }
  }
};

// The packets of a share, in shared memory.
template <class Reader, class Share>
struct Staged {
  using T = typename Reader::T;
  using Items = T[Reader::kItems];
  const Reader& reader;
  const Share& share;
  Packet<typename Reader::Element>* packets;

  BOLTZMAX_DEVICE int First(int p) const { return reader.packets.First(share.begin + p); }
  // Loads the packets, and returns the largest element that this thread has seen.
  BOLTZMAX_DEVICE T Stage() const {
    T max = -Infinity<T>();
    const auto stage = [&](int p, const auto& packet) {
      packets[p] = packet;
      max = Max(max, Largest(packet));
    };
    share.ForEachWhole([&](int p) { return reader.LoadAll(First(p)); }, stage);
    share.ForEachOther([&](int p) { stage(p, reader.LoadSome(First(p))); });
    return max;
  }
  BOLTZMAX_DEVICE auto Add(T max) const {
    auto sum = Reader::Sum::Zero();
    for (int p = static_cast<int>(threadIdx.x); p < share.count; p += share.threads) {
      Items x;
      WidenPacket(packets[p], x);
      reader.Add(x, max, sum);
      if constexpr (Reader::kKeepsExponentials) packets[p] = NarrowPacket<typename Reader::Element>(x);
    }
    return sum;
  }
  BOLTZMAX_DEVICE void Map(const Result<T>& result) const {
    const auto map = [&](int p, Items& x) {
      WidenPacket(packets[p], x);
      reader.Map(result, First(p), x);
    };
    for (int p = share.whole + static_cast<int>(threadIdx.x); p < share.end; p += share.threads) {
      Items x;
      map(p, x);
      reader.StoreAll(First(p), x);
    }
    share.ForEachOther([&](int p) {
      Items x;
      map(p, x);
      reader.StoreSome(First(p), x);
    });
  }
};

// One block per row, or one cluster.
template <class S, Operation operation, bool kClustered>
__global__ void __launch_bounds__(kStagedThreads, 3) StagedRows(const __grid_constant__ Task task, int blocks) {
  using T = Compute<S>;
  using Reader = RowReader<S, operation, sizeof(S) == sizeof(T)>;
  using Share = ShareOfBlock<S, kClustered>;
  BOLTZMAX_SHARED(T, shared_max, kStagedWarps);
  BOLTZMAX_SHARED(typename Reader::Sum, shared_sum, kStagedWarps);
  BOLTZMAX_SHARED(T, shared_log, 2);
  BOLTZMAX_SHARED_OF_LAUNCH(uint4, shared);
  const int64_t r = static_cast<int64_t>(blockIdx.x) / blocks;
  const RowOf<S> row(task, r);
  const Packets<S> packets(row.x, task.n);
  const Temperature<T> temperature(task.temperature);
  const Reader reader(row, packets, temperature);
  const Share share(packets, blocks, kClustered ? ClusterRank() : 0, row.third != nullptr);
  const Staged<Reader, Share> staged = {reader, share, reinterpret_cast<Packet<S>*>(shared)};
  const T max = share.FoldAll(staged.Stage(), shared_max, TakeLarger());
  const auto sum = share.FoldAll(staged.Add(max), shared_sum, Join());

  Result<T> result(task, r, Reader::RowSumOf(max, sum), shared_log);
  if (share.rank == 0 && threadIdx.x == 0) result.StoreOfRow(r, row);
  if (!result.MapsElements()) return;
  // y may be x, of which the loss has just read an element.
  if (operation == Operation::kCrossEntropy) kClustered ? WaitForCluster() : __syncthreads();
  if (Reader::kMapsScaled) result.totals.TakeScaled();
  staged.Map(result);
}

}  // namespace boltzmax::cuda
