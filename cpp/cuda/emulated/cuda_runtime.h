// The part of CUDA's runtime that cpp/cuda uses, on the host, so that its kernels are tested without a device. The
// threads of a block are fibers that switch at every shuffle and barrier, as are those of all blocks of a cluster.
// Other blocks run one after the other, and streams run immediately. "Device" memory is host memory, recognized by its
// address. Slow: for tests only.
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <functional>

#define CUDART_VERSION 13000
#define __device__
#define __global__
#define __host__
#define __forceinline__ inline
#define __noinline__
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
struct float2 {
  float x, y;
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
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
enum cudaMemoryType { cudaMemoryTypeUnregistered, cudaMemoryTypeHost, cudaMemoryTypeDevice, cudaMemoryTypeManaged };
struct cudaPointerAttributes {
  cudaMemoryType type;
  int device;
};
enum cudaLaunchAttributeID { cudaLaunchAttributeClusterDimension = 4 };
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  struct {
    struct {
      unsigned x, y, z;
    } clusterDim;
  } val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};
enum cudaFuncAttribute {
  cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
  cudaFuncAttributeNonPortableClusterSizeAllowed = 13,
};
enum cudaDeviceAttr {
  cudaDevAttrClockRate = 13,
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrMemoryClockRate = 36,
  cudaDevAttrGlobalMemoryBusWidth = 37,
  cudaDevAttrL2CacheSize = 38,
  cudaDevAttrMaxThreadsPerMultiProcessor = 39,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerMultiprocessor = 81,
  cudaDevAttrMaxRegistersPerMultiprocessor = 82,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
  cudaDevAttrClusterLaunch = 120,
};

const char* cudaGetErrorString(cudaError_t status);
cudaError_t cudaGetLastError();
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* memory);
struct cudaFuncAttributes {
  size_t sharedSizeBytes, localSizeBytes;
  int numRegs, ptxVersion;
};
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function);
cudaError_t cudaFuncGetName(const char** name, const void* function);
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* function, int threads,
                                                          size_t shared);
struct CUmemPool_st;
using cudaMemPool_t = CUmemPool_st*;
enum cudaMemAllocationType { cudaMemAllocationTypePinned = 1 };
enum cudaMemLocationType { cudaMemLocationTypeDevice = 1 };
enum cudaMemPoolAttr { cudaMemPoolAttrReleaseThreshold = 4 };
struct cudaMemPoolProps {
  cudaMemAllocationType allocType;
  struct {
    cudaMemLocationType type;
    int id;
  } location;
};
cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps* properties);
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value);
cudaError_t cudaMallocFromPoolAsync(void** memory, size_t bytes, cudaMemPool_t pool, cudaStream_t stream);
cudaError_t cudaFree(void* memory);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaFreeAsync(void* memory, cudaStream_t stream);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* memory, int byte, size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);

namespace emulated {

extern dim3 thread_index, block_index;
extern int64_t comparisons;  // of candidates, by all kernels so far

// Runs threads one after the other until all have returned.
cudaError_t RunGrid(const void* kernel, const cudaLaunchConfig_t& config, const std::function<void()>& thread);
// Allows a kernel this much shared memory from now on.
void Allow(const void* kernel, size_t bytes);
// Waits for the other threads of the cluster, the block or the warp.
void WaitForCluster();
void WaitForBlock();
void WaitForWarp();
int ClusterSize();
int ClusterRank();
// Shared memory of the running block: what the kernel declares, by the address of a key, and what the launch added (no
// key). The memory of another block of the cluster has the same layout.
void* SharedMemory(const void* key, size_t bytes);
void* SharedMemoryOf(const void* own, int rank);
template <class T>
T* SharedOf(const void* key, size_t count) {
  return static_cast<T*>(SharedMemory(key, count * sizeof(T)));
}
template <class T>
T* SharedOfLaunch() {
  return static_cast<T*>(SharedMemory(nullptr, 0));
}
template <class T>
T* SharedOfBlock(T* own, int rank) {
  return static_cast<T*>(SharedMemoryOf(own, rank));
}
// Where the threads of a warp store the values that they exchange.
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
extern dim3 blockDim;  // not a macro: launches have a member of that name

template <class T>
T atomicAdd(T* at, T x) {
  const T before = *at;
  *at = before + x;
  return before;
}
inline void __syncthreads() { emulated::WaitForBlock(); }
inline void __syncwarp() { emulated::WaitForWarp(); }
template <class T>
T __shfl_xor_sync(unsigned, T x, int distance) {
  return emulated::ShuffleXor(x, distance);
}

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments... arguments) {
  return emulated::RunGrid(reinterpret_cast<const void*>(kernel), *config, [=] { kernel(arguments...); });
}
// A cluster of eight blocks can be placed, one of sixteen cannot.
template <class... Parameters>
cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, void (*)(Parameters...), const cudaLaunchConfig_t* config) {
  *clusters = config->attrs->val.clusterDim.x <= 8 ? 1 : 0;
  return cudaSuccess;
}
