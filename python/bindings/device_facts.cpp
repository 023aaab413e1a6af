#include "device_facts.hpp"

#include "device_call.hpp"

namespace py = pybind11;

namespace boltzmax::cuda {

namespace {

py::dict AttributesOf(int device) {
  py::dict result;
  const DeviceScope scope(device);
  for (const auto& [name, value] : DeviceAttributes()) result[name] = value;
  return result;
}

py::list RecordsSoFar() {
  py::list result;
  for (const LaunchRecord& record : TakeRecords()) {
    py::dict entry;
    entry["kernel"] = record.kernel;
    entry["registers"] = record.registers;
    entry["local_bytes"] = record.local_bytes;
    entry["shared_bytes"] = record.shared_bytes;
    entry["blocks"] = record.blocks;
    entry["threads"] = record.threads;
    entry["cluster"] = record.cluster;
    entry["resident_blocks"] = record.resident_blocks;
    result.append(entry);
  }
  return result;
}

}  // namespace

void BindDeviceFacts(py::module_& module) {
  module.def("device_attributes", AttributesOf, py::arg("device"));
  module.def("record_launches", RecordLaunches, py::arg("is_on"));
  module.def("take_records", RecordsSoFar);
  module.def(
      "copy",
      [](Address to, Address from, size_t bytes, int device, Address stream) {
        On(device, [&] { Copy(Pointer<void>(to), Pointer<const void>(from), bytes, Pointer<CUstream_st>(stream)); });
      },
      py::arg("to"), py::arg("source"), py::arg("bytes"), py::arg("device"), py::arg("stream"));
}

}  // namespace boltzmax::cuda
