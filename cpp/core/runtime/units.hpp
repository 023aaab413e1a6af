// Kernels for layers of which a call reads only some rows of weights, in float or double.
#pragma once

#include <algorithm>

#include "dispatch.hpp"

namespace boltzmax {

template <class T>
const UnitKernels<T>& Units() {
  if constexpr (sizeof(T) == sizeof(float)) {
    return ActiveKernels().units_f32;
  } else {
    return ActiveKernels().units_f64;
  }
}

// Calls f(T()) for the type of numbers, float or double.
template <class F>
void WithType(DType storage, F f) {
  if (storage == DType::kFloat32) return f(float());
  f(double());
}

// Prefetches the first kilobyte of a row.
template <class T>
void Prefetch(const T* row, size_t n) {
  constexpr size_t kLine = 64, kMost = 1024;
  const char* bytes = reinterpret_cast<const char*>(row);
  for (size_t b = 0; b < std::min(n * sizeof(T), kMost); b += kLine) __builtin_prefetch(bytes + b);
}

}  // namespace boltzmax
