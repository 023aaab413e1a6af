// Device memory in Python.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <vector>

#include "../../cpp/cuda/launch.hpp"
#include "detached.hpp"

namespace boltzmax::cuda {

using Address = uintptr_t;

template <class T>
T* Pointer(Address address) {
  return reinterpret_cast<T*>(address);  // NOLINT(performance-no-int-to-ptr): other libraries pass addresses
}

// Device memory, owned by everyone who uses it. Lasting memory may be used by any stream: it is freed when the device
// is idle. Other memory is freed in the order of the streams that are known to use it.
class DeviceMemory {
 public:
  DeviceMemory(size_t bytes, int device, Address stream, bool is_lasting = false)
      : bytes_(bytes), device_(device), stream_(stream), is_lasting_(is_lasting) {
    const DeviceScope scope(device);
    memory_ = Allocate(bytes, Pointer<CUstream_st>(stream));
  }
  ~DeviceMemory() {
    try {
      const DeviceScope scope(device_);
      if (is_lasting_) {  // callbacks of streams may need the GIL
        PyGILState_Check() != 0 ? Detached([&] { FreeWhenIdle(memory_); }) : FreeWhenIdle(memory_);
        return;
      }
      for (const Address user : users_) TryOrder(user);
      Free(memory_, Pointer<CUstream_st>(stream_));
    } catch (...) {  // the device is gone with its memory
      memory_ = nullptr;
    }
  }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  Address address() const { return reinterpret_cast<Address>(memory_); }
  int device() const { return device_; }

  // Orders a stream's use of the memory after what was launched on our own stream, and before the memory is freed.
  void ShareWith(Address stream) {
    if (is_lasting_) return;
    const DeviceScope scope(device_);
    const std::lock_guard<std::mutex> lock(mutex_);
    Order(Pointer<CUstream_st>(stream_), Pointer<CUstream_st>(stream));
    if (stream != stream_ && std::find(users_.begin(), users_.end(), stream) == users_.end()) users_.push_back(stream);
  }

  void CopyIn(const pybind11::buffer& host) {
    const pybind11::buffer_info info = host.request();
    Check(info);
    Detached([&] {
      const DeviceScope scope(device_);
      boltzmax::cuda::CopyIn(memory_, info.ptr, bytes_, Pointer<CUstream_st>(stream_));
    });
  }
  void CopyOut(const pybind11::buffer& host) {
    const pybind11::buffer_info info = host.request(true);
    Check(info);
    Detached([&] {
      const DeviceScope scope(device_);
      boltzmax::cuda::CopyOut(info.ptr, memory_, bytes_, Pointer<CUstream_st>(stream_));
    });
  }

 private:
  void TryOrder(Address user) const noexcept {
    try {
      Order(Pointer<CUstream_st>(user), Pointer<CUstream_st>(stream_));
    } catch (...) {  // a stream that is gone uses no memory
      return;
    }
  }
  void Check(const pybind11::buffer_info& info) const {
    if (static_cast<size_t>(info.size * info.itemsize) != bytes_) throw std::invalid_argument("sizes differ");
  }

  size_t bytes_;
  int device_;
  Address stream_;
  bool is_lasting_;
  std::mutex mutex_;
  std::vector<Address> users_;
  void* memory_ = nullptr;
};

}  // namespace boltzmax::cuda
