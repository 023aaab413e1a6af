// Strided elements of any type to and from a contiguous buffer of a storage type.
#pragma once

#include "dispatch.hpp"
#include "strided.hpp"

namespace boltzmax {

// Converts n elements, `stride` bytes apart, to storage at `out`. (kBool, kBool) copies masks.
using GatherFn = void (*)(const char* x, ptrdiff_t stride, size_t n, void* out);
GatherFn Gather(DType from, DType storage);

// Converts n storage elements back to elements `stride` bytes apart.
using ScatterFn = void (*)(const void* in, size_t n, char* y, ptrdiff_t stride);
ScatterFn Scatter(DType storage);
// The same from elements of the type of the arithmetic, float for 16 bits.
ScatterFn ScatterComputed(DType storage);

// Copies elements [begin, begin + n), in C order, of operand k of `axes`, whose element 0 is at `base`, to or from a
// contiguous buffer of elements of `item` bytes.
void GatherLine(GatherFn gather, const Axes& axes, Operand k, const char* base, size_t begin, size_t n, size_t item,
                void* out);
void ScatterLine(ScatterFn scatter, const Axes& axes, Operand k, char* base, size_t begin, size_t n, size_t item,
                 const void* in);

}  // namespace boltzmax
