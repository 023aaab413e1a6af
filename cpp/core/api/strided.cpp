// Arrays of any layout, as C describes them. Every error that can be detected is detected here.

#include <algorithm>
#include <cstdlib>
#include <limits>

#include "../rows/gradients.hpp"
#include "../rows/softmax.hpp"
#include "api.hpp"

namespace boltzmax {

namespace {

#define BOLTZMAX_SAME_DTYPE(c, core) static_assert(BOLTZMAX_##c == static_cast<int>(DType::core))
BOLTZMAX_SAME_DTYPE(FLOAT32, kFloat32);
BOLTZMAX_SAME_DTYPE(FLOAT64, kFloat64);
BOLTZMAX_SAME_DTYPE(FLOAT16, kFloat16);
BOLTZMAX_SAME_DTYPE(BFLOAT16, kBFloat16);
BOLTZMAX_SAME_DTYPE(BOOL, kBool);
BOLTZMAX_SAME_DTYPE(INT8, kInt8);
BOLTZMAX_SAME_DTYPE(UINT8, kUInt8);
BOLTZMAX_SAME_DTYPE(INT16, kInt16);
BOLTZMAX_SAME_DTYPE(UINT16, kUInt16);
BOLTZMAX_SAME_DTYPE(INT32, kInt32);
BOLTZMAX_SAME_DTYPE(UINT32, kUInt32);
BOLTZMAX_SAME_DTYPE(INT64, kInt64);
BOLTZMAX_SAME_DTYPE(UINT64, kUInt64);
bool IsDType(int32_t dtype) { return dtype >= BOLTZMAX_FLOAT32 && dtype <= BOLTZMAX_UINT64; }
bool IsOperation(int32_t operation) { return operation >= 0 && static_cast<size_t>(operation) < kOpCount; }
bool IsStorage(int32_t dtype) { return dtype >= BOLTZMAX_FLOAT32 && dtype <= BOLTZMAX_BFLOAT16; }

// The axes that all operands of a call share.
struct Shape {
  int ndim;
  uint64_t reduced;
  const ptrdiff_t* size;

  bool Reduces(int d) const { return (reduced >> d & 1) != 0; }

  int Check() const {
    if (ndim < 0 || ndim > BOLTZMAX_MAX_DIMENSIONS) return BOLTZMAX_BAD_SIZE;
    if (ndim < BOLTZMAX_MAX_DIMENSIONS && reduced >> ndim != 0) return BOLTZMAX_BAD_OPTION;
    if (ndim > 0 && size == nullptr) return BOLTZMAX_NULL_POINTER;
    ptrdiff_t count = 1;
    for (int d = 0; d < ndim; ++d) {
      const bool fits = size[d] >= 0 && !__builtin_mul_overflow(count, std::max<ptrdiff_t>(size[d], 1), &count);
      if (!fits || count > std::numeric_limits<ptrdiff_t>::max() / ptrdiff_t{sizeof(double)}) return BOLTZMAX_BAD_SIZE;
    }
    return BOLTZMAX_OK;
  }
};

// One operand of a call. With `outer`, it has no reduced axes.
struct Strided {
  const void* data;
  const ptrdiff_t* strides;
  size_t alignment = 1;
  bool outer = false;

  bool Has(const Shape& shape, int d) const { return !outer || !shape.Reduces(d); }
  ptrdiff_t Stride(const Shape& shape, int d) const {
    return data != nullptr && strides != nullptr && Has(shape, d) ? strides[d] : 0;
  }

