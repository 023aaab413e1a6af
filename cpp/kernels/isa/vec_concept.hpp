// The vector type that every kernel is written on. One header per ISA defines Vec<float> and Vec<double> with the
// operations named below (the names are Highway's), inside an anonymous namespace so that no object compiled for one
// ISA can hand a function to another. Vec<double> has half as many lanes as Vec<float>.
//
//   Vec::kLanes, Vec::Mask, Vec::kHasFma       Set(x)                       all lanes x
//   Vec::kUnroll                               how many vectors a Block of exponentials holds: what the registers allow
//   Vec::kInOrder                              how long rows are for which lanes are rows, by measurement: see panels.hpp
//   Load(p)  LoadN(p, n, fill)                 storage types: float, double, Half, BFloat16; lanes >= n hold fill
//   Store(p, v)  StoreN(p, v, n)  Stream(p, v) Stream wants p aligned to the bytes it writes, and bypasses the cache
//                                              Rounding to 16 bits is to nearest even. For BFloat16 a NaN must come from
//                                              BFloat16 or from arithmetic: its last bits are 0, and it stays NaN.
//   + - *  MulAdd(a, b, c) = a*b + c           NegMulAdd(a, b, c) = c - a*b
//   Max(a, b)                                  b wherever a or b is NaN
//   Abs(a)  Lt(a, b)  Eq(a, b)                 masks; IfThenElse(mask, a, b)
//   FirstN<V>(n)  LoadMask<V>(p)  LoadMaskN<V>(p, n)     lane masks from a count or from NumPy bools
//   Pow2(t)                                    2^j for t = kRoundingMagic + kBias + j: shifts j into the exponent
//   Vec::kNodes                                how many powers from 1 up to 2 it can look up; 1 if none. Where more,
//   NodePower(t)                               2^(j / kNodes) for t = kRoundingMagic + kNodes * kBias + j
//   NodeRest(t)                                what the rounding of NodePower(t) lost, as a share of it
//   SplitExponent(v, &mantissa)                v = mantissa * 2^exponent, 1 <= mantissa < 2, for a normal v > 0 (double)
//   LoadIntegers(p)  StoreIntegers(p, v)       int64 of at most 2^51 as doubles, and back
//   ReduceMax(v)                               maximum over the lanes
//   ReduceAdd4(v, sums)                        sums over the lanes of four vectors, in an order of the ISA's own
//   Any(mask)                                  whether any lane is set
//   Vec::kPart                                 how many numbers 16 bytes hold: a vector is one or more parts wide
//   LoadParts(p, rows)  LoadPartsN(p, rows, n) the numbers from p on, from kPart rows (of so many bytes) further, and so
//                                              on: a part each, or the first n < kPart of it, beside which there are zeros
//   StoreParts(p, rows, v)  StorePartsN(...)   and back
//   MaskOfParts<V>(p, rows, n)                 a lane mask from NumPy bools that lie likewise
//   UnpackLow(a, b)  UnpackHigh(a, b)          in each part, the lanes of both halves of a and b by turns
//   UnpackLowPairs(a, b)  UnpackHighPairs(a, b)   the halves themselves (float)
//   JoinLowHalves(a, b)  JoinHighHalves(a, b)  where a vector has two parts or four
//   JoinEvenQuarters(a, b)  JoinOddQuarters(a, b)   where it has four
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "../types.hpp"

// The ISA that this object is compiled for: the name of a namespace, and as a string.
#define BOLTZMAX_STRING(x) #x
#define BOLTZMAX_STRING_OF(x) BOLTZMAX_STRING(x)
#define BOLTZMAX_ISA_NAME BOLTZMAX_STRING_OF(BOLTZMAX_ISA)

// A kernel is one function: everything it calls, lambdas too, is inlined into it, unless the ISA's header says that the
// compiler may choose. What is rare stays outside.
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

// The first n < 4 elements of 16 bits in a row, and zeros. The pieces have constant sizes, for which no function is called.
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

// The first n of kPart bytes, and ones. In a register: to put them together in memory, piece by piece, would make the load of
// the whole wait.
template <size_t kPart>
inline uint64_t MaskPart(const uint8_t* p, size_t n) {
  static_assert(kPart == 2 || kPart == 4);
  uint32_t four = 0;
  uint16_t two = 0;
  if (kPart == 4 && n == 4) {
    memcpy(&four, p, sizeof four);
    return four;
  }
  if ((n & 2) != 0) memcpy(&two, p, sizeof two);
  uint64_t bytes = two;
  if ((n & 1) != 0) bytes |= static_cast<uint64_t>(p[n & 2]) << ((n & 2) * 8);
  return bytes | (uint64_t{0x01010101} >> ((4 - kPart) * 8)) >> (n * 8) << (n * 8);
}

// A lane mask of bytes that lie like parts; n of each part count, the others are taken for set.
template <class V>
inline typename V::Mask MaskOfParts(const uint8_t* p, ptrdiff_t rows, size_t n) {
  constexpr size_t kPart = V::kPart, kWord = sizeof(uint64_t);
  uint64_t words[(V::kLanes + kWord - 1) / kWord] = {};
  for (size_t b = 0; b < V::kLanes; b += kPart) {
    words[b / kWord] |= MaskPart<kPart>(RowAt(p, rows, b), n) << (b % kWord * 8);
  }
  return LoadMask<V>(reinterpret_cast<const uint8_t*>(words));
}

// The vector that numbers stored as S are computed in.
template <class S>
using VecOf = Vec<Compute<S>>;

}  // namespace
}  // namespace boltzmax::kernels
