// A problem in the form in which it is run.
#pragma once

#include <cstdint>

#include "../runtime/row_blocks.hpp"
#include "softmax.hpp"

namespace boltzmax {

struct RowPlan {
  Problem p;
  const StorageKernels* kernels;
  size_t n, rows;
  bool masked, scaled, far, stream;

  // The temperature of the row at `at`.
  double TemperatureAt(const Offsets& at) const {
    return scaled ? *reinterpret_cast<const double*>(p.temperature + at[kTemperature]) : 1.0;
  }
  const uint8_t* MaskAt(const Offsets& at) const {
    return masked ? reinterpret_cast<const uint8_t*>(p.mask) + at[kMask] : nullptr;
  }
  const double* Temperatures(ptrdiff_t offset) const {
    static constexpr double kOne = 1.0;
    return scaled ? reinterpret_cast<const double*>(p.temperature + offset) : &kOne;
  }
  size_t XSize() const { return ItemSize(p.input); }
  size_t YSize() const { return ItemSize(p.storage); }
  bool Reduces() const { return boltzmax::Reduces(p.op); }
  const OpKernels& Kernels() const { return kernels->Of(p.op); }
};

// The buffer for the exponentials of two rows, and for panels; null if neither is needed.
inline void* ExponentialsFor(const RowPlan& plan) {
  thread_local Scratch exponentials;
  const size_t item = plan.p.storage == DType::kFloat64 ? sizeof(double) : sizeof(float);
  const bool wait = !NeedsLogSum(plan.p.op) && (plan.stream || plan.YSize() != item);
  return wait || plan.n <= kMostPaneled ? exponentials.Get(2 * kKept * item) : nullptr;
}

}  // namespace boltzmax
