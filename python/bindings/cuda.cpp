// boltzmax._cuda: tasks for the device out of pointers, shapes and strides; and DLPack, which carries those between
// libraries (https://dmlc.github.io/dlpack/latest/c_api.html).

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <stdexcept>
#include <vector>

#include "../../cpp/cuda/launch.hpp"
#include "detached.hpp"

namespace py = pybind11;

namespace {

using boltzmax::Detached;
using boltzmax::cuda::Axes;
using boltzmax::cuda::DeviceScope;
using boltzmax::cuda::kMaxAxes;
using boltzmax::cuda::Operation;
using boltzmax::cuda::Order;
using boltzmax::cuda::Storage;
using boltzmax::cuda::Task;

using Address = uintptr_t;
using Sizes = std::vector<int64_t>;

template <class T>
T* Pointer(Address address) {
  return reinterpret_cast<T*>(address);  // NOLINT(performance-no-int-to-ptr): what other libraries hand over
}

// ---- tasks ----

struct Operand {
  Address address;
  Sizes strides;  // bytes, one for each axis
};

// The axes of some length that are, or are not, among the reduced ones; neighbours that make one axis in every operand
// become one.
Axes Select(const Sizes& shape, const std::vector<const Operand*>& operands, uint64_t reduced, bool inner) {
  Axes axes = {};
  for (size_t d = 0; d < shape.size(); ++d) {
    if (((reduced >> d & 1) != 0) != inner || shape[d] == 1) continue;
    bool joins = axes.count > 0;
    for (size_t k = 0; joins && k < operands.size(); ++k) {
      const int64_t before = axes.stride[k][axes.count - 1];
      joins = operands[k] == nullptr || before == operands[k]->strides[d] * shape[d];
    }
    if (!joins && axes.count == kMaxAxes) throw std::invalid_argument("the array has too many axes of its own stride");
    const int at = joins ? axes.count - 1 : axes.count++;
    axes.size[at] = joins ? axes.size[at] * shape[d] : shape[d];
    for (size_t k = 0; k < operands.size(); ++k) {
      axes.stride[k][at] = operands[k] == nullptr ? 0 : operands[k]->strides[d];
    }
  }
  return axes;
}

int64_t Product(const Sizes& shape, uint64_t reduced, bool inner) {
  int64_t product = 1;
  for (size_t d = 0; d < shape.size(); ++d) {
    if (((reduced >> d & 1) != 0) == inner) product *= shape[d];
  }
  return product;
}

size_t ItemSize(Storage storage) { return storage == Storage::kFloat64 ? 8 : storage == Storage::kFloat32 ? 4 : 2; }

struct Call {
  Operation operation;
  Storage storage;
  Sizes shape;
  uint64_t reduced;  // bit d: axis d lies along a row
  Operand x;
  std::optional<Operand> y, third;
  double temperature = 1.0;

  Task ToTask() const {
    if (shape.size() > 64) throw std::invalid_argument("the array has more than 64 axes");
    const std::vector<const Operand*> operands = {&x, y ? &*y : nullptr, third ? &*third : nullptr};
    const bool is_gradient = operation == Operation::kSoftmaxBackward || operation == Operation::kLogSoftmaxBackward;
    CheckAligned(x);
    if (y) CheckAligned(*y);
    if (third && is_gradient) CheckAligned(*third);
    Task task = {};
    task.operation = operation;
    task.storage = storage;
    task.x = Pointer<const char>(x.address);
    task.y = y ? Pointer<char>(y->address) : nullptr;
    task.third = third ? Pointer<const char>(third->address) : nullptr;
    task.rows = Product(shape, reduced, false);
    task.n = Product(shape, reduced, true);
    task.outer = Select(shape, operands, reduced, false);
    task.inner = Select(shape, operands, reduced, true);
    task.temperature = temperature;
    return task;
  }

 private:
  // A device stops for good at an element that does not lie at a multiple of its size.
  void CheckAligned(const Operand& operand) const {
    uint64_t bits = operand.address;
    for (const int64_t stride : operand.strides) bits |= static_cast<uint64_t>(stride);
    if (bits % ItemSize(storage) != 0) throw std::invalid_argument("the elements of an array are not aligned");
  }
};

void Run(const Call& call, int device, Address stream) {
  const Task task = call.ToTask();
  Detached([&] {
    const DeviceScope scope(device);
    boltzmax::cuda::Run(task, Pointer<CUstream_st>(stream));
  });
}

// Memory of a device, until nobody has it any more.
class DeviceMemory {
 public:
  DeviceMemory(size_t bytes, int device, Address stream) : bytes_(bytes), device_(device), stream_(stream) {
    const DeviceScope scope(device);
    memory_ = boltzmax::cuda::Allocate(bytes, Pointer<CUstream_st>(stream));
  }
  ~DeviceMemory() {
    try {
      const DeviceScope scope(device_);
      for (const Address user : users_) Order(Pointer<CUstream_st>(user), Pointer<CUstream_st>(stream_));
      boltzmax::cuda::Free(memory_, Pointer<CUstream_st>(stream_));
    } catch (const boltzmax::cuda::Error&) {  // the device is gone, and its memory with it
      memory_ = nullptr;
    }
  }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  Address address() const { return reinterpret_cast<Address>(memory_); }
  int device() const { return device_; }

  // Lets a stream use the memory: after what was launched on our own, and before it is given back.
  void ShareWith(Address stream) {
    const DeviceScope scope(device_);
    Order(Pointer<CUstream_st>(stream_), Pointer<CUstream_st>(stream));
    if (stream != stream_) users_.push_back(stream);
  }

