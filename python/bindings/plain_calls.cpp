#include "plain_calls.hpp"

#include <pybind11/stl.h>

#include <algorithm>

#include "../../cpp/core/api/api.hpp"
#include "device_call.hpp"
#include "dlpack.hpp"

namespace py = pybind11;

namespace boltzmax::cuda {

namespace {

std::optional<Storage> StorageOf(const DLDataType& type) {
  if (type.lanes != 1) return std::nullopt;
  if (type.code == kDLBfloat && type.bits == 16) return Storage::kBFloat16;
  if (type.code != kDLFloat) return std::nullopt;
  switch (type.bits) {
    case 16: return Storage::kFloat16;
    case 32: return Storage::kFloat32;
    case 64: return Storage::kFloat64;
    default: return std::nullopt;
  }
}

bool IsContiguous(const DLTensor& tensor) {
  if (std::find(tensor.shape, tensor.shape + tensor.ndim, 0) != tensor.shape + tensor.ndim) return true;
  int64_t next = 1;
  for (int32_t d = tensor.ndim; d-- > 0;) {
    if (tensor.strides != nullptr && tensor.shape[d] != 1 && tensor.strides[d] != next) return false;
    next *= tensor.shape[d];
  }
  return true;
}

// Whether the tensor of a new array has the shape, type and device of x.
bool HaveSameForm(const DLTensor& x, const DLTensor& y) {
  return x.ndim == y.ndim && std::equal(x.shape, x.shape + x.ndim, y.shape) && x.device.type == y.device.type &&
         x.device.id == y.device.id && x.dtype.code == y.dtype.code && x.dtype.bits == y.dtype.bits;
}

// The bit of the axis; 0 if it is not an axis.
uint64_t AxisBit(py::handle axis, int32_t ndim) {
  if (!PyLong_CheckExact(axis.ptr())) return 0;
  int overflow = 0;
  const long number = PyLong_AsLongAndOverflow(axis.ptr(), &overflow);
  if (overflow != 0 || number < -ndim || number >= ndim || ndim > 64) return 0;
  return uint64_t{1} << (number < 0 ? number + ndim : number);
}

// softmax or log_softmax of a contiguous tensor, on its library's stream, into an array from `empty_like`: such a call
// costs no more than its launch. None if the call is not that plain or has an error: the general path then runs it or
// raises the error.
template <Operation operation>
py::object RunPlainCall(py::handle x, py::handle axis, py::handle temperature, const py::object& empty_like) {
  const auto exchange = Exchange::Of(x);
  auto from = exchange ? exchange->Read(x) : std::nullopt;
  if (!from || !TakesDevice(from->device.type) || !IsContiguous(*from)) return py::none();
  const auto storage = StorageOf(from->dtype);
  const uint64_t reduced = AxisBit(axis, from->ndim);
  const double divisor = PyFloat_CheckExact(temperature.ptr()) ? PyFloat_AS_DOUBLE(temperature.ptr()) : 0.0;
  if (!storage || reduced == 0 || !IsTemperature(divisor)) return py::none();
  const auto stream = exchange->StreamOn(from->device);
  if (!stream) return py::none();

  py::object result = empty_like(x);
  const auto of_result = Exchange::Of(result);
  const auto to = of_result ? of_result->Read(result) : std::nullopt;
  from = exchange->Read(x);  // that may have run any Python code
  if (!from || !to || !IsContiguous(*from) || !IsContiguous(*to) || !HaveSameForm(*from, *to)) return py::none();
  if (StorageOf(from->dtype) != storage || AddressOf(*from) % ItemSize(*storage) != 0) return py::none();
  const Call call = {operation,
                     *storage,
                     Sizes(from->shape, from->shape + from->ndim),
                     reduced,
                     {AddressOf(*from), StridesOf(*from)},
                     Operand{AddressOf(*to), StridesOf(*to)},
                     std::nullopt,
                     divisor};
  RunCall(call, from->device.id, *stream);
  return result;
}

}  // namespace

void BindPlainCalls(py::module_& module) {
  const auto bind = [&](const char* name, auto function) {
    module.def(name, function, py::arg("x"), py::arg("axis"), py::arg("temperature"), py::arg("empty_like"));
  };
  bind("plain_softmax", RunPlainCall<Operation::kSoftmax>);
  bind("plain_log_softmax", RunPlainCall<Operation::kLogSoftmax>);
}

}  // namespace boltzmax::cuda
