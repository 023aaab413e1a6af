#include "dlpack.hpp"

#include <pybind11/stl.h>

#include <algorithm>
#include <string>

#include "device_memory.hpp"

namespace py = pybind11;

namespace boltzmax::cuda {

bool TakesDevice(int32_t type) {
  return type == kDLCuda || type == kDLCudaManaged || (type == kDLCpu && IsEmulated());  // such memory is the host's
}

std::vector<int64_t> StridesOf(const DLTensor& tensor) {
  const auto ndim = static_cast<size_t>(tensor.ndim);
  const int64_t item = tensor.dtype.bits / 8;
  std::vector<int64_t> strides(ndim);
  int64_t next = item;
  for (size_t d = ndim; d-- > 0;) {
    strides[d] = tensor.strides == nullptr ? next : tensor.strides[d] * item;
    next *= tensor.shape[d];
  }
  return strides;
}

uintptr_t AddressOf(const DLTensor& tensor) {
  return reinterpret_cast<uintptr_t>(tensor.data) + static_cast<uintptr_t>(tensor.byte_offset);
}

// ---- the exchange API ----

struct Exchange::Api {
  struct {
    uint32_t major, minor;
  } version;
  const Api* older;  // begins in the same way
  void* allocate;
  void* take;
  void* give;
  int (*read)(void* array, DLTensor* tensor);  // may be null
  int (*stream)(int32_t device_type, int32_t device, void** stream);
};

std::optional<Exchange> Exchange::Of(py::handle array) {
  PyTypeObject* const type = Py_TYPE(array.ptr());
  static PyObject* const name = PyUnicode_InternFromString("__dlpack_c_exchange_api__");
  PyObject* const own = type->tp_dict;
  PyObject* const capsule = own == nullptr ? nullptr : PyDict_GetItemWithError(own, name);
  const char* const kind = "dlpack_exchange_api";
  if (capsule == nullptr || PyCapsule_IsValid(capsule, kind) == 0) return std::nullopt;
  const auto* api = static_cast<const Api*>(PyCapsule_GetPointer(capsule, kind));
  while (api != nullptr && api->version.major != 1) api = api->older;
  if (api == nullptr || api->read == nullptr || api->stream == nullptr) return std::nullopt;
  return Exchange(api);
}

std::optional<DLTensor> Exchange::Read(py::handle array) const {
  DLTensor tensor = {};
  if (api_->read(array.ptr(), &tensor) != 0) {
    PyErr_Clear();
    return std::nullopt;
  }
  const bool has_elements = std::count(tensor.shape, tensor.shape + tensor.ndim, 0) == 0;
  return tensor.data == nullptr && has_elements ? std::nullopt
                                                : std::optional(tensor);  // it stands for numbers elsewhere
}

std::optional<uintptr_t> Exchange::StreamOn(const DLDevice& device) const {
  void* stream = nullptr;
  if (api_->stream(device.type, device.id, &stream) == 0) return reinterpret_cast<uintptr_t>(stream);
  PyErr_Clear();
  return std::nullopt;
}

namespace {

using Sizes = std::vector<int64_t>;

// (address, shape, strides in bytes, code, bits, type of device, device)
py::tuple Described(const DLTensor& tensor) {
  if (tensor.dtype.lanes != 1) throw py::type_error("vectors as elements are not supported");
  const Sizes shape(tensor.shape, tensor.shape + tensor.ndim);
  return py::make_tuple(AddressOf(tensor), py::tuple(py::cast(shape)), py::tuple(py::cast(StridesOf(tensor))),
                        tensor.dtype.code, tensor.dtype.bits, tensor.device.type, tensor.device.id);
}

// Does not consume the capsule.
py::tuple ReadDLPack(const py::capsule& capsule) {
  if (capsule.name() == nullptr || std::string(capsule.name()) != "dltensor") {
    throw py::type_error("not a DLPack capsule that is still to be used");
  }
  return Described(capsule.get_pointer<DLManagedTensor>()->tensor);
}

// None if the array's library has no exchange API.
py::object ReadExchange(py::handle array) {
  const auto exchange = Exchange::Of(array);
  const auto tensor = exchange ? exchange->Read(array) : std::nullopt;
  return tensor ? py::object(Described(*tensor)) : py::none();
}
std::optional<uintptr_t> StreamOf(py::handle array) {
  const auto exchange = Exchange::Of(array);
  const auto tensor = exchange ? exchange->Read(array) : std::nullopt;
  return tensor ? exchange->StreamOn(tensor->device) : std::nullopt;
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
  module.def("takes_device", TakesDevice, py::arg("type"));
  module.def("read_exchange", ReadExchange, py::arg("array"));
  module.def("stream_of", StreamOf, py::arg("array"));
  module.def("read_dlpack", ReadDLPack, py::arg("capsule"));
  module.def("write_dlpack", WriteDLPack, py::arg("memory"), py::arg("shape"), py::arg("code"), py::arg("bits"));
}

}  // namespace boltzmax::cuda
