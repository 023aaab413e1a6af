// The common part of AVX2 and AVX-512.
#pragma once

#include <immintrin.h>

#include "vec_concept.hpp"

namespace boltzmax::kernels {
namespace {

// Orders streamed stores before all later stores.
inline void StreamFence() { _mm_sfence(); }

// A part of a vector, or the first of two doubles: see vec_concept.hpp.
inline __m128 LoadPart(const float* p) { return _mm_loadu_ps(p); }
inline __m128d LoadPart(const double* p) { return _mm_loadu_pd(p); }
inline __m128d LoadPartN(const double* p, size_t) { return _mm_load_sd(p); }

}  // namespace
}  // namespace boltzmax::kernels
