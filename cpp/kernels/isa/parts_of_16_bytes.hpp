// Parts (see vec_concept.hpp) for ISAs whose vectors are one part wide. Included at the end of such an ISA's header.
#pragma once

namespace boltzmax::kernels {
namespace {

template <class S, class Rows>
inline Vec<Compute<S>> LoadParts(const S* p, Rows rows) {
  return Load(RowAt(p, rows, 0));
}
template <class S, class Rows>
inline Vec<Compute<S>> LoadPartsN(const S* p, Rows rows, size_t n) {
  return LoadN(RowAt(p, rows, 0), n, Compute<S>(0));
}
template <class S, class Rows>
inline void StoreParts(S* p, Rows rows, Vec<Compute<S>> v) {
  Store(RowAt(p, rows, 0), v);
}
template <class S, class Rows>
inline void StorePartsN(S* p, Rows rows, Vec<Compute<S>> v, size_t n) {
  StoreN(RowAt(p, rows, 0), v, n);
}

inline F32 UnpackLowPairs(F32 a, F32 b) { return {__builtin_shufflevector(a.raw, b.raw, 0, 1, 4, 5)}; }
inline F32 UnpackHighPairs(F32 a, F32 b) { return {__builtin_shufflevector(a.raw, b.raw, 2, 3, 6, 7)}; }
inline F32 UnpackLow(F32 a, F32 b) { return {__builtin_shufflevector(a.raw, b.raw, 0, 4, 1, 5)}; }
inline F32 UnpackHigh(F32 a, F32 b) { return {__builtin_shufflevector(a.raw, b.raw, 2, 6, 3, 7)}; }
inline F64 UnpackLow(F64 a, F64 b) { return {__builtin_shufflevector(a.raw, b.raw, 0, 2)}; }
inline F64 UnpackHigh(F64 a, F64 b) { return {__builtin_shufflevector(a.raw, b.raw, 1, 3)}; }

}  // namespace
}  // namespace boltzmax::kernels
