// Launching kernels.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <new>

#include "numbers.cuh"
#include "workspace.hpp"

namespace boltzmax::cuda {

inline void Check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // so that the next call does not find it
  if (status == cudaErrorMemoryAllocation) throw OutOfMemory(what);
  throw Error(std::string(what) + ": " + cudaGetErrorString(status));
}

inline int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// What a kernel may use on the current device.
struct Limits {
  size_t shared = 0;          // bytes that a launch may add to the kernel's own
  bool has_clusters = false;  // of any size that the device can place
};
// Raises the limits as far as possible, once per device: raising them for each launch could lower those of another
// thread.
Limits LimitsOf(const void* kernel);

// The numbers of blocks and threads, the bytes of shared memory, and the size of clusters.
struct Grid {
  int64_t blocks;
  dim3 threads;
  size_t shared = 0;
  int cluster = 1;
};

// The same in CUDA's form; `attribute` must live as long.
inline cudaLaunchConfig_t ConfigOf(const Grid& grid, Stream stream, cudaLaunchAttribute* attribute) {
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(grid.blocks));
  config.blockDim = grid.threads;
  config.dynamicSmemBytes = grid.shared;
  config.stream = stream;
  attribute->id = cudaLaunchAttributeClusterDimension;
  attribute->val.clusterDim.x = static_cast<unsigned>(grid.cluster);
  attribute->val.clusterDim.y = attribute->val.clusterDim.z = 1;
  config.attrs = attribute;
  config.numAttrs = grid.cluster > 1 ? 1 : 0;
  return config;
}

// For RecordLaunches.
extern std::atomic<bool> is_recording;
void Record(const void* kernel, const Grid& grid);

template <class... Parameters, class... Arguments>
void Launch(void (*kernel)(Parameters...), const Grid& grid, Stream stream, Arguments... arguments) {
  if (grid.blocks > INT32_MAX) throw Error("more rows than one launch can have");
  cudaLaunchAttribute attribute = {};
  const cudaLaunchConfig_t config = ConfigOf(grid, stream, &attribute);
  Check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), "launching a kernel");
  if (is_recording.load(std::memory_order_relaxed)) Record(reinterpret_cast<const void*>(kernel), grid);
}

// An attribute of the current device.
inline int Attribute(cudaDeviceAttr attribute) {
  int value = 0;
  Check(cudaDeviceGetAttribute(&value, attribute, CurrentDevice()), "asking what the device can do");
  return value;
}

}  // namespace boltzmax::cuda
