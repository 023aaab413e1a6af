// The vector type that every kernel is written in. One header per ISA defines Vec<float> and Vec<double> with the
// operations named below (the names are Highway's), inside an anonymous namespace so that no object compiled for one
// ISA can hand a function to another. Vec<double> has half as many lanes as Vec<float>.
//
//   Vec::kLanes, Vec::Mask, Vec::kHasFma       Set(x)                       all lanes x
//   Vec::kUnroll                               how many vectors a Block of exponentials holds: what the registers allow
//   Vec::kInOrder, Vec::kTransposed            the longest rows that are transposed, by measurement: see panel.hpp; the
//                                              latter for softmax
//   Load(p)  LoadN(p, n, fill)                 storage types: float, double, Half, BFloat16; lanes >= n hold fill
//   Store(p, v)  StoreN(p, v, n)  Stream(p, v) Stream wants p aligned to the bytes it writes, and bypasses the cache
//                                              Rounding to 16 bits is to nearest even. A NaN stored as BFloat16 must
//                                              come from BFloat16 or from arithmetic: its last bits are 0, and it
//                                              stays NaN.
//   + - *  MulAdd(a, b, c) = a*b + c           NegMulAdd(a, b, c) = c - a*b
//   Max(a, b)                                  b wherever a or b is NaN
//   Abs(a)  Lt(a, b)  Eq(a, b)                 masks; IfThenElse(mask, a, b)
//   FirstN<V>(n)  LoadMask<V>(p)  LoadMaskN<V>(p, n)     lane masks from a count or from NumPy bools
//   Pow2(t)                                    2^j for t = kRoundingMagic + kBias + j: shifts j into the exponent
//   Vec::kNodes                                how many powers from 1 up to 2 it can look up; 1 if none. If more:
//   NodePower(t)  NodeRest(t)                  kScale 2^(j / kNodes), rounded, for t = kMagic + j / kNodes with any
//                                              integer added; and its rounding error
//   NotLess(a, b)                              mask; set where a or b is NaN
//   ScaleIf(mask, v, k)                        v 2^floor(k), or 0 outside the mask
//   Vec::kHasPick                              whether it can look up lanes. If so:
//   PickLanes(v, p)                            lane i is lane p[i] of v; p are kLanes bytes
//   SplitExponent(v, &mantissa)                v = mantissa * 2^exponent, 1 <= mantissa < 2; v > 0 and normal (double)
//   LoadIntegers(p)  StoreIntegers(p, v)       int64 of at most 2^51 as doubles, and back
//   ReduceMax(v)                               maximum over the lanes
//   ReduceAdd4(v, sums)                        sums over the lanes of four vectors, in an order that depends on the ISA
//   Any(mask)                                  whether any lane is set
//   Vec::kPart                                 how many numbers 16 bytes hold: a vector is one or more parts wide
//   LoadParts(p, rows)  LoadPartsN(p, rows, n) one part from p, one from kPart rows further, and so on; a row is `rows`
//                                              bytes or, if that is an array, row j is rows[j] bytes from p.
//                                              LoadPartsN fills only the first n < kPart of each, then zeros
//   StoreParts(p, rows, v)  StorePartsN(...)   the reverse
//   UnpackLow(a, b)  UnpackHigh(a, b)          in each part, the low or high lanes of a and b, interleaved
//   UnpackLowPairs(a, b)  UnpackHighPairs(a, b)   in each part, the low or high pair of a, then of b (float)
//   JoinLowHalves(a, b)  JoinHighHalves(a, b)  for vectors of two parts or four
//   JoinEvenQuarters(a, b)  JoinOddQuarters(a, b)   for vectors of four
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "../types.hpp"

// The ISA that this object is compiled for, as the name of a namespace and as a string.
#define BOLTZMAX_STRING(x) #x
#define BOLTZMAX_STRING_OF(x) BOLTZMAX_STRING(x)
#define BOLTZMAX_ISA_NAME BOLTZMAX_STRING_OF(BOLTZMAX_ISA)

// A kernel is one function: everything it calls, lambdas included, is inlined into it, unless the ISA's header leaves
// that to the compiler. Rare cases stay outside.
#if !defined(BOLTZMAX_KERNEL)
#define BOLTZMAX_KERNEL [[gnu::flatten, gnu::noinline]]
#define BOLTZMAX_RARE [[gnu::flatten, gnu::noinline, gnu::cold]]
#endif

namespace boltzmax::kernels {
namespace {

template <class T>
struct Vec;

template <class V>
inline typename V::Mask LoadMask(const uint8_t* p);

template <class S>
concept Storage16 = sizeof(S) == 2;

// The first n < 4 elements of 16 bits, then zeros. The pieces have constant sizes, for which the compiler calls no
// function.
template <class S>
inline uint64_t LoadPartTail(const S* p, size_t n) {
  uint32_t two = 0;
  uint16_t one = 0;
  if ((n & 2) != 0) memcpy(&two, p, sizeof two);
  if ((n & 1) != 0) memcpy(&one, p + (n & 2), sizeof one);
  return two | static_cast<uint64_t>(one) << ((n & 2) * 16);
}
template <class S>
inline void StorePartTail(S* p, uint64_t part, size_t n) {
  const uint32_t two = static_cast<uint32_t>(part);
  const uint16_t one = static_cast<uint16_t>(part >> ((n & 2) * 16));
  if ((n & 2) != 0) memcpy(p, &two, sizeof two);
  if ((n & 1) != 0) memcpy(p + (n & 2), &one, sizeof one);
}
template <class S>
inline uint64_t LoadPart16(const S* p) {
  uint64_t part;
  memcpy(&part, p, sizeof part);
  return part;
}

template <class T>
inline const T* RowAt(const T* p, ptrdiff_t bytes, size_t row) {
  return reinterpret_cast<const T*>(reinterpret_cast<const char*>(p) + static_cast<ptrdiff_t>(row) * bytes);
}
template <class T>
inline T* RowAt(T* p, ptrdiff_t bytes, size_t row) {
  return reinterpret_cast<T*>(reinterpret_cast<char*>(p) + static_cast<ptrdiff_t>(row) * bytes);
}

// The same for rows whose places are listed.
template <class T>
inline T* RowAt(T* p, const ptrdiff_t* places, size_t row) {
  return RowAt(p, places[row], 1);
}

// The first n <= 8 bytes, then zeros. They are combined in a register: a load of bytes that have just been stored in
// pieces would be stalled.
inline uint64_t FirstBytes(const uint8_t* p, size_t n) {
  uint64_t bytes = 0;
  if (n == sizeof bytes) {
    memcpy(&bytes, p, sizeof bytes);
    return bytes;
  }
  uint32_t four = 0;
  uint16_t two = 0;
  if ((n & 4) != 0) memcpy(&four, p, sizeof four);
  if ((n & 2) != 0) memcpy(&two, p + (n & 4), sizeof two);
  bytes = four | static_cast<uint64_t>(two) << (n & 4) * 8;
  if ((n & 1) != 0) bytes |= static_cast<uint64_t>(p[n & 6]) << (n & 6) * 8;
  return bytes;
}
// LoadMaskN for vectors of at most eight lanes.
template <class V>
inline typename V::Mask MaskOfFirst(const uint8_t* p, size_t n) {
  const uint64_t bytes = FirstBytes(p, n);
  return LoadMask<V>(reinterpret_cast<const uint8_t*>(&bytes));
}

// The vector type in which numbers stored as S are computed.
template <class S>
using VecOf = Vec<Compute<S>>;

}  // namespace
}  // namespace boltzmax::kernels
