// The vector type that every kernel is written on. One header per ISA defines Vec<float> and Vec<double> with the
// operations named below (the names are Highway's), inside an anonymous namespace so that no object compiled for one
// ISA can hand a function to another. Vec<double> has half as many lanes as Vec<float>.
//
//   Vec::kLanes, Vec::Mask, Vec::kHasFma       Set(x)                       all lanes x
//   Vec::kUnroll                               how many vectors a Block of exponentials holds: what the registers allow
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
//   ReduceMax(v)                               maximum over the lanes
//   ReduceAdd4(v, sums)                        sums over the lanes of four vectors, in an order of the ISA's own
//   Any(mask)                                  whether any lane is set
//   PromoteLower(v), PromoteUpper(v)           halves of a Vec<float> as Vec<double>
//   Demote(lower, upper)                       and back, rounded
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "../types.hpp"

// The ISA that this object is compiled for: the name of a namespace, and as a string.
#define BOLTZMAX_STRING(x) #x
#define BOLTZMAX_STRING_OF(x) BOLTZMAX_STRING(x)
#define BOLTZMAX_ISA_NAME BOLTZMAX_STRING_OF(BOLTZMAX_ISA)

// A kernel is one function: everything it calls, lambdas too, is inlined into it. What is rare stays outside.
#define BOLTZMAX_KERNEL [[gnu::flatten, gnu::noinline]]
#define BOLTZMAX_RARE [[gnu::flatten, gnu::noinline, gnu::cold]]

namespace boltzmax::kernels {
namespace {

template <class T>
struct Vec;

// The vector that numbers stored as S are computed in.
template <class S>
using VecOf = Vec<Compute<S>>;

}  // namespace
}  // namespace boltzmax::kernels
