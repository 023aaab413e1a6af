#include "dlpack.hpp"

#include <pybind11/stl.h>

#include <string>

#include "device_memory.hpp"

namespace py = pybind11;

namespace boltzmax::cuda {

namespace {

using Sizes = std::vector<int64_t>;

struct DLDevice {
  int32_t type, id;
};
struct DLTensor {
  void* data;
  DLDevice device;
  int32_t ndim;
  struct {
    uint8_t code, bits;
    uint16_t lanes;
  } dtype;
  int64_t* shape;
  int64_t* strides;  // elements; null where contiguous
  uint64_t byte_offset;
};
struct DLManagedTensor {
  DLTensor tensor;
  void* manager;
  void (*deleter)(DLManagedTensor*);
};
constexpr int32_t kDLCuda = 2;

// (address, shape, strides in bytes, code, bits, type of device, device). The capsule stays what it is.
py::tuple ReadDLPack(const py::capsule& capsule) {
  if (capsule.name() == nullptr || std::string(capsule.name()) != "dltensor") {
    throw py::type_error("not a DLPack capsule that is still to be used");
  }
  const DLTensor& tensor = capsule.get_pointer<DLManagedTensor>()->tensor;
  if (tensor.dtype.lanes != 1) throw py::type_error("vectors as elements are not supported");
  const auto ndim = static_cast<size_t>(tensor.ndim);
  const Sizes shape(tensor.shape, tensor.shape + ndim);
  Sizes strides(ndim);
  int64_t next = tensor.dtype.bits / 8;
  for (size_t d = ndim; d-- > 0;) {
    strides[d] = tensor.strides == nullptr ? next : tensor.strides[d] * (tensor.dtype.bits / 8);
    next *= shape[d];
  }
  return py::make_tuple(reinterpret_cast<Address>(tensor.data) + tensor.byte_offset, py::tuple(py::cast(shape)),
                        py::tuple(py::cast(strides)), tensor.dtype.code, tensor.dtype.bits, tensor.device.type,
                        tensor.device.id);
}

// A contiguous array in `memory`.
py::capsule WriteDLPack(std::shared_ptr<DeviceMemory> memory, Sizes shape, uint8_t code, uint8_t bits) {
  struct Owner {
    DLManagedTensor managed;
    std::shared_ptr<DeviceMemory> memory;
    Sizes shape, strides;  // of elements
  };
  auto* owner = new Owner{{}, std::move(memory), std::move(shape), {}};
  owner->strides.assign(owner->shape.size(), 1);
  for (size_t d = owner->shape.size(); d-- > 1;) owner->strides[d - 1] = owner->strides[d] * owner->shape[d];
  DLManagedTensor& managed = owner->managed;
  managed.tensor = {Pointer<void>(owner->memory->address()),
                    {kDLCuda, owner->memory->device()},
                    static_cast<int32_t>(owner->shape.size()),
                    {code, bits, 1},
                    owner->shape.data(),
                    owner->strides.data(),
                    0};
  managed.manager = owner;
  managed.deleter = [](DLManagedTensor* self) { delete static_cast<Owner*>(self->manager); };
  return py::capsule(static_cast<void*>(&managed), "dltensor", [](PyObject* self) {
    if (!PyCapsule_IsValid(self, "dltensor")) return;  // its new owner deletes it
    auto* unused = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(self, "dltensor"));
    unused->deleter(unused);
  });
}

}  // namespace

void BindDLPack(py::module_& module) {
  module.def("read_dlpack", ReadDLPack, py::arg("capsule"));
  module.def("write_dlpack", WriteDLPack, py::arg("memory"), py::arg("shape"), py::arg("code"), py::arg("bits"));
}

}  // namespace boltzmax::cuda
