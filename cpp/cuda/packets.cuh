// Packets: sixteen bytes of neighbouring elements, which one instruction moves; and rows of packets.
#pragma once

#include "numbers.cuh"

namespace boltzmax::cuda {

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

// ---- 16-bit numbers are widened, compared and narrowed in pairs ----

template <class S>
struct Pair;
#if defined(__CUDACC__)
template <>
struct Pair<Half> {
  __half2 both;
  static BOLTZMAX_DEVICE Pair Of(float a, float b) { return {__floats2half2_rn(a, b)}; }
  BOLTZMAX_DEVICE float2 Widened() const { return __half22float2(both); }
};
template <>
struct Pair<BFloat16> {
  __nv_bfloat162 both;
  static BOLTZMAX_DEVICE Pair Of(float a, float b) { return {__floats2bfloat162_rn(a, b)}; }
  BOLTZMAX_DEVICE float2 Widened() const {
    const auto bits = BitCast<uint32_t>(both);
    return {BitCast<float>(bits << 16), BitCast<float>(bits & 0xffff0000u)};
  }
};
template <class S>
BOLTZMAX_DEVICE Pair<S> Max(Pair<S> a, Pair<S> b) {
  return {__hmax2(a.both, b.both)};
}
#else
template <class S>
struct Pair {
  S a, b;
  static Pair Of(float a, float b) { return {Narrow<S>(a), Narrow<S>(b)}; }
  float2 Widened() const { return {Widen(a), Widen(b)}; }
};
template <class S>
Pair<S> Max(Pair<S> a, Pair<S> b) {
  return Pair<S>::Of(Max(Widen(a.a), Widen(b.a)), Max(Widen(a.b), Widen(b.b)));
}
#endif

template <class S>
struct Pairs {
  Pair<S> pair[4];
};

template <class S>
BOLTZMAX_DEVICE void WidenPacket(const Packet<S>& packet, Compute<S> (&x)[Packet<S>::kItems]) {
  if constexpr (sizeof(S) == 2) {
    const auto pairs = BitCast<Pairs<S>>(packet);
    BOLTZMAX_UNROLL
    for (int i = 0; i < 4; ++i) {
      const float2 both = pairs.pair[i].Widened();
      x[2 * i] = both.x;
      x[2 * i + 1] = both.y;
    }
  } else {
    BOLTZMAX_UNROLL
    for (int i = 0; i < Packet<S>::kItems; ++i) x[i] = Widen(packet.item[i]);
  }
}

template <class S>
BOLTZMAX_DEVICE Packet<S> NarrowPacket(const Compute<S> (&x)[Packet<S>::kItems]) {
  if constexpr (sizeof(S) == 2) {
    Pairs<S> pairs;
    BOLTZMAX_UNROLL
    for (int i = 0; i < 4; ++i) pairs.pair[i] = Pair<S>::Of(x[2 * i], x[2 * i + 1]);
    return BitCast<Packet<S>>(pairs);
  } else {
    Packet<S> packet;
    BOLTZMAX_UNROLL
    for (int i = 0; i < Packet<S>::kItems; ++i) packet.item[i] = Narrow<S>(x[i]);
    return packet;
  }
}

// The largest element of a packet; NaN is ignored, unless there is nothing else.
template <class S>
BOLTZMAX_DEVICE Compute<S> Largest(const Packet<S>& packet) {
  if constexpr (sizeof(S) == 2) {
    const auto pairs = BitCast<Pairs<S>>(packet);
    const float2 both = Max(Max(pairs.pair[0], pairs.pair[1]), Max(pairs.pair[2], pairs.pair[3])).Widened();
    return Max(both.x, both.y);
  } else {
    Compute<S> largest = packet.item[0];
    BOLTZMAX_UNROLL
    for (int i = 1; i < Packet<S>::kItems; ++i) largest = Max(largest, packet.item[i]);
    return largest;
  }
}

// ---- a row of packets ----

// A contiguous row as aligned packets. The first and the last may be partly outside the row; elements outside are
// neither read nor written.
template <class S>
struct Packets {
  static constexpr int kItems = Packet<S>::kItems;
  int n, shift, count;

  BOLTZMAX_DEVICE Packets(const void* row, int64_t length)
      : n(static_cast<int>(length)),
        shift(static_cast<int>(reinterpret_cast<uintptr_t>(row) % sizeof(uint4) / sizeof(S))),
        count((shift + n + kItems - 1) / kItems) {}

  // The index in the row of a packet's first element.
  BOLTZMAX_DEVICE int First(int packet) const { return packet * kItems - shift; }
  BOLTZMAX_DEVICE bool Holds(int i) const { return i >= 0 && i < n; }
  BOLTZMAX_DEVICE bool HoldsAll(int first) const { return first >= 0 && first + kItems <= n; }

  // Elements outside the row are `beyond`.
  BOLTZMAX_DEVICE Packet<S> Load(const char* row, int first, S beyond) const {
    const S* const p = reinterpret_cast<const S*>(row) + first;
    if (HoldsAll(first)) return Packet<S>::Load(p);
    Packet<S> packet;
    BOLTZMAX_UNROLL
    for (int i = 0; i < kItems; ++i) packet.item[i] = Holds(first + i) ? p[i] : beyond;
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

}  // namespace boltzmax::cuda