  void CopyIn(const py::buffer& host) {
    const py::buffer_info info = host.request();
    Check(info);
    Detached([&] {
      const DeviceScope scope(device_);
      boltzmax::cuda::CopyIn(memory_, info.ptr, bytes_, Pointer<CUstream_st>(stream_));
    });
  }
  void CopyOut(const py::buffer& host) {
    const py::buffer_info info = host.request(true);
    Check(info);
    Detached([&] {
      const DeviceScope scope(device_);
      boltzmax::cuda::CopyOut(info.ptr, memory_, bytes_, Pointer<CUstream_st>(stream_));
    });
  }

 private:
  void Check(const py::buffer_info& info) const {
    if (static_cast<size_t>(info.size * info.itemsize) != bytes_) throw std::invalid_argument("sizes differ");
  }

  size_t bytes_;
  int device_;
  Address stream_;
  std::vector<Address> users_;
  void* memory_ = nullptr;
};

// ---- cross-entropy: the loss of every row, and of all ----

enum class Reduction : int { kNone, kSum, kMean };

// `losses` has a number for every row, `joined` one for all (not for kNone). The gradient is that of the result.
void CrossEntropy(const Call& call, Address target, Address losses, Address joined, Reduction reduction, int device,
                  Address stream_address) {
  Task task = call.ToTask();
  task.target = Pointer<const int64_t>(target);
  task.loss = Pointer<char>(losses);
  task.gain = 1.0 / call.temperature;
  Detached([&] {
    const DeviceScope scope(device);
    const auto stream = Pointer<CUstream_st>(stream_address);
    const DeviceMemory scale(sizeof(double), device, stream_address);
    if (reduction == Reduction::kMean) {
      boltzmax::cuda::PrepareMean(task, Pointer<double>(scale.address()), stream);
      task.scale = Pointer<const double>(scale.address());
    }
    boltzmax::cuda::Run(task, stream);
    if (reduction != Reduction::kNone) boltzmax::cuda::JoinLosses(task, task.scale, Pointer<void>(joined), stream);
  });
}

// ---- DLPack ----

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

PYBIND11_MODULE(_cuda, module, py::mod_gil_not_used()) {
  py::enum_<Operation>(module, "Operation")
      .value("SOFTMAX", Operation::kSoftmax)
      .value("LOG_SOFTMAX", Operation::kLogSoftmax)
      .value("LOGSUMEXP", Operation::kLogSumExp)
      .value("SOFTMAX_BACKWARD", Operation::kSoftmaxBackward)
      .value("LOG_SOFTMAX_BACKWARD", Operation::kLogSoftmaxBackward)
      .value("CROSS_ENTROPY", Operation::kCrossEntropy);
  py::enum_<Storage>(module, "Storage")
      .value("FLOAT32", Storage::kFloat32)
      .value("FLOAT64", Storage::kFloat64)
      .value("FLOAT16", Storage::kFloat16)
      .value("BFLOAT16", Storage::kBFloat16);
  py::enum_<Reduction>(module, "Reduction")
      .value("NONE", Reduction::kNone)
      .value("SUM", Reduction::kSum)
      .value("MEAN", Reduction::kMean);

  py::class_<DeviceMemory, std::shared_ptr<DeviceMemory>>(module, "DeviceMemory")
      .def(py::init<size_t, int, Address>(), py::arg("bytes"), py::arg("device"), py::arg("stream"))
      .def_property_readonly("address", &DeviceMemory::address)
      .def_property_readonly("device", &DeviceMemory::device)
      .def("share_with", &DeviceMemory::ShareWith, py::arg("stream"))
      .def("copy_in", &DeviceMemory::CopyIn, py::arg("host"))
      .def("copy_out", &DeviceMemory::CopyOut, py::arg("host"));

  using Place = std::pair<Address, Sizes>;
  const auto make_call = [](Operation operation, Storage storage, Sizes shape, uint64_t reduced, Place x,
                            std::optional<Place> y, std::optional<Place> third, double temperature) {
    const auto operand = [](Place place) { return Operand{place.first, std::move(place.second)}; };
    Call call = {operation, storage, std::move(shape), reduced, operand(std::move(x)), {}, {}, temperature};
    if (y) call.y = operand(*std::move(y));
    if (third) call.third = operand(*std::move(third));
    for (const Operand* o : {&call.x, call.y ? &*call.y : nullptr, call.third ? &*call.third : nullptr}) {
      if (o != nullptr && o->strides.size() != call.shape.size()) throw std::invalid_argument("a stride is missing");
    }
    return call;
  };
  py::class_<Call>(module, "Call")
      .def(py::init(make_call), py::arg("operation"), py::arg("storage"), py::arg("shape"), py::arg("reduced"),
           py::arg("x"), py::arg("y"), py::arg("third"), py::arg("temperature"));

  module.def("run", Run, py::arg("call"), py::arg("device"), py::arg("stream"));
  module.def("cross_entropy", CrossEntropy, py::arg("call"), py::arg("target"), py::arg("losses"), py::arg("joined"),
             py::arg("reduction"), py::arg("device"), py::arg("stream"));
  module.def(
      "order",
      [](int device, Address earlier, Address later) {
        const DeviceScope scope(device);
        Order(Pointer<CUstream_st>(earlier), Pointer<CUstream_st>(later));
      },
      py::arg("device"), py::arg("earlier"), py::arg("later"));
  module.def("why_unavailable", boltzmax::cuda::WhyUnavailable);
  module.def(
      "device_of", [](Address address) { return boltzmax::cuda::DeviceOf(Pointer<const void>(address)); },
      py::arg("address"));
  module.def("read_dlpack", ReadDLPack, py::arg("capsule"));
  module.def("write_dlpack", WriteDLPack, py::arg("memory"), py::arg("shape"), py::arg("code"), py::arg("bits"));
}
