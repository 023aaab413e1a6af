// Dot products of rows with the classes of blocks. Every lane has a class of its own, so nothing is summed across lanes.
//
// What depends on the instructions is in lanes_*.hpp, for the 16 lanes of a block:
//
//   Sums                            an int32 for each lane; Sums{} is 0
//   Codes                           the codes of a step, ready to be multiplied
//   CodesOf8(p), CodesOf4(p, second)   from 64 bytes; of 4 bits, a first and a second step
//   Number                          int8_t if rows are read as low and high bytes, int16_t if as numbers of 16 bits
//   kSignedCodes                    whether codes of 8 bits lose their added constant, and sums need no offset
//   AddProducts(sums, codes, p)     adds the products with four numbers of a row
//   a + b, Times256(a), AllLanes(x), StoreSums(z, a)      modulo 2^32
//   MaskOfReaching(...)             bit i is set unless bound i is below `least`
//   kBlocksAtOnce, kRowsAtOnce      whose sums fit the registers
//   kChains                         how many sums take turns where there is one row
#pragma once

#include <bit>

#include "../isa/block.hpp"
#include "../quantised_types.hpp"

namespace boltzmax::kernels {
namespace {

// Rows are read as bytes, low and high, or as numbers of 16 bits.
inline constexpr bool kPlanes = sizeof(Number) == 1;
inline const int8_t* LowNumbers(const NumberRows& p, int8_t) { return p.low; }
inline const int16_t* LowNumbers(const NumberRows& p, int16_t) { return p.pairs; }
inline const int8_t* HighNumbers(const NumberRows& p, int8_t) { return p.high; }
inline const int16_t* HighNumbers(const NumberRows&, int16_t) { return nullptr; }

// The sums of B blocks and R rows, step by step; with U chains each, which take turns.
template <int kBits, size_t B, size_t R, size_t U, bool kTwo>
inline void DotTile(const CodeBlocks& codes, const NumberRows& p, int32_t* z, size_t stride) {
  const Number *const of_low = LowNumbers(p, Number{}), *const of_high = HighNumbers(p, Number{});
  Sums low[U][B][R] = {}, high[U][B][kTwo ? R : 1] = {};
  const auto add = [&](size_t chain, size_t b, const Codes& some, size_t step) {
    BOLTZMAX_UNROLL
    for (size_t r = 0; r < R; ++r) {
      const size_t i = r * p.stride + 4 * step;
      AddProducts(&low[chain][b][r], some, of_low + i);
      if constexpr (kTwo) AddProducts(&high[chain][b][r], some, of_high + i);
    }
  };
  // A byte has features of one step, or of two.
  constexpr size_t kSteps = 8 / kBits, kBytes = 4 * kClassLanes;
  const auto load = [&](size_t chain, size_t i) {
    BOLTZMAX_UNROLL
    for (size_t b = 0; b < B; ++b) {
      const uint8_t* at = codes.at + b * codes.stride + i * kBytes;
      if constexpr (kBits == 8) {
        add(chain, b, CodesOf8(at), i);
      } else {
        Codes second;
        const Codes first = CodesOf4(at, &second);
        add(chain, b, first, 2 * i);
        add(chain, b, second, 2 * i + 1);
      }
    }
  };
  const size_t loads = codes.steps / kSteps;
  size_t i = 0;
  for (; i + U <= loads; i += U) {
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < U; ++u) load(u, i + u);
  }
  for (; i < loads; ++i) load(0, i);
  BOLTZMAX_UNROLL
  for (size_t b = 0; b < B; ++b) {
    BOLTZMAX_UNROLL
    for (size_t r = 0; r < R; ++r) {
      BOLTZMAX_UNROLL
      for (size_t u = 1; u < U; ++u) {
        low[0][b][r] = low[0][b][r] + low[u][b][r];
        if constexpr (kTwo) high[0][b][r] = high[0][b][r] + high[u][b][r];
      }
      const int32_t offset = kSignedCodes && kBits == 8 ? 0 : p.offset[r * p.offset_stride];
      const Sums total = kTwo ? low[0][b][r] + Times256(high[0][b][kTwo ? r : 0]) : low[0][b][r];
      StoreSums(z + r * stride + b * kClassLanes, total + AllLanes(offset));
    }
  }
}

template <int kBits, size_t B, bool kTwo>
inline void DotRowsOfBlocks(const CodeBlocks& codes, const NumberRows& p, int32_t* z, size_t stride) {
  constexpr size_t kMost = kTwo ? kRowsAtOnce / 2 : kRowsAtOnce;
  size_t r = 0;
  for (; r + kMost <= p.rows; r += kMost) DotTile<kBits, B, kMost, 1, kTwo>(codes, p.From(r), z + r * stride, stride);
  for (; r + 2 <= p.rows; r += 2) DotTile<kBits, B, 2, 1, kTwo>(codes, p.From(r), z + r * stride, stride);
  if (r < p.rows) DotTile<kBits, B, 1, 1, kTwo>(codes, p.From(r), z + r * stride, stride);
}

template <int kBits, bool kTwo>
inline void DotBlocks(const CodeBlocks& codes, const NumberRows& p, const DotMatrix<int32_t>& z) {
  const auto at = [&](size_t b) { return CodeBlocks{codes.at + b * codes.stride, codes.stride, 1, codes.steps}; };
  size_t b = 0;
  // One row waits for memory, which is fastest when it is read in order, and without asking for it in advance: that took
  // 1.1 to 1.3 of the time.
  if (p.rows == 1) {
    for (; b < codes.blocks; ++b) DotTile<kBits, 1, 1, kChains, kTwo>(at(b), p, z.at + b * kClassLanes, z.stride);
    return;
  }
  for (; b + kBlocksAtOnce <= codes.blocks; b += kBlocksAtOnce) {
    DotRowsOfBlocks<kBits, kBlocksAtOnce, kTwo>(at(b), p, z.at + b * kClassLanes, z.stride);
  }
  if constexpr (kBlocksAtOnce > 1) {
    for (; b < codes.blocks; ++b) DotRowsOfBlocks<kBits, 1, kTwo>(at(b), p, z.at + b * kClassLanes, z.stride);
  }
}

template <int kBits>
BOLTZMAX_KERNEL inline void IntegerDots(const CodeBlocks& codes, const NumberRows& p, const DotMatrix<int32_t>& z) {
  if constexpr (kPlanes) {
    if (p.high != nullptr) {
      DotBlocks<kBits, true>(codes, p, z);
      return;
    }
  }
  DotBlocks<kBits, false>(codes, p, z);
}

// ---- floats ----

template <size_t R>
inline void FloatTile(const BFloat16* codes, size_t features, const float* x, size_t x_stride, float* z,
                      size_t stride) {
  constexpr size_t kVectors = kClassLanes / F32::kLanes;
  Block<F32, kVectors> sums[R];
  BOLTZMAX_UNROLL
  for (size_t r = 0; r < R; ++r) sums[r] = Set<F32>(0.0f);
  for (size_t i = 0; i < features; ++i) {
    const auto w = LoadLanes<F32>(codes + i * kClassLanes, Whole<kVectors>{}, 0.0f);
    BOLTZMAX_UNROLL
    for (size_t r = 0; r < R; ++r) {
      sums[r] = MulAdd(w, Block<F32, kVectors>(Set<F32>(x[r * x_stride + i])), sums[r]);
    }
  }
  BOLTZMAX_UNROLL
  for (size_t r = 0; r < R; ++r) StoreLanes(z + r * stride, sums[r], Whole<kVectors>{});
}

BOLTZMAX_KERNEL inline void FloatDots(const BFloat16* codes, size_t blocks, size_t features, const FloatRows& x,
                                      const DotMatrix<float>& z) {
  for (size_t b = 0; b < blocks; ++b) {
    const BFloat16* at = codes + b * features * kClassLanes;
    float* to = z.at + b * kClassLanes;
    size_t r = 0;
    for (; r + 4 <= x.rows; r += 4)
      FloatTile<4>(at, features, x.at + r * x.stride, x.stride, to + r * z.stride, z.stride);
    for (; r < x.rows; ++r) FloatTile<1>(at, features, x.at + r * x.stride, x.stride, to + r * z.stride, z.stride);
  }
}

// ---- whole numbers and floats ----

typedef int32_t IntLanes __attribute__((vector_size(4 * F32::kLanes)));
typedef float FloatLanes __attribute__((vector_size(4 * F32::kLanes)));

// The whole number in kBits bits of each lane, `place` bits from the lowest, where its sign is.
template <int kBits>
inline F32 NumberAt(IntLanes codes, int place) {
  const IntLanes q = (codes << (32 - kBits - place)) >> (32 - kBits);
  return std::bit_cast<F32>(__builtin_convertvector(q, FloatLanes));
}

template <int kBits, size_t R>
inline void FloatTileOfNumbers(const uint8_t* codes, size_t loads, const float* x, size_t x_stride, float* z,
                               size_t stride) {
  constexpr size_t kVectors = kClassLanes / F32::kLanes, kSteps = 8 / kBits;
  for (size_t v = 0; v < kVectors; ++v) {
    F32 sums[R][4];
    BOLTZMAX_UNROLL
    for (size_t r = 0; r < R; ++r) {
      BOLTZMAX_UNROLL
      for (size_t i = 0; i < 4; ++i) sums[r][i] = Set<F32>(0.0f);
    }
    for (size_t j = 0; j < loads; ++j) {
      IntLanes some;
      memcpy(&some, codes + (j * kClassLanes + v * F32::kLanes) * 4, sizeof some);
      some ^= static_cast<int32_t>(kBits == 8 ? 0x80808080U : 0x88888888U);  // without the added constant
      BOLTZMAX_UNROLL
      for (size_t k = 0; k < kSteps; ++k) {
        BOLTZMAX_UNROLL
        for (size_t i = 0; i < 4; ++i) {
          const F32 q = NumberAt<kBits>(some, static_cast<int>(8 * i + kBits * k));
          const float* at = x + 4 * (j * kSteps + k) + i;
          BOLTZMAX_UNROLL
          for (size_t r = 0; r < R; ++r) sums[r][i] = MulAdd(q, Set<F32>(at[r * x_stride]), sums[r][i]);
        }
      }
    }
    BOLTZMAX_UNROLL
    for (size_t r = 0; r < R; ++r) {
      Store(z + r * stride + v * F32::kLanes, (sums[r][0] + sums[r][1]) + (sums[r][2] + sums[r][3]));
    }
  }
}

template <int kBits>
BOLTZMAX_KERNEL inline void DotsOfFloats(const CodeBlocks& codes, const FloatRows& x, const DotMatrix<float>& z) {
  const size_t loads = codes.steps * kBits / 8;
  for (size_t b = 0; b < codes.blocks; ++b) {
    const uint8_t* at = codes.at + b * codes.stride;
    float* to = z.at + b * kClassLanes;
    size_t r = 0;
    for (; r + 2 <= x.rows; r += 2) {
      FloatTileOfNumbers<kBits, 2>(at, loads, x.at + r * x.stride, x.stride, to + r * z.stride, z.stride);
    }
    if (r < x.rows) {
      FloatTileOfNumbers<kBits, 1>(at, loads, x.at + r * x.stride, x.stride, to + r * z.stride, z.stride);
    }
  }
}

// ---- bounds ----

BOLTZMAX_KERNEL inline size_t FindReaching(const UpperBounds& bounds, float least, uint32_t* found) {
  size_t count = 0;
  for (size_t i = 0; i < bounds.n; i += kClassLanes) {
    for (uint32_t mask = MaskOfReaching(bounds, i, least); mask != 0; mask &= mask - 1) {
      found[count++] = static_cast<uint32_t>(i) + static_cast<uint32_t>(__builtin_ctz(mask));
    }
  }
  return count;
}

BOLTZMAX_KERNEL inline void StoreUpperBounds(const UpperBounds& bounds, float* upper) {
  const F32 t = Set<F32>(bounds.t), by_scale = Set<F32>(bounds.by_scale), by_error = Set<F32>(bounds.by_error);
  for (size_t i = 0; i < bounds.n; i += F32::kLanes) {
    IntLanes sums;
    memcpy(&sums, bounds.z + i, sizeof sums);
    const F32 z = std::bit_cast<F32>(__builtin_convertvector(sums, FloatLanes));
    const F32 rest = MulAdd(Load(bounds.error + i), by_error, Load(bounds.bias + i));
    Store(upper + i, MulAdd(MulAdd(z, t, by_scale), Load(bounds.scale + i), rest));
  }
}

}  // namespace
}  // namespace boltzmax::kernels
