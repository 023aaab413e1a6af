// What the device has, and what kernels take of it: facts for benchmarks.
#include <cxxabi.h>

#include <atomic>
#include <cstdlib>
#include <mutex>

#include "grid.cuh"

namespace boltzmax::cuda {

std::atomic<bool> is_recording = false;

namespace {

std::mutex mutex;
std::vector<LaunchRecord> records;

std::string NameOf(const void* kernel) {
  const char* mangled = nullptr;
  Check(cudaFuncGetName(&mangled, kernel), "asking for the name of a kernel");
  int status = 0;
  char* const readable = abi::__cxa_demangle(mangled, nullptr, nullptr, &status);
  std::string name = status == 0 ? readable : mangled;
  std::free(readable);
  return name;
}

}  // namespace

std::vector<std::pair<const char*, int>> DeviceAttributes() {
  return {
      {"capability_major", Attribute(cudaDevAttrComputeCapabilityMajor)},
      {"capability_minor", Attribute(cudaDevAttrComputeCapabilityMinor)},
      {"multiprocessors", Attribute(cudaDevAttrMultiProcessorCount)},
      {"threads_of_multiprocessor", Attribute(cudaDevAttrMaxThreadsPerMultiProcessor)},
      {"registers_of_multiprocessor", Attribute(cudaDevAttrMaxRegistersPerMultiprocessor)},
      {"shared_bytes_of_multiprocessor", Attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor)},
      {"shared_bytes_of_block", Attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin)},
      {"l2_bytes", Attribute(cudaDevAttrL2CacheSize)},
      {"clock_khz", Attribute(cudaDevAttrClockRate)},
      {"memory_clock_khz", Attribute(cudaDevAttrMemoryClockRate)},
      {"memory_bus_bits", Attribute(cudaDevAttrGlobalMemoryBusWidth)},
      {"has_clusters", Attribute(cudaDevAttrClusterLaunch)},
  };
}

void RecordLaunches(bool is_on) { is_recording = is_on; }

std::vector<LaunchRecord> TakeRecords() {
  const std::lock_guard<std::mutex> lock(mutex);
  return std::exchange(records, {});
}

void Record(const void* kernel, const Grid& grid) {
  cudaFuncAttributes attributes = {};
  Check(cudaFuncGetAttributes(&attributes, kernel), "asking what a kernel needs");
  const auto threads = static_cast<int>(grid.threads.x * grid.threads.y * grid.threads.z);
  int resident = 0;
  Check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, threads, grid.shared),
        "asking how many blocks fit");
  const LaunchRecord record = {NameOf(kernel),
                               attributes.numRegs,
                               attributes.localSizeBytes,
                               attributes.sharedSizeBytes + grid.shared,
                               grid.blocks,
                               threads,
                               grid.cluster,
                               resident};
  const std::lock_guard<std::mutex> lock(mutex);
  records.push_back(record);
}

}  // namespace boltzmax::cuda
