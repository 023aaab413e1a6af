// How numbers lie in device memory, and sixteen bytes of them at a time.
#pragma once

#include <cuda_runtime.h>
#include <stdint.h>
#include <string.h>
#if defined(__CUDACC__)
#include <cuda_fp16.h>
#endif

#include "../kernels/types.hpp"

#define BOLTZMAX_DEVICE __device__ __forceinline__

// Arrays in registers have no run-time indices.
#if defined(__CUDACC__)
#define BOLTZMAX_UNROLL _Pragma("unroll")
#else
#define BOLTZMAX_UNROLL
#endif

namespace boltzmax::cuda {

// The bits of a number as those of another type.
template <class To, class From>
BOLTZMAX_DEVICE To BitCast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}

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

// To nearest even; NaN stays NaN.
template <class S>
struct Narrow;
template <>
struct Narrow<float> {
  static BOLTZMAX_DEVICE float Of(float x) { return x; }
};
template <>
struct Narrow<double> {
  static BOLTZMAX_DEVICE double Of(double x) { return x; }
};
template <>
struct Narrow<BFloat16> {
  static BOLTZMAX_DEVICE BFloat16 Of(float x) {
    const uint32_t bits = BitCast<uint32_t>(x);
    if (x != x) return {static_cast<uint16_t>((bits >> 16) | 0x40)};
    return {static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
  }
};
template <>
struct Narrow<Half> {
  static BOLTZMAX_DEVICE Half Of(float x) {
#if defined(__CUDACC__)
    return BitCast<Half>(__float2half_rn(x));
#else
    return BitCast<Half>(static_cast<_Float16>(x));
#endif
  }
};

// kItems neighbours, moved by one instruction where they fill sixteen bytes (and lie aligned to them).
template <class S, int kItems>
struct Packet {
  static constexpr bool kIsWide = kItems * sizeof(S) == sizeof(uint4);
  static_assert(kIsWide || kItems == 1);
  S item[kItems];

  static BOLTZMAX_DEVICE Packet Load(const S* p) {
    Packet packet;
    if constexpr (kIsWide) {
      const uint4 raw = *reinterpret_cast<const uint4*>(p);
      memcpy(&packet, &raw, sizeof raw);
    } else {
      packet.item[0] = *p;
    }
    return packet;
  }
  BOLTZMAX_DEVICE void Store(S* p) const {
    if constexpr (kIsWide) {
      uint4 raw;
      memcpy(&raw, this, sizeof raw);
      *reinterpret_cast<uint4*>(p) = raw;
    } else {
      *p = item[0];
    }
  }
};

}  // namespace boltzmax::cuda
