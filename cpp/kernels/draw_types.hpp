// The kernels of random draws from rows of scores.
#pragma once

#include "philox.hpp"
#include "types.hpp"

namespace boltzmax {

// A row's exponentials are summed by chunks of this many elements.
inline constexpr size_t kDrawChunk = 128;

// Rows of at most this many elements, one draw each; strides in bytes.
template <class T>
struct ShortDraws {
  const T* x;  // contiguous
  const double* temperature;
  ptrdiff_t temperature_stride;
  bool scaled;
  size_t rows, n;
  uint64_t first_row;
  int64_t* id;
  // 1 where rounding, NaN, or the lack of a finite score leaves the id open
  uint8_t* open;
};

template <class T>
struct DrawKernels {
  // The sum of the exponentials of each chunk, in the unit of the row's sum, which is returned.
  RowSum (*chunk_sums)(const T* x, size_t n, double temperature, T* sums);
  // The exponentials in that unit; scratch is as long.
  void (*terms)(const T* x, size_t n, double temperature, const RowSum& sum, T* terms);
  // Short rows are drawn from lane by lane; `most_short` is the longest.
  void (*short_rows)(const ShortDraws<T>&, const PhiloxKey&);
  size_t most_short;
  // The maximum of a row; NaN if it has NaN.
  T (*max)(const T* x, size_t n);
  // Upper bounds of (x_i - max) / T + g_i, over ln 2, for n elements of a row from `element` on, a multiple of four;
  // returns the largest.
  float (*key_bounds)(const T* x, size_t n, T max, double temperature, const PhiloxKey&, uint64_t row, size_t element,
                      float* bounds);
};

struct DrawTable {
  DrawKernels<float> f32;
  DrawKernels<double> f64;
};

namespace scalar {
extern const DrawTable kDraws;
}
namespace avx2 {
extern const DrawTable kDraws;
}
namespace avx512 {
extern const DrawTable kDraws;
}
namespace neon {
extern const DrawTable kDraws;
}

}  // namespace boltzmax
