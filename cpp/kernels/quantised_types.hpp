// The kernels of layers whose weights are stored in few bits.
#pragma once

#include "types.hpp"

namespace boltzmax {

// Classes come in blocks of so many lanes, whatever the ISA. Of 8 bits, byte 4 * lane + i of step j of a block is feature
// 4 j + i of that class, plus 128; of 4 bits, a byte has features of two steps, plus 8: the lower half that of an even
// step, the upper half that of the next one. Of 16 bits, feature j has a number for each lane.
inline constexpr size_t kClassLanes = 16;

// Rows of whole numbers of 16 bits, p = 256 high + low, in the forms that instructions want. The first element is that
// of the first feature of a section.
struct NumberRows {
  const int8_t* low;
  const int8_t* high;     // null if p = low
  const int16_t* pairs;   // p of features 4 j, 4 j + 2, 4 j + 1, 4 j + 3
  const int32_t* offset;  // what the added constant of the codes adds to a sum, with the opposite sign
  size_t stride, offset_stride;
  size_t rows;

  NumberRows From(size_t row) const {
    return {low + row * stride,
            high == nullptr ? nullptr : high + row * stride,
            pairs + row * stride,
            offset + row * offset_stride,
            stride,
            offset_stride,
            rows - row};
  }
};

struct FloatRows {
  const float* at;
  size_t stride;
  size_t rows;
};

// The codes of a section, features whose products with p add up to less than 2^31, of some blocks.
struct CodeBlocks {
  const uint8_t* at;
  size_t stride;  // bytes from one block to the next
  size_t blocks;
  size_t steps;  // of four features; even for 4 bits
};

// z[r * stride + c], a number for each row and class.
template <class T>
struct DotMatrix {
  T* at;
  size_t stride;
};

// Upper bounds of some classes of a row, t s z + by_scale s + by_error e + bias, in float.
struct UpperBounds {
  const int32_t* z;
  const float *scale, *error, *bias;
  size_t n;  // a multiple of kClassLanes
  float t, by_scale, by_error;
};

struct QuantisedTable {
  const char* name;
  // The sums of q p over a section: whole numbers, the same on every ISA.
  void (*dots8)(const CodeBlocks&, const NumberRows&, const DotMatrix<int32_t>&);
  void (*dots4)(const CodeBlocks&, const NumberRows&, const DotMatrix<int32_t>&);
  // The sums of q x over a section for floats x: in four sums for each class, which are added at the end.
  void (*dots8_of_floats)(const CodeBlocks&, const FloatRows& x, const DotMatrix<float>&);
  void (*dots4_of_floats)(const CodeBlocks&, const FloatRows& x, const DotMatrix<float>&);
  // The sums of `features` products of bfloat16 weights and floats, added one after the other.
  void (*dots16)(const BFloat16* codes, size_t blocks, size_t features, const FloatRows& x, const DotMatrix<float>&);
  // Writes the indices of the bounds that are not below `least`, and returns their number.
  size_t (*find_reaching)(const UpperBounds&, float least, uint32_t* found);
  // Writes the bounds.
  void (*upper_bounds)(const UpperBounds&, float* upper);
};

namespace scalar {
extern const QuantisedTable kQuantised;
}
namespace avx2 {
extern const QuantisedTable kQuantised;
}
namespace avx2_vnni {
extern const QuantisedTable kQuantised;
}
namespace avx512 {
extern const QuantisedTable kQuantised;
}
namespace avx512_vnni {
extern const QuantisedTable kQuantised;
}
namespace neon {
extern const QuantisedTable kQuantised;
}
namespace neon_dot {
extern const QuantisedTable kQuantised;
}

}  // namespace boltzmax
