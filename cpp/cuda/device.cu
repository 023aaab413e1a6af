// Devices, streams and memory.
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

void Clear(void* memory, size_t bytes, Stream stream) {
  Check(cudaMemsetAsync(memory, 0, bytes, stream), "clearing device memory");
}

void CopyIn(void* device, const void* host, size_t bytes, Stream stream) {
  Check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream), "copying to the device");
  Check(cudaStreamSynchronize(stream), "waiting for a copy");
}
void CopyOut(void* host, const void* device, size_t bytes, Stream stream) {
  Check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream), "copying from the device");
  Check(cudaStreamSynchronize(stream), "waiting for a copy");
}

}  // namespace boltzmax::cuda
