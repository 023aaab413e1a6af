// Stores of parts (see vec_concept.hpp) of 16-bit numbers, for ISAs whose vectors have several parts. Included at the
// end of such an ISA's header.
#pragma once

namespace boltzmax::kernels {
namespace {

// Calls f(address, bytes) for each part.
template <class S, class Rows, class F>
inline void ForEachPart16(S* p, Rows rows, F32 v, F f) {
  uint64_t parts[F32::kLanes / 4];
  Store(reinterpret_cast<S*>(parts), v);
  for (size_t b = 0; b < F32::kLanes / 4; ++b) f(RowAt(p, rows, 4 * b), parts[b]);
}
template <Storage16 S, class Rows>
inline void StoreParts(S* p, Rows rows, F32 v) {
  ForEachPart16(p, rows, v, [](S* to, const uint64_t& part) { memcpy(to, &part, sizeof part); });
}
template <Storage16 S, class Rows>
inline void StorePartsN(S* p, Rows rows, F32 v, size_t n) {
  ForEachPart16(p, rows, v, [n](S* to, uint64_t part) { StorePartTail(to, part, n); });
}

}  // namespace
}  // namespace boltzmax::kernels
