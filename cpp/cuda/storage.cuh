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

// Arrays in registers have no run-time indices: their loops are unrolled. Others are not, as the code of a loop that does
// much would soon be larger than what holds the instructions.
#if defined(__CUDACC__)
#define BOLTZMAX_UNROLL _Pragma("unroll")
#define BOLTZMAX_NO_UNROLL _Pragma("unroll 1")
#else
#define BOLTZMAX_UNROLL
#define BOLTZMAX_NO_UNROLL
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

// Sixteen bytes of neighbours, which one instruction moves.
template <class S>
struct alignas(sizeof(uint4)) Packet {
  static constexpr int kItems = sizeof(uint4) / sizeof(S);
  S item[kItems];

  static BOLTZMAX_DEVICE Packet Load(const S* p) {
    const uint4 raw = *reinterpret_cast<const uint4*>(p);
    Packet packet;
    memcpy(&packet, &raw, sizeof raw);
    return packet;
  }
  BOLTZMAX_DEVICE void Store(S* p) const {
    uint4 raw;
    memcpy(&raw, this, sizeof raw);
    *reinterpret_cast<uint4*>(p) = raw;
  }
};

// A contiguous row as packets that lie aligned. The first and the last may be partly beyond the row; what is not of the row is
// neither read nor written.
template <class S>
struct Packets {
  static constexpr int kItems = Packet<S>::kItems;
  int n, shift, count;

  BOLTZMAX_DEVICE Packets(const void* row, int64_t length)
      : n(static_cast<int>(length)),
        shift(static_cast<int>(reinterpret_cast<uintptr_t>(row) % sizeof(uint4) / sizeof(S))),
        count((shift + n + kItems - 1) / kItems) {}

  // The place in the row of a packet's first element.
  BOLTZMAX_DEVICE int First(int packet) const { return packet * kItems - shift; }
  BOLTZMAX_DEVICE bool Holds(int i) const { return i >= 0 && i < n; }
  BOLTZMAX_DEVICE bool HoldsAll(int first) const { return first >= 0 && first + kItems <= n; }

  BOLTZMAX_DEVICE Packet<S> Load(const char* row, int first) const {
    const S* const p = reinterpret_cast<const S*>(row) + first;
    if (HoldsAll(first)) return Packet<S>::Load(p);
    Packet<S> packet = {};
    BOLTZMAX_UNROLL
    for (int i = 0; i < kItems; ++i) {
      if (Holds(first + i)) packet.item[i] = p[i];
    }
    return packet;
  }
  BOLTZMAX_DEVICE void Store(char* row, int first, const Packet<S>& packet) const {
    S* const p = reinterpret_cast<S*>(row) + first;
    if (HoldsAll(first)) return packet.Store(p);
    BOLTZMAX_UNROLL
    for (int i = 0; i < kItems; ++i) {
      if (Holds(first + i)) p[i] = packet.item[i];
    }
  }
};

template <class S>
BOLTZMAX_DEVICE void WidenPacket(const Packet<S>& packet, Compute<S> (&x)[Packet<S>::kItems]) {
  BOLTZMAX_UNROLL
  for (int i = 0; i < Packet<S>::kItems; ++i) x[i] = Widen(packet.item[i]);
}

}  // namespace boltzmax::cuda
