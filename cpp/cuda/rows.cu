// Rows: which kernel, and how it is shared out.
#include "gradients.cuh"
#include "grid.cuh"
#include "losses.cuh"
#include "statistics.cuh"

namespace boltzmax::cuda {

namespace {

bool IsGradient(const Task& task) {
  return task.operation == Operation::kSoftmaxBackward || task.operation == Operation::kLogSoftmaxBackward;
}

// ---- rows that wait where they were read ----

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

// `arrays` of packets wait in shared memory. False if a row is too long.
bool RunStaged(void (*block)(Task), void (*cluster)(Task), const Task& task, int64_t packets, int arrays,
               Stream stream) {
  const auto bytes_of = [&](int64_t count) { return count * arrays * static_cast<int64_t>(sizeof(uint4)); };
  const int blocks = ClusterFor(task.rows, bytes_of(packets));
  const auto shared = static_cast<size_t>(bytes_of(CeilDivide(packets, blocks)));
  constexpr size_t kForFolds = 2 << 10;
  if (shared + kForFolds > kUsualShared &&
      shared + kForFolds > static_cast<size_t>(Attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin))) {
    return false;
  }
  Launch(blocks > 1 ? cluster : block, {task.rows * blocks, dim3(kStagedThreads), shared, blocks}, stream, task);
  return true;
}

// Up to 64 bytes of what is computed wait in the registers of a thread.
template <class S>
bool RunWaiting(const Task& task, Stream stream) {
  constexpr int kItems = Packet<S>::kItems, kMost = 64 / (kItems * static_cast<int>(sizeof(Compute<S>)));
  if (task.n > INT32_MAX / 2) return false;
  const int64_t packets = CeilDivide(task.n + kItems - 1, kItems);  // where the first is the row's last part of one
  const bool is_gradient = IsGradient(task);
  const Grid grid = {CeilDivide(task.rows, kRowsOfBlock), dim3(32, kRowsOfBlock)};
  if (packets <= 32) return Launch(is_gradient ? ShortGradients<S, 1> : ShortRows<S, 1>, grid, stream, task), true;
  if (packets <= 32 * kMost) {
    return Launch(is_gradient ? ShortGradients<S, kMost> : ShortRows<S, kMost>, grid, stream, task), true;
  }
  return is_gradient ? RunStaged(StagedGradients<S, false>, StagedGradients<S, true>, task, packets, 2, stream)
                     : RunStaged(StagedRows<S, false>, StagedRows<S, true>, task, packets, 1, stream);
}

// Whether rows lie contiguous, and those of all operands equally far from where packets do.
template <class S>
bool IsContiguous(const Task& task) {
  if (task.inner.count > 1) return false;
  const bool maps = task.operation != Operation::kLogSumExp && task.y != nullptr;
  const auto apart = [&](const void* base, Operand operand) {
    const auto is_even = [](int64_t bytes) { return bytes % static_cast<int64_t>(sizeof(uint4)) == 0; };
    if (task.inner.count == 1 && task.inner.stride[operand][0] != static_cast<int64_t>(sizeof(S))) return true;
    if (!is_even(reinterpret_cast<intptr_t>(base) - reinterpret_cast<intptr_t>(task.x))) return true;
    for (int d = 0; d < task.outer.count; ++d) {
      if (!is_even(task.outer.stride[operand][d] - task.outer.stride[kX][d])) return true;
    }
    return false;
  };
  return !apart(task.x, kX) && !(maps && apart(task.y, kY)) && !(IsGradient(task) && apart(task.third, kThird));
}

template <class S>
void RunRows(const Task& task, Stream stream) {
  if (IsContiguous<S>(task) && RunWaiting<S>(task, stream)) return;
  if (IsGradient(task)) return Launch(GradientsOfRows<S>, {task.rows, dim3(32 * kGradientWarps)}, stream, task);
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

}  // namespace

void Run(const Task& task, Stream stream) {
  if (task.rows == 0 || (task.n == 0 && task.operation != Operation::kLogSumExp)) return;
  switch (task.storage) {
    case Storage::kFloat32: return RunRows<float>(task, stream);
    case Storage::kFloat64: return RunRows<double>(task, stream);
    case Storage::kFloat16: return RunRows<Half>(task, stream);
    case Storage::kBFloat16: return RunRows<BFloat16>(task, stream);
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
