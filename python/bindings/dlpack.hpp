// Arrays of other libraries, through DLPack.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace boltzmax::cuda {

// As in dlpack.h of DLPack 1. These few structs rather than the header: their layout is an ABI that holds within a
// major version, and a copy of the whole header would be one more file to keep up to date and to license.
struct DLDevice {
  int32_t type, id;
};
struct DLDataType {
  uint8_t code, bits;
  uint16_t lanes;
};
struct DLTensor {
  void* data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t* shape;
  int64_t* strides;  // in elements; null if contiguous
  uint64_t byte_offset;
};
struct DLManagedTensor {
  DLTensor tensor;
  void* manager;
  void (*deleter)(DLManagedTensor*);
};
inline constexpr int32_t kDLCpu = 1, kDLCuda = 2, kDLCudaManaged = 13;
inline constexpr uint8_t kDLFloat = 2, kDLBfloat = 4;

// Whether we can use arrays on this type of device.
bool TakesDevice(int32_t type);
// The strides of the axes in bytes.
std::vector<int64_t> StridesOf(const DLTensor& tensor);
uintptr_t AddressOf(const DLTensor& tensor);

// DLPack 1.3's exchange API, by which an array's library gives its tensor to C. No Python code runs for that, and
// nothing is ordered or awaited. Only types that offer it themselves count: a derived type may mean something else.
class Exchange {
 public:
  static std::optional<Exchange> Of(pybind11::handle array);
  // The array's tensor, valid while the array exists; nothing if its library cannot give it.
  std::optional<DLTensor> Read(pybind11::handle array) const;
  // The library's current stream on a device.
  std::optional<uintptr_t> StreamOn(const DLDevice& device) const;

 private:
  struct Api;
  explicit Exchange(const Api* api) : api_(api) {}
  const Api* api_;
};

void BindDLPack(pybind11::module_& module);

}  // namespace boltzmax::cuda
