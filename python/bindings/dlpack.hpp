// Arrays of other libraries, as DLPack has them.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace boltzmax::cuda {

// As dlpack.h of DLPack 1 lays them out. These few structs rather than the header: their layout is an ABI that holds within a
// major version, whoever declares it, and a copy of the whole header would be one more file to keep up to date and to license.
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
  int64_t* strides;  // elements; null where contiguous
  uint64_t byte_offset;
};
struct DLManagedTensor {
  DLTensor tensor;
  void* manager;
  void (*deleter)(DLManagedTensor*);
};
inline constexpr int32_t kDLCpu = 1, kDLCuda = 2, kDLCudaManaged = 13;
inline constexpr uint8_t kDLFloat = 2, kDLBfloat = 4;

// Whether an array on such a device is on one of ours.
bool TakesDevice(int32_t type);
// The bytes from one element of an axis to the next.
std::vector<int64_t> StridesOf(const DLTensor& tensor);
uintptr_t AddressOf(const DLTensor& tensor);

// What the library of an array tells C of it: DLPack 1.3's exchange API. No Python is run for that, nothing ordered or
// waited for. Only types that offer it themselves count: what is derived from them may be something else altogether.
class Exchange {
 public:
  static std::optional<Exchange> Of(pybind11::handle array);
  // Where the array lies, for as long as it is there; nothing where its library cannot tell.
  std::optional<DLTensor> Read(pybind11::handle array) const;
  // The stream that the library uses on a device.
  std::optional<uintptr_t> StreamOn(const DLDevice& device) const;

 private:
  struct Api;
  explicit Exchange(const Api* api) : api_(api) {}
  const Api* api_;
};

void BindDLPack(pybind11::module_& module);

}  // namespace boltzmax::cuda
