// Several vectors that go through a computation together. A chain like exp has a latency of some fifty cycles and a
// throughput of five. The processor finds the parallelism only if instructions of independent vectors alternate, and
// compilers keep them in source order. So the formulas are written on a Block, of which every operation is U
// instructions.
#pragma once

#include "vec_concept.hpp"

#if defined(__clang__)
#define BOLTZMAX_UNROLL _Pragma("clang loop unroll(full)")
#else
#define BOLTZMAX_UNROLL _Pragma("GCC unroll 16")
#endif

namespace boltzmax::kernels {
namespace {

// The elements that a Block holds: U whole vectors, or their first n lanes (the end of a row).
template <size_t U>
struct Whole {
  static constexpr size_t kVectors = U;
};
template <size_t U>
struct Partial {
  static constexpr size_t kVectors = U;
  size_t n;

  // The number of elements in vector u.
  template <class V>
  size_t Lanes(size_t u) const {
    const size_t before = u * V::kLanes;
    return n <= before ? 0 : (n - before < V::kLanes ? n - before : V::kLanes);
  }
};

template <class V, size_t U>
struct Block {
  using Scalar = typename V::Scalar;
  struct Mask {
    typename V::Mask part[U];
  };

  V part[U];

  Block() = default;
  Block(V v) {
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < U; ++u) part[u] = v;
  }

  // clang-format off
#define BOLTZMAX_EACH(Result, expression)                    \
  {                                                          \
    Result r;                                                \
    BOLTZMAX_UNROLL                                          \
    for (size_t u = 0; u < U; ++u) r.part[u] = (expression); \
    return r;                                                \
  }
  friend Block operator+(const Block& a, const Block& b) BOLTZMAX_EACH(Block, a.part[u] + b.part[u])
  friend Block operator-(const Block& a, const Block& b) BOLTZMAX_EACH(Block, a.part[u] - b.part[u])
  friend Block operator*(const Block& a, const Block& b) BOLTZMAX_EACH(Block, a.part[u] * b.part[u])
  friend Block operator/(const Block& a, const Block& b) BOLTZMAX_EACH(Block, a.part[u] / b.part[u])
  friend Block MulAdd(const Block& a, const Block& b, const Block& c)
      BOLTZMAX_EACH(Block, MulAdd(a.part[u], b.part[u], c.part[u]))
  friend Block NegMulAdd(const Block& a, const Block& b, const Block& c)
      BOLTZMAX_EACH(Block, NegMulAdd(a.part[u], b.part[u], c.part[u]))
  friend Block Max(const Block& a, const Block& b) BOLTZMAX_EACH(Block, Max(a.part[u], b.part[u]))
  friend Block NodePower(const Block& t) BOLTZMAX_EACH(Block, NodePower(t.part[u]))
  friend Block NodeValue(const Block& t) BOLTZMAX_EACH(Block, NodeValue(t.part[u]))
  friend Block ScaleByPower(const Block& v, const Block& k) BOLTZMAX_EACH(Block, ScaleByPower(v.part[u], k.part[u]))
  friend Block NodeRest(const Block& t) BOLTZMAX_EACH(Block, NodeRest(t.part[u]))
  friend Block InverseEstimate(const Block& v) BOLTZMAX_EACH(Block, InverseEstimate(v.part[u]))
  friend Block Pow2(const Block& t) BOLTZMAX_EACH(Block, Pow2(t.part[u]))
  friend Mask Eq(const Block& a, const Block& b) BOLTZMAX_EACH(Mask, Eq(a.part[u], b.part[u]))
  friend Mask Lt(const Block& a, const Block& b) BOLTZMAX_EACH(Mask, Lt(a.part[u], b.part[u]))
  friend Block IfThenElse(const Mask& m, const Block& a, const Block& b)
      BOLTZMAX_EACH(Block, IfThenElse(m.part[u], a.part[u], b.part[u]))
#undef BOLTZMAX_EACH
  friend Block SplitExponent(const Block& x, Block* mantissa) {
    Block exponent;
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < U; ++u) exponent.part[u] = SplitExponent(x.part[u], &mantissa->part[u]);
    return exponent;
  }
  friend bool Any(const Mask& m) {
    bool any = false;
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < U; ++u) any = any || Any(m.part[u]);
    return any;
  }
  // clang-format on
};

// The maximum of m and the vectors of a block; NaN is ignored.
template <class V, size_t U>
inline V MaxOf(const Block<V, U>& block, V m) {
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < U; ++u) m = Max(block.part[u], m);
  return m;
}

// ---- memory ----

template <class V, size_t U, class S>
inline Block<V, U> LoadLanes(const S* p, Whole<U>, typename V::Scalar) {
  Block<V, U> b;
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < U; ++u) b.part[u] = Load(p + u * V::kLanes);
  return b;
}
template <class V, size_t U, class S>
inline Block<V, U> LoadLanes(const S* p, Partial<U> lanes, typename V::Scalar fill) {
  Block<V, U> b;
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < U; ++u) {
    const size_t n = lanes.template Lanes<V>(u);
    b.part[u] = LoadN(p + u * V::kLanes, n, fill);
  }
  return b;
}
template <class S, class V, size_t U>
inline void StoreLanes(S* p, const Block<V, U>& b, Whole<U>) {
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < U; ++u) Store(p + u * V::kLanes, b.part[u]);
}
template <class S, class V, size_t U>
inline void StoreLanes(S* p, const Block<V, U>& b, Partial<U> lanes) {
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < U; ++u) {
    const size_t n = lanes.template Lanes<V>(u);
    if (n != 0) StoreN(p + u * V::kLanes, b.part[u], n);
  }
}
template <class S, class V, size_t U>
inline void StreamLanes(S* p, const Block<V, U>& b, Whole<U>) {
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < U; ++u) Stream(p + u * V::kLanes, b.part[u]);
}

template <class V, size_t U>
inline typename Block<V, U>::Mask MaskLanes(const uint8_t* p, Whole<U>) {
  typename Block<V, U>::Mask m;
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < U; ++u) m.part[u] = LoadMask<V>(p + u * V::kLanes);
  return m;
}
template <class V, size_t U>
inline typename Block<V, U>::Mask MaskLanes(const uint8_t* p, Partial<U> lanes) {
  typename Block<V, U>::Mask m;
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < U; ++u) {
    const size_t n = lanes.template Lanes<V>(u);
    m.part[u] = LoadMaskN<V>(p + u * V::kLanes, n);
  }
  return m;
}

template <class V, size_t U>
inline Block<V, U> ZeroBeyond(const Block<V, U>& b, Whole<U>) {
  return b;
}
template <class V, size_t U>
inline Block<V, U> ZeroBeyond(const Block<V, U>& b, Partial<U> lanes) {
  Block<V, U> r;
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < U; ++u) r.part[u] = IfThenElse(FirstN<V>(lanes.template Lanes<V>(u)), b.part[u], Set<V>(0));
  return r;
}

}  // namespace
}  // namespace boltzmax::kernels
