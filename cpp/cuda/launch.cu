#include "launch.hpp"

#include <algorithm>
#include <cstdint>
#include <new>

#include "gradients.cuh"

namespace boltzmax::cuda {

namespace {

void Check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // the next call is not to find it
  if (status == cudaErrorMemoryAllocation) throw std::bad_alloc();
  throw Error(std::string(what) + ": " + cudaGetErrorString(status));
}

// A kernel for `blocks` blocks of `threads`.
template <class... Parameters, class... Arguments>
void Launch(void (*kernel)(Parameters...), int64_t blocks, dim3 threads, Stream stream, Arguments... arguments) {
  if (blocks > INT32_MAX) throw Error("more rows than one launch can have");
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = threads;
  config.stream = stream;
  Check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), "launching a kernel");
}

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Memory that is given back in the order of the stream.
class Workspace {
 public:
  Workspace(size_t bytes, Stream stream) : memory(Allocate(bytes, stream)), stream_(stream) {}
  ~Workspace() { Free(memory, stream_); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  void* const memory;

 private:
  Stream stream_;
};

// ---- rows in registers ----

template <class S, int kItems, int kPackets, int kWarps>
void LaunchRows(const Task& task, Stream stream) {
  constexpr int kRowsOfBlock = kWarps == 1 ? 4 : 1;
  Launch(RowsInRegisters<S, kItems, kPackets, kWarps, kRowsOfBlock>, CeilDivide(task.rows, kRowsOfBlock),
         dim3(32 * kWarps, kRowsOfBlock), stream, task);
}

// Up to 64 bytes of what is computed a thread, with which the largest block's registers suffice. False if that does not
// hold a row.
template <class S, int kItems>
bool RunInRegisters(const Task& task, Stream stream) {
  constexpr int kMost = kItems == 1 ? 8 : 64 / (kItems * static_cast<int>(sizeof(Compute<S>)));
  const int64_t packets = CeilDivide(task.n, kItems);
  if (packets <= 32) return LaunchRows<S, kItems, 1, 1>(task, stream), true;
  if (packets <= 32 * kMost) return LaunchRows<S, kItems, kMost, 1>(task, stream), true;
  if (packets <= 4 * 32 * kMost) return LaunchRows<S, kItems, kMost, 4>(task, stream), true;
  if (packets <= 16 * 32 * kMost) return LaunchRows<S, kItems, kMost, 16>(task, stream), true;
  if (packets <= 32 * 32 * kMost) return LaunchRows<S, kItems, kMost, 32>(task, stream), true;
  return false;
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
  if (IsContiguous<S>(task, kWide) && RunInRegisters<S, kWide>(task, stream)) return;
  if (IsContiguous<S>(task, 1) && RunInRegisters<S, 1>(task, stream)) return;
  const int64_t pieces = std::max<int64_t>(1, CeilDivide(task.n, kPiece));
  const dim3 threads(32 * kPieceWarps);
  using Sums = RowSum<Compute<S>>;
  if (pieces == 1) {
    return Launch(PiecesOfRows<S>, task.rows, threads, stream, task, pieces, static_cast<Sums*>(nullptr));
  }
  const Workspace workspace(static_cast<size_t>(task.rows * pieces) * sizeof(Sums), stream);
  auto* sums = static_cast<Sums*>(workspace.memory);
  Launch(PiecesOfRows<S>, task.rows * pieces, threads, stream, task, pieces, sums);
  Launch(MapPieces<S>, task.rows * pieces, threads, stream, task, pieces, sums);
}

template <class S>
void RunGradients(const Task& task, Stream stream) {
  constexpr int kRowsOfBlock = 8;
  if (task.n <= 1024) {
    return Launch(GradientsOfRows<S, 1, kRowsOfBlock>, CeilDivide(task.rows, kRowsOfBlock), dim3(32, kRowsOfBlock),
                  stream, task);
  }
  Launch(GradientsOfRows<S, 8, 1>, task.rows, dim3(32 * 8), stream, task);
}

template <class S>
void RunAs(const Task& task, Stream stream) {
  const bool is_gradient =
      task.operation == Operation::kSoftmaxBackward || task.operation == Operation::kLogSoftmaxBackward;
  is_gradient ? RunGradients<S>(task, stream) : RunRows<S>(task, stream);
}

}  // namespace

std::string WhyUnavailable() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    cudaGetLastError();
    return std::string("CUDA says: ") + cudaGetErrorString(status);
  }
  return count == 0 ? "CUDA knows of no device" : "";
}

int DeviceOf(const void* memory) {
  cudaPointerAttributes attributes = {};
  Check(cudaPointerGetAttributes(&attributes, memory), "looking up a pointer");
  const bool is_device = attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged;
  return is_device ? attributes.device : -1;
}

// To choose a device wakes it up: not where it is the current one.
DeviceScope::DeviceScope(int device) : device_(device) {
  Check(cudaGetDevice(&before_), "asking for the device");
  if (device_ != before_) Check(cudaSetDevice(device), "choosing a device");
}
DeviceScope::~DeviceScope() {
  if (device_ != before_) cudaSetDevice(before_);
}

void Order(Stream earlier, Stream later) {
  if (earlier == later) return;
  cudaEvent_t event = nullptr;
  Check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event");
  const cudaError_t recorded = cudaEventRecord(event, earlier);
  const cudaError_t waits = recorded == cudaSuccess ? cudaStreamWaitEvent(later, event, 0) : recorded;
  cudaEventDestroy(event);  // when it has happened
  Check(waits, "joining two streams");
}

void* Allocate(size_t bytes, Stream stream) {
  void* memory = nullptr;
  Check(cudaMallocAsync(&memory, std::max<size_t>(bytes, 1), stream), "allocating device memory");
  return memory;
}
void Free(void* memory, Stream stream) noexcept { cudaFreeAsync(memory, stream); }

void CopyIn(void* device, const void* host, size_t bytes, Stream stream) {
  Check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream), "copying to the device");
  Check(cudaStreamSynchronize(stream), "waiting for a copy");
}
void CopyOut(void* host, const void* device, size_t bytes, Stream stream) {
  Check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream), "copying from the device");
  Check(cudaStreamSynchronize(stream), "waiting for a copy");
}

void Run(const Task& task, Stream stream) {
  if (task.rows == 0 || (task.n == 0 && task.operation != Operation::kLogSumExp)) return;
  switch (task.storage) {
    case Storage::kFloat32: return RunAs<float>(task, stream);
    case Storage::kFloat64: return RunAs<double>(task, stream);
    case Storage::kFloat16: return RunAs<Half>(task, stream);
    case Storage::kBFloat16: return RunAs<BFloat16>(task, stream);
  }
}

void PrepareMean(const Task& task, double* scale, Stream stream) {
  Launch(ScaleOfMean, 1, dim3(32 * kLossWarps), stream, task.target, task.rows, scale);
}

void JoinLosses(const Task& task, const double* scale, void* result, Stream stream) {
  const dim3 threads(32 * kLossWarps);
  if (task.storage == Storage::kFloat64) {
    const auto* loss = reinterpret_cast<const double*>(task.loss);
    return Launch(SumOfLosses<double>, 1, threads, stream, loss, task.rows, scale, static_cast<double*>(result));
  }
  const auto* loss = reinterpret_cast<const float*>(task.loss);
  Launch(SumOfLosses<float>, 1, threads, stream, loss, task.rows, scale, static_cast<float*>(result));
}

}  // namespace boltzmax::cuda
