// Devices, streams and memory.
#include <map>
#include <mutex>

#include "grid.cuh"

namespace boltzmax::cuda {

std::string WhyUnavailable() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    cudaGetLastError();
    return std::string("CUDA says: ") + cudaGetErrorString(status);
  }
  return count == 0 ? "CUDA knows of no device" : "";
}

bool IsEmulated() {
#if defined(__CUDACC__)
  return false;
#else
  return true;
#endif
}

int64_t CountComparisons() {
#if defined(__CUDACC__)
  return 0;
#else
  return emulated::comparisons;
#endif
}

int CudaVersion() { return CUDART_VERSION; }

int CurrentDevice() {
  int device = 0;
  Check(cudaGetDevice(&device), "asking for the device");
  return device;
}

int DeviceOf(const void* memory) {
  cudaPointerAttributes attributes = {};
  Check(cudaPointerGetAttributes(&attributes, memory), "looking up a pointer");
  const bool is_device = attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged;
  return is_device ? attributes.device : -1;
}

// Does not set the current device again: setting a device initializes it.
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
  cudaEventDestroy(event);  // takes effect when the event has happened
  Check(waits, "joining two streams");
}

namespace {

// The pool of each device, created when first needed. Idle memory above its limit is returned to the device at the next
// synchronization.
cudaMemPool_t PoolOf(int device) {
  constexpr uint64_t kKept = uint64_t{256} << 20;
  static std::mutex mutex;
  static std::map<int, cudaMemPool_t> pools;
  const std::lock_guard<std::mutex> lock(mutex);
  cudaMemPool_t& pool = pools[device];
  if (pool == nullptr) {
    cudaMemPoolProps properties = {};
    properties.allocType = cudaMemAllocationTypePinned;
    properties.location.type = cudaMemLocationTypeDevice;
    properties.location.id = device;
    Check(cudaMemPoolCreate(&pool, &properties), "making a pool of memory");
    uint64_t kept = kKept;
    Check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &kept), "setting up a pool of memory");
  }
  return pool;
}

}  // namespace

void* Allocate(size_t bytes, Stream stream) {
  void* memory = nullptr;
  const cudaMemPool_t pool = PoolOf(CurrentDevice());
  const std::string what = "allocating " + std::to_string(bytes) + " bytes";
  Check(cudaMallocFromPoolAsync(&memory, std::max<size_t>(bytes, 1), pool, stream), what.c_str());
  return memory;
}
void Free(void* memory, Stream stream) noexcept { cudaFreeAsync(memory, stream); }
void FreeWhenIdle(void* memory) noexcept {
  cudaDeviceSynchronize();
  cudaFree(memory);
}

Limits LimitsOf(const void* kernel) {
  static std::mutex mutex;
  static std::map<std::pair<int, const void*>, Limits> known;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto [entry, is_new] = known.try_emplace({CurrentDevice(), kernel});
  Limits& limits = entry->second;
  if (!is_new && limits.shared > 0) return limits;
  cudaFuncAttributes attributes = {};
  Check(cudaFuncGetAttributes(&attributes, kernel), "asking what a kernel needs");
  const auto most =
      static_cast<size_t>(Attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin)) - attributes.sharedSizeBytes;
  Check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(most)),
        "asking for shared memory");
  // Code that was compiled for older devices has no clusters, even on newer ones.
  constexpr int kFirstWithClusters = 90;
  if (attributes.ptxVersion >= kFirstWithClusters && Attribute(cudaDevAttrClusterLaunch) != 0) {
    Check(cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1), "asking for clusters");
    limits.has_clusters = true;
  }
  limits.shared = most;
  return limits;
}

void Clear(void* memory, size_t bytes, Stream stream) {
  Check(cudaMemsetAsync(memory, 0, bytes, stream), "clearing device memory");
}

void Copy(void* to, const void* from, size_t bytes, Stream stream) {
  Check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream), "copying on the device");
}

void CopyIn(void* device, const void* host, size_t bytes, Stream stream) {
  Check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream), "copying to the device");
  Check(cudaStreamSynchronize(stream), "waiting for a copy");
}
void WaitFor(Stream stream) { Check(cudaStreamSynchronize(stream), "waiting for a stream"); }
void CopyOut(void* host, const void* device, size_t bytes, Stream stream) {
  Check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream), "copying from the device");
  Check(cudaStreamSynchronize(stream), "waiting for a copy");
}

}  // namespace boltzmax::cuda
