// A call as Python describes it, and the device's task for it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "detached.hpp"
#include "device_memory.hpp"

namespace boltzmax::cuda {

using Sizes = std::vector<int64_t>;

struct Operand {
  Address address;
  Sizes strides;  // in bytes, one per axis
};

struct Call {
  Operation operation;
  Storage storage;
  Sizes shape;
  uint64_t reduced;  // bit d: axis d is part of a row
  Operand x;
  std::optional<Operand> y, third;
  double temperature = 1.0;

  Task ToTask() const;
};

size_t ItemSize(Storage storage);
TemperatureParts PartsOfTemperature(double temperature);

// Runs f on a stream of a device, without the GIL.
template <class F>
void On(int device, F f) {
  Detached([&] {
    const DeviceScope scope(device);
    f();
  });
}

inline void RunCall(const Call& call, int device, Address stream) {
  const Task task = call.ToTask();
  On(device, [&] { Run(task, Pointer<CUstream_st>(stream)); });
}

}  // namespace boltzmax::cuda
