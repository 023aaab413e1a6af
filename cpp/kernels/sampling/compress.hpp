// Some elements of a vector, next to each other in memory.
#pragma once

#include "../isa/block.hpp"

namespace boltzmax::kernels {
namespace {

// Stores the elements where a mask is false, in their order, and returns their number. A whole vector is written.
template <class V, class T = typename V::Scalar>
inline size_t CompressUnless(typename V::Mask is_left_out, V v, T* to) {
#if defined(__AVX512F__)
  // Compressing in a register and storing all of it is faster than a compressing store.
  const auto kept = static_cast<typename V::Mask>(~is_left_out);
  if constexpr (sizeof(T) == sizeof(float)) _mm512_storeu_ps(to, _mm512_maskz_compress_ps(kept, v.raw));
  else _mm512_storeu_pd(to, _mm512_maskz_compress_pd(kept, v.raw));
  return static_cast<size_t>(__builtin_popcount(kept));
#else
  const V zero = Set<V>(0), one = Set<V>(1);
  const V kept = IfThenElse(is_left_out, zero, one);
  if (!Any(Eq(kept, one))) return 0;
  // Every element is stored, and the next one overwrites it unless it counts.
  T each[V::kLanes], counts[V::kLanes];
  Store(each, v);
  Store(counts, kept);
  size_t count = 0;
  for (size_t j = 0; j < V::kLanes; ++j) {
    to[count] = each[j];
    count += static_cast<size_t>(counts[j] != 0);
  }
  return count;
#endif
}

}  // namespace
}  // namespace boltzmax::kernels
