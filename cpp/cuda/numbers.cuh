// Numbers: their storage in device memory, and the operations that processors have instructions for.
#pragma once

#include <cuda_runtime.h>
#include <stdint.h>
#include <string.h>
#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

#include "../kernels/types.hpp"

#define BOLTZMAX_DEVICE __device__ __forceinline__

// Arrays in registers cannot have run-time indices: their loops are unrolled. Other loops are not, since the code of a
// large unrolled loop would soon exceed the instruction cache.
#if defined(__CUDACC__)
#define BOLTZMAX_UNROLL _Pragma("unroll")
#define BOLTZMAX_NO_UNROLL _Pragma("unroll 1")
#else
#define BOLTZMAX_UNROLL
#define BOLTZMAX_NO_UNROLL
#endif

namespace boltzmax::cuda {

// The bits of a number as another type.
template <class To, class From>
BOLTZMAX_DEVICE To BitCast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}

// ---- storage ----

BOLTZMAX_DEVICE float Widen(float x) { return x; }
BOLTZMAX_DEVICE double Widen(double x) { return x; }
BOLTZMAX_DEVICE float Widen(BFloat16 x) { return BitCast<float>(static_cast<uint32_t>(x.bits) << 16); }
BOLTZMAX_DEVICE float Widen(Half x) {
#if defined(__CUDACC__)
  return __half2float(BitCast<__half>(x));
#else
  return static_cast<float>(BitCast<_Float16>(x));
#endif
}

// Rounds to nearest even; NaN stays NaN.
template <class S>
BOLTZMAX_DEVICE S Narrow(Compute<S> x) {
  return x;
}
template <>
BOLTZMAX_DEVICE BFloat16 Narrow<BFloat16>(float x) {
#if defined(__CUDACC__)
  return BitCast<BFloat16>(__float2bfloat16_rn(x));
#else
  const uint32_t bits = BitCast<uint32_t>(x);
  if (x != x) return {static_cast<uint16_t>((bits >> 16) | 0x40)};
  return {static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
#endif
}
template <>
BOLTZMAX_DEVICE Half Narrow<Half>(float x) {
#if defined(__CUDACC__)
  return BitCast<Half>(__float2half_rn(x));
#else
  return BitCast<Half>(static_cast<_Float16>(x));
#endif
}

// ---- arithmetic ----

template <class T>
BOLTZMAX_DEVICE T Infinity() {
  return static_cast<T>(__builtin_huge_val());
}
template <class T>
BOLTZMAX_DEVICE T NotANumber() {
  return BitCast<T>(sizeof(T) == 4 ? 0x7fc00000u : 0);
}
template <>
BOLTZMAX_DEVICE double NotANumber<double>() {
  return BitCast<double>(uint64_t{0x7ff8000000000000});
}

BOLTZMAX_DEVICE float MulAdd(float a, float b, float c) { return fmaf(a, b, c); }
BOLTZMAX_DEVICE double MulAdd(double a, double b, double c) { return fma(a, b, c); }
// NaN is ignored.
BOLTZMAX_DEVICE float Max(float a, float b) { return fmaxf(a, b); }
BOLTZMAX_DEVICE double Max(double a, double b) { return fmax(a, b); }
struct TakeLarger {
  template <class T>
  BOLTZMAX_DEVICE void operator()(T& a, T b) const {
    a = Max(a, b);
  }
};

// The maximum of x and `least`; NaN stays NaN.
template <class T>
BOLTZMAX_DEVICE T AtLeast(T least, T x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  if constexpr (sizeof(T) == 4) {
    float larger;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(x), "f"(least));
    return larger;
  }
#endif
  return x < least ? least : x;
}

}  // namespace boltzmax::cuda
