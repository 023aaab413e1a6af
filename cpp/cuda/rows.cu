// Rows: the choice of the kernel, and the division of the work.
#include <map>
#include <mutex>
#include <tuple>

#include "grid.cuh"
#include "long_rows.cuh"
#include "pieces.cuh"
#include "statistics.cuh"

namespace boltzmax::cuda {

namespace {

bool MapsElements(const Task& task) { return task.operation != Operation::kLogSumExp && task.y != nullptr; }

// Whether all rows of x begin at multiples of sixteen bytes.
bool BeginsWithPacket(const Task& task) {
  auto bits = reinterpret_cast<uintptr_t>(task.x);
  for (int d = 0; d < task.outer.count; ++d) bits |= static_cast<uintptr_t>(task.outer.stride[kX][d]);
  return bits % sizeof(uint4) == 0;
}

// ---- rows that stay on the chip between reading and writing ----

// A kernel for blocks, and one for clusters of blocks; shared memory holds `arrays` arrays of packets.
struct Staging {
  void (*block)(Task, int);
  void (*cluster)(Task, int);
  int arrays;

  size_t BytesOf(int64_t packets) const { return static_cast<size_t>(packets * arrays) * sizeof(uint4); }
};

// Whether the device can place such a cluster at all: a part of a device may not. CUDA is asked once.
bool CanPlace(void (*kernel)(Task, int), const Grid& grid) {
  using Configuration = std::tuple<int, void (*)(Task, int), int, size_t>;
  static std::mutex mutex;
  static std::map<Configuration, bool> known;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto [found, is_new] = known.try_emplace({CurrentDevice(), kernel, grid.cluster, grid.shared});
  if (is_new) {
    cudaLaunchAttribute attribute = {};
    const cudaLaunchConfig_t config = ConfigOf(grid, nullptr, &attribute);
    int clusters = 0;
    const cudaError_t status = cudaOccupancyMaxActiveClusters(&clusters, kernel, &config);
    if (status != cudaSuccess) cudaGetLastError();
    found->second = status == cudaSuccess && clusters > 0;
  }
  return found->second;
}

// The threads of a block with this many packets. Per-row work takes each thread as long as ten packets, so threads
// should have a few packets each.
int ThreadsFor(int64_t packets) {
  constexpr int kFewest = 64, kEnough = 4;
  int threads = kStagedThreads;
  while (threads > kFewest && packets <= threads * kEnough) threads /= 2;
  return threads;
}

// Divides a row among blocks. Several blocks should fit on a multiprocessor, so that some load while others compute;
// and if there are few rows, every multiprocessor should have work. No blocks if a row is too long for shared memory.
Grid GridFor(const Staging& staging, int64_t rows, int64_t packets) {
  constexpr size_t kMost = 64 << 10, kLeast = 16 << 10;
  constexpr int kLargest = 16;
  const auto grid_of = [&](int blocks) {
    const int64_t share = CeilDivide(packets, blocks);
    return Grid{rows * blocks, dim3(ThreadsFor(share)), staging.BytesOf(share), blocks};
  };
  const size_t bytes = staging.BytesOf(packets);
  int blocks = 1;
  if (bytes > kLeast) {
    const Limits limits = LimitsOf(reinterpret_cast<const void*>(staging.cluster));
    const int processors = Attribute(cudaDevAttrMultiProcessorCount);
    const auto is_wide = [&](int b) { return bytes / b > kMost || (rows * b < processors && bytes / b > kLeast); };
    while (limits.has_clusters && blocks < kLargest && is_wide(blocks)) blocks *= 2;
    while (blocks > 1 && !(grid_of(blocks).shared <= limits.shared && CanPlace(staging.cluster, grid_of(blocks)))) {
      blocks /= 2;
    }
  }
  const Grid grid = grid_of(blocks);
  const auto* kernel = reinterpret_cast<const void*>(blocks > 1 ? staging.cluster : staging.block);
  return grid.shared > LimitsOf(kernel).shared ? Grid{0, {}} : grid;
}

bool RunStaged(const Staging& staging, const Task& task, int64_t packets, Stream stream) {
  const Grid grid = GridFor(staging, task.rows, packets);
  if (grid.blocks == 0) return false;
  Launch(grid.cluster > 1 ? staging.cluster : staging.block, grid, stream, task, grid.cluster);
  return true;
}

// The kernels for rows in the registers of a warp, with 1, `most` / 2 or `most` packets per thread; and for longer
// rows.
struct OnChipKernels {
  void (*in_registers[3])(Task);
  int most;
  Staging staging;
};
// At most 128 bytes of the arithmetic type per thread.
template <class S, Operation operation>
OnChipKernels OnChipRows() {
  constexpr int kMost = 128 / (Packet<S>::kItems * static_cast<int>(sizeof(Compute<S>)));
  return {{ShortRows<S, operation, 1>, ShortRows<S, operation, kMost / 2>, ShortRows<S, operation, kMost>},
          kMost,
          {StagedRows<S, operation, false>, StagedRows<S, operation, true>, 1}};
}
// Pairs of packets as read.
template <class S, Operation operation>
OnChipKernels OnChipGradients() {
  constexpr int kMost = 4;
  return {
      {ShortGradients<S, operation, 1>, ShortGradients<S, operation, kMost / 2>, ShortGradients<S, operation, kMost>},
      kMost,
      {StagedGradients<S, operation, false>, StagedGradients<S, operation, true>, 2}};
}
template <class S>
OnChipKernels OnChipRows(Operation operation) {
  switch (operation) {
    case Operation::kSoftmaxBackward: return OnChipGradients<S, Operation::kSoftmaxBackward>();
    case Operation::kLogSoftmaxBackward: return OnChipGradients<S, Operation::kLogSoftmaxBackward>();
    case Operation::kSoftmax: return OnChipRows<S, Operation::kSoftmax>();
    case Operation::kCrossEntropy: return OnChipRows<S, Operation::kCrossEntropy>();
    default: return OnChipRows<S, Operation::kLogSoftmax>();
  }
}

template <class S>
bool RunOnChip(const Task& task, Stream stream) {
  if (task.n > INT32_MAX / 2) return false;
  constexpr int64_t kItems = Packet<S>::kItems;
  // Unless rows begin at packet boundaries, the first element may be the last of a packet.
  const int64_t packets = CeilDivide(task.n + (BeginsWithPacket(task) ? 0 : kItems - 1), kItems);
  const OnChipKernels kernels = OnChipRows<S>(task.operation);
  const Grid grid = {CeilDivide(task.rows, kRowsOfBlock), dim3(32, kRowsOfBlock)};
  const bool is_masked = task.third != nullptr && !IsGradient(task.operation);
  if (packets > (is_masked ? 32 : 32 * kernels.most)) return RunStaged(kernels.staging, task, packets, stream);
  const int room = packets <= 32 ? 0 : packets <= 16 * kernels.most ? 1 : 2;
  return Launch(kernels.in_registers[room], grid, stream, task), true;
}

// Whether rows are contiguous, and those of all operands have the same offset from packet boundaries.
template <class S>
bool IsContiguous(const Task& task) {
  if (task.inner.count > 1) return false;
  const bool maps = task.operation != Operation::kLogSumExp && task.y != nullptr;
  const auto mismatches = [&](const void* base, Operand operand) {
    const auto is_even = [](int64_t bytes) { return bytes % static_cast<int64_t>(sizeof(uint4)) == 0; };
    if (task.inner.count == 1 && task.inner.stride[operand][0] != static_cast<int64_t>(sizeof(S))) return true;
    if (!is_even(reinterpret_cast<intptr_t>(base) - reinterpret_cast<intptr_t>(task.x))) return true;
    for (int d = 0; d < task.outer.count; ++d) {
      if (!is_even(task.outer.stride[operand][d] - task.outer.stride[kX][d])) return true;
    }
    return false;
  };
  return !mismatches(task.x, kX) && !(maps && mismatches(task.y, kY)) &&
         !(IsGradient(task.operation) && mismatches(task.third, kThird));
}

// ---- contiguous rows that are too long for that ----

template <class S>
auto MapOfLongRows(Operation operation) {
  switch (operation) {
    case Operation::kSoftmax: return MapLongRows<S, Operation::kSoftmax>;
    case Operation::kCrossEntropy: return MapLongRows<S, Operation::kCrossEntropy>;
    default: return MapLongRows<S, Operation::kLogSoftmax>;
  }
}

template <class S>
void RunLongRows(const Task& task, int pieces, Stream stream) {
  using Sums = RowSum<Compute<S>>;
  const Workspace workspace(static_cast<size_t>(task.rows * pieces) * sizeof(Sums), stream);
  auto* sums = static_cast<Sums*>(workspace.memory);
  Grid grid = {task.rows * pieces, dim3(kStagedThreads), kLongPackets * sizeof(uint4)};
  const bool has_loss = task.operation == Operation::kCrossEntropy;
  const auto kernel =
      has_loss ? SumsOfLongRows<S, Operation::kCrossEntropy> : SumsOfLongRows<S, Operation::kLogSoftmax>;
  Launch(kernel, grid, stream, task, pieces, sums);
  Launch(JoinPieces<S>, {task.rows, dim3(32 * kPieceWarps)}, stream, task, int64_t{pieces}, sums);
  if (!MapsElements(task)) return;
  grid.shared = 0;
  Launch(MapOfLongRows<S>(task.operation), grid, stream, task, pieces, sums);
}

template <class S, Operation operation>
void RunLongGradients(const Task& task, int pieces, Stream stream) {
  using Sums = WideSum<Compute<S>>;
  const Workspace workspace(static_cast<size_t>(task.rows * pieces) * sizeof(Sums), stream);
  auto* sums = static_cast<Sums*>(workspace.memory);
  const Grid grid = {task.rows * pieces, dim3(kStagedThreads)};
  Launch(SumsOfLongGradients<S, operation>, grid, stream, task, pieces, sums);
  Launch(JoinLongGradients<Compute<S>>, {task.rows, dim3(kStagedThreads)}, stream, pieces, sums);
  Launch(MapLongGradients<S, operation>, grid, stream, task, pieces, sums);
}

template <class S>
bool RunLong(const Task& task, Stream stream) {
  if (task.n > INT32_MAX / 2) return false;
  const auto pieces = static_cast<int>(CeilDivide(task.n / Packet<S>::kItems + 2, kLongPackets));
  if (task.operation == Operation::kSoftmaxBackward) {
    RunLongGradients<S, Operation::kSoftmaxBackward>(task, pieces, stream);
  } else if (task.operation == Operation::kLogSoftmaxBackward) {
    RunLongGradients<S, Operation::kLogSoftmaxBackward>(task, pieces, stream);
  } else {
    RunLongRows<S>(task, pieces, stream);
  }
  return true;
}

// ---- rows of any strides and length ----

template <class S>
void RunOfStorage(const Task& task, Stream stream) {
  if (IsContiguous<S>(task) && (RunOnChip<S>(task, stream) || RunLong<S>(task, stream))) return;
  if (IsGradient(task.operation)) {
    const auto kernel = task.operation == Operation::kSoftmaxBackward
                            ? GradientsOfRows<S, Operation::kSoftmaxBackward>
                            : GradientsOfRows<S, Operation::kLogSoftmaxBackward>;
    return Launch(kernel, {task.rows, dim3(32 * kGradientWarps)}, stream, task);
  }
  const int64_t pieces = std::max<int64_t>(1, CeilDivide(task.n, kPiece));
  const dim3 threads(32 * kPieceWarps);
  using Sums = RowSum<Compute<S>>;
  if (pieces == 1) {
    return Launch(PiecesOfRows<S>, {task.rows, threads}, stream, task, pieces, static_cast<Sums*>(nullptr));
  }
  const Workspace workspace(static_cast<size_t>(task.rows * pieces) * sizeof(Sums), stream);
  auto* sums = static_cast<Sums*>(workspace.memory);
  Launch(PiecesOfRows<S>, {task.rows * pieces, threads}, stream, task, pieces, sums);
  Launch(JoinPieces<S>, {task.rows, threads}, stream, task, pieces, sums);
  if (!MapsElements(task)) return;
  Launch(MapPieces<S>, {task.rows * pieces, threads}, stream, task, pieces, sums);
}

template <class S>
void RunStatisticsOfStorage(const Task& task, const Statistics& out, Stream stream) {
  const auto kernel = out.k <= kFewRanks ? StatisticsOfRows<S, true> : StatisticsOfRows<S, false>;
  Launch(kernel, {task.rows, dim3(kStatisticsThreads)}, stream, task, out);
}

}  // namespace

void Run(const Task& task, Stream stream) {
  if (task.rows == 0 || (task.n == 0 && task.operation != Operation::kLogSumExp)) return;
  switch (task.storage) {
    case Storage::kFloat32: return RunOfStorage<float>(task, stream);
    case Storage::kFloat64: return RunOfStorage<double>(task, stream);
    case Storage::kFloat16: return RunOfStorage<Half>(task, stream);
    case Storage::kBFloat16: return RunOfStorage<BFloat16>(task, stream);
  }
}

void RunStatistics(const Task& task, const Statistics& out, Stream stream) {
  if (task.rows == 0 || task.n == 0) return;
  switch (task.storage) {
    case Storage::kFloat32: return RunStatisticsOfStorage<float>(task, out, stream);
    case Storage::kFloat64: return RunStatisticsOfStorage<double>(task, out, stream);
    case Storage::kFloat16: return RunStatisticsOfStorage<Half>(task, out, stream);
    case Storage::kBFloat16: return RunStatisticsOfStorage<BFloat16>(task, out, stream);
  }
}

}  // namespace boltzmax::cuda
