// Functions of rows beyond the table of operations: sparse, noisy, cumulative and other forms of softmax. Each family of
// kernels lists its functions; core/variants/ finds them by name and runs them on arrays of any layout.
#pragma once

#include "types.hpp"

namespace boltzmax {

// The options of a call that are the same for all rows. A function reads those that it knows.
struct RowOptions {
  double number;
  int64_t count;
  uint64_t key;        // of random numbers
  uint64_t first_row;  // the number of the first row, for random numbers
  bool flag;
};

// Rows of the same length. The batch has the first input, x, the result, the mask and one temperature per row (or
// another parameter); `other` is the second input, with the shape of x. The result never overlaps an input.
struct RowCall {
  RowBatch batch;
  const char* other;
  ptrdiff_t other_stride;
  RowOptions options;
};
using RowKernel = void (*)(const RowCall&);

struct RowFunction {
  const char* name;
  bool has_other;
  bool reduces;  // to one number for each row
  // The numbers of the arithmetic type that rows of n elements need as scratch memory.
  size_t (*scratch)(size_t n);
  double cost;  // the time for an element, in softmax's
  // Rows of 16 bits are widened to float, which halves the kernels to compile.
  RowKernel f32, f64;
};
// The kernels of a template, as members of a RowFunction.
#define BOLTZMAX_ROW_KERNELS(Kernel) .f32 = Kernel<float>, .f64 = Kernel<double>

struct RowFamily {
  const RowFunction* functions;
  size_t count;
};

// F(Name, ...) for every family, whose table is kName in every ISA's namespace.
#define BOLTZMAX_FOR_EACH_ROW_FAMILY(F, ...) \
  F(Noise, __VA_ARGS__) F(Scans, __VA_ARGS__) F(Shapes, __VA_ARGS__) F(Sparse, __VA_ARGS__)

#define BOLTZMAX_DECLARE_FAMILY(Name, ...) extern const RowFamily k##Name;
namespace scalar {
BOLTZMAX_FOR_EACH_ROW_FAMILY(BOLTZMAX_DECLARE_FAMILY)
}
namespace avx2 {
BOLTZMAX_FOR_EACH_ROW_FAMILY(BOLTZMAX_DECLARE_FAMILY)
}
namespace avx512 {
BOLTZMAX_FOR_EACH_ROW_FAMILY(BOLTZMAX_DECLARE_FAMILY)
}
namespace neon {
BOLTZMAX_FOR_EACH_ROW_FAMILY(BOLTZMAX_DECLARE_FAMILY)
}
#undef BOLTZMAX_DECLARE_FAMILY

}  // namespace boltzmax
