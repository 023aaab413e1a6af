// Rows: which kernel, and how it is shared out.
#include "gradients.cuh"
#include "grid.cuh"
#include "losses.cuh"
#include "statistics.cuh"

namespace boltzmax::cuda {

namespace {

// ---- rows that wait where they were read ----

template <class S, int kItems, int kPackets>
void LaunchShortRows(const Task& task, Stream stream) {
  Launch(ShortRows<S, kItems, kPackets>, {CeilDivide(task.rows, kRowsOfBlock), dim3(32, kRowsOfBlock)}, stream, task);
}

// The blocks that a row is shared out to. Several of them are to fit on a processor, so that some load while others
// compute; and where there are few rows, every processor is to have something to do.
int ClusterFor(int64_t rows, int64_t bytes) {
  constexpr int64_t kMost = 64 << 10, kLeast = 16 << 10;
  constexpr int kLargest = 16;
  if (bytes <= kLeast || Attribute(cudaDevAttrClusterLaunch) == 0) return 1;
  const int processors = Attribute(cudaDevAttrMultiProcessorCount);
  int blocks = 1;
  while (blocks < kLargest && (bytes / blocks > kMost || (rows * blocks < processors && bytes / blocks > kLeast))) {
    blocks *= 2;
  }
  return blocks;
}

template <class S, int kItems>
bool RunStaged(const Task& task, Stream stream) {
  const int blocks = ClusterFor(task.rows, task.n * static_cast<int64_t>(sizeof(S)));
  const auto shared = static_cast<size_t>(CeilDivide(task.n / kItems, blocks)) * kItems * sizeof(S);
  if (shared > kUsualShared) {
    constexpr size_t kForFolds = 2 << 10;
    if (shared + kForFolds > static_cast<size_t>(Attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin))) return false;
  }
  const auto kernel = blocks > 1 ? StagedRows<S, kItems, true> : StagedRows<S, kItems, false>;
  Launch(kernel, {task.rows * blocks, dim3(kStagedThreads), shared, blocks}, stream, task);
  return true;
}

// Up to 64 bytes of what is computed in the registers of a thread. False if a row is too long to wait.
template <class S, int kItems>
bool RunWaiting(const Task& task, Stream stream) {
  constexpr int kMost = kItems == 1 ? 8 : 64 / (kItems * static_cast<int>(sizeof(Compute<S>)));
  const int64_t packets = CeilDivide(task.n, kItems);
  if (packets <= 32) return LaunchShortRows<S, kItems, 1>(task, stream), true;
  if (packets <= 32 * kMost) return LaunchShortRows<S, kItems, kMost>(task, stream), true;
  return RunStaged<S, kItems>(task, stream);
}

// Whether rows of x and y lie contiguous; and aligned, so that `items` at a time can be moved.
template <class S>
bool IsContiguous(const Task& task, int items) {
  if (task.inner.count > 1) return false;
  const bool maps = task.operation != Operation::kLogSumExp && task.y != nullptr;
  const auto bytes = static_cast<int64_t>(sizeof(S)) * items;
  if (task.n % items != 0) return false;
  const auto fits = [&](const void* base, Operand operand) {
    if (task.inner.count == 1 && task.inner.stride[operand][0] != static_cast<int64_t>(sizeof(S))) return false;
    if (reinterpret_cast<uintptr_t>(base) % static_cast<uintptr_t>(bytes) != 0) return false;
    return std::all_of(task.outer.stride[operand], task.outer.stride[operand] + task.outer.count,
                       [&](int64_t stride) { return stride % bytes == 0; });
  };
  return fits(task.x, kX) && (!maps || fits(task.y, kY));
}

template <class S>
void RunRows(const Task& task, Stream stream) {
  constexpr int kWide = 16 / sizeof(S);
  if (IsContiguous<S>(task, kWide) && RunWaiting<S, kWide>(task, stream)) return;
  if (IsContiguous<S>(task, 1) && RunWaiting<S, 1>(task, stream)) return;
  const int64_t pieces = std::max<int64_t>(1, CeilDivide(task.n, kPiece));
  const dim3 threads(32 * kPieceWarps);
  using Sums = RowSum<Compute<S>>;
  if (pieces == 1) {
    return Launch(PiecesOfRows<S>, {task.rows, threads}, stream, task, pieces, static_cast<Sums*>(nullptr));
  }
  const Workspace workspace(static_cast<size_t>(task.rows * pieces) * sizeof(Sums), stream);
  auto* sums = static_cast<Sums*>(workspace.memory);
  Launch(PiecesOfRows<S>, {task.rows * pieces, threads}, stream, task, pieces, sums);
  Launch(MapPieces<S>, {task.rows * pieces, threads}, stream, task, pieces, sums);
}

template <class S>
void RunGradients(const Task& task, Stream stream) {
  if (task.n <= 1024) {
    return Launch(GradientsOfRows<S, 1, kRowsOfBlock>, {CeilDivide(task.rows, kRowsOfBlock), dim3(32, kRowsOfBlock)},
                  stream, task);
  }
  Launch(GradientsOfRows<S, 8, 1>, {task.rows, dim3(32 * 8)}, stream, task);
}

template <class S>
void RunAs(const Task& task, Stream stream) {
  const bool is_gradient =
      task.operation == Operation::kSoftmaxBackward || task.operation == Operation::kLogSoftmaxBackward;
  is_gradient ? RunGradients<S>(task, stream) : RunRows<S>(task, stream);
}

}  // namespace

void Run(const Task& task, Stream stream) {
  if (task.rows == 0 || (task.n == 0 && task.operation != Operation::kLogSumExp)) return;
  switch (task.storage) {
    case Storage::kFloat32: return RunAs<float>(task, stream);
    case Storage::kFloat64: return RunAs<double>(task, stream);
    case Storage::kFloat16: return RunAs<Half>(task, stream);
    case Storage::kBFloat16: return RunAs<BFloat16>(task, stream);
  }
}

void RunStatistics(const Task& task, const Statistics& out, Stream stream) {
  if (task.rows == 0 || task.n == 0) return;
  const Grid grid = {task.rows, dim3(kStatisticsThreads)};
  switch (task.storage) {
    case Storage::kFloat32: return Launch(StatisticsOfRows<float>, grid, stream, task, out);
    case Storage::kFloat64: return Launch(StatisticsOfRows<double>, grid, stream, task, out);
    case Storage::kFloat16: return Launch(StatisticsOfRows<Half>, grid, stream, task, out);
    case Storage::kBFloat16: return Launch(StatisticsOfRows<BFloat16>, grid, stream, task, out);
  }
}

void PrepareMean(const int64_t* target, int64_t rows, double* scale, Stream stream) {
  Launch(ScaleOfMean, {1, dim3(32 * kLossWarps)}, stream, target, rows, scale);
}

void JoinLosses(const Losses& losses, const double* scale, void* result, Stream stream) {
  const Grid grid = {1, dim3(32 * kLossWarps)};
  if (losses.storage == Storage::kFloat64) {
    const auto* each = static_cast<const double*>(losses.losses);
    return Launch(SumOfLosses<double>, grid, stream, each, losses.rows, scale, static_cast<double*>(result));
  }
  const auto* each = static_cast<const float*>(losses.losses);
  Launch(SumOfLosses<float>, grid, stream, each, losses.rows, scale, static_cast<float*>(result));
}

}  // namespace boltzmax::cuda
