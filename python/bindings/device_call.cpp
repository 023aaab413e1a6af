#include "device_call.hpp"

#include <cmath>
#include <stdexcept>

namespace boltzmax::cuda {

namespace {

// The axes longer than 1 that are reduced (inner) or not (outer); neighbours that form one axis in every operand are
// merged.
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

int64_t CountOf(const Sizes& shape, uint64_t reduced, bool inner) {
  int64_t product = 1;
  for (size_t d = 0; d < shape.size(); ++d) {
    if (((reduced >> d & 1) != 0) == inner) product *= shape[d];
  }
  return product;
}

// A misaligned element stops a device for good.
void CheckAligned(const Operand& operand, Storage storage) {
  uint64_t bits = operand.address;
  for (const int64_t stride : operand.strides) bits |= static_cast<uint64_t>(stride);
  if (bits % ItemSize(storage) != 0) throw std::invalid_argument("the elements of an array are not aligned");
}

}  // namespace

size_t ItemSize(Storage storage) { return storage == Storage::kFloat64 ? 8 : storage == Storage::kFloat32 ? 4 : 2; }

TemperatureParts PartsOfTemperature(double temperature) {
  const double inverse = 1.0 / temperature;
  return {temperature, inverse, std::fma(-inverse, temperature, 1.0) * inverse};
}

Task Call::ToTask() const {
  if (shape.size() > 64) throw std::invalid_argument("the array has more than 64 axes");
  const std::vector<const Operand*> operands = {&x, y ? &*y : nullptr, third ? &*third : nullptr};
  const bool is_gradient = IsGradient(operation);
  CheckAligned(x, storage);
  if (y) CheckAligned(*y, storage);
  if (third && is_gradient) CheckAligned(*third, storage);
  Task task = {};
  task.operation = operation;
  task.storage = storage;
  task.x = Pointer<const char>(x.address);
  task.y = y ? Pointer<char>(y->address) : nullptr;
  task.third = third ? Pointer<const char>(third->address) : nullptr;
  task.rows = CountOf(shape, reduced, false);
  task.n = CountOf(shape, reduced, true);
  task.outer = Select(shape, operands, reduced, false);
  task.inner = Select(shape, operands, reduced, true);
  task.temperature = PartsOfTemperature(temperature);
  return task;
}

}  // namespace boltzmax::cuda
