// As much of CUDA's runtime as cpp/cuda uses, on the host: so that its kernels are tested where there is no device. The
// threads of a block are fibers that take turns at every shuffle and barrier; blocks run one after the other, streams at
// once. "Device" memory is of the host, and known by its address. Slow: for tests alone.
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <functional>

#define __device__
#define __global__
#define __host__
#define __forceinline__ inline
#define __shared__ static
#define __grid_constant__
#define __launch_bounds__(...)

struct CUstream_st;
using cudaStream_t = CUstream_st*;
struct CUevent_st;
using cudaEvent_t = CUevent_st*;
inline constexpr unsigned cudaEventDisableTiming = 2;

struct uint4 {
  unsigned x, y, z, w;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };
enum cudaMemoryType { cudaMemoryTypeUnregistered, cudaMemoryTypeHost, cudaMemoryTypeDevice, cudaMemoryTypeManaged };
struct cudaPointerAttributes {
  cudaMemoryType type;
  int device;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
};

const char* cudaGetErrorString(cudaError_t status);
cudaError_t cudaGetLastError();
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* memory);
cudaError_t cudaMallocAsync(void** memory, size_t bytes, cudaStream_t stream);
cudaError_t cudaFreeAsync(void* memory, cudaStream_t stream);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);

namespace emulated {

extern dim3 thread_index, block_index;

// Runs one thread after the other until all have returned.
cudaError_t RunGrid(dim3 grid, dim3 block_size, const std::function<void()>& thread);
// Waits for the other threads of the block, or of the warp.
void WaitForBlock();
void WaitForWarp();
// Where a warp's threads lay down what they exchange.
void* ExchangeOf(int lane);
int Lane();

template <class T>
T ShuffleXor(T x, int distance) {
  static_assert(sizeof(T) <= 8);
  memcpy(ExchangeOf(Lane()), &x, sizeof x);
  WaitForWarp();
  memcpy(&x, ExchangeOf(Lane() ^ distance), sizeof x);
  WaitForWarp();
  return x;
}

}  // namespace emulated

#define threadIdx (emulated::thread_index)
#define blockIdx (emulated::block_index)

inline void __syncthreads() { emulated::WaitForBlock(); }
inline void __syncwarp() { emulated::WaitForWarp(); }
template <class T>
T __shfl_xor_sync(unsigned, T x, int distance) {
  return emulated::ShuffleXor(x, distance);
}

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments... arguments) {
  return emulated::RunGrid(config->gridDim, config->blockDim, [=] { kernel(arguments...); });
}