  // Checks that there is memory for the elements and that their addresses can be computed. The stride of an axis of
  // length 1 is never used, and an empty array has no addresses.
  int Check(const Shape& shape) const {
    bool empty = false, aligned = true, addressable = true;
    ptrdiff_t reach = 0;
    for (int d = 0; d < shape.ndim; ++d) {
      if (!Has(shape, d)) continue;
      if (strides == nullptr) return BOLTZMAX_NULL_POINTER;
      empty = empty || shape.size[d] == 0;
      if (shape.size[d] <= 1) continue;
      ptrdiff_t step;
      addressable = addressable && !__builtin_mul_overflow(strides[d], shape.size[d] - 1, &step) &&
                    step != std::numeric_limits<ptrdiff_t>::min() &&
                    !__builtin_add_overflow(reach, std::abs(step), &reach);
      aligned = aligned && static_cast<size_t>(strides[d]) % alignment == 0;
    }
    if (empty) return BOLTZMAX_OK;
    if (!addressable) return BOLTZMAX_BAD_SIZE;
    if (data == nullptr) return BOLTZMAX_NULL_POINTER;
    return aligned && reinterpret_cast<uintptr_t>(data) % alignment == 0 ? BOLTZMAX_OK : BOLTZMAX_MISALIGNED;
  }
};

// The operands of operations and their gradients: x, y, mask and temperature.
constexpr size_t kOperandsInC = kTemperature + 1;

void AddAxes(const Shape& shape, const Strided (&operands)[kOperandsInC], Axes* outer, Axes* inner) {
  for (int d = 0; d < shape.ndim; ++d) {
    Axis axis = {static_cast<size_t>(shape.size[d]), {}};
    for (size_t k = 0; k < kOperandsInC; ++k) axis.stride[k] = operands[k].Stride(shape, d);
    (shape.Reduces(d) ? inner : outer)->push_back(axis);
  }
}

bool TemperaturesAreInRange(const Problem& problem) {
  Axes axes = problem.outer;
  if (CountElements(axes) == 0) return true;
  std::erase_if(axes, [](const Axis& axis) { return axis.stride[kTemperature] == 0; });
  const size_t count = CountElements(axes);
  for (size_t i = 0; i < count; ++i) {
    const char* at = problem.temperature + OffsetsAt(axes, i)[kTemperature];
    if (!IsTemperature(*reinterpret_cast<const double*>(at))) return false;
  }
  return true;
}

}  // namespace

int RunStrided(const boltzmax_strided* call) noexcept {
  if (call == nullptr) return BOLTZMAX_NULL_POINTER;
  if (call->size != sizeof *call || !IsDType(call->x_dtype) || !IsStorage(call->y_dtype)) return BOLTZMAX_BAD_OPTION;
  if (!IsOperation(call->operation)) return BOLTZMAX_BAD_OPTION;
  const Shape shape = {call->ndim, call->axes, call->shape};
  if (const int status = shape.Check()) return status;

  const bool reduces = Reduces(static_cast<Op>(call->operation));
  const Strided operands[kOperandsInC] = {{call->x, call->x_strides},
                                          {call->y, call->y_strides, 1, reduces},
                                          {call->mask, call->mask_strides},
                                          {call->temperature, call->temperature_strides, alignof(double), true}};
  for (size_t k = 0; k < kOperandsInC; ++k) {
    const bool absent = (k == kMask || k == kTemperature) && operands[k].data == nullptr;
    if (absent) continue;
    const Strided operand = operands[k];
    const Shape single = {0, 0, nullptr};
    const bool one_for_all = k == kTemperature && operand.strides == nullptr;
    if (const int status = operand.Check(one_for_all ? single : shape)) return status;
  }
  int status = BOLTZMAX_OK;
  const int ran = Guarded([&] {
    Problem problem = {static_cast<Op>(call->operation),
                       static_cast<DType>(call->x_dtype),
                       static_cast<DType>(call->y_dtype),
                       static_cast<const char*>(call->x),
                       static_cast<char*>(call->y),
                       reinterpret_cast<const char*>(call->mask),
                       reinterpret_cast<const char*>(call->temperature),
                       {},
                       {}};
    AddAxes(shape, operands, &problem.outer, &problem.inner);
    if (problem.temperature != nullptr && !TemperaturesAreInRange(problem)) {
      status = BOLTZMAX_BAD_TEMPERATURE;
      return;
    }
    Run(problem);
  });
  return status != BOLTZMAX_OK ? status : ran;
}

int RunStridedBackward(const boltzmax_strided_backward* call) noexcept {
  if (call == nullptr) return BOLTZMAX_NULL_POINTER;
  if (call->size != sizeof *call || call->reserved != 0 || !IsStorage(call->dtype)) return BOLTZMAX_BAD_OPTION;
  if (!IsOperation(call->operation) || !HasGradient(static_cast<Op>(call->operation))) return BOLTZMAX_BAD_OPTION;
  const Shape shape = {call->ndim, call->axes, call->shape};
  if (const int status = shape.Check()) return status;
  const Strided dy = {call->dy, call->dy_strides}, y = {call->y, call->y_strides}, dx = {call->dx, call->dx_strides};
  for (const Strided* operand : {&dy, &y, &dx}) {
    if (const int status = operand->Check(shape)) return status;
  }
  return Guarded([&] {
    GradProblem problem = {static_cast<Op>(call->operation),
                           static_cast<DType>(call->dtype),
                           static_cast<const char*>(call->dy),
                           static_cast<const char*>(call->y),
                           static_cast<char*>(call->dx),
                           {},
                           {}};
    // See GradProblem: y is in the mask's place.
    AddAxes(shape, {dy, dx, y, {nullptr, nullptr}}, &problem.outer, &problem.inner);
    Run(problem);
  });
}

}  // namespace boltzmax
